import { delay } from '../async/abort.ts'
import { problemsOf } from '../sdk/config/problems.ts'
import { asTailraceError, TailraceError } from '../sdk/errors.ts'
import { loadQuarantine } from './dead-letters.ts'
import { knownTables } from './choose.ts'
import { obey, removeKept } from './obey.ts'
import { readAgain } from './again.ts'
import { checkBoth, findTables, lookAtTargets, prepareTargets } from './prepare.ts'
import { connectorContext, openSink, openSource } from './open.ts'
import { inNameOf, pipelineIdentity } from './name.ts'
import { transition } from './machine.ts'
import { inManner } from './manner.ts'
import type { Environment, PipelineOptions } from './options.ts'
import type { Report } from './report.ts'
import { Run } from './run.ts'
import { adoptShapes } from './shapes.ts'
import { runSnapshot } from './snapshot-phase.ts'
import { recover, retrying } from './retry.ts'
import { runStream, type StreamEnd } from './stream-phase.ts'
import { lookAtCheckpoint, takeOver } from './take-over.ts'
import { namedPosition } from './until.ts'
import { seal } from './fences.ts'
import type { PipelineIdentity, PipelineState } from '../state/store.ts'

const PAUSE_LOOK_MILLIS = 500
const HEARTBEAT_MILLIS = 5000

/**
 * Runs a pipeline to the end of its mode. Resolves with the report, also when something went wrong once the pipeline was
 * open (`ok` false, the problems say why); rejects for what is wrong before: usage, lease, connections.
 */
export async function runPipeline(options: PipelineOptions, environment: Environment): Promise<Report> {
  const identity = pipelineIdentity(options)
  try {
    return await inNameOf(identity.name, () => runLeased(options, environment, identity))
  } finally {
    await forgetUntouched(environment, identity)
  }
}

/**
 * CASE 40: what failed before anything was touched leaves nothing behind, not even a name; nor does an earlier run that was
 * killed so early. The tables are saved before anything is made on either side.
 */
async function forgetUntouched({ store }: Environment, { name, source, sink }: PipelineIdentity): Promise<void> {
  const record = await store.find(name)
  if (record === null || record.alive || record.source !== source || record.sink !== sink) return
  if (record.position !== null || record.desired === 'paused' || (await store.tables(name)).length > 0) return
  await store.remove(name)
}

async function runLeased(given: PipelineOptions, environment: Environment, identity: PipelineIdentity): Promise<Report> {
  await using state = await environment.store.open(identity, environment.holder)
  const options = await inManner(given, state)
  const lent = { pipeline: identity.name, deletes: options.deletes, memory: state.memory, environment }
  await using source = await openSource(options.source, connectorContext(lent, 'source'))
  await using sink = await openSink(options.sink, connectorContext(lent, 'sink'))
  const record = await state.record()
  const run = new Run({ options, environment, identity, state, source, sink }, record.position)
  const beat = setInterval(() => void state.heartbeat().catch(() => {}), HEARTBEAT_MILLIS)
  try {
    await work(run, state)
    return await finish(run)
  } catch (error) {
    return await fail(run, error)
  } finally {
    clearInterval(beat)
  }
}

async function work(run: Run, state: PipelineState): Promise<void> {
  const signal = run.environment.abort
  run.doing = 'starting'
  await namedPosition(run.source, run.options.mode, signal)
  refusePlainCopy(run)
  await removeKept(run)
  await findTables(run, signal)
  await loadQuarantine(run)
  await checkBoth(run, signal)
  await lookAtTargets(run, [...run.tables.values()], signal)
  await lookAtCheckpoint(run, signal)
  await takeOver(run, signal)
  await adoptShapes(run)
  // Looks once more: until it was fenced off, an earlier runner may have written.
  await prepareTargets(run, [...run.tables.values()], signal)
  await obey(run, signal)
  if (run.options.mode.kind === 'copy') return copyOnce(run, signal)
  followCopied(run)
  for (;;) {
    await retrying(run, signal, () => copyPending(run, signal))
    if (run.environment.drain.aborted) return
    const end = await runStream(run, signal)
    await retrying(run, signal, () => recover(run, signal))
    if (end.kind === 'done' || end.kind === 'drained') return refreshSequences(run, signal)
    if (!(await turn(run, state, end, signal))) return
  }
}

/** What is kept upstream would go on retaining the log for a copy that nobody brings up to date by it. */
function refusePlainCopy({ options, checkpointer, identity }: Run): void {
  if (options.mode.kind !== 'copy' || checkpointer.position === null) return
  throw new TailraceError('USAGE', `pipeline ${identity.name} follows the changes of its source, and is asked for a plain copy now`, {
    hint: `--follow or --until caught-up goes on with it; another --name makes a copy of its own; tailrace remove ${identity.name} ends it`,
    path: 'follow',
  })
}

/** A plain copy is of no place in the log: to be followed, its tables are read again with the view that the stream starts from. */
function followCopied(run: Run): void {
  const copied = run.live.filter((table) => table.state === 'done')
  for (const table of copied) {
    table.state = transition(table.state, 'read-again')
    if (run.options.snapshot === 'never') continue
    const message = `${table.id} is read from the start: it was copied without following`
    run.note({ severity: 'warning', code: 'CONFIG', message, path: table.id })
  }
}

/**
 * Sequences move on with the rows but are in no change log: they are set again where a run ends, so that the copy can take
 * inserts of its own.
 */
async function refreshSequences(run: Run, signal: AbortSignal): Promise<void> {
  const tables = run.live.filter((table) => table.state === 'streaming' && table.source.schema.sequences.length > 0)
  if (run.sink.seal === undefined || tables.length === 0) return
  try {
    const known = await knownTables(run.source, await run.state.tables(), signal)
    const found = new Map(known.map((table) => [table.id, table.schema.sequences]))
    for (const table of tables) table.source = { ...table.source, schema: { ...table.source.schema, sequences: found.get(table.id) ?? [] } }
    await seal(run, tables, signal)
  } catch (error) {
    const { message } = asTailraceError(error)
    run.note({ severity: 'warning', code: 'SINK_FAILED', message: `the sequences of the target could not be set: ${message}` })
  }
}

/** A bounded copy is of one view: whatever an earlier, interrupted or finished one left is copied anew. */
async function copyOnce(run: Run, signal: AbortSignal): Promise<void> {
  for (const table of run.live) {
    if (table.state === 'done' && run.options.asBefore !== true) table.state = transition(table.state, 'read-again')
  }
  await retrying(run, signal, () => runSnapshot(run, 'bounded', signal))
  if (run.environment.drain.aborted) return
  await seal(run, run.live, signal)
}

/** Copies what is not copied yet; the first time this makes the stream's origin. */
async function copyPending(run: Run, signal: AbortSignal): Promise<void> {
  const pending = run.live.some((table) => table.state === 'pending' || table.state === 'copying')
  if (!pending) return
  const first = run.checkpointer.position === null
  if (run.options.snapshot === 'never') return skipSnapshot(run, first, signal)
  await runSnapshot(run, first ? 'origin' : 'again', signal)
}

/** `--snapshot never`: only changes from now on. */
async function skipSnapshot(run: Run, first: boolean, signal: AbortSignal): Promise<void> {
  if (run.source.anchor === undefined) throw new TailraceError('CONFIG', 'this source cannot follow changes without a snapshot')
  const position = await run.source.anchor(
    run.live.map((table) => table.source),
    signal,
  )
  if (first) {
    await run.state.savePosition(position)
    await run.sink.checkpoints?.store(position, signal)
    run.checkpointer.rewind(position)
  }
  for (const table of run.live) {
    if (table.state !== 'pending') continue
    table.state = transition(table.state, 'copied')
    await run.saveTable(table)
  }
}

/** Does what ended the stream for a while; false: the run is over. */
async function turn(
  run: Run,
  state: PipelineState,
  end: Exclude<StreamEnd, { kind: 'done' | 'drained' }>,
  signal: AbortSignal,
): Promise<boolean> {
  switch (end.kind) {
    case 'pause':
      return waitForResume(run, state, signal)
    case 'read-again':
      await retrying(run, signal, () => readAsNeeded(run, end, signal))
      return true
    case 'asked':
      await retrying(run, signal, () => obey(run, signal))
      return true
    default:
      return end satisfies never
  }
}

async function readAsNeeded(run: Run, { tables, reason }: Extract<StreamEnd, { kind: 'read-again' }>, signal: AbortSignal): Promise<void> {
  const ids = tables.map((table) => table.id)
  if (run.options.snapshot === 'never')
    throw new TailraceError(
      'SCHEMA_CHANGED',
      `${ids.join(', ')} would have to be read again (${reason}), and --snapshot never forbids it`,
      {
        hint: 'start again with --snapshot initial to read it whole, or with --schema-changes ignore',
      },
    )
  run.environment.logger.info(`${ids.join(', ')} is read again: ${reason}`)
  await readAgain(run, ids, reason, signal)
}

async function waitForResume(run: Run, state: PipelineState, signal: AbortSignal): Promise<boolean> {
  run.doing = 'paused'
  await run.persist(true)
  const either = AbortSignal.any([signal, run.environment.drain])
  while (!either.aborted && (await state.desired()) === 'paused') await delay(PAUSE_LOOK_MILLIS, either)
  run.doing = null
  return !either.aborted
}

/** Final checkpoint; rows must add up, or the run was not good (Invariant 6). */
async function finish(run: Run): Promise<Report> {
  await run.checkpointer.save(run.environment.abort)
  for (const { table, read, accounted } of run.tally.imbalance()) {
    run.note({
      severity: 'error',
      code: 'NOT_ACCOUNTED',
      message: `${table}: ${read} rows were read and ${accounted} written, dead-lettered or filtered`,
      path: table,
    })
  }
  const complete = run.live.every((table) => table.state === 'done')
  run.doing = complete ? 'done' : 'stopped'
  if (run.options.mode.kind === 'copy' && !complete) {
    run.note({
      severity: 'error',
      code: 'ABORTED',
      message: 'the copy was stopped before it was complete',
      hint: 'start it again: it begins anew, from one consistent view',
    })
  }
  await run.persist(true)
  return run.report()
}

async function fail(run: Run, error: unknown): Promise<Report> {
  const ours = asTailraceError(error)
  for (const problem of problemsOf(ours)) run.note(problem)
  run.doing = 'failed'
  if (ours.retry === 'bug') run.environment.logger.debug(String(ours.stack))
  // Fenced or damaged: the report cannot be stored, and must not hide the reason.
  await run.persist(true).catch(() => {})
  return run.report()
}
