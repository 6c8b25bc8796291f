import { Op, type Barrier, type Slice, type StreamBatch } from '../../model/batch.ts'
import type { Transaction } from '../../model/position.ts'
import { columnAt, type TableId, type TableSchema } from '../../model/schema.ts'
import { textRowsToSlice, type TextRow } from '../../model/slice-builder.ts'
import type { SourceTable, StreamRequest } from '../../sdk/source.ts'
import { formatPosition, parsePosition, type Cells, type LogEntry, type LoggedTransaction } from './database.ts'

type RowEntry = Extract<LogEntry, { kind: 'row' }>

/** Turns transactions of the log into batches of the wanted tables and columns. */
export class LogReader {
  readonly #maxRows: number
  /** Columns wanted of each table and those of its key, by the numbers that outlast a rename. */
  readonly #wanted: Map<TableId, ReadonlySet<number>>
  readonly #keys: Map<TableId, readonly number[]>
  readonly #tables: Map<TableId, SourceTable>
  readonly #views: StreamRequest['views']
  /** One projected schema per schema version of the log, so that rows of one version share a slice. */
  readonly #projected = new Map<TableSchema, TableSchema>()

  constructor(request: StreamRequest) {
    this.#maxRows = request.maxBatch.rows
    this.#views = request.views
    this.#tables = new Map(request.tables.map((table) => [table.id, table]))
    this.#wanted = new Map(request.tables.map((table) => [table.id, new Set(table.schema.columns.map((column) => column.ordinal))]))
    this.#keys = new Map(request.tables.map((table) => [table.id, keyOrdinals(table.schema)]))
  }

  /** Barriers travel alone, rows in parts of at most `maxBatch`; the last batch brings the position. */
  *read({ number, committedAt, entries }: LoggedTransaction): Generator<StreamBatch> {
    // Its commit begins where the one before ends: a position to resume from lies past the commits that are applied.
    const transaction: Transaction = { id: String(number), position: formatPosition(number - 1), end: null, committedAt }
    let rows: RowEntry[] = []
    for (const entry of entries) {
      if (entry.kind === 'row') {
        if (!this.#wanted.has(entry.schema.id)) continue
        if (rows.length === this.#maxRows) yield this.#rowBatch(rows.splice(0), transaction)
        rows.push(entry)
        continue
      }
      const barrier = this.#barrier(entry, number)
      if (barrier === null) continue
      if (rows.length > 0) yield this.#rowBatch(rows, transaction)
      rows = []
      yield { slices: [], barrier, transactions: [transaction], position: null, rows: 0, bytes: 0 }
    }
    const end = formatPosition(number)
    yield { ...this.#rowBatch(rows, { ...transaction, end }), position: end }
  }

  #rowBatch(entries: readonly RowEntry[], transaction: Transaction): StreamBatch {
    const bySchema = new Map<TableSchema, TextRow[]>()
    entries.forEach((entry, order) => {
      const schema = this.#project(entry.schema)
      const rows = bySchema.get(schema) ?? []
      rows.push(textRow(entry, schema, order))
      bySchema.set(schema, rows)
    })
    const slices: Slice[] = [...bySchema].map(([schema, rows]) => textRowsToSlice(schema, rows))
    const bytes = slices.reduce((sum, slice) => sum + slice.bytes.length, 0)
    return { slices, barrier: null, transactions: [transaction], position: null, rows: entries.length, bytes }
  }

  #barrier(entry: Exclude<LogEntry, RowEntry>, number: number): Barrier | null {
    if (entry.kind === 'truncate') {
      const tables = entry.schemas.filter((schema) => this.#wanted.has(schema.id)).map((schema) => this.#project(schema))
      return tables.length === 0 ? null : { kind: 'truncate', tables, cascade: false, restartIdentity: false }
    }
    if (!this.#wanted.has(entry.previous.id)) return null
    // The table was read after this change: it has the new shape already.
    const view = this.#views.get(entry.previous.id)
    if (view !== undefined && number <= (parsePosition(view) ?? 0)) return null
    const previous = this.#project(entry.previous)
    this.#follow(entry)
    return { kind: 'schema', previous, schema: this.#project(entry.schema), changes: entry.changes, ambiguous: null }
  }

  /** New columns are taken unless columns were listed; a key that the table itself changed replaces the chosen one. */
  #follow({ previous, schema, changes }: Extract<LogEntry, { kind: 'schema' }>): void {
    const table = this.#tables.get(previous.id)
    if (table !== undefined) this.#tables.set(schema.id, table)
    const known = new Set(previous.columns.map((column) => column.ordinal))
    const taken =
      table?.columnsFixed === true
        ? []
        : schema.columns.filter((column) => !known.has(column.ordinal) && table?.excluded.includes(column.name) !== true)
    this.#wanted.set(schema.id, new Set([...(this.#wanted.get(previous.id) ?? []), ...taken.map((column) => column.ordinal)]))
    const keyChanged = changes.some((change) => change.kind === 'key-changed')
    this.#keys.set(schema.id, keyChanged ? keyOrdinals(schema) : (this.#keys.get(previous.id) ?? []))
  }

  #project(schema: TableSchema): TableSchema {
    const known = this.#projected.get(schema)
    if (known !== undefined) return known
    const wanted = this.#wanted.get(schema.id)
    const columns = schema.columns.filter((column) => wanted?.has(column.ordinal) ?? true)
    const key = (this.#keys.get(schema.id) ?? []).map((ordinal) => columns.findIndex((column) => column.ordinal === ordinal))
    const projected = { ...schema, columns, key }
    this.#projected.set(schema, projected)
    return projected
  }
}

function keyOrdinals(schema: TableSchema): readonly number[] {
  return schema.key.map((index) => columnAt(schema, index).ordinal)
}

function textRow(entry: RowEntry, schema: TableSchema, order: number): TextRow {
  // Undefined: unchanged in a new image, not known in an old one.
  const image = (cells: Cells): (string | null | undefined)[] => schema.columns.map(({ name }) => cells[name])
  return {
    op: Op[entry.op],
    after: entry.after === null ? null : image(entry.after),
    before: entry.before === null ? null : { kind: entry.before.kind, values: image(entry.before.cells) },
    order,
    place: entry.place,
  }
}
