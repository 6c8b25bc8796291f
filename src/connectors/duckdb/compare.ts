import { existsSync } from 'node:fs'
import type { Column } from '../../model/schema.ts'
import type { ComparedTable, ComparisonSide, Form, SideColumn, SideRows, SideTable } from '../../sdk/compare.ts'
import type { ConnectorContext } from '../../sdk/connector.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { conditionsOf, SqlRows, type CompareDialect } from '../../sdk/sql/compare.ts'
import { quoteIdentifier, quoteLiteral } from '../../sdk/sql/identifiers.ts'
import { findColumn, readExisting } from './catalog.ts'
import type { DuckDbConfig } from './config.ts'
import type { Connection } from './connection.ts'
import { canonicalPath, openDatabase, scratchOf, type Database } from './database.ts'
import { translate } from './duckdb-errors.ts'
import { DELETED, placeOf, placeSql } from './target-table.ts'

/** What a query may need: rows of one region are sorted and put together. */
const ROOM_BYTES = 16 << 20
/** DuckDB uses every thread for one query. */
const PARALLEL = 1

/** A DuckDB file as one side of a comparison. */
export class DuckDbSide implements ComparisonSide {
  readonly parallel = PARALLEL
  readonly #database: Database
  readonly #connection: Connection

  private constructor(database: Database, connection: Connection) {
    this.#database = database
    this.#connection = connection
  }

  static async open(config: DuckDbConfig, context: ConnectorContext): Promise<DuckDbSide> {
    const path = canonicalPath(config.path)
    // Opening would make it.
    if (!existsSync(path))
      throw new TailraceError('CONFIG', `there is no file ${path}`, { hint: 'tailrace sync <source> <sink> makes it', path: 'sink' })
    const { threads, memoryLimit = null } = config
    const database = await openDatabase({ path, memoryLimit, threads, scratch: scratchOf(context), logger: context.logger })
    return new DuckDbSide(database, await database.connect())
  }

  async table(request: ComparedTable): Promise<SideTable | null> {
    const place = placeOf({ target: request })
    const existing = await readExisting(this.#connection, place)
    if (existing === null) return null
    const columns = request.columns.map((column): SideColumn | null => {
      const type = findColumn(existing, column.name)?.type
      return type === undefined ? null : { type, forms: formsOf(type), ordered: isOrdered(type, column), nullable: true }
    })
    const marked = findColumn(existing, DELETED_COLUMN) !== undefined && !request.columns.some(({ name }) => name === DELETED_COLUMN)
    const from = placeSql(place)
    return {
      columns,
      encodings: ['text'],
      estimate: { rows: -1, bytes: -1 },
      open: (agreement): SideRows => {
        const conditions = conditionsOf(request, marked ? `NOT ${DELETED}` : null)
        const dialect = dialectOf(from, conditions, request, columns, (sql, given) => this.#query(sql, given))
        return new SqlRows(dialect, request, columns, agreement)
      },
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#database.disconnect(this.#connection)
    await this.#database.release()
  }

  async #query(sql: string, signal: AbortSignal): Promise<readonly (readonly (string | null)[])[]> {
    try {
      return await this.#database.withRoomFor(ROOM_BYTES, () => this.#connection.rows(sql, signal))
    } catch (error) {
      signal.throwIfAborted()
      throw translate(error, 'comparing')
    }
  }
}

const INTEGER = /^U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$/

const FORMS: Readonly<Record<string, readonly Form[]>> = {
  BOOLEAN: ['int'],
  FLOAT: ['float32', 'float64'],
  DOUBLE: ['float64'],
  BLOB: ['hex'],
  DATE: ['date'],
  TIME: ['time'],
  'TIME WITH TIME ZONE': ['timetz'],
  TIMESTAMP: ['timestamp'],
  'TIMESTAMP WITH TIME ZONE': ['timestamptz'],
  INTERVAL: ['interval'],
  UUID: ['text'],
  VARCHAR: ['text', 'char'],
  JSON: ['text'],
}

function formsOf(type: string): readonly Form[] {
  if (INTEGER.test(type)) return ['int', 'number']
  const [, scale] = /^DECIMAL\(\d+,(\d+)\)$/.exec(type) ?? []
  if (scale !== undefined) return [`decimal:${Number(scale)}`, 'number']
  return type.startsWith('ENUM(') ? ['text'] : (FORMS[type] ?? [])
}

function isOrdered(type: string, column: Column): boolean {
  return column.type.kind === 'uuid' ? type === 'UUID' || type === 'VARCHAR' : INTEGER.test(type)
}

function dialectOf(
  from: string,
  conditions: readonly string[],
  { columns }: ComparedTable,
  found: readonly (SideColumn | null)[],
  query: CompareDialect['query'],
): CompareDialect {
  return {
    from,
    conditions,
    keepsOrder: false,
    // Two such comparisons become a BETWEEN, which DuckDB refuses for rows.
    comparesRows: false,
    quote: quoteIdentifier,
    bytes: (text) => `strlen(${text})`,
    md5: (value) => `md5(${value})`,
    bytewise: (text) => text,
    concat: (value, order) => `string_agg(${value}, ''${order === null ? '' : ` ORDER BY ${order}`})`,
    constant: (column, text) =>
      found[column]?.type === 'UUID' ? `${quoteLiteral(text)}::UUID` : /^-?\d+$/.test(text) ? text : quoteLiteral(text),
    text: (column, form) => textOf(quoteIdentifier(columns[column]!.name), found[column]?.type ?? '', form),
    query,
  }
}

const bits = (sql: string): string => `lower(hex(CAST(CAST(${sql} AS BIT) AS BLOB)))`
/** Infinity has no microseconds. */
const finite = (sql: string, text: string, digits: number): string =>
  `CASE WHEN isfinite(${sql}) THEN ${text} WHEN CAST(${sql} AS VARCHAR) = 'infinity' THEN '7${'f'.repeat(digits - 1)}' WHEN ${sql} IS NOT NULL THEN '8${'0'.repeat(digits - 1)}' END`
const MICROS_TO_2000 = '946684800000000'

function textOf(sql: string, type: string, form: Form): string {
  const text = `CAST(${sql} AS VARCHAR)`
  switch (form) {
    case 'int':
      return type === 'BOOLEAN' ? `CASE WHEN ${sql} THEN '1' WHEN NOT ${sql} THEN '0' END` : text
    case 'number':
      return INTEGER.test(type) ? text : `CASE WHEN contains(${text}, '.') THEN rtrim(rtrim(${text}, '0'), '.') ELSE ${text} END`
    case 'float32':
      return `CASE WHEN isnan(${sql}) THEN '7fc00000' ELSE ${bits(sql)} END`
    case 'float64':
      return `CASE WHEN isnan(${sql}) THEN '7ff8000000000000' ELSE ${bits(type === 'DOUBLE' ? sql : `CAST(${sql} AS DOUBLE)`)} END`
    case 'hex':
      return `lower(hex(${sql}))`
    case 'char':
      return `rtrim(${text}, ' ')`
    case 'date':
      return finite(sql, bits(`CAST(${sql} - DATE '2000-01-01' AS INTEGER)`), 8)
    case 'time':
      return bits(`CAST(epoch_us(${sql}) AS BIGINT)`)
    case 'timetz':
      return `${bits(`CAST(epoch_us(${sql}) AS BIGINT)`)} || ${bits(`CAST(-date_part('timezone', ${sql}) AS INTEGER)`)}`
    case 'timestamp':
    case 'timestamptz':
      return finite(sql, bits(`CAST(epoch_us(${sql}) - ${MICROS_TO_2000} AS BIGINT)`), 16)
    case 'interval':
      return interval(sql)
    default:
      return text
  }
}

function interval(sql: string): string {
  const part = (name: string): string => `CAST(date_part('${name}', ${sql}) AS BIGINT)`
  const micros = `(${part('hour')} * 3600000000 + ${part('minute')} * 60000000 + ${part('microsecond')})`
  const months = `(${part('year')} * 12 + ${part('month')})`
  return `${bits(micros)} || ${bits(`CAST(${part('day')} AS INTEGER)`)} || ${bits(`CAST(${months} AS INTEGER)`)}`
}
