import { TailraceError } from '../sdk/errors.ts'
import { onTerms, NOTHING_SAID } from '../sdk/selection.ts'
import type { PipelineState, TableRecord } from '../state/store.ts'
import { knownTables } from './choose.ts'
import { transition } from './machine.ts'
import { leaseOf, type ManageRequest } from './manage.ts'
import { inNameOf } from './name.ts'
import { connectorContext, openSink, openSource } from './open.ts'
import type { Endpoint } from './options.ts'

/** Both sides are needed. */
export interface AnchorRequest extends ManageRequest {
  readonly source: Endpoint
  readonly sink: Endpoint
}

/**
 * A new origin for a pipeline whose history is lost: what its stream was made of upstream is dropped and made anew, and the
 * stream starts there. The target keeps its rows; what happened between the last change that it got and the new origin is not
 * in any log, so that the caller compares both sides next and has what differs read again. Died in between, the pipeline has
 * lost its history as before, and this may be called again. Gives lines that say what was dropped.
 */
export async function anchorPipeline(request: AnchorRequest): Promise<readonly string[]> {
  await using state = await leaseOf(request)
  return await inNameOf(request.name, () => anchor(request, state))
}

async function anchor({ name, source: from, sink: to, environment }: AnchorRequest, state: PipelineState): Promise<readonly string[]> {
  const lent = { pipeline: name, deletes: 'hard' as const, memory: state.memory, environment }
  const signal = environment.abort
  await using source = await openSource(from, connectorContext(lent, 'source'))
  await using sink = await openSink(to, connectorContext(lent, 'sink'))
  if (source.anchor === undefined || (await state.record()).position === null)
    throw new TailraceError('CONFIG', `${name} does not follow its source, so it has no history to lose`, {
      hint: `to mend what differs: tailrace verify ${name} --repair`,
    })
  const records = (await state.tables()).filter((record) => record.state !== 'removed')
  const known = new Map((await knownTables(source, records, signal)).map((table) => [table.id, table]))
  const followed = records.flatMap(({ id, terms }) => {
    const table = known.get(id)
    return table === undefined || table.gone ? [] : [onTerms(table.schema, terms ?? NOTHING_SAID)]
  })
  const dropped = (await source.remove?.(signal)) ?? []
  const position = await source.anchor(followed, signal)
  await sink.checkpoints?.claim(signal)
  await state.savePosition(null)
  await state.savePosition(position)
  await sink.checkpoints?.store(position, signal)
  for (const record of records) await goOn(state, record)
  return dropped
}

/** A table that was wholly copied streams from the new origin; of one that was not, what was read is too old for it. */
async function goOn(state: PipelineState, record: TableRecord): Promise<void> {
  const isWhole = record.state === 'streaming' || record.state === 'converging'
  if (!isWhole) await state.saveChunks(record.id, [])
  await state.saveTable({ ...record, state: transition(record.state, isWhole ? 'passed-views' : 'read-again') })
}
