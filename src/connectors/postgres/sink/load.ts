import type { SnapshotFrame } from '../../../model/batch.ts'
import type { TableSchema } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { Loader, LoadRequest } from '../../../sdk/sink.ts'
import { DELETED_COLUMN } from '../../../sdk/soft-delete.ts'
import { quoteIdentifier, quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { CopyIn } from '../wire/copy.ts'
import { translate } from '../wire/pg-error.ts'
import { CopyTextWriter } from './encode.ts'
import { requireCommit, type Fence } from './fenced.ts'
import { makeStage, mergeSql, STAGE } from './merge.ts'
import { acceptsBinary } from './relay.ts'
import { abortable, type SinkSession } from './session.ts'
import { TableStatements } from './statements.ts'
import { matchOf } from './table-plans.ts'
import { requireColumn, requireTarget, type TargetTable } from './target-table.ts'

/** Lends sessions to loaders and takes them back. */
export interface SessionPool {
  borrow(signal: AbortSignal): Promise<SinkSession>
  /** A session whose transaction is over. */
  giveBack(session: SinkSession): void
  /** A session in an unknown state: cut, and its backend ended before anything is written again. */
  discard(session: SinkSession): Promise<void>
}

/** Signature, flags and no header extension; then −1, the trailer: a binary COPY without rows. */
const EMPTY_BINARY_COPY = Buffer.from('5047434f50590aff0d0a000000000000000000ffff', 'hex')

/** Starts to load a chunk: a session and a transaction of its own, fenced, its range emptied first when it may be a repetition. */
export async function startLoad(pool: SessionPool, fence: Fence, request: LoadRequest, signal: AbortSignal): Promise<Loader> {
  const session = await pool.borrow(signal)
  try {
    return await abortable(session.connection, signal, async () => {
      const { connection } = session
      await fence.begin(connection)
      const target = await requireTarget(connection, request.table)
      if (request.format === 'pg-copy-binary' && !acceptsBinary(request.table.schema, target)) throw notTheSame(request.table.id)
      const { schema } = request.table
      const statements = new TableStatements(schema, target, { match: matchOf(schema), soft: false, prefix: '' })
      if (request.replace) await connection.query(emptyRangeSql(request, target))
      const merge = request.merge === true && schema.key.length > 0 ? mergeSql(statements, schema, session) : null
      if (merge !== null) await makeStage(connection, merge.stage)
      const copy = await connection.copyIn(statements.copy(OPTIONS[request.format], merge === null ? target.sql : STAGE))
      return new CopyLoader({ pool, session, copy, request, statements, end: [...(merge?.end ?? []), 'COMMIT'].join('; '), signal })
    })
  } catch (error) {
    await pool.discard(session)
    throw translate(error, `loading ${request.table.id}`, 'sink')
  }
}

/** Takes rows away before they are read again. Softly: those with a key are marked and stay, of the others only the marked do. */
export function emptySql({ sql }: TargetTable, { key }: TableSchema, softly: boolean): string {
  const mark = quoteIdentifier(DELETED_COLUMN)
  if (!softly) return `DELETE FROM ${sql} WHERE true`
  return key.length > 0 ? `UPDATE ${sql} SET ${mark} = true WHERE NOT ${mark}` : `DELETE FROM ${sql} WHERE NOT ${mark}`
}

function notTheSame(table: string): TailraceError {
  return new TailraceError(
    'SCHEMA_UNSUPPORTED',
    `${table} cannot be copied in binary form: a type differs between source and target, or its binary form names things of the source's catalog`,
    { path: table },
  )
}

const OPTIONS = {
  'pg-copy-binary': ' (FORMAT binary)',
  csv: ' (FORMAT csv)',
  rows: '',
} as const satisfies Record<LoadRequest['format'], string>

function emptyRangeSql(request: LoadRequest, target: TargetTable): string {
  const { range } = request.chunk
  const empty = emptySql(target, request.table.schema, request.merge === true && target.columns.has(DELETED_COLUMN))
  if (range.kind === 'all') return empty
  // TRAPS 1, 3: a heap range means nothing in another view; such tables are cleared and read again whole.
  if (range.kind === 'heap') throw new TailraceError('BUG', `a heap range of ${request.table.id} cannot be loaded again by itself`)
  const { castType, equals } = requireColumn(target, range.column)
  const column = quoteIdentifier(range.column)
  const compare = (operator: string, value: string): string =>
    `${column} ${equals.replace('=', operator)} ${quoteLiteral(value)}::${castType}`
  const bounds = [range.from === null ? [] : [compare('>=', range.from)], range.to === null ? [] : [compare('<', range.to)]].flat()
  return [empty, ...bounds].join(' AND ')
}

interface CopyLoaderParts {
  readonly pool: SessionPool
  readonly session: SinkSession
  readonly copy: CopyIn
  readonly request: LoadRequest
  readonly statements: TableStatements
  /** What makes the rows count once they are there. */
  readonly end: string
  readonly signal: AbortSignal
}

class CopyLoader implements Loader {
  readonly #parts: CopyLoaderParts
  readonly #columns: Int32Array
  readonly #writer = new CopyTextWriter()
  #written = false
  #over = false

  constructor(parts: CopyLoaderParts) {
    this.#parts = parts
    this.#columns = Int32Array.from(parts.statements.columns, (column) => column.index)
  }

  async write(frame: SnapshotFrame): Promise<void> {
    const { request } = this.#parts
    if (frame.format !== request.format)
      throw new TailraceError('BUG', `a ${frame.format} frame came for a ${request.format} load of ${request.table.id}`)
    this.#written = true
    await this.#do(() => this.#send(frame))
  }

  async finish(): Promise<{ rows: number }> {
    const { pool, session, copy, request, end } = this.#parts
    const rows = await this.#do(async () => {
      if (!this.#written && request.format === 'pg-copy-binary') await copy.writePayload(EMPTY_BINARY_COPY)
      const count = await copy.finish()
      requireCommit((await session.connection.query(end)).at(-1)?.tag)
      return count
    })
    this.#over = true
    pool.giveBack(session)
    return { rows }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#over) return
    this.#over = true
    await this.#parts.pool.discard(this.#parts.session)
  }

  async #send(frame: SnapshotFrame): Promise<void> {
    const { copy, request } = this.#parts
    if (frame.format !== 'rows') return frame.format === 'csv' ? copy.writePayload(frame.data) : copy.write(frame.data)
    const { slice } = frame
    const columns = slice.schema.columns.length
    const firsts = Int32Array.from({ length: slice.rows }, (_, row) => row * columns)
    this.#writer.rows({ bytes: slice.bytes, starts: slice.starts, lengths: slice.lengths, firsts }, this.#columns, request.table.id)
    for (const message of this.#writer.take()) await copy.write(message)
  }

  async #do<T>(work: () => Promise<T>): Promise<T> {
    const { session, request, signal } = this.#parts
    if (this.#over) throw new TailraceError('CLOSED', `the load of ${request.table.id} is over`)
    try {
      return await abortable(session.connection, signal, work)
    } catch (error) {
      await this[Symbol.asyncDispose]()
      throw translate(error, `loading ${request.table.id}`, 'sink')
    }
  }
}
