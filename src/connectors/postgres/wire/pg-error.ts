import { asTailraceError, TailraceError, type ErrorCode, type RetryClass } from '../../../sdk/errors.ts'

/** An ErrorResponse of the server, fields by the protocol's letters. `detail` and `where` may hold row values: never shown. */
export class PgError extends Error {
  readonly code: string
  readonly severity: string
  readonly detail: string | undefined
  readonly hint: string | undefined
  readonly where: string | undefined
  readonly schema: string | undefined
  readonly table: string | undefined
  readonly column: string | undefined
  readonly constraint: string | undefined
  /** In a pipeline: index of the Execute that failed. */
  index = 0

  constructor(fields: ReadonlyMap<string, string>) {
    super(fields.get('M') ?? 'the server reported an error without a message')
    this.name = 'PgError'
    this.code = fields.get('C') ?? 'XX000'
    this.severity = fields.get('V') ?? fields.get('S') ?? 'ERROR'
    this.detail = fields.get('D')
    this.hint = fields.get('H')
    this.where = fields.get('W')
    this.schema = fields.get('s')
    this.table = fields.get('t')
    this.column = fields.get('c')
    this.constraint = fields.get('n')
  }
}

export function parseErrorFields(buffer: Buffer, start: number, end: number): Map<string, string> {
  const fields = new Map<string, string>()
  let at = start
  while (at < end && buffer[at] !== 0) {
    const letter = String.fromCharCode(buffer[at]!)
    const zero = buffer.indexOf(0, at + 1)
    const stop = zero < 0 || zero > end ? end : zero
    fields.set(letter, buffer.toString('utf8', at + 1, stop))
    at = stop + 1
  }
  return fields
}

/** SQLSTATE class (2) or code (5) → our code and what may be done. Longest match wins. */
const BY_STATE: Readonly<Record<string, readonly [ErrorCode, RetryClass?]>> = {
  '08': ['UNREACHABLE'],
  '0A': ['CONFIG'],
  '22': ['ROW_REJECTED'],
  '23': ['ROW_REJECTED'],
  '25006': ['CONFIG'],
  '25': ['SINK_FAILED'],
  '28': ['NOT_ALLOWED'],
  '3D000': ['USAGE'],
  '3F000': ['USAGE'],
  '40': ['SINK_FAILED'],
  '42501': ['NOT_ALLOWED'],
  '42': ['CONFIG'],
  '53100': ['SINK_FAILED'],
  '53300': ['UNREACHABLE'],
  '53': ['SINK_FAILED'],
  '54': ['CONFIG'],
  '55006': ['SINK_FAILED'],
  '55P03': ['SINK_FAILED'],
  '55': ['CONFIG'],
  '57014': ['SINK_FAILED'],
  '57P': ['UNREACHABLE'],
  '57': ['UNREACHABLE'],
  '58': ['SINK_FAILED'],
  XX: ['SINK_FAILED'],
}

/** Messages of these classes quote the value that was refused (`invalid input syntax …: "x"`): only the code is shown. */
function quotesValues(code: string): boolean {
  return code.startsWith('22') || code.startsWith('23')
}

/**
 * A server error as ours. `what` is what failed: `copying public.t`; `path`: the table. Row values stay out: for classes 22 and 23 only
 * table, column and constraint names are said.
 */
export function translatePgError(error: PgError, what: string, side: 'source' | 'sink', path?: string): TailraceError {
  const [code, retry] = BY_STATE[error.code] ?? BY_STATE[error.code.slice(0, 3)] ?? BY_STATE[error.code.slice(0, 2)] ?? ['CONFIG']
  const ours: ErrorCode = code === 'SINK_FAILED' && side === 'source' ? 'SOURCE_FAILED' : code
  const place = [error.constraint && `constraint ${error.constraint}`, error.column && `column ${error.column}`].filter(Boolean).join(', ')
  const text = quotesValues(error.code)
    ? `PostgreSQL refused a value (SQLSTATE ${error.code}${place === '' ? '' : `, ${place}`})`
    : error.message
  return new TailraceError(ours, `${what}: ${text}`, {
    cause: quotesValues(error.code) ? undefined : error,
    ...(retry === undefined ? {} : { retry }),
    ...(path === undefined ? {} : { path }),
    ...(error.hint === undefined || quotesValues(error.code) ? {} : { hint: error.hint }),
  })
}

/** Whatever a connection threw, as ours. */
export function translate(error: unknown, what: string, side: 'source' | 'sink'): TailraceError {
  if (error instanceof TailraceError) return error
  if (error instanceof PgError) return translatePgError(error, what, side)
  const { code, message } = asTailraceError(error)
  return new TailraceError(code, `${what}: ${message}`, { cause: error })
}
