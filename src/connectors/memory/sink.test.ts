import { silentLogger } from '../../sdk/logger.ts'
import type { ConnectorContext } from '../../sdk/connector.ts'
import { sinkSuite } from '../../testing/sink-suite.ts'
import { MemoryDatabase } from './database.ts'
import { MemorySink, memorySinkCapabilities, targetId } from './sink.ts'

export function testContext(deletes: 'hard' | 'soft' = 'hard', pipeline = 'test'): ConnectorContext {
  return {
    pipeline,
    logger: silentLogger,
    memory: { get: async () => null, set: async () => {} },
    deletes,
    scratch: () => '',
    clock: Date.now,
    random: Math.random,
    signal: new AbortController().signal,
  }
}

sinkSuite('memory', {
  capabilities: memorySinkCapabilities,
  exact: ['boolean', 'float64', 'decimal', 'string', 'bytes', 'timestamp', 'json', 'array'],
  open: async ({ deletes }) => {
    const database = new MemoryDatabase('suite')
    return {
      sink: new MemorySink(database, testContext(deletes)),
      rows: async (table) => database.rows(targetId(table)),
      reopen: async () => new MemorySink(database, testContext(deletes)),
      close: async () => {},
    }
  },
})
