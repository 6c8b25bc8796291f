import { join } from 'node:path'
import { connectors } from '../../src/connectors/index.ts'
import { startPostgres, type PostgresServer } from '../../src/testing/postgres-server.ts'
import { duckdbTarget, postgresTarget, sqliteTarget, type Target } from './compare.ts'
import { MAJOR } from './source-database.ts'

export interface OpenTarget extends AsyncDisposable {
  readonly target: Target
  /** Of a PostgreSQL target. */
  readonly server: PostgresServer | null
}

export interface SinkUnderTest {
  readonly kind: Target['kind']
  open(folder: string): Promise<OpenTarget>
}

const inFile = (kind: Target['kind'], make: (file: string) => Target): SinkUnderTest => ({
  kind,
  open: async (folder) => ({ target: make(join(folder, `target.${kind}`)), server: null, [Symbol.asyncDispose]: async () => {} }),
})

/** Every sink that promises exactly-once. */
export const TRANSACTIONAL_SINKS: readonly SinkUnderTest[] = [
  inFile('sqlite', sqliteTarget),
  inFile('duckdb', duckdbTarget),
  {
    kind: 'postgres',
    open: async () => {
      const server = await startPostgres({ major: MAJOR })
      return { target: postgresTarget(server.uri()), server, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
    },
  },
]

/** Why a sink cannot be tested in this tree, or false: the reason for `skip`. */
export async function unavailable(kind: Target['kind']): Promise<string | false> {
  try {
    return (await connectors.load(kind))?.sink === undefined ? `the ${kind} connector has no sink yet` : false
  } catch (error) {
    return `the ${kind} connector cannot be loaded: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`
  }
}
