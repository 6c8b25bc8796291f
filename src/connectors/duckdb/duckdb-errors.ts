import type { TableId } from '../../model/schema.ts'
import { asTailraceError, TailraceError, type ErrorCode, type ErrorDetails } from '../../sdk/errors.ts'
import { tablesOption } from '../../sdk/selection.ts'

/**
 * DuckDB's error classes, the words before the first colon of its messages: `Conversion Error: Could not convert …`.
 * The text behind often quotes the row, so it is shown only for classes that cannot (errors never hold a row value).
 */
export type DuckDbErrorKind =
  | 'memory'
  | 'value'
  | 'constraint'
  | 'conflict'
  | 'held'
  | 'full'
  | 'disk'
  | 'unreadable'
  | 'damaged'
  | 'broken'
  | 'shape'
  | 'interrupted'
  | 'other'

/**
 * "Transaction COMMIT succeeded and is durable, but the autocheckpoint failed. … The database has been invalidated."
 * "Database "target" has been invalidated because checkpointing failed. Detach and reattach it before using it again."
 */
const INVALID = /^(FATAL|INTERNAL) Error|has been invalidated/

const KINDS: readonly (readonly [pattern: RegExp, kind: DuckDbErrorKind])[] = [
  // Also at COMMIT: "TransactionContext Error: Failed to commit: failed to pin block of size 256.0 KiB (99.4 MiB/99.1 MiB used)".
  [/^Out of Memory Error|failed to pin block|(could not|failed to) allocate/, 'memory'],
  [/^(Conversion|Invalid Input|Out of Range) Error/, 'value'],
  [/^Constraint Error/, 'constraint'],
  // Also at COMMIT: "TransactionContext Error: Failed to commit: Could not write file "x.duckdb.wal": No space left on device",
  // and as what invalidates the database when a checkpoint meets it.
  [
    /^((IO|TransactionContext|FATAL|INTERNAL) Error.*(No space left on device|Disk quota exceeded|File too large)|ENOSPC|EDQUOT|EFBIG)/is,
    'full',
  ],
  // The text names the key: it must not be shown.
  [/^TransactionContext Error: Failed to commit: .*constraint/s, 'constraint'],
  [/^TransactionContext Error: Failed to commit: Could not (write|fsync|truncate|open)/, 'disk'],
  // "Conflict on tuple deletion!", "Failed to commit: write-write conflict on key"; also "Current transaction is aborted".
  [/^TransactionContext Error/, 'conflict'],
  [/^IO Error: Could not set lock/, 'held'],
  // "IO Error: The file "x" exists, but it is not a valid DuckDB database file!"; "Trying to read a database file with version …".
  [/^(IO|Serialization) Error.*(not a valid DuckDB database file|database file with version number)/i, 'unreadable'],
  [/^IO Error: Corrupt database file/, 'damaged'],
  [/^IO Error.*\b(disk|write)\b/i, 'disk'],
  [INVALID, 'broken'],
  [/^(Catalog|Binder|Dependency) Error/, 'shape'],
  [/^INTERRUPT Error/, 'interrupted'],
]

export function kindOf(error: unknown): DuckDbErrorKind {
  const message = error instanceof Error ? error.message : String(error)
  return KINDS.find(([pattern]) => pattern.test(message))?.[1] ?? 'other'
}

/** DuckDB gave the database up: it must be attached anew, whatever else the error is. */
export function isInvalidating(error: unknown): boolean {
  return INVALID.test(error instanceof Error ? error.message : String(error))
}

/** The first line, without the statement that DuckDB repeats below it. Only for kinds that quote no row. */
function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? ''
}

/** Our error for one of DuckDB's. `doing`: `writing to public.orders`. */
export function translate(error: unknown, doing: string, path?: string): TailraceError {
  if (error instanceof TailraceError) return error
  // TypeError and the like are ours; DuckDB and the file system throw plain errors.
  if (error instanceof Error && error.constructor !== Error) return asTailraceError(error)
  const at: ErrorDetails = path === undefined ? {} : { path }
  const make = (code: ErrorCode, what: string, details: ErrorDetails = {}): TailraceError =>
    new TailraceError(code, `${doing}: ${what}`, { ...at, ...details })
  const kind = kindOf(error)
  switch (kind) {
    case 'value':
      return make('ROW_REJECTED', 'a value does not fit its column', {
        hint: 'keep the column as text: --sink.text-columns <table>.<column>',
      })
    case 'constraint':
      return make('ROW_REJECTED', 'a row breaks a constraint of the target table', { hint: 'drop the constraint: a copy needs none' })
    case 'memory':
      return make('SINK_FAILED', 'DuckDB ran out of its memory limit', { cause: plainCause(error) })
    case 'conflict':
      return make('SINK_FAILED', 'another transaction in this process changed the same rows', { cause: plainCause(error) })
    case 'held':
      return heldByProcess(error, doing, at)
    case 'full':
      return make('ENVIRONMENT', `DuckDB could not write${fileOf(error)}: no space is left`, {
        hint: 'the disk is full: make room and start again',
        cause: plainCause(error),
      })
    case 'unreadable':
      return make('CONFIG', firstLine(error), { hint: 'the file is no DuckDB database of this release: name another one' })
    case 'damaged':
      return make('ENVIRONMENT', firstLine(error), {
        hint: 'the file is damaged: restore it, or remove it and run `tailrace reset <pipeline>`',
      })
    case 'disk':
      return make('ENVIRONMENT', `DuckDB could not write: ${firstLine(error)}`, { hint: 'free disk space, or move the file' })
    case 'shape':
      return make('SCHEMA_CHANGED', `the target is not as it was left: ${firstLine(error)}`, {
        hint: `tailrace resnapshot <pipeline> ${path === undefined ? '--tables <table>' : tablesOption([path as TableId])} reads the table again`,
      })
    case 'interrupted':
      return make('ABORTED', 'given up on request')
    case 'broken':
    case 'other':
      return make('SINK_FAILED', firstLine(error), { cause: plainCause(error) })
    default:
      return kind satisfies never
  }
}

/** `Could not write file "/data/x.duckdb.wal": …`. */
function fileOf(error: unknown): string {
  const found = /Could not \w+ file "([^"]+)"/.exec(firstLine(error))
  return found === null ? '' : ` ${found[1]}`
}

/** `Conflicting lock is held in /usr/bin/python3.11 (PID 4711)`. */
function heldByProcess(error: unknown, doing: string, at: ErrorDetails): TailraceError {
  const found = /held in (.+) \(PID (\d+)\)/.exec(firstLine(error))
  const holder = found === null ? 'another process' : `process ${found[2]} (${found[1]})`
  return new TailraceError('HELD', `${doing}: the file is held by ${holder}; DuckDB lets one process open it while it is written`, {
    ...at,
    hint: found === null ? 'end the other process' : `end it, or wait: kill ${found[2]}`,
  })
}

/** A cause that says DuckDB's class and first line, not the statement. */
function plainCause(error: unknown): Error {
  return new Error(firstLine(error))
}
