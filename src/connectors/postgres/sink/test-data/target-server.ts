import type { ConnectorContext } from '../../../../sdk/connector.ts'
import { silentLogger, type Logger } from '../../../../sdk/logger.ts'
import type { SinkTable } from '../../../../sdk/sink.ts'
import type { startPostgres, PostgresServer } from '../../../../testing/postgres-server.ts'
import { SinkBench, type TargetRow } from '../../../../testing/sink-bench.ts'
import { postgresConfig, type PostgresConfig } from '../../config.ts'
import { postgresSinkCapabilities } from '../../capabilities.ts'
import { openPostgresSink, type PostgresSink } from '../sink.ts'
import { targetSql } from '../target-table.ts'
import { Oracle } from './oracle.ts'

export interface TargetOptions {
  readonly deletes?: 'hard' | 'soft'
  readonly pipeline?: string
  readonly logger?: Logger
  /** A role without superuser's rights. */
  readonly user?: string
}

/** One server for a test file; a database per case. */
export class TargetServer implements AsyncDisposable {
  readonly #server: PostgresServer
  #databases = 0

  private constructor(server: PostgresServer) {
    this.#server = server
  }

  static async start(start: typeof startPostgres): Promise<TargetServer> {
    return new TargetServer(await start({ major: Number(process.env['TAILRACE_TEST_PG'] ?? 18) }))
  }

  get major(): number {
    return this.#server.major
  }

  get server(): PostgresServer {
    return this.#server
  }

  async target(options: TargetOptions = {}): Promise<Target> {
    const database = `target_${++this.#databases}`
    await using admin = await Oracle.connect(this.#server.uri())
    await admin.run(`CREATE DATABASE ${database}`)
    return new Target(this.#server, database, await Oracle.connect(this.#server.uri(database)), options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]()
  }
}

/** A database to write to, and sinks on it. */
export class Target {
  readonly oracle: Oracle
  readonly database: string
  readonly #server: PostgresServer
  readonly #options: TargetOptions
  readonly #sinks: PostgresSink[] = []
  readonly #abort = new AbortController()

  constructor(server: PostgresServer, database: string, oracle: Oracle, options: TargetOptions) {
    this.#server = server
    this.database = database
    this.oracle = oracle
    this.#options = options
  }

  /** A role that may make schemas, and tables in `public`, and nothing else. Its name is new to the server. */
  async makeRole(name: string): Promise<void> {
    await this.oracle.run(`CREATE ROLE ${name} LOGIN; GRANT CREATE ON DATABASE ${this.database} TO ${name}; GRANT CREATE, USAGE ON SCHEMA public TO ${name}`)
  }

  get config(): PostgresConfig {
    const { host, port } = this.#server
    return postgresConfig.parse({ host, port, user: this.#options.user ?? 'postgres', database: this.database, sslmode: 'disable' })
  }

  context(options: TargetOptions = {}): ConnectorContext {
    const { deletes = 'hard', pipeline = 'test', logger = silentLogger } = { ...this.#options, ...options }
    return {
      pipeline,
      logger,
      memory: { get: async () => null, set: async () => {} },
      deletes,
      scratch: () => '',
      clock: Date.now,
      random: Math.random,
      signal: this.#abort.signal,
    }
  }

  async sink(options: TargetOptions = {}, config: Partial<PostgresConfig> = {}): Promise<PostgresSink> {
    const sink = await openPostgresSink({ ...this.config, ...config }, this.context(options))
    this.#sinks.push(sink)
    return sink
  }

  /** The calls that an engine makes, on a new sink. */
  async bench(options: TargetOptions = {}): Promise<SinkBench> {
    const sink = await this.sink(options)
    return new SinkBench(
      { sink, rows: (table) => this.rows(table), reopen: () => this.sink(options), close: () => this.close() },
      { capabilities: postgresSinkCapabilities, open: () => Promise.reject(new Error('open the target itself')) },
    )
  }

  async rows(table: SinkTable): Promise<TargetRow[]> {
    return this.oracle.run(`SELECT * FROM ${targetSql(table)}`)
  }

  connect(user = 'postgres'): Promise<Oracle> {
    return Oracle.connect(this.#server.uri(this.database, { user }))
  }

  async close(): Promise<void> {
    for (const sink of this.#sinks) await sink[Symbol.asyncDispose]()
    await this.oracle[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
