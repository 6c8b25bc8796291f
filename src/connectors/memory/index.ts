import { defineConnector } from '../../sdk/connector.ts'
import { memoryConfig, memoryFromUri } from './config.ts'
import { memoryDatabase } from './database.ts'
import { MemorySink, memorySinkCapabilities } from './sink.ts'
import { MemorySource, memorySourceCapabilities } from './source.ts'

export { dropMemoryDatabase, memoryDatabase, MemoryDatabase, MemoryTransaction, type Cells } from './database.ts'

/** The reference connector: all of the contract in the fewest words. Read it before writing one. */
export const memory = defineConnector({
  schemes: ['memory'],
  title: 'Memory',
  summary: 'Named databases inside this process: for tests, and to read before writing a connector.',
  example: 'memory:name',
  config: memoryConfig,
  fromUri: memoryFromUri,
  identity: (config) => `memory:${config.database}`,
  source: {
    capabilities: memorySourceCapabilities,
    open: async (config, context) => new MemorySource(memoryDatabase(config.database), config, context),
  },
  sink: {
    capabilities: memorySinkCapabilities,
    open: async (config, context) => new MemorySink(memoryDatabase(config.database), context),
  },
})
