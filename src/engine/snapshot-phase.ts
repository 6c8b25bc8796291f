import type { SnapshotFormat, SnapshotFrame } from '../model/batch.ts'
import { isKeptUnique, keyNames, type TableId, type TableSchema } from '../model/schema.ts'
import { asTailraceError, TailraceError } from '../sdk/errors.ts'
import type { Loader } from '../sdk/sink.ts'
import type { Chunk, Snapshot } from '../sdk/source.ts'
import type { ChunkRecord } from '../state/store.ts'
import { amongStrangers, keepsStrangers, makeRoom } from './again.ts'
import { knownTables } from './choose.ts'
import { zeroCounters } from './counters.ts'
import { forgetHoles } from './holes.ts'
import { transition } from './machine.ts'
import type { PipelineOptions } from './options.ts'
import type { Run } from './run.ts'
import { renamedAs, sinkTable, type PipelineTable } from './tables.ts'
import { isRowError, loadWithoutPoison } from './isolate.ts'
import { transformFrame } from './transform-step.ts'

/** One chunk to be read by one worker. */
interface Job {
  readonly table: PipelineTable
  readonly chunk: Chunk
  /** It was begun under another view: its range is emptied first (TRAPS 4a). */
  readonly replace: boolean
  /** What stands in the target stays. */
  readonly merge: boolean
}

export type SnapshotMode = 'bounded' | 'origin' | 'again'

/** Copies every table that is not copied yet, from one view, by parallel workers; ends when all are. */
export async function runSnapshot(run: Run, mode: SnapshotMode, signal: AbortSignal): Promise<void> {
  const tables = run.live.filter((table) => table.state === 'pending' || table.state === 'copying')
  if (tables.length === 0) return
  await findRenamed(run, tables, signal)
  await using snapshot = await openSnapshot(run, tables, mode, signal)
  if (snapshot === null) return
  if (snapshot.position !== null) await storeOrigin(run, snapshot, signal)
  const fresh = new Map(snapshot.tables().map((table) => [table.id, table]))
  for (const table of tables) await takeShape(run, table, fresh.get(table.id), signal)
  const view = await run.state.saveView({ view: snapshot.view, viewEnd: snapshot.viewEnd })
  const jobs: Job[] = []
  for (const table of tables) jobs.push(...(await planTable(run, table, snapshot, mode, signal)))
  run.doing = null
  const copied = (table: PipelineTable): Promise<void> => finishTable(run, table, snapshot, mode)
  for (const table of tables) await copied(table)
  await workThrough(run, { snapshot, jobs, view, formats: await chooseFormats(run, tables, signal), copied }, signal)
}

interface Work {
  readonly snapshot: Snapshot
  readonly jobs: readonly Job[]
  readonly view: number
  readonly formats: ReadonlyMap<TableId, SnapshotFormat>
  /** Called after each chunk: a table is done as soon as its last one is. */
  copied(table: PipelineTable): Promise<void>
}

/** What was renamed while it waits to be read is read under its name of now; the stream knows tables by their numbers anyway. */
async function findRenamed(run: Run, tables: readonly PipelineTable[], signal: AbortSignal): Promise<void> {
  if (!tables.some((table) => table.ours)) return
  const known = new Map((await knownTables(run.source, await run.state.tables(), signal)).map((table) => [table.id, table]))
  for (const table of tables) {
    const now = known.get(table.id)
    if (now !== undefined && !now.gone) table.source = { ...table.source, schema: renamedAs(table.source.schema, now.schema) }
  }
}

/** Null: drained meanwhile. Opening may take as long as somebody else's transaction (TRAPS 9), so one Ctrl-C ends it. */
async function openSnapshot(run: Run, tables: readonly PipelineTable[], mode: SnapshotMode, signal: AbortSignal): Promise<Snapshot | null> {
  const { drain } = run.environment
  try {
    return await run.source.openSnapshot!(
      { tables: tables.map((table) => table.source), mode, workers: run.options.workers },
      AbortSignal.any([signal, drain]),
    )
  } catch (error) {
    if (drain.aborted && !signal.aborted) return null
    throw error
  }
}

/** Invariant 3: the stream's position is stored, here and in the sink, before the first row is read. */
async function storeOrigin(run: Run, snapshot: Snapshot, signal: AbortSignal): Promise<void> {
  const { position } = snapshot
  if (position === null) return
  await run.state.savePosition(position)
  await run.sink.checkpoints?.store(position, signal)
  run.checkpointer.rewind(position)
}

/** The table as the snapshot sees it; a table that is read again may have changed meanwhile. */
async function takeShape(run: Run, table: PipelineTable, source: PipelineTable['source'] | undefined, signal: AbortSignal): Promise<void> {
  if (source === undefined) throw new TailraceError('BUG', `the snapshot does not hold ${table.id}`)
  const before = sinkTable(table)
  if (hasOtherShape(before.schema, source.schema) && holdsRows(table, await run.state.chunks(table.id))) {
    // Rows may have been written anew, which no change log tells (TRAPS 46): what was read in an earlier view counts no more.
    const { strangers } = table.terms
    const keyed = source.schema.key.length > 0
    await makeRoom(run, table, before, { keyed, reason: 'its shape changed while it was read' }, signal)
    if (strangers !== 'kept') await run.state.saveChunks(table.id, [])
    table.ours = true
  }
  await run.sink.applySchema({ ...before, schema: source.schema }, before, signal)
  // Not sooner: what fails above is tried again, and must find once more that the shape is another.
  table.source = source
}

function hasOtherShape(before: TableSchema, now: TableSchema): boolean {
  const text = ({ columns, key, storage }: TableSchema): string =>
    JSON.stringify([columns.map(({ name, ordinal, sourceType, type }) => [name, ordinal, sourceType, type]), key, storage])
  return text(before) !== text(now)
}

/**
 * The ledger: chunks that are done stay done under rule K; under rule T a table that is not wholly copied is emptied and
 * read again, because its chunks mean nothing in another view (TRAPS 1, 3). A bounded copy is of one view by definition.
 */
async function planTable(run: Run, table: PipelineTable, snapshot: Snapshot, mode: SnapshotMode, signal: AbortSignal): Promise<Job[]> {
  const ledger = await run.state.chunks(table.id)
  const complete = ledger.length > 0 && ledger.every((record) => record.done)
  const holds = holdsRows(table, ledger)
  const mixed = keepsStrangers(run, table) && ledger.some((record) => record.view !== null && !record.done)
  await refuseKeyTwice(run, table, holds, snapshot, signal)
  const inParts = mode === 'again' || run.repaired.has(table.id)
  const resume = inParts && table.state === 'copying' && (table.rule === 'chunk' || complete) && ledger.length > 0 && !mixed
  if (resume) return resumeTable(run, table, ledger)
  const keyed = table.source.schema.key.length > 0
  const reason = 'its copy was interrupted'
  const merge = holds && (await makeRoom(run, table, sinkTable(table), { keyed, reason }, signal))
  await forgetHoles(run, table.id)
  const plan = await snapshot.plan(table.source, signal)
  await run.state.saveChunks(
    table.id,
    plan.chunks.map((chunk) => ({ chunk, view: null, done: false, rows: 0, bytes: 0 })),
  )
  table.rule = plan.rule
  table.chunks = plan.chunks.length
  table.chunksDone = 0
  table.state = transition(table.state, 'copy')
  await run.saveTable(table)
  return plan.chunks.map((chunk) => ({ table, chunk, replace: false, merge }))
}

/** Merged by a key that two rows have, the later would take the place of the earlier; other loads find that out by themselves. */
async function refuseKeyTwice(run: Run, table: PipelineTable, holds: boolean, snapshot: Snapshot, signal: AbortSignal): Promise<void> {
  const { schema } = table.source
  const merges = holds && (keepsStrangers(run, table) || run.options.deletes === 'soft')
  if (!merges || schema.key.length === 0 || isKeptUnique(schema)) return
  if ((await snapshot.hasKeyTwice?.(table.source, signal)) !== true) return
  throw new TailraceError('NOT_ACCOUNTED', `the rows of ${table.id} are not unique by ${keyNames(schema).join(', ')}`, {
    hint: `name a unique key with --key ${table.id}=…`,
    path: table.id,
  })
}

/** Rows of ours, or of somebody else that may go; rows of somebody else that stay are none of our business until we have added to them. */
function holdsRows({ ours, terms }: PipelineTable, ledger: readonly ChunkRecord[]): boolean {
  if (terms.strangers === 'kept') return ledger.some((record) => record.view !== null)
  return ours || terms.strangers === 'to-go' || ledger.length > 0
}

function resumeTable(run: Run, table: PipelineTable, ledger: readonly ChunkRecord[]): Job[] {
  // Counters are stored once a second, the ledger with each chunk: after a crash the ledger is right.
  const done = ledger.filter((record) => record.done)
  const rows = done.reduce((sum, record) => sum + record.rows, 0)
  const counters = run.tally.of(table.id)
  if (counters.snapshotRows !== rows) {
    run.tally.load(table.id, {
      ...zeroCounters(),
      read: rows,
      written: rows,
      snapshotRows: rows,
      snapshotBytes: done.reduce((sum, record) => sum + record.bytes, 0),
    })
  }
  table.chunks = ledger.length
  table.chunksDone = ledger.filter((record) => record.done).length
  // What was never begun stands among rows of somebody else: there is nothing to be replaced.
  const replace = !keepsStrangers(run, table)
  const merge = run.options.deletes === 'soft'
  return ledger.filter((record) => !record.done).map((record) => ({ table, chunk: record.chunk, replace, merge }))
}

async function workThrough(run: Run, { snapshot, jobs, view, formats, copied }: Work, signal: AbortSignal): Promise<void> {
  const failed = new AbortController()
  const all = AbortSignal.any([signal, failed.signal])
  const queue = jobs.toSorted((a, b) => b.chunk.bytes - a.chunk.bytes)
  const workers = Math.max(1, Math.min(run.options.workers, run.capabilities.parallelLoads, queue.length))
  const work = async (): Promise<void> => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      if (run.environment.drain.aborted) return
      await copyChunk(run, snapshot, job, view, formats.get(job.table.id) ?? 'rows', all)
      await copied(job.table)
    }
  }
  const results = await Promise.allSettled(
    Array.from({ length: workers }, () =>
      work().catch((error: unknown) => {
        failed.abort()
        throw error
      }),
    ),
  )
  const first =
    results.find((result) => result.status === 'rejected' && !isAbort(result.reason)) ??
    results.find((result) => result.status === 'rejected')
  if (first?.status === 'rejected') throw first.reason
}

function isAbort(error: unknown): boolean {
  return asTailraceError(error).code === 'ABORTED'
}

async function chooseFormats(run: Run, tables: readonly PipelineTable[], signal: AbortSignal): Promise<Map<TableId, SnapshotFormat>> {
  const formats = new Map<TableId, SnapshotFormat>()
  for (const table of tables)
    formats.set(table.id, chooseFormat(run.options, (await run.sink.formats?.(sinkTable(table), signal)) ?? run.capabilities.formats))
  return formats
}

/** The cheapest format that both sides have; a transform needs rows. */
export function chooseFormat(options: PipelineOptions, loadable: readonly SnapshotFormat[]): SnapshotFormat {
  if (options.transform !== null) return 'rows'
  const offered = options.source.connector.source?.capabilities.formats ?? ['rows']
  return loadable.find((format) => offered.includes(format)) ?? 'rows'
}

async function copyChunk(run: Run, snapshot: Snapshot, job: Job, view: number, format: SnapshotFormat, signal: AbortSignal): Promise<void> {
  const { table, chunk } = job
  await run.state.saveChunk(table.id, { chunk, view, done: false, rows: 0, bytes: 0 })
  const counts = await loadChunk(run, snapshot, job, format, signal)
  await run.state.saveChunk(table.id, { chunk, view, done: true, rows: counts.rows, bytes: counts.bytes })
  table.chunksDone++
  run.tally.add(table.id, {
    read: counts.rows,
    written: counts.written,
    filtered: counts.filtered,
    deadLettered: counts.deadLettered,
    snapshotRows: counts.rows,
    snapshotBytes: counts.bytes,
  })
  run.progress()
  await run.persist()
}

interface ChunkCounts {
  rows: number
  bytes: number
  written: number
  filtered: number
  deadLettered: number
}

async function loadChunk(run: Run, snapshot: Snapshot, job: Job, format: SnapshotFormat, signal: AbortSignal): Promise<ChunkCounts> {
  try {
    return await loadWhole(run, snapshot, job, format, signal)
  } catch (error) {
    if (!isRowError(error)) throw error
    if (run.options.onRowError === 'stop') throw keepsStrangers(run, job.table) ? amongStrangers(run, job.table, error) : error
    return loadIsolated(run, snapshot, job, signal)
  }
}

/** The chunk in one transaction of the sink. */
async function loadWhole(run: Run, snapshot: Snapshot, job: Job, format: SnapshotFormat, signal: AbortSignal): Promise<ChunkCounts> {
  const { table, chunk, replace, merge } = job
  await using loader = await run.sink.load({ table: sinkTable(table), chunk, format, replace, merge }, signal)
  const counts = { rows: 0, bytes: 0, written: 0, filtered: 0, deadLettered: 0 }
  let sent = 0
  for await (const frame of snapshot.read(table.source, chunk, format, signal)) {
    sent += await loadFrame(run, loader, frame, counts)
    run.progress()
  }
  const { rows } = await loader.finish()
  if (rows !== sent)
    throw new TailraceError('NOT_ACCOUNTED', `copying ${table.id}: ${sent} rows were sent and the target counted ${rows}`, {
      path: table.id,
    })
  return counts
}

/** Gives the number of rows that went to the sink. */
async function loadFrame(run: Run, loader: Loader, frame: SnapshotFrame, counts: ChunkCounts): Promise<number> {
  counts.rows += frame.rows
  counts.bytes += frame.bytes
  if (run.options.transform === null || frame.format !== 'rows') {
    await loader.write(frame)
    counts.written += frame.rows
    return frame.rows
  }
  const result = await transformFrame(run, run.options.transform, frame.slice)
  counts.filtered += result.filtered
  counts.deadLettered += result.deadLettered
  counts.written += result.written
  let sent = 0
  for (const slice of result.slices) {
    await loader.write({ format: 'rows', slice, rows: slice.rows, bytes: slice.bytes.length })
    sent += slice.rows
  }
  return sent
}

/** A row of the chunk was refused: all of it again, frame by frame, each in transactions of its own (CASE 33). */
async function loadIsolated(run: Run, snapshot: Snapshot, job: Job, signal: AbortSignal): Promise<ChunkCounts> {
  const { table, chunk, merge } = job
  const counts = { rows: 0, bytes: 0, written: 0, filtered: 0, deadLettered: 0 }
  // The attempt that failed left nothing of the chunk.
  let { replace } = job
  for await (const frame of snapshot.read(table.source, chunk, 'rows', signal)) {
    if (frame.format !== 'rows') throw new TailraceError('BUG', 'the source gave another format than the one asked for')
    counts.rows += frame.rows
    counts.bytes += frame.bytes
    const result =
      run.options.transform === null
        ? { slices: [frame.slice], filtered: 0, deadLettered: 0 }
        : await transformFrame(run, run.options.transform, frame.slice)
    counts.filtered += result.filtered
    counts.deadLettered += result.deadLettered
    for (const slice of result.slices) {
      await loadWithoutPoison(run, { table: sinkTable(table), chunk, format: 'rows', replace, merge }, slice, counts, signal)
      replace = false
    }
  }
  return counts
}

async function finishTable(run: Run, table: PipelineTable, snapshot: Snapshot, mode: SnapshotMode): Promise<void> {
  if (table.state !== 'copying' || table.chunksDone < table.chunks) return
  table.state = transition(table.state, mode === 'bounded' ? 'bounded-copied' : snapshot.view === null ? 'copied' : 'copied-in-later-view')
  await run.saveTable(table)
}
