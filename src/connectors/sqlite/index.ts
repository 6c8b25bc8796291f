import { resolve } from 'node:path'
import { defineConnector } from '../../sdk/connector.ts'
import { sqliteConfig, sqliteFromUri, sqliteIdentity } from './config.ts'
import { SqliteSink, sqliteSinkCapabilities } from './sink.ts'

export const sqlite = defineConnector({
  schemes: ['sqlite'],
  title: 'SQLite',
  summary: 'An SQLite file as target: exactly once, readable by other processes while it is written.',
  example: 'sqlite:///srv/copy.db',
  config: sqliteConfig,
  fromUri: sqliteFromUri,
  identity: sqliteIdentity,
  sink: {
    capabilities: sqliteSinkCapabilities,
    // The thread starts and the file is opened at the first call that needs them.
    open: async (config, context) => new SqliteSink({ ...config, path: resolve(config.path) }, context),
  },
  comparison: {
    async open(config) {
      const { SqliteSide } = await import('./compare.ts')
      return new SqliteSide({ ...config, path: resolve(config.path) })
    },
  },
})
