import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memory, memoryDatabase, type MemoryDatabase } from '../connectors/memory/index.ts'
import { pipelineOptions } from '../library/settings.ts'
import type { Connector } from '../sdk/connector.ts'
import { silentLogger } from '../sdk/logger.ts'
import { memoryStore } from '../state/memory.ts'
import type { StateStore } from '../state/store.ts'
import { schemaOf } from '../testing/sink-batches.ts'
import type { Report } from './report.ts'
import { runPipeline } from './pipeline.ts'

const HOST = 'here'
const never = new AbortController().signal

/** A run until caught up, as process `pid`; `beforeClaim` is awaited with the lease taken and nothing claimed in the sink. */
async function run(
  store: StateStore,
  pid: number,
  [from, to]: readonly [MemoryDatabase, MemoryDatabase],
  beforeClaim: () => Promise<void> = async () => {},
): Promise<Report> {
  const { sink } = memory
  assert.ok(sink !== undefined)
  const open: typeof sink.open = async (config, context) => {
    const opened = await sink.open(config, context)
    const { checkpoints } = opened
    assert.ok(checkpoints !== undefined)
    const look: typeof checkpoints.look = async (signal) => {
      const found = await checkpoints.look(signal)
      await beforeClaim()
      return found
    }
    return Object.assign(opened, { checkpoints: { ...checkpoints, look } })
  }
  const end = (database: MemoryDatabase, connector: Connector = memory as Connector) => ({
    connector,
    config: memory.config.parse({ database: database.name }),
    label: `memory:${database.name}`,
  })
  const ends = { source: end(from), sink: end(to, { ...memory, sink: { ...sink, open } } as Connector) }
  return runPipeline(await pipelineOptions({ name: 'p', until: 'caught-up' }, ends, ''), {
    store,
    holder: { host: HOST, pid, started: '' },
    logger: silentLogger,
    clock: Date.now,
    random: Math.random,
    drain: never,
    abort: never,
    scratchFolder: '',
  })
}

test('a runner that stood still before its claim, and was taken for dead, ends without touching what the one in its place has stored', async () => {
  const [source, target] = [memoryDatabase('take-over-source'), memoryDatabase('take-over-target')]
  const table = schemaOf({ name: 't', columns: [{ name: 'id', type: { kind: 'int32' } }], key: ['id'] })
  source.createTable(table)
  source.transaction((tx) => tx.insert(table.id, { id: '1' }))
  const gone = new Set<number>()
  const store = memoryStore({ processes: { host: HOST, started: (pid) => (gone.has(pid) ? null : '') } })

  const first = await run(store, 1, [source, target], async () => {
    gone.add(1)
    assert.equal((await run(store, 2, [source, target])).ok, true)
  })
  assert.deepEqual(
    first.problems.filter(({ severity }) => severity === 'error').map(({ code }) => code),
    ['FENCED'],
  )
  source.transaction((tx) => tx.insert(table.id, { id: '2' }))
  const last = await run(store, 3, [source, target])
  assert.deepEqual(
    last.problems.filter(({ severity }) => severity === 'error'),
    [],
  )
  assert.equal(target.rows(table.id).length, 2)
})
