import { Op, type Slice, type StreamBatch } from '../../model/batch.ts'
import type { Position, Transaction, View } from '../../model/position.ts'
import { keyNames, type Column, type TableSchema } from '../../model/schema.ts'
import { textRowsToSlice } from '../../model/slice-builder.ts'
import type { ConnectorContext } from '../../sdk/connector.ts'
import { TailraceError, type Problem } from '../../sdk/errors.ts'
import { selectTables } from '../../sdk/selection.ts'
import type { Selection, Snapshot, SnapshotRequest, Source, SourceCapabilities, SourceTable, StreamRequest } from '../../sdk/source.ts'
import type { MemoryConfig } from './config.ts'
import { formatPosition, parsePosition, type MemoryDatabase } from './database.ts'
import { LogReader } from './log-reader.ts'
import { MemorySnapshot } from './snapshot.ts'

export const memorySourceCapabilities: SourceCapabilities = { formats: ['rows'], snapshot: true, stream: true, parallelSnapshot: true }

export class MemorySource implements Source {
  readonly #database: MemoryDatabase
  readonly #config: MemoryConfig
  readonly #pipeline: string

  constructor(database: MemoryDatabase, config: MemoryConfig, context: ConnectorContext) {
    this.#database = database
    this.#config = config
    this.#pipeline = context.pipeline
  }

  async check(tables: readonly SourceTable[]): Promise<readonly Problem[]> {
    return tables
      .filter((table) => table.where !== null)
      .map((table) => ({
        severity: 'error',
        code: 'CONFIG',
        message: `table ${table.id} has a row condition, which memory cannot judge`,
        path: 'where',
      }))
  }

  async discover(selection: Selection): Promise<readonly SourceTable[]> {
    const schemas = [...this.#database.tables.values()].map((table) => ({
      ...table.schema,
      estimate: { rows: table.rows.size, bytes: -1 },
    }))
    return selectTables(
      schemas.sort((a, b) => (a.id < b.id ? -1 : 1)),
      selection,
    )
  }

  async count(table: SourceTable): Promise<{ rows: bigint; exact: boolean }> {
    return { rows: BigInt(this.#database.rows(table.id).length), exact: true }
  }

  async openSnapshot(request: SnapshotRequest): Promise<Snapshot> {
    const position = formatPosition(this.#database.last)
    if (request.mode === 'origin') await this.anchor()
    // The stream of a new origin starts exactly at this view. A later view is ahead of the stream: see `covers`.
    const again = request.mode === 'again'
    return new MemorySnapshot(this.#database, request.tables, {
      position: request.mode === 'origin' ? position : null,
      view: again ? (position as string as View) : null,
      viewEnd: again ? position : null,
      chunkRows: this.#config.chunkRows,
    })
  }

  /** The stream's origin: from here on the log is kept until this pipeline confirms it. */
  async anchor(): Promise<Position> {
    const known = this.#database.slots.get(this.#pipeline)
    if (known !== undefined) return formatPosition(known)
    this.#database.slots.set(this.#pipeline, this.#database.last)
    return formatPosition(this.#database.last)
  }

  async *stream(request: StreamRequest, signal: AbortSignal): AsyncIterable<StreamBatch> {
    let last = this.#numberOf(request.from)
    const reader = new LogReader(request)
    while (!signal.aborted) {
      if (last < this.#database.pruned || last > this.#database.last) throw historyLost(request.from, this.#database)
      for (const transaction of this.#database.logAfter(last)) {
        for (const batch of reader.read(transaction)) {
          if (signal.aborted) return
          yield batch
        }
        last = transaction.number
      }
      await this.#database.grownPast(last, signal)
    }
  }

  comparePositions(a: Position, b: Position): -1 | 0 | 1 {
    return Math.sign(this.distance(b, a)) as -1 | 0 | 1
  }

  /** In transactions, for want of bytes. */
  distance(from: Position, to: Position): number {
    return this.#numberOf(to) - this.#numberOf(from)
  }

  async head(): Promise<Position> {
    return formatPosition(this.#database.last)
  }

  async parsePosition(text: string): Promise<Position | null> {
    const number = parsePosition(text)
    return number === null ? null : formatPosition(number)
  }

  covers(view: View, transaction: Transaction): boolean {
    return Number(transaction.id) <= this.#numberOf(view as string as Position)
  }

  async fetch(table: SourceTable, keys: readonly (readonly string[])[]): Promise<{ slice: Slice; view: View; viewEnd: Position } | null> {
    if (!showsAll(table, this.#database.tables.get(table.id)?.schema)) return null
    const names = keyNames(table.schema)
    const wanted = new Set(keys.map((key) => JSON.stringify(key)))
    const rows = this.#database.rows(table.id).filter((row) => wanted.has(JSON.stringify(names.map((name) => row[name]))))
    const slice = textRowsToSlice(
      table.schema,
      rows.map((row) => ({ op: Op.read, after: table.schema.columns.map(({ name }) => row[name] ?? null) })),
    )
    const position = formatPosition(this.#database.last)
    return { slice, view: position as string as View, viewEnd: position }
  }

  async confirm(position: Position): Promise<void> {
    const slot = this.#database.slots.get(this.#pipeline)
    if (slot === undefined) return
    this.#database.slots.set(this.#pipeline, Math.max(slot, this.#numberOf(position)))
    this.#database.pruneConfirmed()
  }

  upstream(): readonly { readonly what: string; readonly drop: string }[] {
    return this.#database.slots.has(this.#pipeline) ? [{ what: `slot ${this.#pipeline}`, drop: `tailrace remove ${this.#pipeline}` }] : []
  }

  async remove(): Promise<readonly string[]> {
    return this.#database.slots.delete(this.#pipeline) ? [`slot ${this.#pipeline}`] : []
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #numberOf(position: Position): number {
    const number = parsePosition(position)
    if (number === null)
      throw new TailraceError('HISTORY_LOST', `${JSON.stringify(position)} is no position of a memory database`, {
        hint: 'tailrace reset <pipeline> starts over',
      })
    return number
  }
}

/** Whether a table that looks like that now has the columns of the one given, and no others that it should bring. */
export function showsAll({ schema, columnsFixed, excluded }: SourceTable, now: TableSchema | undefined): boolean {
  const has = (columns: readonly Column[], wanted: Column): boolean =>
    columns.some(({ name, ordinal }) => name === wanted.name && ordinal === wanted.ordinal)
  if (now === undefined || !schema.columns.every((column) => has(now.columns, column))) return false
  return columnsFixed || now.columns.every((column) => excluded.includes(column.name) || has(schema.columns, column))
}

function historyLost(from: Position, database: MemoryDatabase): TailraceError {
  return new TailraceError(
    'HISTORY_LOST',
    `the log of memory:${database.name} holds ${database.pruned + 1} to ${database.last}, not what follows ${from}`,
    { hint: 'tailrace reset <pipeline> starts over' },
  )
}
