import { existsSync } from 'node:fs'
import type { Connection } from '../../src/connectors/duckdb/connection.ts'
import { readFile } from '../../src/connectors/duckdb/test-target.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import { quote, type Cells } from '../../src/connectors/postgres/sink/test-data/oracle.ts'
import type { Target } from './kit-sinks.ts'

/**
 * DuckDB as target. While a sink has the file open no other process and no second instance can read it, so it is read
 * through the sink's own instance, by SQL of ours.
 */
export async function duckdbReader(): Promise<Target> {
  const folder = await tempFolder('tr-pipeline-')
  const path = folder.join('copy.duckdb')
  const file = { path, threads: 1, scratch: () => folder.join('scratch') }
  return {
    name: 'duckdb',
    uri: `duckdb://${path}`,
    computes: false,
    execute: (sql) =>
      readFile(file, async (connection) => {
        for (const each of ['CREATE SCHEMA IF NOT EXISTS target.public', 'USE target.public', ...sql.split(';')]) await connection.run(each)
      }),
    types: (namespace, table) =>
      readFile(file, async (connection) => {
        const rows = await connection.rows(
          `SELECT column_name, data_type || ' ' || is_nullable FROM duckdb_columns() WHERE database_name = 'target' AND schema_name = '${namespace}' AND table_name = '${table}'`,
        )
        return Object.fromEntries(rows.map(([name, said]) => [String(name), String(said)]))
      }),
    rows: async (namespace, table) => {
      if (!existsSync(path)) return null
      return readFile(file, (connection) => readDuckdb(connection, namespace, table))
    },
    expect: duckdbText,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
}

async function readDuckdb(connection: Connection, namespace: string, table: string): Promise<Cells[] | null> {
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`
  const columns = await connection.rows(
    `SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = 'target' AND schema_name = ${text(namespace)} AND table_name = ${text(table)} ORDER BY column_index`,
  )
  if (columns.length === 0) return null
  const select = columns.map(([name, type]) => readable(quote(String(name)), String(type))).join(', ')
  const rows = await connection.rows(`SELECT ${select} FROM target.${quote(namespace)}.${quote(table)}`)
  return rows.map((row) => Object.fromEntries(columns.map(([name, type], i) => [String(name), canonical(String(type), row[i])])))
}

function readable(column: string, type: string): string {
  if (type === 'BLOB') return `lower(hex(${column}))`
  if (type === 'INTERVAL')
    return `(datepart('year', ${column}) * 12 + datepart('month', ${column})) || ' months ' || datepart('day', ${column}) || ' days ' || (datepart('hour', ${column}) * 3600000000 + datepart('minute', ${column}) * 60000000 + datepart('microsecond', ${column})) || ' us'`
  return `CAST(${column} AS VARCHAR)`
}

function canonical(type: string, value: unknown): string | null {
  if (value === null || value === undefined) return null
  const text = String(value)
  return type === 'FLOAT' || type === 'DOUBLE' ? float(text) : text
}

function float(text: string): string {
  const known: Readonly<Record<string, string>> = { nan: 'NaN', inf: 'Infinity', '-inf': '-Infinity' }
  const value = Number(known[text.toLowerCase()] ?? text)
  return Object.is(value, -0) ? '-0' : String(value)
}

/** The documented mapping (src/connectors/duckdb/type-table.ts), written down a second time. */
function duckdbText(type: string, text: string): string {
  switch (type) {
    case 'bool':
      return text === 't' ? 'true' : 'false'
    case 'float4':
    case 'float8':
      return float(text)
    case 'bytea':
      return text.slice(2)
    case 'interval':
      return intervalParts(text)
    case 'date':
    case 'timestamp':
    case 'timestamptz':
      return era(text)
    default:
      return text
  }
}

/** DuckDB writes `0044-03-15 (BC) 12:00:00`, and no fraction of zero. */
function era(text: string): string {
  return text.endsWith(' BC') ? text.slice(0, -3).replace(/^(\S+)/, '$1 (BC)') : text
}

function intervalParts(text: string): string {
  const part = (pattern: RegExp): number => Number(pattern.exec(text)?.[1] ?? 0)
  const time = /(-|\+)?(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?/.exec(text)
  const micros =
    time === null
      ? 0n
      : BigInt(time[2] ?? 0) * 3_600_000_000n +
        BigInt(time[3] ?? 0) * 60_000_000n +
        BigInt(time[4] ?? 0) * 1_000_000n +
        BigInt((time[5] ?? '').padEnd(6, '0'))
  const months = part(/([-+]?\d+) years?/) * 12 + part(/([-+]?\d+) mons?/)
  return `${months} months ${part(/([-+]?\d+) days?/)} days ${time?.[1] === '-' ? -micros : micros} us`
}
