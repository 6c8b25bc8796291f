import type { ForeignKey, Index, Sequence, TableSchema } from '../../../../model/schema.ts'
import type { LogicalType } from '../../../../model/logical-type.ts'
import { schemaOf, type ColumnSpec } from '../../../../testing/sink-batches.ts'

/** Column types in the source's spelling → logical types, as far as these tests need them. */
const TYPES: Readonly<Record<string, LogicalType>> = {
  integer: { kind: 'int32' },
  bigint: { kind: 'int64' },
  text: { kind: 'string' },
  boolean: { kind: 'boolean' },
  json: { kind: 'json' },
  jsonb: { kind: 'json' },
  'double precision': { kind: 'float64' },
  'character varying(3)': { kind: 'string' },
  'numeric(12,2)': { kind: 'decimal', precision: 12, scale: 2 },
}

export interface PgTableSpec {
  readonly name: string
  /** `name type`, in order; ` not null` may follow. */
  readonly columns: readonly (string | ColumnSpec)[]
  readonly key?: readonly string[]
  readonly identity?: TableSchema['identity']
  readonly indexes?: readonly Partial<Index>[]
  readonly foreignKeys?: readonly ForeignKey[]
  readonly sequences?: readonly Sequence[]
  readonly namespace?: string
}

/** A table as a PostgreSQL source describes it. */
export function pgTable(spec: PgTableSpec): TableSchema {
  const base = schemaOf({
    name: spec.name,
    columns: spec.columns.map((column) => (typeof column === 'string' ? parseColumn(column) : column)),
    ...(spec.key === undefined ? {} : { key: spec.key }),
    ...(spec.identity === undefined ? {} : { identity: spec.identity }),
    ...(spec.namespace === undefined ? {} : { namespace: spec.namespace }),
  })
  const indexes = (spec.indexes ?? []).map((index) => ({ name: '', unique: false, primary: false, deferrable: false, columns: null, definition: '', ...index }))
  return { ...base, indexes, foreignKeys: spec.foreignKeys ?? [], sequences: spec.sequences ?? [], relation: 16_384, dialect: 'postgres' }
}

function parseColumn(text: string): ColumnSpec {
  const [, name = '', type = '', notNull] = /^(\S+) (.*?)( not null)?$/.exec(text) ?? []
  return { name, type: TYPES[type] ?? { kind: 'other', name: type }, sourceType: type, nullable: notNull === undefined }
}

export function primaryKey(table: string, ...columns: readonly string[]): Index {
  const list = columns.map((column) => `"${column}"`).join(', ')
  return { name: `${table}_pkey`, unique: true, primary: true, deferrable: false, columns, definition: `USING btree (${list})` }
}

export function uniqueIndex(name: string, ...columns: readonly string[]): Index {
  return { name, unique: true, primary: false, deferrable: false, columns, definition: `USING btree (${columns.map((column) => `"${column}"`).join(', ')})` }
}
