import { existsSync } from 'node:fs'
import { dropMemoryDatabase, memoryDatabase } from '../../src/connectors/memory/database.ts'
import { tableId } from '../../src/model/schema.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import type { Bench } from './kit-source.ts'
import { Oracle, quote, type Cells } from '../../src/connectors/postgres/sink/test-data/oracle.ts'
import { duckdbReader } from './kit-duckdb.ts'
import { openSqlite } from '../kit/sqlite-file.ts'

export type SinkName = 'memory' | 'sqlite' | 'duckdb' | 'postgres'

/** A place to copy to, read back by other means than the sink's own code. */
export interface Target extends AsyncDisposable {
  readonly name: SinkName
  readonly uri: string
  /** SQL of a person who has tables of their own there; names without a schema are in the one that `public` is copied to. */
  execute?(sql: string): Promise<void>
  /** Rows of the copy of a source table, column → canonical text; null: the table is not there. */
  rows(namespace: string, table: string): Promise<Cells[] | null>
  /** Column → type and whether it takes NULL, in the target's own words. */
  types?(namespace: string, table: string): Promise<Readonly<Record<string, string>>>
  /** A value's canonical text in this target, from PostgreSQL's text and the name of its base type. */
  expect(type: string, text: string): string
  /** A generated column is computed there. */
  readonly computes: boolean
}

export const SINKS: readonly SinkName[] = ['memory', 'sqlite', 'duckdb', 'postgres']

/** Why a sink is left out here, or false. */
export function skipReason(sink: SinkName): string | false {
  const folder = new URL(`../../src/connectors/${sink}/index.ts`, import.meta.url)
  return existsSync(folder) ? false : `the ${sink} connector is not there yet`
}

let databases = 0

export async function openTarget(sink: SinkName, bench: Bench): Promise<Target> {
  const number = `${process.pid}_${++databases}`
  switch (sink) {
    case 'memory':
      return memoryTarget(`pipeline_${number}`)
    case 'sqlite':
      return sqliteTarget()
    case 'duckdb':
      return duckdbReader()
    case 'postgres':
      return postgresTarget(bench, `copy_${number}`)
    default:
      return sink satisfies never
  }
}

function memoryTarget(name: string): Target {
  return {
    name: 'memory',
    uri: `memory:${name}`,
    computes: false,
    rows: async (namespace, table) => {
      const database = memoryDatabase(name)
      const id = tableId(namespace, table)
      return database.tables.has(id) ? [...database.rows(id)] : null
    },
    expect: (_type, text) => text,
    [Symbol.asyncDispose]: async () => dropMemoryDatabase(name),
  }
}

async function sqliteTarget(): Promise<Target> {
  const folder = await tempFolder('tr-pipeline-')
  const path = folder.join('copy.db')
  return {
    name: 'sqlite',
    uri: `sqlite://${path}`,
    computes: false,
    execute: async (sql) => {
      using db = openSqlite(path, 'write')
      db.exec(sql)
    },
    types: async (_namespace, table) => {
      using db = openSqlite(path, 'read')
      const rows = db.prepare(`SELECT name, type || ' ' || "notnull" AS said FROM pragma_table_info(?)`).all(table)
      return Object.fromEntries(rows.map((row) => [String(row['name']), String(row['said'])]))
    },
    rows: async (namespace, table) => readSqlite(path, namespace === 'public' ? table : `${namespace}_${table}`),
    expect: sqliteText,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
}

function readSqlite(path: string, table: string): Cells[] | null {
  if (!existsSync(path)) return null
  const db = openSqlite(path, 'read')
  try {
    // One view for both statements: the sink may be making the table anew.
    db.exec('BEGIN')
    if (db.prepare('SELECT 1 FROM sqlite_master WHERE name = ?').get(table) === undefined) return null
    const statement = db.prepare(`SELECT * FROM ${quote(table)}`)
    statement.setReadBigInts(true)
    return statement.all().map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, sqliteCanonical(value)])))
  } finally {
    db.close()
  }
}

function sqliteCanonical(value: unknown): string | null {
  if (value === null || value === undefined) return null
  if (typeof value === 'bigint') return `integer ${value}`
  if (typeof value === 'number') return `real ${Object.is(value, -0) ? '-0' : String(value)}`
  return value instanceof Uint8Array ? `blob ${Buffer.from(value).toString('hex')}` : `text ${String(value)}`
}

/** The documented mapping (src/connectors/sqlite/type-table.ts), written down a second time. */
function sqliteText(type: string, text: string): string {
  if (type === 'bool') return `integer ${text === 't' ? 1 : 0}`
  if (type === 'int2' || type === 'int4' || type === 'int8' || type === 'oid') return `integer ${text}`
  if (type === 'float4' || type === 'float8') {
    if (text === 'NaN') return 'text NaN'
    return `real ${Object.is(Number(text), -0) ? '-0' : String(Number(text))}`
  }
  if (type === 'bytea') return `blob ${text.slice(2)}`
  if (type === 'timestamp' || type === 'timestamptz') return `text ${rfc3339(text, type === 'timestamptz')}`
  return `text ${text}`
}

/** RFC 3339 with microseconds where that can carry it, else PostgreSQL's own text. */
function rfc3339(text: string, zoned: boolean): string {
  const match = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(\+00)?$/.exec(text)
  if (match === null) return text
  return `${match[1]}T${match[2]}.${(match[3] ?? '').padEnd(6, '0')}${zoned ? 'Z' : ''}`
}

const UNDEFINED_TABLE = '42P01'

async function postgresTarget(bench: Bench, name: string): Promise<Target> {
  await using admin = await Oracle.connect(bench.server.socketUri())
  await admin.run(`CREATE DATABASE ${name}`)
  const oracle = await Oracle.connect(bench.server.socketUri(name))
  return {
    name: 'postgres',
    uri: bench.server.uri(name),
    computes: true,
    execute: async (sql) => void (await oracle.run(sql)),
    types: async (namespace, table) => {
      const rows = await oracle.run(
        `SELECT attname, format_type(atttypid, atttypmod) || ' ' || attnotnull AS said FROM pg_attribute
          WHERE attrelid = '${quote(namespace)}.${quote(table)}'::regclass AND attnum > 0 AND NOT attisdropped`,
      )
      return Object.fromEntries(rows.map((row) => [row['attname'] ?? '', row['said'] ?? '']))
    },
    rows: (namespace, table) =>
      oracle.run(`SELECT * FROM ${quote(namespace)}.${quote(table)}`).catch((error: { code?: string }) => {
        if (error.code === UNDEFINED_TABLE) return null
        throw error
      }),
    expect: (_type, text) => text,
    [Symbol.asyncDispose]: () => oracle[Symbol.asyncDispose](),
  }
}
