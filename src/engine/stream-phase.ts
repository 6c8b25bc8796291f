import type { StreamBatch } from '../model/batch.ts'
import type { Position } from '../model/position.ts'
import type { TableSchema } from '../model/schema.ts'
import { TailraceError } from '../sdk/errors.ts'
import { takeControl, type Interruption } from './control.ts'
import { loadFences, passFences, seal, viewsOf } from './fences.ts'
import { isRowError, writeWithoutPoison } from './isolate.ts'
import type { Mode } from './options.ts'
import { retrying } from './retry.ts'
import type { Run } from './run.ts'
import { forgetShapes, rememberShapes } from './shapes.ts'
import { prepareBatch, ReadAgain } from './stream-step.ts'

const LAG_MILLIS = 1000

/** Why the stream phase ended: for good, or to read tables again, or for a person's request. */
export type StreamEnd =
  | { readonly kind: 'done' }
  | { readonly kind: 'drained' }
  | { readonly kind: 'read-again'; readonly tables: readonly TableSchema[]; readonly reason: string }
  | Interruption

/** Follows the source until the mode's end, a drain, or something that needs a snapshot; reconnects as long as it takes. */
export async function runStream(run: Run, signal: AbortSignal): Promise<StreamEnd> {
  let target: StopAt | null = null
  const end = await retrying(run, signal, async (progressed): Promise<StreamEnd> => {
    try {
      // Again after each failure: fences of rows fetched for a transaction that is rolled back now do not count.
      await loadFences(run)
      await seal(
        run,
        run.live.filter((table) => table.state === 'streaming'),
        signal,
      )
      target ??= await stopAt(run, run.options.mode, signal)
      return await follow(run, target, signal, progressed)
    } catch (error) {
      if (error instanceof ReadAgain) return { kind: 'read-again', tables: [error.table], reason: error.reason }
      throw error
    } finally {
      run.rollback()
    }
  })
  return end ?? { kind: 'drained' }
}

type StopAt = { readonly position: Position | null; readonly time: number | null }

async function stopAt(run: Run, mode: Mode, signal: AbortSignal): Promise<StopAt> {
  if (mode.kind !== 'until') return { position: null, time: null }
  if (mode.until === 'caught-up') return { position: await caughtUpAt(run, signal), time: null }
  if ('time' in mode.until) return { position: null, time: mode.until.time }
  const position = (await run.source.parsePosition?.(mode.until.position, signal)) ?? null
  if (position === null)
    throw new TailraceError('USAGE', `${JSON.stringify(mode.until.position)} is no position of this source`, {
      hint: '--until caught-up, a position such as 0/16B3748, or a time such as 2026-01-31T12:00:00Z',
      path: 'until',
    })
  return { position, time: null }
}

/** A saved position past the end of the log is no sign of being caught up: the source was restored (TRAPS 19). */
async function caughtUpAt(run: Run, signal: AbortSignal): Promise<Position | null> {
  const head = (await run.source.head?.(signal)) ?? null
  const from = run.checkpointer.position
  if (head !== null && from !== null && run.source.comparePositions?.(from, head) === 1) {
    throw new TailraceError(
      'HISTORY_LOST',
      `the saved position ${from} lies past the end of the source's log at ${head}: the source was restored or lost data`,
      { hint: `tailrace reset ${run.identity.name} starts over` },
    )
  }
  return head
}

/** One connection's worth of stream. */
async function follow(run: Run, target: StopAt, signal: AbortSignal, onProgress: () => void): Promise<StreamEnd> {
  const from = run.checkpointer.position
  if (from === null)
    throw new TailraceError('HISTORY_LOST', 'the pipeline has no position to follow from', {
      hint: `tailrace reset ${run.identity.name} starts over`,
    })
  if (isPast(run, from, target)) return { kind: 'done' }
  const stop = new AbortController()
  const drain = (): void => stop.abort()
  run.environment.drain.addEventListener('abort', drain, { once: true })
  const watch = setInterval(() => void observe(run, target, signal), LAG_MILLIS)
  try {
    run.doing = null
    if (run.environment.drain.aborted) return { kind: 'drained' }
    const request = { from, tables: run.live.map((table) => table.source), maxBatch: run.capabilities.maxBatch, views: viewsOf(run) }
    const all = AbortSignal.any([signal, stop.signal])
    let whole = true
    for await (const batch of run.source.stream!(request, all)) {
      const past = await apply(run, batch, target, signal)
      whole = batch.position !== null
      onProgress()
      if (past) return { kind: 'done' }
      if (!whole) continue
      if (run.environment.drain.aborted) break
      const interruption = await takeControl(run)
      if (interruption !== null) return interruption
    }
    if (signal.aborted) throw new TailraceError('ABORTED', 'the run was given up')
    if (!run.environment.drain.aborted) throw new TailraceError('SOURCE_FAILED', 'the change stream ended without a reason')
    return { kind: 'drained' }
  } finally {
    clearInterval(watch)
    run.environment.drain.removeEventListener('abort', drain)
    await run.checkpointer.save(signal)
  }
}

/** One batch through fence, transform and sink; true when the target of `--until` is reached. */
async function apply(run: Run, batch: StreamBatch, target: StopAt, signal: AbortSignal): Promise<boolean> {
  const prepared = await prepareBatch(run, batch, signal)
  const { position } = batch
  if (prepared?.barrier?.kind === 'schema') run.shapes.set(prepared.barrier.schema.id, prepared.barrier.schema)
  if (position !== null) await rememberShapes(run, position)
  if (prepared !== null) await writeBatch(run, prepared, signal)
  if (position === null) return false
  await commit(run)
  measureLag(run, batch)
  await run.checkpointer.advance(position, signal)
  await passFences(run, position, signal)
  run.progress()
  await run.persist()
  const committed = batch.transactions.at(-1)?.committedAt
  return isPast(run, position, target) || (target.time !== null && committed !== undefined && committed / 1000 >= target.time)
}

async function commit(run: Run): Promise<void> {
  const reshaped = run.shapes.size > 0
  run.commit()
  if (!reshaped) return
  await run.persist(true)
  await forgetShapes(run)
}

async function writeBatch(run: Run, batch: StreamBatch, signal: AbortSignal): Promise<void> {
  try {
    await run.sink.write(batch, signal)
  } catch (error) {
    if (run.options.onRowError === 'stop' || !isRowError(error) || run.midTransaction) throw error
    await writeWithoutPoison(run, batch, error, signal)
  }
  run.midTransaction = batch.position === null
}

function isPast(run: Run, position: Position, target: StopAt): boolean {
  if (target.position === null) return false
  const order = run.source.comparePositions?.(position, target.position)
  return order === 0 || order === 1
}

function measureLag(run: Run, batch: StreamBatch): void {
  const newest = batch.transactions.at(-1)
  const seconds = newest === undefined ? 0 : Math.max(0, run.environment.clock() - newest.committedAt / 1000) / 1000
  run.lag = { seconds: Math.round(seconds * 1000) / 1000, bytes: null, rows: null }
}

/** Between batches: lag in bytes, retained log, the target of `--until` while nothing comes. */
async function observe(run: Run, target: StopAt, signal: AbortSignal): Promise<void> {
  try {
    const position = run.checkpointer.position
    const head = await run.source.head?.(signal)
    if (head !== undefined && position !== null) {
      const bytes = Math.max(0, run.source.distance?.(position, head) ?? 0)
      run.lag = { seconds: bytes === 0 ? 0 : run.report().lag.seconds, bytes, rows: null }
    }
    run.retention = (await run.source.retention?.(signal)) ?? null
    run.progress(target.position !== null)
    await run.persist()
  } catch {
    // The stream itself meets the same trouble and reports it.
  }
}
