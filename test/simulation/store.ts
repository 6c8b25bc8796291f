import type { Position } from '../../src/model/position.ts'
import { formatPosition } from '../../src/connectors/memory/database.ts'
import type { PipelineState, StateStore } from '../../src/state/store.ts'
import { called, type Life, type World } from './world.ts'

const NO_CALLS: ReadonlySet<string> = new Set()

/** The state store as one run reaches it: slow now and then, gone for it once it is dead. */
export function storeOf(world: World, life: Life): StateStore {
  const call = (name: string, work: () => Promise<unknown>): Promise<unknown> => world.call(life, `store.${name}`, work, null)
  const open: StateStore['open'] = (identity, holder) =>
    world.call(life, 'store.open', async () => stateOf(world, life, await world.store.open(identity, holder)), null)
  return called(world.store, { open }, NO_CALLS, call)
}

function stateOf(world: World, life: Life, state: PipelineState): PipelineState {
  const { invariants } = world
  const call = (name: string, work: () => Promise<unknown>): Promise<unknown> => world.call(life, `state.${name}`, work, null)
  const memory = called(state.memory, {}, NO_CALLS, (name, work) => call(`memory.${name}`, work))
  const savePosition = async (given: Position | null): Promise<void> => {
    const position = world.plant === 'saved-ahead' && given !== null ? formatPosition(world.source.last) : given
    await call('savePosition', async () => {
      await state.savePosition(position)
      invariants.saved(position)
    })
  }
  const saveTable: PipelineState['saveTable'] = async (record) =>
    void (await call(`saveTable ${record.id} ${record.state}`, async () => {
      await state.saveTable(record)
      invariants.tables.set(record.id, record)
    }))
  const dispose = async (): Promise<void> => {
    await call('dispose', async () => state[Symbol.asyncDispose]())
  }
  const own = { memory, savePosition, saveTable, [Symbol.asyncDispose]: dispose }
  return called(state, own, NO_CALLS, call)
}
