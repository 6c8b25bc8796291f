import type { ConnectorContext } from '../sdk/connector.ts'
import { silentLogger } from '../sdk/logger.ts'

/** What an engine lends to a connector, for tests of one alone. */
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
