import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import type { DemoTable } from './tables.ts'

const DATA = join(import.meta.dirname, '..', 'node_modules', 'vega-datasets', 'data')

/** For an update that turns an array around; PostgreSQL has `array_reverse` from 18 on. */
const HELPER = `CREATE FUNCTION array_reverse_3(a double precision[]) RETURNS double precision[]
  LANGUAGE sql IMMUTABLE AS 'SELECT ARRAY[a[3], a[2], a[1]]'`

/** Reads the data set with DuckDB and loads it with COPY; `folder` is for the files between. Keys come after the rows. */
export async function loadTables(uri: string, tables: readonly DemoTable[], folder: string): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '2' })
  const reader = await instance.connect()
  const client = new pg.Client(uri)
  await client.connect()
  try {
    await client.query(HELPER)
    // Two at a time: while PostgreSQL loads one table, DuckDB reads the next.
    let loaded: Promise<void> = Promise.resolve()
    for (const table of tables) {
      const file = join(folder, `${table.name}.csv`)
      await exportTable(reader, table, file)
      await loaded
      loaded = loadTable(client, table, file)
      loaded.catch(() => undefined)
    }
    await loaded
    await client.query('ANALYZE')
  } finally {
    reader.closeSync()
    instance.closeSync()
    await client.end()
  }
}

async function exportTable(reader: DuckDBConnection, table: DemoTable, file: string): Promise<void> {
  const select = table.select.replaceAll('$data', DATA)
  await reader.run(`COPY (${select}) TO '${file}' (FORMAT csv, HEADER false)`)
}

async function loadTable(client: pg.Client, table: DemoTable, file: string): Promise<void> {
  const columns = table.columns.map(([name, type]) => `${name} ${type}`).join(', ')
  await client.query('BEGIN')
  await client.query(`CREATE TABLE ${table.name} (${columns})`)
  for (const statement of table.afterLoad ?? []) await client.query(statement)
  await pipeline(
    createReadStream(file, { highWaterMark: 1 << 20 }),
    client.query(copyFrom(`COPY ${table.name} FROM STDIN (FORMAT csv, FREEZE)`)),
  )
  await client.query(`ALTER TABLE ${table.name} ADD PRIMARY KEY (${table.key.join(', ')})`)
  await client.query('COMMIT')
}
