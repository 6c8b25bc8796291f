import { columnAt, isWritable, type TableSchema } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { MatchBy } from '../../../sdk/sql/compact.ts'
import { DELETED_COLUMN } from '../../../sdk/soft-delete.ts'
import { quoteIdentifier } from '../../../sdk/sql/identifiers.ts'
import type { Prepared } from '../wire/pipeline.ts'
import { MASK_BITS } from './encode.ts'
import { hasOtherUniques, requireColumn, type TargetColumn, type TargetTable } from './target-table.ts'

/**
 * Raises 2201G (`width_bucket`: count must be greater than zero) unless the condition holds. The whole batch with its COMMIT
 * is on the wire before the first answer comes back, so a condition has to fail inside the server. This one needs no
 * function of ours in the target, and no other statement of ours can give that SQLSTATE.
 */
export function demand(condition: string): string {
  return `width_bucket(0::float8, 0, 1, (${condition})::int)`
}
export const DEMAND_FAILED = '2201G'

/** A column of the slice that is written, and how. */
export interface WrittenColumn {
  /** Index in the slice's columns. */
  readonly index: number
  readonly sql: string
  readonly target: TargetColumn
}

export interface StatementOptions {
  readonly match: MatchBy
  readonly soft: boolean
  /** Of the names of prepared statements. */
  readonly prefix: string
}

const DELETED = quoteIdentifier(DELETED_COLUMN)

/**
 * The statements of one table in one shape of its rows. All of them take arrays, one element per row, from one row to a
 * thousand: `text[]` with casts in SQL was within 10 % of binary parameters, and at ten rows as fast as one prepared
 * statement per row (APPLY.md A). Longer arrays spool.
 */
export class TableStatements {
  readonly schema: TableSchema
  readonly target: TargetTable
  readonly match: MatchBy
  /** All columns that are written. */
  readonly columns: readonly WrittenColumn[]
  /** Columns by which a row is found: the key, or all of them when rows are matched by image. */
  readonly found: readonly WrittenColumn[]
  /** Columns that an update in place sets. */
  readonly settable: readonly WrittenColumn[]
  /** The target has unique or exclusion constraints besides the key. */
  readonly hasOtherUniques: boolean
  /** Deleted rows stay and are marked. */
  readonly soft: boolean
  readonly #prefix: string
  readonly #made = new Map<string, Prepared>()

  constructor(schema: TableSchema, target: TargetTable, options: StatementOptions) {
    this.schema = schema
    this.target = target
    this.match = options.match
    this.soft = options.soft
    this.#prefix = options.prefix
    this.columns = [...schema.columns.keys()]
      .filter((index) => isWritable(columnAt(schema, index)))
      .map((index) => written(schema, target, index))
    const key = new Set(schema.key)
    this.found = this.match === 'image' ? this.columns : this.columns.filter((column) => key.has(column.index)).sort(byKeyOrder(schema))
    this.hasOtherUniques = hasOtherUniques(
      target,
      this.found.map((column) => column.target.name),
    )
    this.settable = this.columns.filter((column) => !key.has(column.index))
    if (this.columns.length === 0)
      throw new TailraceError('SCHEMA_UNSUPPORTED', `table ${schema.id} has no columns that can be written`, { path: schema.id })
  }

  /** Words of the mask that go with `columns`. */
  maskWords(columns: readonly WrittenColumn[]): number {
    return Math.ceil(columns.length / MASK_BITS)
  }

  /** `COPY` of every written column, in order. COPY may write identity columns that are GENERATED ALWAYS (TRAPS 38). */
  copy(options: string, table = this.target.sql): string {
    return `COPY ${table} (${this.#names(this.columns)}) FROM STDIN${options}`
  }

  /** Parameters: keys. A row that is not there is as gone as it should be. */
  delete(): Prepared {
    return this.#prepared('d', () => this.#deleteSql())
  }

  /** Parameters: keys, then the number of rows that must be there: base rows of what is written as delete + insert. */
  takeAway(): Prepared {
    return this.#prepared(
      't',
      () => `WITH d AS (${this.#deleteSql()} RETURNING 1) SELECT ${demand(`count(*) = $${this.found.length + 1}::int8`)} FROM d`,
    )
  }

  /** Parameters: keys, settable columns, masks when `masked`, then the number of rows that must be there. */
  update(masked: boolean): Prepared {
    return this.#prepared(masked ? 'um' : 'u', () => this.#updateSql(this.settable, masked))
  }

  /** The same, but sets the key too: rows move in place, where delete + insert would cascade (TRAPS 36). */
  move(masked: boolean): Prepared {
    return this.#prepared(masked ? 'mm' : 'm', () => this.#updateSql(this.columns, masked))
  }

  /** Parameters: all columns. `upsert`: takes the place of a row with the same key. */
  insert(upsert: boolean): Prepared {
    return this.#prepared(upsert ? 'x' : 'i', () => {
      const from = this.#unnest([this.#params('c', this.columns, 1)])
      const values = this.columns.map((column, i) => cast(`u.c${i}`, column)).join(', ')
      const conflict =
        (upsert || this.soft) && this.match === 'key' ? ` ON CONFLICT (${this.#names(this.found)}) ${this.#onConflict()}` : ''
      return `INSERT INTO ${this.target.sql} (${this.#names(this.columns)}) OVERRIDING SYSTEM VALUE SELECT ${values} FROM ${from}${conflict}`
    })
  }

  /** Parameters: keys. Gives the number of the key, then each wanted column as text, of rows as they are now. */
  fetch(wanted: readonly number[]): string {
    const from = this.#unnest([this.#params('k', this.found, 1)], true)
    const columns = wanted.map((index) => `t.${quoteIdentifier(columnAt(this.schema, index).name)}`)
    return `SELECT u.i, ${columns.join(', ')} FROM ${from} JOIN ${this.target.sql} AS t ON ${this.#byKey('k')}`
  }

  /**
   * Deletes rows by their whole image, as many of each as asked (TRAPS 40): by ctid, and by the text of the row, for json
   * has no equality, floats are compared as text and nulls are equal. Where there is a key its index finds the candidates.
   * Parameters: all columns, how many of each (int4[]), and the sum of that, which must be there.
   */
  deleteImages(): Prepared {
    return this.#prepared('di', () => {
      const count = this.columns.length
      const images = this.columns.map((column, i) => cast(`u.k${i}`, column)).join(', ')
      const rows = this.columns.map((column) => `t.${column.sql}`).join(', ')
      const key = new Set(this.schema.key)
      const byKey = this.columns.flatMap((column, i) =>
        key.has(column.index) ? [`t.${column.sql} ${column.target.equals} ${cast(`u.k${i}`, column)} AND `] : [],
      )
      return `WITH w AS MATERIALIZED (SELECT u.*, ROW(${images})::text AS image FROM ${this.#unnest([this.#params('k', this.columns, 1), [`$${count + 1}::int4[]`, 'n']], true)}),
        f AS (SELECT t.ctid, u.n, row_number() OVER (PARTITION BY u.i) AS place FROM ${this.target.sql} AS t JOIN w AS u ON ${this.soft ? `NOT t.${DELETED} AND ` : ''}${byKey.join('')}ROW(${rows})::text = u.image),
        d AS (${this.soft ? `UPDATE ${this.target.sql} SET ${DELETED} = true` : `DELETE FROM ${this.target.sql}`} WHERE ctid = ANY (ARRAY(SELECT ctid FROM f WHERE place <= n)) RETURNING 1)
        SELECT ${demand(`count(*) = $${count + 2}::int8`)} FROM d`
    })
  }

  #deleteSql(): string {
    const from = this.#unnest([this.#params('k', this.found, 1)])
    const gone = this.soft ? `UPDATE ${this.target.sql} AS t SET ${DELETED} = true FROM` : `DELETE FROM ${this.target.sql} AS t USING`
    return `${gone} ${from} WHERE ${this.#byKey('k')}`
  }

  #updateSql(columns: readonly WrittenColumn[], masked: boolean): string {
    const keys = this.found.length
    const words = masked ? this.maskWords(columns) : 0
    const masks = Array.from({ length: words }, (_, w): [string, string] => [`$${keys + columns.length + w + 1}::int4[]`, `m${w}`])
    const from = this.#unnest([this.#params('k', this.found, 1), this.#params('c', columns, keys + 1), ...masks])
    const sets = columns.map((column, i) => `${column.sql} = ${masked ? maskedValue(column, i) : cast(`u.c${i}`, column)}`)
    const expected = `$${keys + columns.length + words + 1}::int8`
    return `WITH d AS (UPDATE ${this.target.sql} AS t SET ${sets.join(', ')} FROM ${from} WHERE ${this.#byKey('k')} RETURNING 1) SELECT ${demand(`count(*) = ${expected}`)} FROM d`
  }

  #onConflict(): string {
    const sets = this.settable
      .filter((column) => column.target.identity !== 'always')
      .map((column) => `${column.sql} = excluded.${column.sql}`)
    if (this.soft) sets.push(`${DELETED} = false`)
    return sets.length === 0 ? 'DO NOTHING' : `DO UPDATE SET ${sets.join(', ')}`
  }

  #byKey(prefix: string): string {
    const keys = this.found.map((column, i) => `t.${column.sql} ${column.target.equals} ${cast(`u.${prefix}${i}`, column)}`)
    return [...keys, ...(this.soft ? [`NOT t.${DELETED}`] : [])].join(' AND ')
  }

  #params(prefix: string, columns: readonly WrittenColumn[], first: number): [string, string] {
    return [columns.map((_, i) => `$${first + i}::text[]`).join(', '), columns.map((_, i) => `${prefix}${i}`).join(', ')]
  }

  #unnest(parts: readonly (readonly [string, string])[], numbered = false): string {
    const filled = parts.filter(([params]) => params !== '')
    const names = filled.map(([, alias]) => alias).join(', ')
    return `unnest(${filled.map(([params]) => params).join(', ')})${numbered ? ' WITH ORDINALITY' : ''} AS u(${names}${numbered ? ', i' : ''})`
  }

  #names(columns: readonly WrittenColumn[]): string {
    return columns.map((column) => column.sql).join(', ')
  }

  #prepared(kind: string, sql: () => string): Prepared {
    let prepared = this.#made.get(kind)
    if (prepared === undefined) {
      prepared = { name: `${this.#prefix}${kind}`, sql: sql() }
      this.#made.set(kind, prepared)
    }
    return prepared
  }
}

function written(schema: TableSchema, target: TargetTable, index: number): WrittenColumn {
  const { name } = columnAt(schema, index)
  return { index, sql: quoteIdentifier(name), target: requireColumn(target, name) }
}

function byKeyOrder(schema: TableSchema): (a: WrittenColumn, b: WrittenColumn) => number {
  return (a, b) => schema.key.indexOf(a.index) - schema.key.indexOf(b.index)
}

function cast(value: string, column: WrittenColumn): string {
  return column.target.castType === 'text' ? value : `${value}::${column.target.castType}`
}

/** CASE keeps the TOAST pointer as it is; COALESCE would be wrong for a real null. */
function maskedValue(column: WrittenColumn, i: number): string {
  return `CASE WHEN u.m${Math.floor(i / MASK_BITS)} & ${1 << (i % MASK_BITS)} = 0 THEN ${cast(`u.c${i}`, column)} ELSE t.${column.sql} END`
}
