import { storeSuite } from '../testing/store-suite.ts'
import { memoryStore } from './memory.ts'

storeSuite('memory', async (options) => memoryStore(options))
