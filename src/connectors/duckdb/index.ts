import { defineConnector } from '../../sdk/connector.ts'
import { duckdbSinkCapabilities } from './capabilities.ts'
import { duckdbConfig, duckdbFromUri, duckdbIdentity } from './config.ts'
import { loadPeer } from './peer.ts'
import { DuckDbSink } from './sink.ts'

export const duckdb = defineConnector({
  schemes: ['duckdb'],
  title: 'DuckDB',
  summary: "A DuckDB file as target: exactly once; snapshots by DuckDB's own CSV parser.",
  example: 'duckdb:///srv/copy.duckdb',
  config: duckdbConfig,
  fromUri: duckdbFromUri,
  identity: duckdbIdentity,
  sink: {
    capabilities: duckdbSinkCapabilities,
    // The file is opened at the first call that needs it; that the peer is missing is said at once.
    open: async (config, context) => {
      await loadPeer()
      return new DuckDbSink(config, context)
    },
  },
  comparison: {
    async open(config, context) {
      await loadPeer()
      const { DuckDbSide } = await import('./compare.ts')
      return DuckDbSide.open(config, context)
    },
  },
})
