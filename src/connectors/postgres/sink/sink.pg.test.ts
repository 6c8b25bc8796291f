import { after } from 'node:test'
import { LOGICAL_KINDS } from '../../../sdk/sql/type-table.ts'
import { startPostgres } from '../../../testing/postgres-server.ts'
import { sinkSuite } from '../../../testing/sink-suite.ts'
import { postgresSinkCapabilities } from '../capabilities.ts'
import { TargetServer } from './test-data/target-server.ts'

const server = await TargetServer.start(startPostgres)
after(() => server[Symbol.asyncDispose]())

sinkSuite(`PostgreSQL ${server.major}`, {
  capabilities: postgresSinkCapabilities,
  // float64 not: one value of the suite is not spelled as PostgreSQL spells it.
  exact: LOGICAL_KINDS.filter((kind) => kind !== 'json' && kind !== 'document' && kind !== 'float64'),
  open: async ({ deletes }) => {
    const target = await server.target({ deletes })
    return {
      sink: await target.sink(),
      rows: (table) => target.rows(table),
      reopen: (pipeline) => target.sink(pipeline === undefined ? {} : { pipeline }),
      close: () => target.close(),
    }
  },
})
