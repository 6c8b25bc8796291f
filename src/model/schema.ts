import type { LogicalType } from './logical-type.ts'

declare const tableIdBrand: unique symbol
/** `namespace.name`, each part double-quoted only where it is not a plain lower-case word. Unique within a source. */
export type TableId = string & { readonly [tableIdBrand]: true }

export interface Column {
  readonly name: string
  readonly type: LogicalType
  readonly nullable: boolean
  /** The source's own type with its modifiers: `numeric(38,10)`, `timestamp(3) without time zone`. */
  readonly sourceType: string
  /** The source's number for the type (PostgreSQL: oid); 0 where it has none. */
  readonly sourceTypeId: number
  /** The source's number for the type's modifier (PostgreSQL: atttypmod); undefined where it has none. */
  readonly sourceTypeModifier?: number
  /** The source's lasting number for the column (PostgreSQL: attnum): tells a rename from drop + add. */
  readonly ordinal: number
  readonly generated: 'no' | 'stored' | 'virtual'
  readonly identity: 'no' | 'always' | 'default'
  /** The value that rows written before the column existed show, as text; undefined: none or not constant (TRAPS 46). */
  readonly missing?: string
  /** The source dialect's default expression for rows to come; undefined: none. */
  readonly default?: string
}

/** An index or constraint to make on a target of the same dialect once the rows are there. */
export interface Index {
  readonly name: string
  readonly unique: boolean
  readonly primary: boolean
  readonly deferrable: boolean
  /** Column names when it is made of plain columns only, else null. */
  readonly columns: readonly string[] | null
  /** The source dialect's text after `ON table`: `USING btree (lower(a)) WHERE b`. */
  readonly definition: string
  /** An exclusion or other constraint, as `ALTER TABLE … ADD CONSTRAINT name <this>`. */
  readonly constraint?: string
  /** A plain UNIQUE constraint stands on the index. */
  readonly uniqueConstraint?: boolean
}

export interface ForeignKey {
  readonly name: string
  readonly columns: readonly string[]
  readonly references: { readonly table: TableId; readonly columns: readonly string[] }
  /** The source dialect's text: `FOREIGN KEY (a) REFERENCES s.t(b) ON DELETE CASCADE`. */
  readonly definition: string
}

export interface Sequence {
  readonly column: string
  /** Last value handed out, as text; null when never used. */
  readonly last: string | null
  readonly increment: string
  /** The source dialect's options where they are not what a new sequence has: `MINVALUE 0 START WITH 0`. */
  readonly options?: string
}

export interface ComputedColumn {
  readonly name: string
  readonly sourceType: string
  /** The source dialect's expression. */
  readonly expression: string
  readonly kind: 'stored' | 'virtual'
}

export interface TableSchema {
  readonly id: TableId
  readonly namespace: string
  readonly name: string
  readonly columns: readonly Column[]
  /** Indexes into `columns` of the row's identity in the target: primary key, replica-identity index, or `--key`. */
  readonly key: readonly number[]
  /** What the change log says of old rows: their key, the whole row, the columns of an index, or nothing. */
  readonly identity: 'key' | 'full' | 'index' | 'nothing'
  readonly indexes: readonly Index[]
  readonly foreignKeys: readonly ForeignKey[]
  readonly sequences: readonly Sequence[]
  /** Generated columns: never in the rows; a target of the same dialect computes them itself, others go without. */
  readonly computed?: readonly ComputedColumn[]
  /** Estimates, from the source's statistics; −1 where unknown. */
  readonly estimate: { readonly rows: number; readonly bytes: number }
  /** The source's number for the table (PostgreSQL: oid); 0 where it has none. */
  readonly relation: number
  /** The source's numbers for the tables that hold the rows, where they are others: leaf partitions. */
  readonly partitions?: readonly number[]
  /** The source's mark of how the rows are stored: another one tells of rewrites that no change log has (TRAPS 46). */
  readonly storage?: string
  /** Numbers of columns that were dropped. */
  readonly dropped?: readonly number[]
  /** Whose DDL the texts in `indexes` and `foreignKeys` are. */
  readonly dialect: string
}

const PLAIN = /^[a-z_][a-z0-9_$]*$/

function quotePart(part: string): string {
  return PLAIN.test(part) ? part : `"${part.replaceAll('"', '""')}"`
}

export function tableId(namespace: string, name: string): TableId {
  return `${quotePart(namespace)}.${quotePart(name)}` as TableId
}

/** The inverse of `tableId`, also for what a person types: `t`, `s.t`, `s."T.x"`. Null when it is not well formed. */
export function parseTableName(text: string): { namespace: string | null; name: string } | null {
  const parts: string[] = []
  const pattern = /\s*(?:"((?:[^"]|"")+)"|([^".]+))\s*(\.|$)/y
  let end = false
  while (!end) {
    const match = pattern.exec(text)
    if (match === null) return null
    parts.push(match[1] === undefined ? (match[2] ?? '').trim() : match[1].replaceAll('""', '"'))
    end = match[3] === ''
  }
  if (parts.length > 2 || parts.some((part) => part === '')) return null
  const [first, second] = parts
  if (first === undefined) return null
  return second === undefined ? { namespace: null, name: first } : { namespace: first, name: second }
}

export function keyNames(schema: TableSchema): readonly string[] {
  return schema.key.map((index) => columnAt(schema, index).name)
}

export function columnAt(schema: TableSchema, index: number): Column {
  const column = schema.columns[index]
  if (column === undefined) throw new RangeError(`table ${schema.id} has no column number ${index}`)
  return column
}

/** Whether the column's value travels; the target computes the others. */
export function isWritable(column: Column): boolean {
  return column.generated === 'no'
}

/** Whether the source itself keeps rows apart by the key. A key that the user named (`--key`) is only believed to. */
export function isKeptUnique(schema: TableSchema): boolean {
  const names = keyNames(schema)
  return schema.indexes.some(
    ({ unique, columns }) =>
      unique &&
      columns !== null &&
      columns.every((name) => names.includes(name) && schema.columns.some((column) => column.name === name && !column.nullable)),
  )
}
