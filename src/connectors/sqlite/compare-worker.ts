import { hash } from 'node:crypto'
import type { SQLOutputValue } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { openReader } from './database.ts'
import { toPlain, type PlainError } from './sqlite-errors.ts'

export interface CompareRequest {
  readonly sql: string
}

export type CompareReply = { readonly rows: readonly (readonly (string | null)[])[] } | { readonly error: PlainError }

const NAN_BITS = '7ff8000000000000'
const view = new DataView(new ArrayBuffer(8))

/** A float as the sink stores it: a number, or the text NaN, which SQLite has no number for. */
function bitsOf(value: SQLOutputValue): string | null {
  if (value === null) return null
  if (value === 'NaN') return NAN_BITS
  // A whole number is one, too, where no digit of it is lost.
  if (typeof value === 'bigint' && BigInt(Number(value)) === value) return bitsOf(Number(value))
  if (typeof value !== 'number') return `${typeof value} ${String(value)}`
  view.setFloat64(0, value)
  return view.getBigUint64(0).toString(16).padStart(16, '0')
}

const port = parentPort
if (port !== null) {
  const { path, busyMillis } = workerData as { readonly path: string; readonly busyMillis: number }
  let opened: ReturnType<typeof openReader> | null = null
  const open = (): ReturnType<typeof openReader> => {
    const db = openReader(path)
    db.exec(`PRAGMA busy_timeout = ${busyMillis}; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY`)
    // Of this connection only: nothing is made in the file.
    db.function('tailrace_md5', { deterministic: true }, (value) => (value === null ? null : hash('md5', String(value), 'hex')))
    db.function('tailrace_bits', { deterministic: true, useBigIntArguments: true }, bitsOf)
    return db
  }
  port.on('message', ({ sql }: CompareRequest) => port.postMessage(answer(sql)))

  const answer = (sql: string): CompareReply => {
    try {
      // Here, so that a file that cannot be opened is an answer like any other.
      opened ??= open()
      const statement = opened.prepare(sql)
      statement.setReturnArrays(true)
      const rows = statement.all() as unknown as readonly (readonly SQLOutputValue[])[]
      return { rows: rows.map((row) => row.map((value) => (value === null ? null : String(value)))) }
    } catch (error) {
      return { error: toPlain(error) }
    }
  }
}
