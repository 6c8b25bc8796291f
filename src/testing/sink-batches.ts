import { Op, OldImage, type Barrier, type SchemaChangeDetail, type Slice, type StreamBatch } from '../model/batch.ts'
import type { LogicalType } from '../model/logical-type.ts'
import type { Position, Transaction } from '../model/position.ts'
import { tableId, type Column, type TableSchema } from '../model/schema.ts'
import { textRowsToSlice, type TextRow } from '../model/slice-builder.ts'
import type { SinkTable } from '../sdk/sink.ts'

/** Tables and batches in few words, for suites and tests. Values are text in PostgreSQL's form; undefined = UNCHANGED. */

export type Image = readonly (string | null | undefined)[]

export interface ColumnSpec {
  readonly name: string
  readonly type: LogicalType
  readonly sourceType?: string
  readonly nullable?: boolean
  readonly ordinal?: number
  readonly missing?: string
}

export interface TableSpec {
  readonly name: string
  readonly columns: readonly ColumnSpec[]
  /** Names of the key's columns; none: a table without identity but its whole rows. */
  readonly key?: readonly string[]
  readonly identity?: TableSchema['identity']
  readonly namespace?: string
}

function columnOf(spec: ColumnSpec, index: number): Column {
  return {
    name: spec.name,
    type: spec.type,
    nullable: spec.nullable ?? true,
    sourceType: spec.sourceType ?? spec.type.kind,
    sourceTypeId: 0,
    ordinal: spec.ordinal ?? index + 1,
    generated: 'no',
    identity: 'no',
    ...(spec.missing === undefined ? {} : { missing: spec.missing }),
  }
}

export function schemaOf(spec: TableSpec): TableSchema {
  const namespace = spec.namespace ?? 'public'
  const key = (spec.key ?? []).map((name) => spec.columns.findIndex((column) => column.name === name))
  return {
    id: tableId(namespace, spec.name),
    namespace,
    name: spec.name,
    columns: spec.columns.map(columnOf).map((column, index) => (key.includes(index) ? { ...column, nullable: false } : column)),
    key,
    identity: spec.identity ?? (key.length === 0 ? 'full' : 'key'),
    indexes: [],
    foreignKeys: [],
    sequences: [],
    estimate: { rows: -1, bytes: -1 },
    relation: 0,
    // Of no known system: the target's types follow from the logical ones.
    dialect: 'suite',
  }
}

export function sinkTable(schema: TableSchema, namespace: string | null = null): SinkTable {
  return { id: schema.id, schema, target: { namespace, name: schema.name } }
}

/** A change of one table within a transaction. */
export interface RowChange extends Pick<TextRow, 'op' | 'after' | 'before'> {
  readonly schema: TableSchema
}

export function insert(schema: TableSchema, after: Image): RowChange {
  return { schema, op: Op.insert, after }
}

/** `before`: the old row as far as the source sends it; needed where the key changes or the identity is full. */
export function update(schema: TableSchema, after: Image, before?: Image): RowChange {
  return { schema, op: Op.update, after, before: before === undefined ? null : oldImage(schema, before) }
}

export function remove(schema: TableSchema, before: Image): RowChange {
  return { schema, op: Op.delete, after: null, before: oldImage(schema, before) }
}

/** By identity `key` only the key's columns are sent, whatever else is given. */
function oldImage(schema: TableSchema, values: Image): NonNullable<TextRow['before']> {
  if (schema.identity === 'full') return { kind: OldImage.full, values }
  return { kind: OldImage.key, values: schema.columns.map((_, index) => (schema.key.includes(index) ? values[index] : undefined)) }
}

export function at(number: number): Position {
  return `suite/1:${number}` as Position
}

/** Transactions one after the other; `open`: the last one goes on in a later batch. Numbers give ids and positions. */
export function batchOf(
  transactions: readonly { readonly number: number; readonly changes: readonly RowChange[] }[],
  open = false,
): StreamBatch {
  const rows = transactions.flatMap(({ number, changes }, transaction) =>
    changes.map((change, n) => ({ change, transaction, place: (BigInt(number) << 32n) + BigInt(n) })),
  )
  const bySchema = new Map<TableSchema, TextRow[]>()
  rows.forEach(({ change: { schema, op, after, before }, transaction, place }, order) => {
    const list = bySchema.get(schema) ?? []
    list.push({ op, after, before: before ?? null, order, transaction, place })
    bySchema.set(schema, list)
  })
  const slices: Slice[] = [...bySchema].map(([schema, list]) => textRowsToSlice(schema, list))
  const last = transactions.at(-1)
  return {
    slices,
    barrier: null,
    transactions: transactions.map(({ number }, index) => transactionOf(number, open && index === transactions.length - 1)),
    position: open || last === undefined ? null : at(last.number),
    rows: rows.length,
    bytes: slices.reduce((sum, slice) => sum + slice.bytes.length, 0),
  }
}

/** A barrier within transaction `number`; `open`: the transaction goes on. */
export function barrierBatch(barrier: Barrier, number: number, open: boolean): StreamBatch {
  return { slices: [], barrier, transactions: [transactionOf(number, open)], position: open ? null : at(number), rows: 0, bytes: 0 }
}

function transactionOf(number: number, open: boolean): Transaction {
  return { id: String(number), position: at(number), end: open ? null : at(number), committedAt: 1_700_000_000_000_000 + number }
}

export function truncateOf(...tables: readonly TableSchema[]): Barrier {
  return { kind: 'truncate', tables, cascade: false, restartIdentity: false }
}

export function schemaChange(previous: TableSchema, schema: TableSchema, ...changes: readonly SchemaChangeDetail[]): Barrier {
  return { kind: 'schema', previous, schema, changes, ambiguous: null }
}
