import type { Slice, StreamBatch } from '../../src/model/batch.ts'
import { pickRows } from '../../src/model/slice-builder.ts'
import { MemorySink } from '../../src/connectors/memory/sink.ts'
import type { ConnectorContext } from '../../src/sdk/connector.ts'
import type { Loader, Sink, SinkCheckpoints } from '../../src/sdk/sink.ts'
import { called, PIPELINE, type Life, type World } from './world.ts'

const NO_PLAIN: ReadonlySet<string> = new Set()
type Call = <T>(name: string, work: () => Promise<T>) => Promise<T>

/** The target as one run reaches it: transactional, rows, position and epoch in one commit; answers get lost. */
export function sinkOf(world: World, life: Life, context: ConnectorContext): Sink {
  const inner = new MemorySink(world.sink, context)
  const call: Call = (name, work) => world.call(life, `sink.${name}`, work, 'SINK_FAILED')
  /** A call that changes the target. */
  const change: Call = (name, work) =>
    call(name, async () => {
      const result = await unfenced(world, life, work)
      world.invariants.wrote(life, name)
      return result
    })
  const own: Partial<Sink> = {
    checkpoints: checkpointsOf(world, life, inner.checkpoints, call, change),
    applySchema: (table, previous, signal, options) =>
      change(`applySchema ${table.id}`, () => inner.applySchema(table, previous, signal, options)),
    clear: (table, signal, options) => change(`clear ${table.id}`, () => inner.clear(table, signal, options)),
    load: (request) =>
      call(`load ${request.table.id} ${request.chunk.id}`, async () => loaderOf(world, await inner.load(request), call, change)),
    write: async (batch) => {
      const given = tampered(world, batch)
      if (given.position === null) return call('write part', () => inner.write(given))
      await change(`write ${given.position}`, async () => {
        await inner.write(given)
        world.invariants.compareAtPosition()
      })
    },
    [Symbol.asyncDispose]: () => call('dispose', () => inner[Symbol.asyncDispose]()).catch(() => {}),
  }
  return called<Sink>(inner, own, NO_PLAIN, call)
}

function checkpointsOf(world: World, life: Life, inner: SinkCheckpoints, call: Call, change: Call): SinkCheckpoints {
  const claim: SinkCheckpoints['claim'] = (signal) =>
    call('claim', async () => {
      world.claimant = life
      const claimed = await inner.claim(signal)
      life.epoch = claimed.epoch
      return claimed
    })
  const store: SinkCheckpoints['store'] = (position, signal) => change(`store ${position}`, () => inner.store(position, signal))
  const letGo: SinkCheckpoints['letGo'] = (tables, signal) => change('letGo', () => inner.letGo(tables, signal))
  return called(inner, { claim, store, letGo }, NO_PLAIN, call as (name: string, work: () => Promise<unknown>) => Promise<unknown>)
}

function loaderOf(world: World, loader: Loader, call: Call, change: Call): Loader {
  let rows = 0
  const write: Loader['write'] = async (frame) => {
    await call('load rows', () => loader.write(frame))
    rows += frame.rows
  }
  const finish: Loader['finish'] = () => {
    if (world.plant !== 'chunk-early') return change('load finish', () => loader.finish())
    void world.sleep(30).then(() => change('load finish', () => loader.finish()).catch(() => {}))
    return Promise.resolve({ rows })
  }
  return { write, finish, [Symbol.asyncDispose]: () => loader[Symbol.asyncDispose]() }
}

/** `epoch-ignored`: the fence is as if it were not there. What the sink does, it does before it first waits. */
function unfenced<T>(world: World, life: Life, work: () => Promise<T>): Promise<T> {
  const { checkpoints } = world.sink
  const held = checkpoints.get(PIPELINE)
  if (world.plant !== 'epoch-ignored' || held === undefined || life.epoch === null) return work()
  checkpoints.set(PIPELINE, { ...held, epoch: life.epoch })
  const result = work()
  checkpoints.set(PIPELINE, { epoch: held.epoch, position: checkpoints.get(PIPELINE)?.position ?? null })
  return result
}

function tampered(world: World, batch: StreamBatch): StreamBatch {
  const { plant } = world
  if (plant === 'truncate-lost' && batch.barrier?.kind === 'truncate') return { ...batch, barrier: null }
  if (plant === 'row-forgotten' && batch.rows > 0 && world.chance(0.05)) return { ...batch, slices: withoutOne(batch.slices) }
  if (plant === 'unchanged-as-null') return { ...batch, slices: batch.slices.map(nulled) }
  return batch
}

function withoutOne([first, ...others]: readonly Slice[]): readonly Slice[] {
  return first === undefined
    ? []
    : [
        pickRows(
          first,
          Array.from({ length: first.rows - 1 }, (_, row) => row),
        ),
        ...others,
      ]
}

function nulled(slice: Slice): Slice {
  return { ...slice, lengths: slice.lengths.map((length) => (length === -2 ? -1 : length)) }
}
