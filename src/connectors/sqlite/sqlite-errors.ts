import { keyNames, type TableSchema } from '../../model/schema.ts'
import { TailraceError, type ErrorCode, type RetryClass } from '../../sdk/errors.ts'
import { fold } from './identifiers.ts'

/** Primary result codes (https://sqlite.org/rescode.html). */
const BUSY = 5
const LOCKED = 6
const CONSTRAINT = 19
const SCHEMA = 17
const GENERIC = 1

/** Extended codes of a key that is there already: unique index, primary key, rowid. */
const UNIQUE_CODES: ReadonlySet<number> = new Set([2067, 1555, 2579])

interface Meaning {
  readonly code: ErrorCode
  readonly hint?: string
}

const MEANINGS: Readonly<Record<number, Meaning>> = {
  [BUSY]: { code: 'SINK_FAILED', hint: 'another process writes to the file; a longer --busy-timeout waits for it' },
  [LOCKED]: { code: 'SINK_FAILED' },
  3: { code: 'NOT_ALLOWED', hint: 'let the file and its folder be written by this user' },
  8: { code: 'NOT_ALLOWED', hint: 'let the file and its folder be written by this user' },
  10: { code: 'SINK_FAILED' },
  11: { code: 'ENVIRONMENT', hint: 'the file is damaged: restore it, or remove it and run `tailrace reset <pipeline>`' },
  13: { code: 'ENVIRONMENT', hint: 'the disk is full: make room and start again' },
  14: { code: 'NOT_ALLOWED', hint: 'the file cannot be opened: let this user write in its folder' },
  15: { code: 'SINK_FAILED' },
  [SCHEMA]: { code: 'SINK_FAILED' },
  18: { code: 'ROW_REJECTED', hint: 'SQLite holds values of up to 1,000,000,000 bytes' },
  [CONSTRAINT]: { code: 'ROW_REJECTED' },
  20: { code: 'ROW_REJECTED' },
  26: { code: 'CONFIG', hint: 'the file is no SQLite database: name another one' },
}

export function errorCode(error: unknown): number | null {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return null
  return error.errcode
}

export function isUniqueViolation(error: unknown): boolean {
  const code = errorCode(error)
  return code !== null && UNIQUE_CODES.has(code)
}

/** Two rows with one key: the first of the key's own constraints that says so is meant, not another unique one. */
export function isKeyViolation(error: unknown, schema: TableSchema): boolean {
  if (!isUniqueViolation(error) || !(error instanceof Error)) return false
  const columns = /^UNIQUE constraint failed: (.*)$/.exec(error.message)?.[1]?.split(', ') ?? []
  const names = columns.map((column) => fold(column.slice(column.lastIndexOf('.') + 1)))
  return names.sort().join('\n') === keyNames(schema).map(fold).sort().join('\n')
}

export function notUnique(schema: TableSchema, cause: unknown): TailraceError {
  return new TailraceError('NOT_ACCOUNTED', `the rows of ${schema.id} are not unique by ${keyNames(schema).join(', ')}`, {
    hint: 'name a unique key with --key, or leave it out; rows that the target held before count, too',
    path: schema.id,
    cause,
  })
}

/** The file was written by somebody else meanwhile: the epoch must be looked at before anything is tried again (TRAP 60). */
export function isBusy(error: unknown): boolean {
  const code = errorCode(error)
  return code !== null && ((code & 0xff) === BUSY || (code & 0xff) === LOCKED)
}

/** An error of SQLite as ours. Its messages name tables and columns, never values. */
export function translate(error: unknown, doing: string, table: string | null = null): TailraceError {
  if (error instanceof TailraceError) return withPlace(error, table)
  const code = errorCode(error)
  const text = error instanceof Error ? error.message : String(error)
  const where = table === null ? '' : ` of table ${table}`
  if (code === null) return new TailraceError('BUG', `${doing}${where} failed: ${text}`, { cause: error })
  const meaning = MEANINGS[code & 0xff] ?? ((code & 0xff) === GENERIC ? changedTarget(text) : { code: 'SINK_FAILED' })
  const details = {
    cause: error,
    ...(meaning.hint === undefined ? {} : { hint: meaning.hint }),
    ...(table === null ? {} : { path: table }),
  }
  return new TailraceError(meaning.code, `${doing}${where} failed: ${text}`, details)
}

/** `no such table: t`, `table t has no column named c`: somebody changed the target under us. */
function changedTarget(text: string): Meaning {
  if (/no such (table|column)|has no column named/.test(text)) {
    return {
      code: 'SCHEMA_CHANGED',
      hint: 'the target was changed by somebody else: undo that, or start over with `tailrace reset <pipeline>`',
    }
  }
  return { code: 'SINK_FAILED' }
}

function withPlace(error: TailraceError, table: string | null): TailraceError {
  if (table === null || error.path !== undefined) return error
  return new TailraceError(error.code, `${error.message} (table ${table})`, {
    path: table,
    retry: error.retry,
    cause: error.cause,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  })
}

/** An error as it crosses from the worker: no class, no cause beyond its text. */
export interface PlainError {
  readonly code: ErrorCode
  readonly retry: RetryClass
  readonly message: string
  readonly hint?: string
  readonly path?: string
  readonly cause?: string
}

export function toPlain(thrown: unknown): PlainError {
  const error = translate(thrown, 'a call to SQLite')
  const cause = error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : undefined
  return {
    code: error.code,
    retry: error.retry,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.path === undefined ? {} : { path: error.path }),
    ...(cause === undefined ? {} : { cause }),
  }
}

export function fromPlain(plain: PlainError): TailraceError {
  return new TailraceError(plain.code, plain.message, {
    retry: plain.retry,
    ...(plain.hint === undefined ? {} : { hint: plain.hint }),
    ...(plain.path === undefined ? {} : { path: plain.path }),
    ...(plain.cause === undefined ? {} : { cause: new Error(plain.cause) }),
  })
}
