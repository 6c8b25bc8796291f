import type { SnapshotFrame } from '../../model/batch.ts'
import type { TableSchema } from '../../model/schema.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Loader } from '../../sdk/sink.ts'
import type { Chunk } from '../../sdk/source.ts'
import { quoteIdentifier, quoteLiteral } from '../../sdk/sql/identifiers.ts'
import type { Bookkeeping } from './bookkeeping.ts'
import type { Conflicts } from './conflicts.ts'
import type { Connection } from './connection.ts'
import { CsvEncoder } from './csv-encoder.ts'
import { CsvFile } from './csv-file.ts'
import type { Database } from './database.ts'
import { explainRefusal } from './diagnose.ts'
import { translate } from './duckdb-errors.ts'
import { valueOf } from './type-table.ts'
import { DELETED, sameIdentity, type TargetTable } from './target-table.ts'

/**
 * Bytes of CSV per INSERT. DuckDB holds 2,048 rows of it at once, whatever they weigh: this bounds them. Larger files were
 * no faster (8 and 16 MB: 1.45 and 1.50 s for 1 M rows).
 */
const FILE_BYTES = 8 << 20

export interface LoadParts {
  readonly database: Database
  readonly bookkeeping: Bookkeeping
  readonly conflicts: Conflicts
  readonly epoch: number
  readonly target: TargetTable
  readonly chunk: Chunk
  readonly replace: boolean
  /** Rows with a key of the chunk give way, others stay. */
  readonly merge: boolean
  readonly scratch: string
  readonly signal: AbortSignal
  /** Called once the loader is done with the file. */
  closed(): void
}

/**
 * Loads a chunk in one transaction on a connection of its own: frames are appended to a scratch file, and DuckDB's own CSV
 * parser reads it while the next one fills. (A named pipe would save the file, but there is none on every system.)
 */
export class ChunkLoader implements Loader {
  readonly #parts: LoadParts
  readonly #connection: Connection
  readonly #encoder = new CsvEncoder()
  #file: CsvFile | null = null
  /** The INSERT under way; never rejects: what went wrong is in `#error`. */
  #insert: Promise<void> = Promise.resolve()
  #error: unknown = null
  #rows = 0
  #state: 'open' | 'done' = 'open'

  private constructor(parts: LoadParts, connection: Connection) {
    this.#parts = parts
    this.#connection = connection
  }

  static async open(parts: LoadParts): Promise<ChunkLoader> {
    const connection = await parts.database.connect()
    await parts.database.beginLoad()
    const loader = new ChunkLoader(parts, connection)
    try {
      await connection.begin()
      await parts.bookkeeping.prove(connection, parts.epoch)
      if (parts.replace) await connection.run(deleteRange(parts.target, parts.chunk, parts.merge && parts.target.softDeletes))
      return loader
    } catch (error) {
      await loader[Symbol.asyncDispose]()
      throw translate(error, `loading ${parts.target.schema.id}`, parts.target.schema.id)
    }
  }

  async write(frame: SnapshotFrame): Promise<void> {
    this.#throwIfFailed()
    const { data, longest } = this.#csvOf(frame)
    if (data.length === 0) return
    if (this.#file !== null && this.#file.bytes + data.length > FILE_BYTES) await this.#startInsert()
    try {
      this.#file ??= await CsvFile.create(this.#parts.scratch)
      await this.#file.append(data, longest)
    } catch (error) {
      throw await this.#settled(error)
    }
  }

  async finish(): Promise<{ rows: number }> {
    await this.#startInsert()
    await this.#insert
    this.#throwIfFailed()
    const { database, bookkeeping, conflicts, epoch } = this.#parts
    // The transaction sees the epoch as it was when it began; a take-over since then in this process is seen here.
    const claimed = database.epochs.get(bookkeeping.name) ?? epoch
    if (claimed !== epoch) throw bookkeeping.fenced(epoch, claimed)
    try {
      await database.inserts.run(() => this.#connection.commit())
    } catch (error) {
      throw await this.#settled(error)
    }
    conflicts.passed()
    return { rows: this.#rows }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#state === 'done') return
    this.#state = 'done'
    await this.#parts.database.disconnect(this.#connection)
    await this.#insert
    await this.#file?.remove()
    await this.#parts.database.endLoad()
    this.#parts.closed()
  }

  #throwIfFailed(): void {
    if (this.#state === 'done') throw new TailraceError('CLOSED', 'the chunk was given up')
    if (this.#error !== null) throw this.#error
  }

  #csvOf(frame: SnapshotFrame): { data: Buffer; longest: number } {
    if (frame.format === 'csv') return { data: frame.data, longest: frame.data.length }
    if (frame.format !== 'rows') throw new TailraceError('BUG', `the DuckDB sink was given ${frame.format}`)
    const { slice } = frame
    const columns = slice.schema.columns.length
    if (columns !== this.#parts.target.schema.columns.length)
      throw new TailraceError('BUG', `rows of ${slice.schema.id} came in another shape than announced`)
    this.#encoder.reset()
    for (let cell = 0; cell < slice.rows * columns;) {
      for (let c = 0; c < columns; c++, cell++) this.#encoder.cell(slice.bytes, slice.starts[cell]!, slice.lengths[cell]!)
      this.#encoder.endRow()
    }
    return { data: this.#encoder.bytes, longest: this.#encoder.longest }
  }

  /** Hands the file to an INSERT in the background; waits for the one before, so that at most two files lie there. */
  async #startInsert(): Promise<void> {
    const file = this.#file
    this.#file = null
    if (file === null) return
    await this.#insert
    if (this.#error !== null) return file.remove()
    this.#insert = this.#insertFile(file)
  }

  async #insertFile(file: CsvFile): Promise<void> {
    const { database, target } = this.#parts
    const columns = target.schema.columns.length
    const values = target.columns.map((column) => valueOf(column.type, `s.c${column.index}`))
    const insert = `INSERT INTO ${target.sql} (${target.insertList}) SELECT ${target.values(values)} FROM ${file.table(columns)} s`
    try {
      await file.close()
      const run = async (): Promise<number> => {
        await this.#giveWay(file)
        return this.#connection.run(insert, this.#parts.signal)
      }
      this.#rows += await database.inserts.run(() => database.withRoomFor(file.longest, run))
    } catch (error) {
      this.#error = await this.#explain(error, file)
    } finally {
      await file.remove()
    }
  }

  /** A merge: rows that stand at the keys that come. */
  async #giveWay(file: CsvFile): Promise<void> {
    const { database, merge, signal, target } = this.#parts
    if (!merge || target.key.length === 0) return
    const keys = target.key.map((column, i) => `${valueOf(column.type, `s.c${column.index}`)} AS k${i}`)
    const from = `(SELECT ${keys.join(', ')} FROM ${file.table(target.schema.columns.length)} s) k`
    const same = sameIdentity(
      target.key,
      (column) => `t.${column.sql}`,
      (_, i) => `k.k${i}`,
    )
    const [row] = await this.#connection.rows(`SELECT count(*)::VARCHAR FROM ${from}`)
    await database.expectDeletes(Number(row?.[0] ?? 0))
    await this.#connection.run(`DELETE FROM ${target.sql} t USING ${from} WHERE ${same}`, signal)
  }

  async #settled(error: unknown): Promise<TailraceError> {
    const { conflicts, database, target } = this.#parts
    return conflicts.settle(await database.settle(translate(error, `loading ${target.schema.id}`, target.schema.id), error))
  }

  async #explain(error: unknown, file: CsvFile): Promise<TailraceError> {
    const { conflicts, database, target } = this.#parts
    await this.#connection.rollback()
    const from = `${file.table(target.schema.columns.length)} s`
    const explained = await explainRefusal(this.#connection, error, target, { from, text: (column) => `s.c${column.index}` })
    return conflicts.settle(await database.settle(explained, error))
  }
}

/** Empties the range of a chunk (TRAP 4a). Ranges of the heap are good for one view only: rule T empties the whole table. */
function deleteRange(target: TargetTable, { range }: Chunk, softly: boolean): string {
  const empty = emptySql(target.sql, target.schema, softly)
  if (range.kind === 'all') return empty
  if (range.kind === 'heap') throw new TailraceError('BUG', `a heap range of ${target.schema.id} cannot be read again alone`)
  const column = target.columns.find((each) => each.name === range.column)
  if (column === undefined) throw new TailraceError('BUG', `table ${target.schema.id} has no column ${range.column} to cut by`)
  const name = quoteIdentifier(range.column)
  const bound = (sign: string, value: string | null): readonly string[] =>
    value === null ? [] : [`${name} ${sign} ${valueOf(column.type, quoteLiteral(value))}`]
  const conditions = [...bound('>=', range.from), ...bound('<', range.to)]
  return [empty, ...conditions].join(' AND ')
}

/** Takes rows away before they are read again. Softly: those with a key are marked and stay, of the others only the marked do. */
export function emptySql(table: string, { key }: TableSchema, softly: boolean): string {
  if (!softly) return `DELETE FROM ${table} WHERE true`
  return key.length > 0 ? `UPDATE ${table} SET ${DELETED} = true WHERE NOT ${DELETED}` : `DELETE FROM ${table} WHERE NOT ${DELETED}`
}
