import { batchOf, insert, sinkTable } from '../../testing/sink-batches.ts'
import { duckdbConfig } from './config.ts'
import { duckdb } from './index.ts'
import { people } from './test-bench.ts'
import { testContext } from './test-target.ts'

/** A process of its own that claims a pipeline, commits one row, says so and waits to be killed. For file-lock.test.ts. */
const folder = process.argv[2] ?? ''
const context = testContext({ path: folder, join: (...parts) => [folder, ...parts].join('/'), [Symbol.asyncDispose]: async () => {} })
const sink = await duckdb.sink?.open(duckdbConfig.parse({ path: `${folder}/target.duckdb` }), context)
const { signal } = new AbortController()
await sink?.checkpoints?.claim(signal)
await sink?.applySchema(sinkTable(people), null, signal)
await sink?.write(batchOf([{ number: 1, changes: [insert(people, ['1', 'a', null])] }]), signal)
process.send?.('ready')
setInterval(() => {}, 1e6)
