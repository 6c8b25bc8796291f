import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { isWritable, type Column, type TableSchema } from '../../model/schema.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import { prepareRun } from './database.ts'
import type { Shape } from './ddl.ts'
import { isTextEncoding, placeholder } from './encode.ts'
import { rowidName } from './identifiers.ts'
import { sqliteType, type EncodingCode } from './type-table.ts'

/** A column that is written: its place in the slices, how its cells are encoded. */
export interface WrittenColumn {
  readonly name: string
  readonly index: number
  readonly encoding: EncodingCode
  readonly nullable: boolean
  readonly isKey: boolean
  readonly isText: boolean
}

/** An UPDATE for one set of sent columns. */
export interface UpdateStatement {
  readonly statement: StatementSync
  /** Columns in the order of their placeholders. */
  readonly columns: readonly WrittenColumn[]
}

/** Rows per INSERT: 8 at once are a third faster than one by one, more are not. */
const ROWS_PER_INSERT = 8
const PARAMETERS_PER_INSERT = 1600
/** Sets of sent columns remembered per table; each is a compiled statement. */
const UPDATES_KEPT = 128

/**
 * The statements of one version of one table, compiled at first use and kept. `INSERT OR REPLACE` is not among them: it
 * deletes other rows that share a second unique value (TRAP 42).
 */
export class TableStatements {
  readonly schema: TableSchema
  readonly name: string
  readonly columns: readonly WrittenColumn[]
  readonly key: readonly WrittenColumn[]
  /** Rows that `insertMany` takes. */
  readonly rowsPerInsert: number
  readonly softDeletes: boolean
  readonly #db: DatabaseSync
  readonly #updates = new Map<string, UpdateStatement>()
  readonly #copies = new Map<string, UpdateStatement>()
  #insert: StatementSync | null = null
  #insertMany: StatementSync | null = null
  #delete: StatementSync | null = null
  #select: StatementSync | null = null
  #restore: StatementSync | null = null
  #erase: StatementSync | null = null

  constructor(db: DatabaseSync, name: string, schema: TableSchema, shape: Shape) {
    this.#db = db
    this.name = name
    this.schema = schema
    this.softDeletes = shape.softDeletes
    this.columns = schema.columns.flatMap((column, index) => (isWritable(column) ? [writtenColumn(schema, column, index, shape)] : []))
    this.key = schema.key.flatMap((index) => this.columns.find((column) => column.index === index) ?? [])
    this.rowsPerInsert = Math.max(1, Math.min(ROWS_PER_INSERT, Math.floor(PARAMETERS_PER_INSERT / Math.max(1, this.columns.length))))
  }

  get insert(): StatementSync {
    return (this.#insert ??= prepareRun(this.#db, this.#insertSql(1)))
  }

  get insertMany(): StatementSync {
    return (this.#insertMany ??= prepareRun(this.#db, this.#insertSql(this.rowsPerInsert)))
  }

  /** Parameters: the row's key, or all its columns where the table has none. */
  get delete(): StatementSync {
    const sql = this.softDeletes
      ? `UPDATE ${quote(this.name)} SET ${quote(DELETED_COLUMN)} = 1 WHERE ${this.#where()}`
      : `DELETE FROM ${quote(this.name)} WHERE ${this.#where()}`
    return (this.#delete ??= prepareRun(this.#db, sql))
  }

  /** The row at a key with every column of the table, ghosts included, integers as BigInt: for parking. */
  get select(): StatementSync {
    return (this.#select ??= prepareRun(this.#db, `SELECT * FROM ${quote(this.name)} WHERE ${matchColumns(this.key)}`))
  }

  /** Takes the row at a key away for good, ghost or not. */
  get erase(): StatementSync {
    return (this.#erase ??= prepareRun(this.#db, `DELETE FROM ${quote(this.name)} WHERE ${matchColumns(this.key)}`))
  }

  /** Puts a row back that `select` gave: `names` are all columns of the table. */
  restore(names: readonly string[]): StatementSync {
    return (this.#restore ??= prepareRun(
      this.#db,
      `INSERT INTO ${quote(this.name)} (${names.map(quote).join(', ')}) VALUES (${names.map(() => '?').join(', ')})`,
    ))
  }

  /** UPDATE of the columns whose letter in `mask` is `1`, one letter per column. Without any it still finds the row. */
  update(mask: string): UpdateStatement {
    const known = this.#updates.get(mask)
    if (known !== undefined) return known
    if (this.#updates.size >= UPDATES_KEPT) this.#updates.clear()
    const columns = this.columns.filter((_, i) => mask.charCodeAt(i) === 0x31)
    const first = quote((this.columns[0] ?? this.key[0])!.name)
    const sets =
      columns.length === 0
        ? `${first} = ${first}`
        : columns.map((column) => `${quote(column.name)} = ${placeholder(column.encoding)}`).join(', ')
    const made = { statement: prepareRun(this.#db, `UPDATE ${quote(this.name)} SET ${sets} WHERE ${this.#where()}`), columns }
    this.#updates.set(mask, made)
    return made
  }

  /**
   * With soft deletes a row that changes its key leaves its old self behind: this makes the new row from the old one and
   * the columns that were sent; `delete` then marks the old one.
   */
  copy(mask: string): UpdateStatement {
    const known = this.#copies.get(mask)
    if (known !== undefined) return known
    if (this.#copies.size >= UPDATES_KEPT) this.#copies.clear()
    const columns = this.columns.filter((_, i) => mask.charCodeAt(i) === 0x31)
    const values = this.columns.map((column, i) => (mask.charCodeAt(i) === 0x31 ? placeholder(column.encoding) : quote(column.name)))
    const names = this.columns.map((column) => quote(column.name)).join(', ')
    const made = {
      statement: prepareRun(
        this.#db,
        `INSERT INTO ${quote(this.name)} (${names}) SELECT ${values.join(', ')} FROM ${quote(this.name)} WHERE ${this.#where()}`,
      ),
      columns,
    }
    this.#copies.set(mask, made)
    return made
  }

  #insertSql(rows: number): string {
    const values = `(${this.columns.map((column) => placeholder(column.encoding)).join(', ')})`
    return `INSERT INTO ${quote(this.name)} (${this.columns.map((column) => quote(column.name)).join(', ')}) VALUES ${Array.from({ length: rows }, () => values).join(', ')}`
  }

  #where(): string {
    const alive = this.softDeletes ? ` AND ${quote(DELETED_COLUMN)} = 0` : ''
    if (this.key.length > 0) return matchColumns(this.key) + alive
    return this.#whereOneEqual(alive)
  }

  /**
   * Tables without a key: exactly one of the rows that are equal in every column (TRAP 40). A row value, because a chain
   * of ANDs over many columns is too deep for SQLite's parser (1000).
   */
  #whereOneEqual(alive: string): string {
    const rowid = rowidName(this.schema) ?? 'rowid'
    const names = this.columns.map((column) => quote(column.name))
    const values = this.columns.map((column) => placeholder(column.encoding))
    const equal = names.length === 1 ? `${names[0]} IS ${values[0]}` : `(${names.join(', ')}) IS (${values.join(', ')})`
    return `${rowid} = (SELECT ${rowid} FROM ${quote(this.name)} WHERE ${equal}${alive} LIMIT 1)`
  }
}

function writtenColumn(schema: TableSchema, column: Column, index: number, shape: Shape): WrittenColumn {
  const { encoding } = sqliteType(column.type, shape.decimals)
  return {
    name: column.name,
    index,
    encoding,
    nullable: column.nullable,
    isKey: schema.key.includes(index),
    isText: isTextEncoding(encoding),
  }
}

function matchColumns(columns: readonly WrittenColumn[]): string {
  return columns.map((column) => `${quote(column.name)} ${column.nullable ? 'IS' : '='} ${placeholder(column.encoding)}`).join(' AND ')
}
