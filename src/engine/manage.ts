import type { Memory } from '../sdk/connector.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { KeptTable, PipelineState } from '../state/store.ts'
import { inNameOf } from './name.ts'
import { connectorContext, openSink, openSource } from './open.ts'
import type { Endpoint, Environment } from './options.ts'

export interface ManageRequest {
  readonly name: string
  /** Null: it cannot be opened; what is kept there stays. */
  readonly source: Endpoint | null
  readonly sink: Endpoint | null
  readonly environment: Environment
}

/** Takes the lease of a pipeline that exists: no runner may live while it is reset or removed. */
export async function leaseOf({ name, environment }: ManageRequest): Promise<PipelineState> {
  const record = await environment.store.find(name)
  if (record === null)
    throw new TailraceError('USAGE', `there is no pipeline ${name} in this state store`, {
      hint: 'tailrace status lists them; --state names another store',
    })
  return environment.store.open(record, environment.holder)
}

/** Drops what the pipeline made upstream and its bookkeeping in the target; the copied tables stay. */
function dropBothSides(request: ManageRequest, memory: Memory): Promise<string[]> {
  return inNameOf(request.name, () => drop(request, memory))
}

async function drop(request: ManageRequest, memory: Memory): Promise<string[]> {
  const { name, environment } = request
  const lent = { pipeline: name, deletes: 'hard' as const, memory, environment }
  const dropped: string[] = []
  if (request.source !== null) {
    await using source = await openSource(request.source, connectorContext(lent, 'source'))
    dropped.push(...((await source.remove?.(environment.abort)) ?? []))
  }
  if (request.sink !== null) {
    await using sink = await openSink(request.sink, connectorContext(lent, 'sink'))
    dropped.push(...((await sink.remove?.(environment.abort)) ?? []))
  }
  return dropped
}

/** Start over: the next run makes a new slot and copies everything again. */
export async function resetPipeline(request: ManageRequest): Promise<readonly string[]> {
  await using state = await leaseOf(request)
  const dropped = await dropBothSides(request, state.memory)
  // The tables stay known: what their targets hold is ours, and the next run empties it without being asked.
  const kept = (await state.tables()).map(async (table): Promise<KeptTable> => {
    const stays = { ...table, state: table.state === 'removed' ? table.state : 'pending', rule: null, counters: null } as const
    // Rows of somebody else are never emptied out: whether ours are among them must stay known, too.
    return { table: stays, chunks: table.terms?.strangers === 'kept' ? await state.chunks(table.id) : [] }
  })
  await state.reset(await Promise.all(kept))
  return [...dropped, `saved position, tables and ledger of ${request.name}`]
}

/** Forgets the pipeline wholly. */
export async function removePipeline(request: ManageRequest): Promise<readonly string[]> {
  const dropped: string[] = []
  {
    await using state = await leaseOf(request)
    dropped.push(...(await dropBothSides(request, state.memory)))
  }
  await request.environment.store.remove(request.name)
  return [...dropped, `state of ${request.name}`]
}
