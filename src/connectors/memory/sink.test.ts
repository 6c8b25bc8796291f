import { sinkSuite } from '../../testing/sink-suite.ts'
import { testContext } from '../../testing/test-context.ts'
import { MemoryDatabase } from './database.ts'
import { MemorySink, memorySinkCapabilities, targetId } from './sink.ts'

sinkSuite('memory', {
  capabilities: memorySinkCapabilities,
  exact: ['boolean', 'float64', 'decimal', 'string', 'bytes', 'timestamp', 'json', 'array'],
  open: async ({ deletes }) => {
    const database = new MemoryDatabase('suite')
    return {
      sink: new MemorySink(database, testContext(deletes)),
      rows: async (table) => database.rows(targetId(table)),
      reopen: async (pipeline) => new MemorySink(database, testContext(deletes, pipeline)),
      close: async () => {},
    }
  },
})
