import { existsSync } from 'node:fs'
import { DuckDBInstance } from '@duckdb/node-api'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import { quote, type Cells } from './kit-oracle.ts'
import type { Target } from './kit-sinks.ts'

/** DuckDB as target: read after the sink has let go of the file, or from its own process through the instance cache. */
export async function duckdbReader(): Promise<Target> {
  const folder = await tempFolder('tr-pipeline-')
  const path = folder.join('copy.duckdb')
  return {
    name: 'duckdb',
    uri: `duckdb://${path}`,
    computes: false,
    rows: (namespace, table) => readDuckdb(path, namespace, table),
    expect: duckdbText,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
}

async function readDuckdb(path: string, namespace: string, table: string): Promise<Cells[] | null> {
  if (!existsSync(path)) return null
  const instance = await DuckDBInstance.fromCache(path)
  const connection = await instance.connect()
  try {
    await connection.run("SET TimeZone = 'UTC'")
    const found = await connection.runAndReadAll(
      `SELECT schema_name FROM duckdb_tables() WHERE table_name = '${table.replaceAll("'", "''")}' AND schema_name IN ('${namespace.replaceAll("'", "''")}', 'main') ORDER BY schema_name = 'main'`,
    )
    const schema = found.getRowsJS()[0]?.[0]
    if (typeof schema !== 'string') return null
    const reader = await connection.runAndReadAll(`SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ${quote(schema)}.${quote(table)}`)
    return reader.getRowObjectsJS().map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, value === null ? null : String(value)])))
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}

function duckdbText(type: string, text: string): string {
  if (type === 'bool') return text === 't' ? 'true' : 'false'
  return text
}
