import type { StreamBatch } from '../model/batch.ts'
import type { TableSchema } from '../model/schema.ts'
import { TailraceError } from '../sdk/errors.ts'
import { lookForControl, type Interruption } from './control.ts'
import { loadFences, passFences, seal, viewsOf } from './fences.ts'
import { isRowError, partsOf, writeWithoutPoison } from './isolate.ts'
import { ReadAgain } from './read-again.ts'
import { retrying } from './retry.ts'
import type { Run } from './run.ts'
import { forgetShapes, rememberShapes } from './shapes.ts'
import { prepareBatch } from './stream-step.ts'
import { Until } from './until.ts'

const LAG_MILLIS = 1000

/** Why the stream phase ended: for good, or to read tables again, or for a person's request. */
export type StreamEnd =
  | { readonly kind: 'done' }
  | { readonly kind: 'drained' }
  | { readonly kind: 'read-again'; readonly tables: readonly TableSchema[]; readonly reason: string }
  | Interruption

/** Follows the source until the mode's end, a drain, or something that needs a snapshot; reconnects as long as it takes. */
export async function runStream(run: Run, signal: AbortSignal): Promise<StreamEnd> {
  let until: Until | null = null
  const end = await retrying(run, signal, async (progressed): Promise<StreamEnd> => {
    try {
      // Again after each failure: fences of rows fetched for a transaction that is rolled back now do not count.
      await loadFences(run)
      await seal(
        run,
        run.live.filter((table) => table.state === 'streaming'),
        signal,
      )
      until ??= await Until.of(run, signal)
      return await follow(run, until, signal, progressed)
    } catch (error) {
      if (error instanceof ReadAgain) return { kind: 'read-again', tables: [error.table], reason: error.reason }
      throw error
    } finally {
      run.rollback()
    }
  })
  return end ?? { kind: 'drained' }
}

/** One connection's worth of stream. */
async function follow(run: Run, until: Until, signal: AbortSignal, onProgress: () => void): Promise<StreamEnd> {
  const from = run.checkpointer.position
  if (from === null)
    throw new TailraceError('HISTORY_LOST', 'the pipeline has no position to follow from', {
      hint: `tailrace reset ${run.identity.name} starts over`,
    })
  // What was asked while nobody ran comes first: a quiet source may give no batch to look after.
  const asked = await lookForControl(run, true)
  if (asked !== null) return asked
  await passFences(run, from, signal)
  await until.look(signal)
  if (until.isReached) {
    await run.source.assertResumable?.(from, signal)
    return { kind: 'done' }
  }
  const stop = new AbortController()
  const drain = (): void => stop.abort()
  run.environment.drain.addEventListener('abort', drain, { once: true })
  const glance = async (): Promise<void> => {
    // A quiet source gives a batch now and then only: what is asked is not to wait for it.
    if ((await observe(run, until, signal)) || (!run.midTransaction && (await lookForControl(run).catch(() => null)) !== null)) stop.abort()
  }
  const watch = setInterval(() => void glance(), LAG_MILLIS)
  try {
    run.doing = null
    if (run.environment.drain.aborted) return { kind: 'drained' }
    const request = { from, tables: run.live.map((table) => table.source), maxBatch: run.capabilities.maxBatch, views: viewsOf(run) }
    const all = AbortSignal.any([signal, stop.signal])
    for await (const batch of run.source.stream!(request, all)) {
      const wanted = until.cut(batch)
      if (wanted === null) return { kind: 'done' }
      await apply(run, wanted, signal)
      onProgress()
      if (until.isReached || wanted !== batch) return { kind: 'done' }
      if (wanted.position === null) continue
      if (run.environment.drain.aborted) break
      const interruption = await lookForControl(run)
      if (interruption !== null) return interruption
    }
    if (signal.aborted) throw new TailraceError('ABORTED', 'the run was given up')
    if (run.environment.drain.aborted) return { kind: 'drained' }
    if (until.isReached) return { kind: 'done' }
    const interruption = await lookForControl(run, true)
    if (interruption !== null) return interruption
    throw new TailraceError('SOURCE_FAILED', 'the change stream ended without a reason')
  } finally {
    clearInterval(watch)
    run.environment.drain.removeEventListener('abort', drain)
    await run.checkpointer.save(signal)
  }
}

/** One batch through fence, transform and sink. */
async function apply(run: Run, batch: StreamBatch, signal: AbortSignal): Promise<void> {
  const prepared = await prepareBatch(run, batch, signal)
  const { position } = batch
  if (prepared?.barrier?.kind === 'schema') run.shapes.set(prepared.barrier.schema.id, prepared.barrier.schema)
  if (position !== null) await rememberShapes(run, position)
  if (prepared !== null) await writeBatch(run, prepared, signal)
  if (position === null) return
  await commit(run)
  measureLag(run, batch)
  await run.checkpointer.advance(position, signal)
  await passFences(run, position, signal)
  run.progress()
  await run.persist()
}

async function commit(run: Run): Promise<void> {
  const reshaped = run.shapes.size > 0
  run.commit()
  if (!reshaped) return
  await run.persist(true)
  await forgetShapes(run)
}

async function writeBatch(run: Run, batch: StreamBatch, signal: AbortSignal): Promise<void> {
  for (const part of partsOf(run, batch)) {
    try {
      await run.sink.write(part, signal)
    } catch (error) {
      if (run.options.onRowError === 'stop' || !isRowError(error)) throw error
      await writeWithoutPoison(run, part, error, signal)
    }
    run.midTransaction = part.position === null
  }
}

function measureLag(run: Run, batch: StreamBatch): void {
  const newest = batch.transactions.at(-1)
  const seconds = newest === undefined ? 0 : Math.max(0, run.environment.clock() - newest.committedAt / 1000) / 1000
  run.lag = { seconds: Math.round(seconds * 1000) / 1000, bytes: null, rows: null }
}

/** Between batches: lag in bytes, retained log; true when the goal of `--until` is reached while nothing comes. */
async function observe(run: Run, until: Until, signal: AbortSignal): Promise<boolean> {
  try {
    const position = run.checkpointer.position
    const head = await run.source.head?.(signal)
    if (head !== undefined && position !== null) {
      const bytes = Math.max(0, run.source.distance?.(position, head) ?? 0)
      run.lag = { seconds: bytes === 0 ? 0 : run.report().lag.seconds, bytes, rows: null }
    }
    run.retention = (await run.source.retention?.(signal)) ?? null
    run.progress()
    await run.persist()
    await until.look(signal)
  } catch {
    // The stream itself meets the same trouble and reports it.
  }
  return until.isReached
}
