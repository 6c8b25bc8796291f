import { delay } from '../async/abort.ts'
import type { Endpoint, Environment, PipelineOptions } from '../engine/options.ts'
import { tableId, type TableId } from '../model/schema.ts'
import { ProblemsError, usage } from '../sdk/config/problems.ts'
import { TailraceError } from '../sdk/errors.ts'
import { NOTHING_SAID, selectionOf } from '../sdk/selection.ts'
import type { Transform } from '../sdk/transform.ts'
import type { KeyPart, PipelineRecord, TableRecord } from '../state/store.ts'
import { engine } from './engine.ts'
import { errorsOf } from './pipeline.ts'

const LOOK_MILLIS = 100

export interface RepairRequest {
  readonly name: string
  readonly source: Endpoint
  readonly sink: Endpoint
  readonly transform: Transform | null
  readonly repairs: ReadonlyMap<TableId, readonly KeyPart[]>
}

/**
 * Has the parts of tables that differ read again: by the runner of the pipeline where one lives, else by a run of our own that
 * does only that. Resolves when the copy is consistent again.
 */
export async function repairPipeline(request: RepairRequest, environment: Environment): Promise<void> {
  const { name, repairs } = request
  const { store } = environment
  const record = await store.find(name)
  if (record === null)
    throw usage(
      `there is no pipeline ${name} in this state, so nothing tells how the copy was made`,
      '--state names the store of the pipeline that made it',
    )
  for (const [table, parts] of repairs) await store.request(name, { kind: 'repair', table, parts })
  if (record.alive) return untilDone(name, repairs, environment)
  const [first, ...rest] = errorsOf(await engine.runPipeline(await optionsOf(request, record, environment), environment))
  if (first !== undefined) throw new ProblemsError([first, ...rest])
}

async function untilDone(name: string, repairs: RepairRequest['repairs'], { store, abort }: Environment): Promise<void> {
  const isAsked = async (): Promise<boolean> => (await store.pending(name)).some(({ request }) => request.kind === 'repair')
  const isWhole = ({ id, state }: TableRecord): boolean => !repairs.has(id) || state === 'streaming' || state === 'removed'
  while ((await isAsked()) || !(await store.tables(name)).every(isWhole)) {
    if ((await store.find(name))?.alive !== true)
      throw new TailraceError('ABORTED', `${name} ended before it had repaired what differs`, {
        hint: `start it again: it goes on with that`,
      })
    await delay(LOOK_MILLIS, abort)
    abort.throwIfAborted()
  }
}

/** What the earlier run was asked for, as far as its tables tell; how it wrote its rows is in the state. */
async function optionsOf(
  { name, source, sink, transform }: RepairRequest,
  record: PipelineRecord,
  { store }: Environment,
): Promise<PipelineOptions> {
  const tables = (await store.tables(name)).filter(({ state }) => state !== 'removed')
  return {
    name,
    source,
    sink,
    mode: record.position === null ? { kind: 'copy' } : { kind: 'until', until: 'caught-up' },
    snapshot: 'initial',
    selection: selectionOf(tables.map(({ id, terms }) => ({ id, terms: terms ?? NOTHING_SAID }))),
    map: new Map(tables.map(({ id, target }) => [id, target.namespace === null ? target.name : tableId(target.namespace, target.name)])),
    transform,
    ifExists: 'stop',
    schemaChanges: 'evolve',
    deletes: 'hard',
    onRowError: 'stop',
    workers: 2,
    asBefore: true,
  }
}
