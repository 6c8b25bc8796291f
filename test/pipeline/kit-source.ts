import assert from 'node:assert/strict'
import { startPostgres, type PostgresOptions, type PostgresServer } from '../../src/testing/postgres-server.ts'
import { lsnOf } from '../kit/lsn.ts'
import { MAJOR } from '../kit/source-database.ts'
import { until } from '../kit/until.ts'
import { Oracle, type Cells } from '../../src/connectors/postgres/sink/test-data/oracle.ts'

/** One server for a test file, a fresh database per test. */
export class Bench implements AsyncDisposable {
  readonly server: PostgresServer
  #databases = 0
  #shared: SourceDatabase | null = null

  private constructor(server: PostgresServer) {
    this.server = server
  }

  /** `shared`: SQL that fills a database for all tests of the file. */
  static async start(options: Omit<PostgresOptions, 'major'> = {}, shared?: string): Promise<Bench> {
    const settings = { max_replication_slots: 60, max_wal_senders: 40, ...options.settings }
    const bench = new Bench(await startPostgres({ major: MAJOR, ...options, settings }))
    if (shared !== undefined) bench.#shared = await bench.database(shared)
    return bench
  }

  get shared(): SourceDatabase {
    assert.ok(this.#shared !== null, 'a shared database was asked for')
    return this.#shared
  }

  async database(setup = '', name = `test_${++this.#databases}`): Promise<SourceDatabase> {
    await using admin = await Oracle.connect(this.server.socketUri())
    await admin.run(`CREATE DATABASE ${name}`)
    const database = new SourceDatabase(this.server, name, await Oracle.connect(this.server.socketUri(name)))
    if (setup !== '') await database.run(setup)
    return database
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#shared?.[Symbol.asyncDispose]()
    await this.server[Symbol.asyncDispose]()
  }
}

export class SourceDatabase implements AsyncDisposable {
  readonly oracle: Oracle
  readonly name: string
  readonly server: PostgresServer

  constructor(server: PostgresServer, name: string, oracle: Oracle) {
    this.server = server
    this.name = name
    this.oracle = oracle
  }

  get uri(): string {
    return this.server.uri(this.name)
  }

  run(sql: string): Promise<Cells[]> {
    return this.oracle.run(sql)
  }

  value(sql: string): Promise<string | null> {
    return this.oracle.value(sql)
  }

  /** Another session. */
  session(): Promise<Oracle> {
    return Oracle.connect(this.server.socketUri(this.name))
  }

  async head(): Promise<bigint> {
    return lsnOf(await this.value('SELECT pg_current_wal_insert_lsn()'))
  }

  async confirmed(): Promise<bigint | null> {
    const text = await this.value('SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()')
    return text === null ? null : lsnOf(text)
  }

  /** A walsender sends the log of this database. */
  async isRead(): Promise<boolean> {
    return (
      (await this.value(
        `SELECT count(*) FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.database = current_database() AND r.state = 'streaming'`,
      )) !== '0'
    )
  }

  async slots(): Promise<string[]> {
    const rows = await this.run('SELECT slot_name FROM pg_replication_slots WHERE database = current_database()')
    return rows.map((row) => row['slot_name'] ?? '')
  }

  /** A server keeps 60 slots at most: each test drops its own. */
  async [Symbol.asyncDispose](): Promise<void> {
    await until(
      `the slots of ${this.name} read by nobody`,
      async () => (await this.value('SELECT count(*) FROM pg_replication_slots WHERE database = current_database() AND active')) === '0',
    )
    await this.run('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()')
    await this.oracle[Symbol.asyncDispose]()
  }
}
