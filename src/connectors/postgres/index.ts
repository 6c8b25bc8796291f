import { defineConnector } from '../../sdk/connector.ts'
import type { Problem } from '../../sdk/errors.ts'
import { postgresSinkCapabilities } from './capabilities.ts'
import { identityOf, postgresConfig, postgresFromUri } from './config.ts'

/** PostgreSQL 14 to 18, as source and as sink. */
export const postgres = defineConnector({
  schemes: ['postgres', 'postgresql'],
  title: 'PostgreSQL',
  summary: 'PostgreSQL 14 to 18: snapshot by COPY, changes by logical replication (pgoutput); as a sink exactly once, fenced.',
  example: 'postgres://user@localhost:5432/database',
  config: postgresConfig,
  fromUri: postgresFromUri,
  identity: (config) => identityOf(config),
  validate(config): readonly Problem[] {
    if ((config.sslcert === undefined) === (config.sslkey === undefined)) return []
    return [
      {
        severity: 'error',
        code: 'CONFIG',
        message: 'a client certificate needs both its file and its key',
        hint: 'give sslcert and sslkey',
        path: 'sslcert',
      },
    ]
  },
  source: {
    capabilities: { formats: ['pg-copy-binary', 'csv', 'rows'], snapshot: true, stream: true, parallelSnapshot: true },
    async open(config, context) {
      const { PostgresSource } = await import('./source/source.ts')
      return PostgresSource.open(config, context)
    },
  },
  sink: {
    capabilities: postgresSinkCapabilities,
    async open(config, context) {
      const { openPostgresSink } = await import('./sink/sink.ts')
      return openPostgresSink(config, context)
    },
  },
  comparison: {
    async open(config) {
      const { PostgresSide } = await import('./compare.ts')
      return new PostgresSide(config)
    },
  },
})
