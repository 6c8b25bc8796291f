import { quoteLiteral } from './identifiers.ts'
import type { Agreement, ComparedTable, Digest, Form, HashedRow, KeyRange, Region, RowFields, SideColumn, SideRows } from '../compare.ts'

/** What the SQL of a comparison looks like in one system. */
export interface CompareDialect {
  /** What stands after FROM. */
  readonly from: string
  /** Conditions that every row fulfils: of the pipeline, not marked as deleted. */
  readonly conditions: readonly string[]
  /** Quotes the name of a column. */
  quote(name: string): string
  /** A column's value in its form, as text; NULL stays NULL. */
  text(column: number, form: Form): string
  /** The whole row as `pg-binary`. */
  binary?(agreement: Agreement): string
  /** The number of bytes of a text. */
  bytes(text: string): string
  md5(value: string): string
  /** The aggregate that puts values one after the other, in the order of an expression if there is one. */
  concat(value: string, order: string | null, kind: 'text' | 'bytes'): string
  /** An aggregate takes rows in the order of the subquery that it reads. */
  readonly keepsOrder: boolean
  /** A key's text as a constant that compares as its column does. */
  constant(column: number, text: string): string
  /** Takes `(a, b) >= (1, 2)`, and finds it by an index. */
  readonly comparesRows: boolean
  /** Sorts texts byte by byte. */
  bytewise(text: string): string
  query(sql: string, signal: AbortSignal): Promise<readonly (readonly (string | null)[])[]>
}

/** Texts that may hold a separator, or be long. */
const COUNTED_FORMS: ReadonlySet<Form> = new Set(['text', 'char', 'hex', 'jsonb'])
const LONG_BYTES = 1000

/** The rows of a table of an SQL system, digested there. */
export class SqlRows implements SideRows {
  readonly #dialect: CompareDialect
  readonly #table: ComparedTable
  /** Of the key's columns. */
  readonly #nullable: readonly boolean[]
  readonly #agreement: Agreement
  readonly #row: string
  /** The key's texts. */
  readonly #keys: readonly string[]
  /** The key's columns as they are, for order. */
  readonly #order: readonly string[]

  constructor(dialect: CompareDialect, table: ComparedTable, columns: readonly (SideColumn | null)[], agreement: Agreement) {
    this.#dialect = dialect
    this.#table = table
    this.#nullable = table.key.map((column) => columns[column]?.nullable !== false)
    this.#agreement = agreement
    const { encoding, forms } = agreement
    this.#row = encoding === 'pg-binary' ? (dialect.binary?.(agreement) ?? '') : forms.map((_, column) => this.#field(column)).join(' || ')
    this.#keys = table.key.map((column) => dialect.text(column, textForm(forms[column]!)))
    this.#order = table.key.map((column) => dialect.quote(table.columns[column]!.name))
  }

  async bound(range: KeyRange, rows: number, signal: AbortSignal): Promise<readonly string[] | null> {
    const columns = this.#rangeColumns
    // Named anew: ORDER BY would take a text that is called as its column for the column.
    const texts = this.#table.key
      .slice(0, columns.length)
      .map((column, i) => `${this.#dialect.text(column, keyForm(this.#table, column))} AS b${i}`)
    const found = await this.#dialect.query(
      `SELECT ${texts.join(', ')} FROM ${this.#from({ rows: range })} ORDER BY ${columns.join(', ')} LIMIT 1 OFFSET ${rows}`,
      signal,
    )
    return (found[0] as readonly string[] | undefined) ?? null
  }

  async digest(region: Region, careful: boolean, signal: AbortSignal): Promise<Digest> {
    const { md5, concat, keepsOrder } = this.#dialect
    // By the key, which an index may have in order; by themselves where rows have none.
    const row = careful ? md5(this.#row) : this.#row
    const order = this.#order.length === 0 ? row : this.#order.join(', ')
    const kind = this.#agreement.encoding === 'pg-binary' && !careful ? 'bytes' : 'text'
    const from = this.#from(region)
    const value = keepsOrder
      ? `count(*), ${md5(concat('x', null, kind))} FROM (SELECT ${row} AS x FROM ${from} ORDER BY ${order}) s`
      : `count(*), ${md5(concat(row, order, kind))} FROM ${from}`
    const [found] = await this.#dialect.query(`SELECT ${value}`, signal)
    return { rows: Number(found?.[0] ?? 0), hash: found?.[1] ?? '' }
  }

  async buckets(region: Region, digits: number, signal: AbortSignal): Promise<ReadonlyMap<string, Digest>> {
    const { md5, concat, bytewise } = this.#dialect
    const found = await this.#dialect.query(
      `SELECT b, count(*), ${md5(concat('x', bytewise('x'), 'text'))} FROM (SELECT substr(${this.#bucket}, 1, ${digits}) AS b, ${md5(this.#row)} AS x FROM ${this.#from(region)}) s GROUP BY b`,
      signal,
    )
    return new Map(found.map(([bucket, rows, hash]) => [bucket ?? '', { rows: Number(rows), hash: hash ?? '' }]))
  }

  async rows(region: Region, signal: AbortSignal): Promise<readonly HashedRow[]> {
    const keys = this.#keys.map((text, i) => `${text} AS k${i}, `).join('')
    const names = this.#keys.map((_, i) => `k${i}, `).join('')
    const found = await this.#dialect.query(
      `SELECT ${names}x, count(*) FROM (SELECT ${keys}${this.#dialect.md5(this.#row)} AS x FROM ${this.#from(region)}) s GROUP BY ${names}x`,
      signal,
    )
    return found.map((row) => ({ key: row.slice(0, -2), hash: row.at(-2) ?? '', count: Number(row.at(-1)) }))
  }

  async fields(region: Region, hashed: boolean, signal: AbortSignal): Promise<readonly RowFields[]> {
    const texts = this.#agreement.forms.map((form, column) => {
      const text = this.#dialect.text(column, textForm(form))
      return hashed ? this.#dialect.md5(text) : text
    })
    const found = await this.#dialect.query(
      `SELECT ${[...this.#keys, ...texts].map((text, i) => `${text} AS f${i}`).join(', ')} FROM ${this.#from(region)}`,
      signal,
    )
    const keys = this.#keys.length
    return found.map((row) => ({ key: row.slice(0, keys), fields: row.slice(keys) }))
  }

  #field(column: number): string {
    const { dialect, form } = { dialect: this.#dialect, form: this.#agreement.forms[column]! }
    const text = dialect.text(column, form)
    // No bar behind a NULL: a text `~`, which a target may hold by mistake, is none.
    if (!COUNTED_FORMS.has(form)) return `coalesce(${text} || '|', '~')`
    const bytes = dialect.bytes(text)
    return `coalesce(CASE WHEN ${bytes} > ${LONG_BYTES} THEN '#' || ${dialect.md5(text)} ELSE ${bytes} || ':' || ${text} END, '~')`
  }

  /** What tells rows apart by chance: the key, or the row where there is none. */
  get #bucket(): string {
    const { md5, bytes } = this.#dialect
    if (this.#keys.length === 0) return md5(this.#row)
    return md5(this.#keys.map((text) => `coalesce(${bytes(text)} || ':' || ${text}, '~')`).join(' || '))
  }

  get #rangeColumns(): readonly string[] {
    return this.#order.slice(0, this.#agreement.ranged)
  }

  #from(region: Region): string {
    const conditions = [...this.#dialect.conditions, ...this.#conditionsOf(region.rows)]
    if (region.buckets !== undefined && region.buckets.length > 0) {
      const digits = region.buckets[0]!.length
      conditions.push(`substr(${this.#bucket}, 1, ${digits}) IN (${region.buckets.map((bucket) => `'${bucket}'`).join(', ')})`)
    }
    return conditions.length === 0 ? this.#dialect.from : `${this.#dialect.from} WHERE ${conditions.join(' AND ')}`
  }

  #conditionsOf(rows: Region['rows']): string[] {
    const columns = this.#rangeColumns
    const nullable = columns.filter((_, i) => this.#nullable[i] === true)
    if (rows.kind === 'all') return []
    if (rows.kind === 'key') return rows.key.map((text, i) => this.#isKey(i, text))
    if (rows.kind === 'nulls') return [nullable.length === 0 ? '1 = 0' : `(${nullable.map((column) => `${column} IS NULL`).join(' OR ')})`]
    const { from, to } = rows
    return [
      ...nullable.map((column) => `${column} IS NOT NULL`),
      ...(from === null ? [] : [this.#compared(columns, '>=', from)]),
      ...(to === null ? [] : [this.#compared(columns, '<', to)]),
    ]
  }

  /** By its value where its order is known, which an index finds; by its text otherwise. */
  #isKey(at: number, text: string): string {
    const column = this.#table.key[at]!
    if (at < this.#agreement.ranged) return `${this.#order[at]} = ${this.#dialect.constant(column, text)}`
    return `${this.#dialect.text(column, 'text')} = ${quoteLiteral(text)}`
  }

  #compared(columns: readonly string[], operator: '>=' | '<', key: readonly string[]): string {
    const constants = key.map((text, i) => this.#dialect.constant(this.#table.key[i]!, text))
    // Plain, so that zone maps and single-column indexes are used.
    if (columns.length === 1) return `${columns[0]} ${operator} ${constants[0]}`
    return this.#dialect.comparesRows
      ? `(${columns.join(', ')}) ${operator} (${constants.join(', ')})`
      : lexical(columns, operator, constants)
  }
}

/** What every row of a comparison fulfils. `alive`: the condition by which rows are told from those marked as deleted; null: none is marked. */
export function conditionsOf({ where }: ComparedTable, alive: string | null): readonly string[] {
  return [...(where === null ? [] : [`(${where})`]), ...(alive === null ? [] : [alive])]
}

/** Of a column whose order every system agrees on. */
function keyForm(table: ComparedTable, column: number): Form {
  return table.columns[column]!.type.kind === 'uuid' ? 'text' : 'int'
}

/** A comparison of rows, column by column; the first one alone as well, for zone maps. */
function lexical(columns: readonly string[], operator: '>=' | '<', constants: readonly string[]): string {
  const [column, ...others] = columns
  const [constant, ...rest] = constants
  if (others.length === 0) return `${column} ${operator} ${constant}`
  const strict = operator === '<' ? '<' : '>'
  return `(${column} ${strict}= ${constant} AND (${column} ${strict} ${constant} OR ${lexical(others, operator, rest)}))`
}

function textForm(form: Form): Form {
  return form.startsWith('pg:') ? 'text' : form
}
