/**
 * Compares tables of PostgreSQL with their copies in a DuckDB file row by row. It shares nothing with what made the copy:
 * PostgreSQL's COPY writes each column as text, DuckDB reads that, renders its own columns as the same text, and subtracts
 * the rows of one side from those of the other.
 */
import { createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import { canonical, type CanonicalColumn } from './canonical.ts'

export interface CompareOptions {
  readonly sourceUri: string
  readonly sourceSchema: string
  readonly tables: readonly string[]
  readonly targetFile: string
  readonly targetSchema: string
  /** For the files between. */
  readonly folder: string
}

export interface TableComparison {
  readonly table: string
  readonly equal: boolean
  readonly sourceRows: number
  readonly targetRows: number
  /** Rows of the source that the target has not, and the other way round. */
  readonly missing: number
  readonly unexpected: number
  /** How many keys the rows of both counts have. */
  readonly differingKeys: number
  /** Why there was nothing to compare. */
  readonly problem: string | null
}

/** Neither side may change meanwhile: the writer has stopped, and the target is opened read-only. */
export async function compare(options: CompareOptions): Promise<readonly TableComparison[]> {
  const source = new pg.Client(options.sourceUri)
  await source.connect()
  const instance = await DuckDBInstance.create(':memory:', { threads: '2', memory_limit: '2GB', temp_directory: options.folder })
  const target = await instance.connect()
  try {
    await source.query(
      `SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = 'UTC'; SET extra_float_digits = 1; SET bytea_output = hex`,
    )
    await target.run(`SET TimeZone = 'UTC'`)
    await target.run(`ATTACH ${literal(options.targetFile)} AS target (READ_ONLY)`)
    const results: TableComparison[] = []
    for (const table of options.tables) results.push(await compareTable({ ...options, source, target }, table))
    return results
  } finally {
    target.closeSync()
    instance.closeSync()
    await source.end()
  }
}

interface Sides extends CompareOptions {
  readonly source: pg.Client
  readonly target: DuckDBConnection
}

interface SourceColumn {
  readonly name: string
  readonly type: string
  readonly isKey: boolean
}

async function compareTable(sides: Sides, table: string): Promise<TableComparison> {
  const columns = await sourceColumns(sides, table)
  const types = await targetTypes(sides, table)
  const problem = differenceOfColumns(columns, types)
  if (problem !== null) return { table, equal: false, sourceRows: 0, targetRows: 0, missing: 0, unexpected: 0, differingKeys: 0, problem }
  const rendered = columns.map((column) => canonical(column.name, column.type, types.get(column.name) ?? ''))
  const file = join(sides.folder, 'source.csv')
  try {
    await Promise.all([exportSource(sides, table, rendered, file), renderTarget(sides, table, rendered)])
    await readExport(sides.target, rendered, file)
    return await subtract(sides.target, table, columns)
  } finally {
    await rm(file, { force: true })
  }
}

async function sourceColumns({ source, sourceSchema }: Sides, table: string): Promise<readonly SourceColumn[]> {
  const { rows } = await source.query<SourceColumn>(
    `SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, coalesce(a.attnum = ANY (i.indkey), false) AS "isKey"
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
     LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
     WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`,
    [sourceSchema, table],
  )
  return rows
}

async function targetTypes({ target, targetSchema }: Sides, table: string): Promise<ReadonlyMap<string, string>> {
  const result = await target.runAndReadAll(
    `SELECT column_name, data_type FROM duckdb_columns()
     WHERE database_name = 'target' AND schema_name = ${literal(targetSchema)} AND table_name = ${literal(table)}`,
  )
  return new Map(result.getRowsJson().map(([name, type]) => [String(name), String(type)]))
}

function differenceOfColumns(source: readonly SourceColumn[], target: ReadonlyMap<string, string>): string | null {
  if (source.length === 0) return 'the source has no such table'
  if (target.size === 0) return 'the target has no such table'
  const missing = source.filter(({ name }) => !target.has(name)).map(({ name }) => name)
  const more = [...target.keys()].filter((name) => source.every((column) => column.name !== name))
  if (missing.length > 0) return `the target has no column ${missing.join(', ')}`
  return more.length > 0 ? `the target has a column more: ${more.join(', ')}` : null
}

/** NULL is the only value without quotes, so that '' is not taken for it. */
async function exportSource(
  { source, sourceSchema }: Sides,
  table: string,
  columns: readonly CanonicalColumn[],
  file: string,
): Promise<void> {
  const select = columns.map((column) => column.inPostgres).join(', ')
  const copy = `COPY (SELECT ${select} FROM ${identifier(sourceSchema)}.${identifier(table)}) TO STDOUT (FORMAT csv, NULL '\\N', FORCE_QUOTE *)`
  await pipeline(source.query(copyTo(copy)), createWriteStream(file, { highWaterMark: 1 << 20 }))
}

async function renderTarget({ target, targetSchema }: Sides, table: string, columns: readonly CanonicalColumn[]): Promise<void> {
  const select = columns.map((column) => `${column.inDuckdb} AS ${identifier(column.name)}`).join(', ')
  const from = `target.${identifier(targetSchema)}.${identifier(table)}`
  await target.run(`CREATE OR REPLACE TEMP TABLE actual AS SELECT ${select} FROM ${from}`)
}

async function readExport(target: DuckDBConnection, columns: readonly CanonicalColumn[], file: string): Promise<void> {
  const names = columns.map(({ name }) => `${literal(name)}: 'VARCHAR'`).join(', ')
  const select = columns.map((column) => `${column.fromCsv} AS ${identifier(column.name)}`).join(', ')
  const read = `read_csv(${literal(file)}, header = false, delim = ',', quote = '"', escape = '"', nullstr = '\\N', allow_quoted_nulls = false,
    auto_detect = false, max_line_size = 64000000, columns = {${names}})`
  await target.run(`CREATE OR REPLACE TEMP TABLE expected AS SELECT ${select} FROM ${read}`)
}

/**
 * Each row of the source counts 1 and each of the target −1: what is left over differs. The same as EXCEPT ALL in both
 * directions, in a quarter of the time.
 */
async function subtract(target: DuckDBConnection, table: string, columns: readonly SourceColumn[]): Promise<TableComparison> {
  const names = columns.map(({ name }) => identifier(name)).join(', ')
  await target.run(`CREATE OR REPLACE TEMP TABLE differing AS SELECT ${names}, sum("one of") AS "left over"
    FROM (SELECT *, 1 AS "one of" FROM expected UNION ALL SELECT *, -1 FROM actual) GROUP BY ${names} HAVING sum("one of") <> 0`)
  const key = columns.filter((column) => column.isKey)
  const identity = (key.length > 0 ? key : columns).map(({ name }) => identifier(name)).join(', ')
  const result = await target.runAndReadAll(`SELECT (SELECT count(*) FROM expected), (SELECT count(*) FROM actual),
    coalesce(sum(greatest("left over", 0)), 0)::BIGINT, coalesce(sum(greatest(-"left over", 0)), 0)::BIGINT, count(DISTINCT row(${identity})) FROM differing`)
  const [sourceRows = -1, targetRows = -1, missing = -1, unexpected = -1, differingKeys = -1] = (result.getRowsJson()[0] ?? []).map(Number)
  const equal = sourceRows === targetRows && missing === 0 && unexpected === 0
  return { table, equal, sourceRows, targetRows, missing, unexpected, differingKeys, problem: null }
}

function identifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}
