import { EMPTY_SLICES, type Barrier, type Slice, type StreamBatch } from '../model/batch.ts'
import type { TableSchema } from '../model/schema.ts'
import { carryOf } from '../model/row-view.ts'
import { pickRows, textAt } from '../model/slice-builder.ts'
import { TailraceError } from '../sdk/errors.ts'
import { countOps } from './counters.ts'
import { fenceSlice, keyText, type TableFence } from './fence.ts'
import { projectSlice } from './project.ts'
import type { Run } from './run.ts'
import { quarantineBatch } from './dead-letters.ts'
import { transformStream } from './transform-step.ts'

/** A table must be read again: the stream stops at its last checkpoint and a new snapshot of the table is taken. */
export class ReadAgain extends Error {
  readonly table: TableSchema
  readonly reason: string

  constructor(table: TableSchema, reason: string) {
    super(`${table.id} must be read again: ${reason}`)
    this.name = 'ReadAgain'
    this.table = table
    this.reason = reason
  }
}

/**
 * What a batch of the source becomes before the sink sees it: fenced, transformed, counted; null when nothing of it is to be
 * written and no position moves.
 */
export async function prepareBatch(run: Run, batch: StreamBatch, signal: AbortSignal): Promise<StreamBatch | null> {
  if (batch.barrier !== null) return prepareBarrier(run, batch, batch.barrier)
  if (batch.slices.length === 0) return batch
  let slices: readonly Slice[] = batch.slices.flatMap((slice) => liveSlice(run, slice))
  if (run.options.schemaChanges === 'ignore') slices = slices.map((slice) => asFirstSeen(run, slice))
  if (run.fences.size > 0) slices = await fenceSlices(run, slices, batch, signal)
  for (const slice of slices) run.tally.await(slice.schema.id, { read: slice.rows })
  if (!run.quarantine.empty) slices = await quarantineBatch(run, slices, batch)
  if (run.options.transform !== null) slices = await transformStream(run, run.options.transform, { ...batch, slices })
  for (const slice of slices) run.tally.await(slice.schema.id, { written: slice.rows, ...countOps(slice) })
  const kept = slices.filter((slice) => slice.rows > 0)
  // Only where rows are told apart by their place: it costs a look at each.
  if (run.options.transform !== null || run.options.onRowError === 'dead-letter') run.placeCarry = carryOf(batch, run.placeCarry)
  if (kept.length === 0 && batch.position === null) return null
  return { ...batch, slices: kept.length === 0 ? EMPTY_SLICES : kept, rows: kept.reduce((sum, slice) => sum + slice.rows, 0) }
}

function liveSlice(run: Run, slice: Slice): Slice[] {
  const table = run.tables.get(slice.schema.id)
  return table === undefined || table.state === 'removed' ? [] : [slice]
}

function asFirstSeen(run: Run, slice: Slice): Slice {
  const table = run.tables.get(slice.schema.id)
  return table === undefined || table.source.schema === slice.schema ? slice : projectSlice(slice, table.source.schema)
}

async function fenceSlices(run: Run, slices: readonly Slice[], batch: StreamBatch, signal: AbortSignal): Promise<Slice[]> {
  const out: Slice[] = []
  for (const slice of slices) {
    const fence = run.fences.get(slice.schema.id)
    if (fence === undefined) out.push(slice)
    else out.push(...(await fenceOne(run, slice, batch, fence, signal)))
  }
  return out
}

async function fenceOne(run: Run, slice: Slice, batch: StreamBatch, fence: TableFence, signal: AbortSignal): Promise<Slice[]> {
  const covers = run.source.covers?.bind(run.source)
  if (covers === undefined) throw new TailraceError('BUG', 'a source with later views must say what they cover')
  const { slice: kept, holes } = fenceSlice(slice, batch.transactions, fence, covers)
  if (holes.length === 0) return kept.rows === 0 ? [] : [kept]
  return fillHoles(run, kept, holes, fence, signal)
}

/**
 * TRAPS 4c: a row came to a new key without its unchanged columns, and the copy never had its old row. It is fetched by its
 * new key in a new view, which becomes the fence of that key; a row that is not there any more is only fenced.
 */
async function fillHoles(run: Run, slice: Slice, holes: readonly number[], fence: TableFence, signal: AbortSignal): Promise<Slice[]> {
  const table = run.tables.get(slice.schema.id)
  if (run.source.fetch === undefined || table === undefined) throw new TailraceError('BUG', `${slice.schema.id} has a row that must be fetched and the source cannot`)
  const keys = holes.map((row) => slice.schema.key.map((column) => textAt(slice, row, column) ?? ''))
  const fetched = await run.source.fetch(table.source, keys, signal)
  for (const key of keys) fence.keys.set(keyText(key), fetched.view)
  if (run.source.comparePositions?.(fetched.viewEnd, fence.end) === 1) fence.end = fetched.viewEnd
  const gone = new Set(holes)
  const rest = Array.from({ length: slice.rows }, (_, row) => row).filter((row) => !gone.has(row))
  const filled: Slice = { ...fetched.slice, ops: fetched.slice.ops.slice().fill(1), order: fetched.slice.order.slice().fill(slice.order[slice.rows - 1] ?? 0) }
  return [pickRows(slice, rest), filled].filter((each) => each.rows > 0)
}

function prepareBarrier(run: Run, batch: StreamBatch, barrier: Barrier): StreamBatch | null {
  if (barrier.kind === 'truncate') return prepareTruncate(run, batch, barrier)
  const table = run.tables.get(barrier.schema.id)
  if (table === undefined || table.state === 'removed') return null
  const what = barrier.changes.map((change) => `${change.kind} ${[change.before, change.after].filter((name) => name !== null).join(' → ')}`).join(', ')
  if (run.options.schemaChanges === 'stop') {
    throw new TailraceError('SCHEMA_CHANGED', `${table.id} changed (${what || barrier.ambiguous}) and --schema-changes is stop`, { hint: 'start again with --schema-changes evolve to follow it, or ignore to leave the target as it is', path: table.id })
  }
  if (run.options.schemaChanges === 'ignore') {
    run.note({ severity: 'warning', code: 'SCHEMA_CHANGED', message: `${table.id} changed (${what || barrier.ambiguous}); ignored as asked`, path: table.id })
    return null
  }
  if (barrier.ambiguous !== null) throw new ReadAgain(barrier.schema, barrier.ambiguous)
  run.environment.logger.info(`${table.id} changed: ${what}`)
  return batch
}

function prepareTruncate(run: Run, batch: StreamBatch, barrier: Extract<Barrier, { kind: 'truncate' }>): StreamBatch | null {
  const covers = run.source.covers?.bind(run.source)
  const transaction = batch.transactions[0]
  const tables = barrier.tables.filter((schema) => {
    const table = run.tables.get(schema.id)
    if (table === undefined || table.state === 'removed') return false
    const fence = run.fences.get(schema.id)
    if (fence === undefined || covers === undefined || transaction === undefined) return true
    const seen = fence.chunks.map((chunk) => chunk.view !== null && covers(chunk.view, transaction))
    if (seen.every((each) => !each)) return true
    if (seen.every(Boolean)) return false
    // Some chunks were read after it, some before: what it emptied cannot be told apart row by row.
    throw new ReadAgain(schema, 'it was truncated between the views that its parts were read in')
  })
  for (const schema of tables) run.tally.await(schema.id, { truncates: 1 })
  return tables.length === 0 ? null : { ...batch, barrier: { ...barrier, tables } }
}
