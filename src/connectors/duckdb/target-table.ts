import { isWritable, type Column, type TableSchema } from '../../model/schema.ts'
import { tablePattern } from '../../sdk/selection.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import type { SinkTable } from '../../sdk/sink.ts'
import { quoteIdentifier } from '../../sdk/sql/identifiers.ts'
import type { MatchBy } from '../../sdk/sql/compact.ts'
import { columnType, valueOf, type ColumnType, type TypeOptions } from './type-table.ts'
import { CATALOG } from './database.ts'

/** Where tables go that come from a system without namespaces. */
export const DEFAULT_SCHEMA = 'main'

export interface ShapeOptions extends TypeOptions {
  readonly softDeletes: boolean
  readonly primaryKeys: boolean
  /** `column`, `table.column`, `schema.table.column`, `table.*`: kept as text. */
  readonly textColumns: readonly string[]
}

/** A column that is written. */
export interface TargetColumn {
  /** In the schema's columns. */
  readonly index: number
  readonly name: string
  /** Quoted. */
  readonly sql: string
  readonly type: ColumnType
  readonly nullable: boolean
  readonly isKey: boolean
}

export interface Place {
  readonly namespace: string
  readonly name: string
}

export function placeOf(table: Pick<SinkTable, 'target'>): Place {
  return { namespace: table.target.namespace ?? DEFAULT_SCHEMA, name: table.target.name }
}

export function placeSql({ namespace, name }: Place): string {
  return `${CATALOG}.${quoteIdentifier(namespace)}.${quoteIdentifier(name)}`
}

/** For people. */
export function placeLabel({ namespace, name }: Place): string {
  return `${namespace}.${name}`
}

/** DuckDB does not tell upper from lower case in names. */
export function fold(name: string): string {
  return name.toLowerCase()
}

/** How the rows of a source table are laid down in the target: pure, made anew with each schema. */
export class TargetTable {
  readonly schema: TableSchema
  readonly place: Place
  readonly sql: string
  readonly columns: readonly TargetColumn[]
  readonly key: readonly TargetColumn[]
  readonly match: MatchBy
  /** Columns of the table that the source does not have (any more): quoted. They keep their values through updates. */
  readonly extras: readonly string[]
  readonly softDeletes: boolean

  constructor(table: SinkTable, options: ShapeOptions, extras: readonly string[] = []) {
    this.schema = table.schema
    this.place = placeOf(table)
    this.sql = placeSql(this.place)
    this.columns = table.schema.columns.flatMap((column, index) =>
      isWritable(column) ? [targetColumn(table.schema, column, index, options)] : [],
    )
    this.key = table.schema.key.flatMap((index) => this.columns.filter((column) => column.index === index))
    this.match = matchOf(table.schema)
    this.extras = extras.map(quoteIdentifier)
    this.softDeletes = options.softDeletes
  }

  /** Quoted names of the columns that are written. */
  get names(): readonly string[] {
    return this.columns.map((column) => column.sql)
  }

  /** What finds a row: its key, or all of it. */
  get identity(): readonly TargetColumn[] {
    return this.match === 'key' ? this.key : this.columns
  }

  /** For an INSERT: the names, with the mark of soft deletes last. */
  get insertList(): string {
    return [...this.names, ...(this.softDeletes ? [DELETED] : [])].join(', ')
  }

  /** Values of rows that are alive, for `insertList`. */
  values(values: readonly string[]): string {
    return [...values, ...(this.softDeletes ? ['false'] : [])].join(', ')
  }
}

export const DELETED = quoteIdentifier(DELETED_COLUMN)

function targetColumn(schema: TableSchema, column: Column, index: number, options: ShapeOptions): TargetColumn {
  const type = columnType(column.type, options, isKeptAsText(schema, column, options.textColumns))
  return { index, name: column.name, sql: quoteIdentifier(column.name), type, nullable: column.nullable, isKey: schema.key.includes(index) }
}

function isKeptAsText(schema: TableSchema, column: Column, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => {
    const dot = pattern.lastIndexOf('.')
    const [table, name] = [pattern.slice(0, Math.max(dot, 0)), pattern.slice(dot + 1)]
    return (name === '*' || name === column.name) && (table === '' || tablePattern(table)(schema))
  })
}

/**
 * By image without a key, and with a deferrable one whose log carries full old rows: there two rows can have one key for a
 * while, also across the parts of one transaction (TRAP 35).
 */
export function matchOf(schema: TableSchema): MatchBy {
  if (schema.key.length === 0) return 'image'
  const names = schema.key.map((index) => schema.columns[index]?.name)
  const own = schema.indexes.filter(
    (index) => index.unique && index.columns?.length === names.length && index.columns.every((name) => names.includes(name)),
  )
  return own.length > 0 && own.every((index) => index.deferrable) && schema.identity === 'full' ? 'image' : 'key'
}

/** The condition that two rows are of one identity. */
export function sameIdentity(
  columns: readonly TargetColumn[],
  left: (column: TargetColumn, at: number) => string,
  right: (column: TargetColumn, at: number) => string,
): string {
  return columns.map((column, at) => same(column, left(column, at), right(column, at))).join(' AND ')
}

/** `=` where it will do: DuckDB then skips row groups by the range of the batch's keys. */
function same(column: TargetColumn, left: string, right: string): string {
  if (column.isKey) return column.nullable ? `${left} IS NOT DISTINCT FROM ${right}` : `${left} = ${right}`
  return `${asCompared(column, left)} IS NOT DISTINCT FROM ${asCompared(column, right)}`
}

/** What two whole rows are compared by. */
export function asCompared(column: TargetColumn, value: string): string {
  return column.type.rule.compareAsText === true ? `CAST(${value} AS VARCHAR)` : value
}

/** SQL for the values of CSV columns that begin at number `first`. */
export function valuesOf(columns: readonly TargetColumn[], alias: string, first: number): readonly string[] {
  return columns.map((column, i) => valueOf(column.type, `${alias}.c${first + i}`))
}
