import type { ConnectorContext } from '../../sdk/connector.ts'
import { silentLogger } from '../../sdk/logger.ts'
import type { Sink, SinkTable } from '../../sdk/sink.ts'
import { quoteIdentifier } from '../../sdk/sql/identifiers.ts'
import type { SinkUnderTest, TargetRow } from '../../testing/sink-bench.ts'
import type { TempFolder } from '../../testing/temp-folder.ts'
import { readExisting } from './catalog.ts'
import { duckdbConfig, type DuckDbConfig } from './config.ts'
import type { Connection } from './connection.ts'
import { openDatabase, type DatabaseOptions } from './database.ts'
import { duckdb } from './index.ts'
import { placeOf, placeSql } from './target-table.ts'

export interface TestTargetOptions {
  readonly deletes?: 'hard' | 'soft'
  readonly config?: Partial<DuckDbConfig>
  readonly pipeline?: string
}

export interface TestTarget extends SinkUnderTest {
  readonly path: string
  /** Another connection in this process, as a reader has it: sees what is committed. */
  read<T>(work: (connection: Connection) => Promise<T>): Promise<T>
}

export function testContext(folder: TempFolder, options: TestTargetOptions = {}): ConnectorContext {
  const memory = new Map<string, string>()
  return {
    pipeline: options.pipeline ?? 'test',
    logger: silentLogger,
    memory: {
      get: async (key) => memory.get(key) ?? null,
      set: async (key, value) => {
        if (value === null) memory.delete(key)
        else memory.set(key, value)
      },
    },
    deletes: options.deletes ?? 'hard',
    scratch: () => folder.join('scratch'),
    clock: Date.now,
    random: Math.random,
    signal: new AbortController().signal,
  }
}

/** A sink on a file of its own in the folder. */
export async function openTestTarget(folder: TempFolder, options: TestTargetOptions = {}): Promise<TestTarget> {
  const path = folder.join('target.duckdb')
  const config = duckdbConfig.parse({ path, ...options.config })
  const sinks: Sink[] = []
  const open = async (pipeline = options.pipeline): Promise<Sink> => {
    if (duckdb.sink === undefined) throw new Error('duckdb is no sink')
    const sink = await duckdb.sink.open(config, testContext(folder, { ...options, ...(pipeline === undefined ? {} : { pipeline }) }))
    sinks.push(sink)
    return sink
  }
  const sink = await open()
  const read = <T>(work: (connection: Connection) => Promise<T>): Promise<T> =>
    readFile({ path, threads: config.threads, scratch: () => folder.join('scratch') }, work)
  return {
    sink,
    path,
    read,
    rows: (table) => read((connection) => rowsOf(connection, table)),
    reopen: open,
    close: async () => {
      for (const each of sinks) await each[Symbol.asyncDispose]()
    },
  }
}

/** Through the instance of this process: while a sink has the file open nobody else can read it. */
export async function readFile<T>(
  file: Pick<DatabaseOptions, 'path' | 'threads' | 'scratch'>,
  work: (connection: Connection) => Promise<T>,
): Promise<T> {
  const database = await openDatabase({ ...file, memoryLimit: null, logger: silentLogger })
  const connection = await database.connect()
  try {
    return await work(connection)
  } finally {
    await database.disconnect(connection)
    await database.release()
  }
}

async function rowsOf(connection: Connection, table: SinkTable): Promise<readonly TargetRow[]> {
  const place = placeOf(table)
  const columns = (await readExisting(connection, place))?.columns ?? []
  const select = columns.map(({ name }) => `CAST(${quoteIdentifier(name)} AS VARCHAR)`).join(', ')
  const rows = await connection.rows(`SELECT ${select} FROM ${placeSql(place)}`)
  return rows.map((row) => Object.fromEntries(columns.map(({ name }, i) => [name, row[i] ?? null])))
}
