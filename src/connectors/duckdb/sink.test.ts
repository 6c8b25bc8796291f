import { tempFolder } from '../../testing/temp-folder.ts'
import { sinkSuite } from '../../testing/sink-suite.ts'
import { duckdbSinkCapabilities } from './capabilities.ts'
import { openTestTarget } from './test-target.ts'

sinkSuite('duckdb', {
  capabilities: duckdbSinkCapabilities,
  open: async ({ deletes }) => {
    const folder = await tempFolder()
    const target = await openTestTarget(folder, { deletes })
    return { ...target, close: () => target.close().finally(() => folder[Symbol.asyncDispose]()) }
  },
})

sinkSuite('duckdb with primary keys', {
  capabilities: duckdbSinkCapabilities,
  open: async ({ deletes }) => {
    const folder = await tempFolder()
    const target = await openTestTarget(folder, { deletes, config: { primaryKeys: true } })
    return { ...target, close: () => target.close().finally(() => folder[Symbol.asyncDispose]()) }
  },
})
