import type { LogicalType } from '../../model/logical-type.ts'
import type { Sink } from '../../sdk/sink.ts'
import { LOGICAL_KINDS } from '../../sdk/sql/type-table.ts'
import { sinkSuite } from '../../testing/sink-suite.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import { sqliteSinkCapabilities } from './sink.ts'
import { openSink, readRows } from './test-data/open-sink.ts'

/** Timestamps are made canonical; everything else must come back as the very text that went in. */
const REWRITTEN: readonly LogicalType['kind'][] = ['timestamp', 'timestamptz']

sinkSuite('sqlite', {
  capabilities: sqliteSinkCapabilities,
  exact: LOGICAL_KINDS.filter((kind) => !REWRITTEN.includes(kind)),
  async open({ deletes }) {
    const folder = await tempFolder()
    const path = folder.join('target.db')
    const sinks: Sink[] = [openSink(path, { deletes })]
    return {
      sink: sinks[0]!,
      rows: async (table) => readRows(path, table),
      reopen: async (pipeline) => {
        sinks.push(openSink(path, { deletes, ...(pipeline === undefined ? {} : { pipeline }) }))
        return sinks.at(-1)!
      },
      close: async () => {
        for (const sink of sinks) await sink[Symbol.asyncDispose]()
        await folder[Symbol.asyncDispose]()
      },
    }
  },
})
