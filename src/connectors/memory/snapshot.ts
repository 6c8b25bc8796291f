import { Op, type SnapshotFormat, type SnapshotFrame } from '../../model/batch.ts'
import { keyOrder, type KeyOrder } from '../../model/logical-type.ts'
import type { Position, View } from '../../model/position.ts'
import type { TableId } from '../../model/schema.ts'
import { textRowsToSlice } from '../../model/slice-builder.ts'
import type { Chunk, ChunkPlan, Snapshot, SourceTable } from '../../sdk/source.ts'
import type { Cells, MemoryDatabase } from './database.ts'

const FRAME_ROWS = 500

interface SnapshotOptions {
  readonly position: Position | null
  readonly view: View | null
  readonly viewEnd: Position | null
  readonly chunkRows: number
}

/** What the tables held when it was opened: rows are never changed in place, so that a list of them is a view. */
export class MemorySnapshot implements Snapshot {
  readonly position: Position | null
  readonly view: View | null
  readonly viewEnd: Position | null
  readonly #chunkRows: number
  readonly #tables: readonly SourceTable[]
  readonly #rows: ReadonlyMap<TableId, readonly Cells[]>

  constructor(database: Pick<MemoryDatabase, 'rows'>, tables: readonly SourceTable[], options: SnapshotOptions) {
    this.position = options.position
    this.view = options.view
    this.viewEnd = options.viewEnd
    this.#chunkRows = options.chunkRows
    this.#tables = tables
    this.#rows = new Map(tables.map((table) => [table.id, database.rows(table.id)]))
  }

  tables(): readonly SourceTable[] {
    return this.#tables
  }

  async plan(table: SourceTable): Promise<ChunkPlan> {
    const rows = this.#rows.get(table.id) ?? []
    const column = rangeColumn(table)
    if (column === null)
      return {
        rule: 'table',
        reason: 'no key that we can order',
        chunks: [{ id: 0, range: { kind: 'all' }, rows: rows.length, bytes: -1 }],
      }
    const values = [...new Set(rows.map((row) => row[column.name] ?? ''))].sort(column.order)
    const cuts = values.filter((_, index) => index > 0 && index % this.#chunkRows === 0)
    const chunks = [null, ...cuts].map((from, id): Chunk => {
      return {
        id,
        range: { kind: 'key', column: column.name, from, to: cuts[id] ?? null },
        rows: Math.min(rows.length, this.#chunkRows),
        bytes: -1,
      }
    })
    return { rule: 'chunk', reason: `ranges of ${column.name}`, chunks }
  }

  async *read(table: SourceTable, chunk: Chunk, _format: SnapshotFormat, signal: AbortSignal): AsyncIterable<SnapshotFrame> {
    const rows = (this.#rows.get(table.id) ?? []).filter((row) => inRange(row, chunk, table))
    for (let start = 0; start < rows.length; start += FRAME_ROWS) {
      signal.throwIfAborted()
      const part = rows.slice(start, start + FRAME_ROWS)
      const slice = textRowsToSlice(
        table.schema,
        part.map((row) => ({ op: Op.read, after: table.schema.columns.map(({ name }) => row[name] ?? null) })),
      )
      yield { format: 'rows', slice, rows: slice.rows, bytes: slice.bytes.length }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** A table can be cut into ranges of its first key column where our order is sure to be the source's; null elsewhere. */
function rangeColumn(table: SourceTable): { readonly name: string; readonly order: KeyOrder } | null {
  const column = table.schema.columns[table.schema.key[0] ?? -1]
  const order = column === undefined ? null : keyOrder(column.type)
  return column === undefined || order === null ? null : { name: column.name, order }
}

/** Whether a row lies in a chunk: `from <= value < to`, open where null. */
export function inRange(row: Cells, chunk: Chunk, table: Pick<SourceTable, 'schema'>): boolean {
  const { range } = chunk
  if (range.kind !== 'key') return true
  const order = keyOrder(table.schema.columns.find((column) => column.name === range.column)?.type ?? { kind: 'string' })
  const value = row[range.column]
  if (order === null || value === undefined || value === null) return true
  return (range.from === null || order(range.from, value) <= 0) && (range.to === null || order(value, range.to) < 0)
}
