import { DuckDBInstance } from '@duckdb/node-api'
import pg from 'pg'
import type { SourceDatabase } from './source-database.ts'
import { openSqlite } from './sqlite-file.ts'
import { until } from './until.ts'

/** A target that can be read whole, by its own client and none of ours. Rows are canonical texts of their columns. */
export interface Target {
  readonly kind: 'sqlite' | 'duckdb' | 'postgres'
  /** As the command takes it. */
  readonly uri: string
  rows(table: string, columns: readonly SourceColumn[]): AsyncIterable<readonly string[]>
}

export interface SourceColumn {
  readonly name: string
  readonly type: string
}

const PAGE = 20_000
const NULL = '∅'

/** Compares every row; neither side may be written meanwhile. Fails with the first rows that differ. */
export async function assertEqual(
  source: SourceDatabase,
  target: Target,
  tables: readonly string[],
): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {}
  for (const table of tables) counts[table] = await compareTable(source, target, table)
  return counts
}

async function compareTable(source: SourceDatabase, target: Target, table: string): Promise<number> {
  const columns = await columnsOf(source, table)
  const left = new Map<string, number>()
  let rows = 0
  for await (const page of sourceRows(source, table, columns)) {
    rows += page.length
    for (const row of page) left.set(row, (left.get(row) ?? 0) + 1)
  }
  const unexpected: string[] = []
  let more = 0
  for await (const page of target.rows(table, columns)) {
    for (const row of page) {
      const count = left.get(row)
      if (count === undefined) {
        if (more++ < 3) unexpected.push(row)
      } else if (count === 1) left.delete(row)
      else left.set(row, count - 1)
    }
  }
  if (left.size === 0 && more === 0) return rows
  const show = (list: readonly string[]): string => list.map((row) => `\n    ${row.slice(0, 300)}`).join('')
  const missing = [...left.values()].reduce((sum, count) => sum + count, 0)
  throw new Error(
    `${table} differs: of ${rows} rows ${missing} are missing in ${target.kind}:${show([...left.keys()].slice(0, 3))}\n  and ${more} are there that should not be:${show(unexpected)}`,
  )
}

async function columnsOf(source: SourceDatabase, table: string): Promise<SourceColumn[]> {
  return source.query<SourceColumn & pg.QueryResultRow>(
    `SELECT attname AS name, format_type(atttypid, NULL) AS type FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`,
    [table],
  )
}

async function* sourceRows(source: SourceDatabase, table: string, columns: readonly SourceColumn[]): AsyncGenerator<readonly string[]> {
  const client = await source.session()
  try {
    yield* postgresRows(client, `"${table}"`, columns)
  } finally {
    await client.end()
  }
}

async function* postgresRows(client: pg.Client, table: string, columns: readonly SourceColumn[]): AsyncGenerator<readonly string[]> {
  const names = columns.map((column) => `"${column.name}"::text`).join(', ')
  await client.query(
    `SET timezone = 'UTC'; SET bytea_output = hex; SET extra_float_digits = 1; SET datestyle = ISO; BEGIN; DECLARE all_rows NO SCROLL CURSOR FOR SELECT ${names} FROM ${table}`,
  )
  for (;;) {
    const { rows } = await client.query<(string | null)[]>({ text: `FETCH ${PAGE} FROM all_rows`, rowMode: 'array' })
    if (rows.length === 0) break
    yield rows.map((row) => canonicalRow(row, columns))
  }
  await client.query('ROLLBACK')
}

function canonicalRow(row: readonly unknown[], columns: readonly SourceColumn[]): string {
  return columns.map((column, i) => canonical(row[i], column.type)).join(' | ')
}

/** Equal values become equal texts, whatever system they come from; nothing else does. */
function canonical(value: unknown, type: string): string {
  if (value === null || value === undefined) return NULL
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`
  const text = String(value)
  if (type === 'boolean') return { '1': 't', true: 't', t: 't' }[text] ?? 'f'
  if (type.startsWith('timestamp')) return canonicalTime(text)
  if (type === 'jsonb' || type === 'json') return JSON.stringify(JSON.parse(text))
  if (type === 'double precision' || type === 'real') return String(Number(text))
  return text
}

/** `2024-02-29 12:34:56.5+00` and `2024-02-29T12:34:56.500000Z` are one time. */
function canonicalTime(text: string): string {
  const match = /^(\d+-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|\+00(?::00)?)?$/.exec(text)
  return match === null ? text : `${match[1]} ${match[2]}.${(match[3] ?? '').padEnd(6, '0')}`
}

export function sqliteTarget(file: string): Target {
  return {
    kind: 'sqlite',
    uri: `sqlite:${file}`,
    rows: async function* (table, columns) {
      const database = openSqlite(file, 'read')
      try {
        const statement = database.prepare(`SELECT ${columns.map((column) => `"${column.name}"`).join(', ')} FROM "${table}"`)
        statement.setReadBigInts(true)
        let page: string[] = []
        for (const row of statement.iterate()) {
          page.push(
            canonicalRow(
              columns.map((column) => row[column.name]),
              columns,
            ),
          )
          if (page.length < PAGE) continue
          yield page
          page = []
        }
        yield page
      } finally {
        database.close()
      }
    },
  }
}

export function duckdbTarget(file: string): Target {
  return {
    kind: 'duckdb',
    uri: `duckdb:${file}`,
    rows: async function* (table, columns) {
      const instance = await openDuckdb(file)
      const connection = await instance.connect()
      try {
        await connection.run(`SET TimeZone = 'UTC'`)
        const names = columns
          .map(({ name, type }) => (type === 'bytea' ? `'\\x' || lower(hex("${name}"))` : `CAST("${name}" AS VARCHAR)`))
          .join(', ')
        const result = await connection.stream(`SELECT ${names} FROM public."${table}"`)
        for (;;) {
          const chunk = await result.fetchChunk()
          if (chunk === null || chunk.rowCount === 0) break
          yield chunk.getRows().map((row) => canonicalRow(row, columns))
        }
      } finally {
        connection.closeSync()
        instance.closeSync()
      }
    },
  }
}

/** A process that was killed just now may hold the file for a moment longer. */
async function openDuckdb(file: string): Promise<DuckDBInstance> {
  let failure: unknown
  const open = (): Promise<DuckDBInstance | null> =>
    DuckDBInstance.create(file, { access_mode: 'READ_ONLY', threads: '1', memory_limit: '1GB' }).catch((error: unknown) => {
      failure = error
      return null
    })
  return until('the DuckDB file open', open, { detail: () => String(failure) })
}

export function postgresTarget(uri: string): Target {
  return {
    kind: 'postgres',
    uri,
    rows: async function* (table, columns) {
      const client = new pg.Client(uri)
      client.on('error', () => undefined)
      await client.connect()
      try {
        yield* postgresRows(client, `public."${table}"`, columns)
      } finally {
        await client.end()
      }
    },
  }
}
