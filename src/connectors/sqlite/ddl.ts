import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import { columnAt, isWritable, type Column, type TableSchema } from '../../model/schema.ts'
import type { SinkTable } from '../../sdk/sink.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import type { SqliteConfig } from './config.ts'
import { rows } from './database.ts'
import { fold, tableName } from './identifiers.ts'
import { isRowidKind, sqliteType, type DeclaredType } from './type-table.ts'

/** How tables are shaped, beyond what their schema says. */
export interface Shape {
  readonly decimals: SqliteConfig['decimals']
  readonly indexes: SqliteConfig['indexes']
  readonly softDeletes: boolean
}

/** The columns that exist in the target: generated ones are not sent by sources, and only their own dialect computes them. */
export function writableColumns(schema: TableSchema): readonly Column[] {
  return schema.columns.filter(isWritable)
}

/** The column that is the rowid, null when the key is none. A nullable one must not be: SQLite would fill in a number. */
export function rowidKey(schema: TableSchema): Column | null {
  if (schema.key.length !== 1) return null
  const column = columnAt(schema, schema.key[0]!)
  return isWritable(column) && !column.nullable && isRowidKind(column.type) ? column : null
}

/**
 * Nothing is NOT NULL: SQLite could not take it back when the source does, or when the column is dropped there. Keys that
 * are no integers get their index later (`keyIndex`): loading into a table without it is faster.
 */
export function createTable(name: string, schema: TableSchema, shape: Shape): string {
  const key = rowidKey(schema)
  const columns = writableColumns(schema).map(
    (column) => `${quote(column.name)} ${sqliteType(column.type, shape.decimals).declared}${column === key ? ' PRIMARY KEY' : ''}`,
  )
  if (shape.softDeletes) columns.push(deletedColumn())
  return `CREATE TABLE ${quote(name)} (${columns.join(', ')}) STRICT`
}

export function deletedColumn(): string {
  return `${quote(DELETED_COLUMN)} INTEGER NOT NULL DEFAULT 0`
}

/**
 * Index by which streamed changes find their row, where the key is not the rowid. Of tables without a key the first
 * columns are indexed, to narrow the search for an equal row.
 */
export function keyIndex(name: string, schema: TableSchema): string | null {
  const isKeyed = schema.key.length > 0
  const columns = isKeyed ? schema.key.map((index) => columnAt(schema, index)) : searchColumns(schema)
  if (columns.length === 0) return null
  return `CREATE ${isKeyed ? 'UNIQUE ' : ''}INDEX ${quote(keyIndexName(name))} ON ${quote(name)} (${columns.map((column) => quote(column.name)).join(', ')})`
}

export function keyIndexName(name: string): string {
  return `tailrace_key_${name}`
}

const SEARCH_COLUMNS = 3

function searchColumns(schema: TableSchema): readonly Column[] {
  return writableColumns(schema)
    .filter((column) => column.type.kind !== 'bytes' && column.type.kind !== 'json' && column.type.kind !== 'boolean')
    .slice(0, SEARCH_COLUMNS)
}

/** The source's indexes as far as they are made of columns only; unique ones lose that: within a transaction it need not hold. */
export function plainIndexes(
  name: string,
  schema: TableSchema,
): readonly { readonly name: string; readonly columns: readonly string[]; readonly sql: string }[] {
  const present = new Set(writableColumns(schema).map((column) => column.name))
  return schema.indexes.flatMap((index) => {
    const { columns } = index
    if (index.primary || columns === null || columns.length === 0 || !columns.every((column) => present.has(column))) return []
    const own = `${name}_${index.name}`
    return [{ name: own, columns, sql: `CREATE INDEX ${quote(own)} ON ${quote(name)} (${columns.map(quote).join(', ')})` }]
  })
}

export function describeTable(table: SinkTable, shape: Shape): readonly string[] {
  const name = tableName(table.target)
  const key = rowidKey(table.schema) === null ? keyIndex(name, table.schema) : null
  const plain = shape.indexes === 'plain' ? plainIndexes(name, table.schema).map((index) => index.sql) : []
  return [createTable(name, table.schema, shape), ...(key === null ? [] : [key]), ...plain]
}

export interface ExistingColumn {
  readonly name: string
  readonly declared: string
  /** Place in the primary key from 1; 0: not in it. */
  readonly key: number
  readonly generated: boolean
}

export interface ExistingTable {
  readonly name: string
  readonly kind: 'table' | 'view' | 'virtual'
  readonly strict: boolean
  readonly withoutRowid: boolean
  readonly columns: readonly ExistingColumn[]
}

/** What stands at a name now; null: nothing. */
export function readTable(db: DatabaseSync, name: string): ExistingTable | null {
  const found = rows(
    db,
    "SELECT name, type, strict, wr FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE AND type <> 'shadow'",
    name,
  )[0]
  if (found === undefined) return null
  const columns = rows(db, 'SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)', name)
  return {
    name: String(found['name']),
    kind: found['type'] === 'view' ? 'view' : found['type'] === 'virtual' ? 'virtual' : 'table',
    strict: found['strict'] === 1,
    withoutRowid: found['wr'] === 1,
    columns: columns.map((column) => ({
      name: String(column['name']),
      declared: String(column['type']),
      key: Number(column['pk']),
      generated: Number(column['hidden']) > 1,
    })),
  }
}

export function hasColumn(table: ExistingTable, name: string): boolean {
  return findColumn(table, name) !== undefined
}

export function findColumn(table: ExistingTable, name: string): ExistingColumn | undefined {
  return table.columns.find((column) => fold(column.name) === fold(name))
}

/** https://sqlite.org/datatype3.html#determination_of_column_affinity; ANY only means "as it is" in a STRICT table. */
export function affinity(declared: string, strict: boolean): 'INTEGER' | 'TEXT' | 'BLOB' | 'REAL' | 'NUMERIC' | 'ANY' {
  const type = declared.toUpperCase()
  if (strict && type === 'ANY') return 'ANY'
  if (type.includes('INT')) return 'INTEGER'
  if (type.includes('CHAR') || type.includes('CLOB') || type.includes('TEXT')) return 'TEXT'
  if (type === '' || type.includes('BLOB')) return 'BLOB'
  if (type.includes('REAL') || type.includes('FLOA') || type.includes('DOUB')) return 'REAL'
  return 'NUMERIC'
}

/**
 * Whether a column keeps values of a declared type as they are. `nearly`: but for -0.0. A column without affinity takes
 * no integers from us: they are bound as doubles, which only an INTEGER or NUMERIC column turns back.
 */
export function takes(column: ExistingColumn, strict: boolean, wanted: DeclaredType): 'yes' | 'nearly' | 'no' {
  const has = affinity(column.declared, strict)
  const untouched = has === 'ANY' || (has === 'BLOB' && !strict)
  switch (wanted) {
    case 'INTEGER':
      return has === 'INTEGER' || has === 'NUMERIC' ? 'yes' : 'no'
    case 'TEXT':
      return has === 'TEXT' || untouched ? 'yes' : 'no'
    case 'BLOB':
      return has === 'BLOB' || !strict || untouched ? 'yes' : 'no'
    case 'ANY':
      return untouched ? 'yes' : has === 'REAL' ? 'nearly' : 'no'
    default:
      return wanted satisfies never
  }
}

/** Indexes of a table: name, columns in order (null: not plain columns), unique. */
export function readIndexes(
  db: DatabaseSync,
  table: string,
): readonly { readonly name: string; readonly unique: boolean; readonly columns: readonly string[] | null }[] {
  return rows(db, 'SELECT name, "unique", partial FROM pragma_index_list(?)', table).map((index) => {
    const names = rows(db, 'SELECT name FROM pragma_index_info(?) ORDER BY seqno', String(index['name'])).map((column) => column['name'])
    const plain = index['partial'] === 0 && names.every((name) => typeof name === 'string')
    return { name: String(index['name']), unique: index['unique'] === 1, columns: plain ? names.map(String) : null }
  })
}

/** Whether the key is found by an index already: ours, or one that the table had. */
export function hasKeyIndex(db: DatabaseSync, name: string, schema: TableSchema): boolean {
  const indexes = readIndexes(db, name)
  if (schema.key.length === 0) return indexes.some((index) => fold(index.name) === fold(keyIndexName(name)))
  const key = new Set(schema.key.map((index) => fold(columnAt(schema, index).name)))
  if (isRowid(readTable(db, name), key)) return true
  return indexes.some(
    (index) =>
      index.unique && index.columns !== null && index.columns.length === key.size && index.columns.every((column) => key.has(fold(column))),
  )
}

function isRowid(table: ExistingTable | null, key: ReadonlySet<string>): boolean {
  const primary = table?.columns.filter((column) => column.key > 0) ?? []
  return primary.length === 1 && key.size === 1 && key.has(fold(primary[0]!.name)) && primary[0]!.declared.toUpperCase() === 'INTEGER'
}

/** A value as it may stand in a DEFAULT. Text comes as bytes from the encoder, unless the column holds bytes. */
export function literal(value: SQLInputValue, isText: boolean): string {
  if (value === null) return 'NULL'
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  if (typeof value === 'string') return `'${value.replaceAll("'", "''")}'`
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  return isText ? `'${bytes.toString('utf8').replaceAll("'", "''")}'` : `x'${bytes.toString('hex')}'`
}
