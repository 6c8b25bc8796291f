import { EMPTY_SLICES, type Barrier, type Slice, type StreamBatch } from '../model/batch.ts'
import type { TableId, TableSchema } from '../model/schema.ts'
import { carryOf, sequencesOf } from '../model/row-view.ts'
import { TailraceError } from '../sdk/errors.ts'
import { tablesOption } from '../sdk/selection.ts'
import { keepsStrangers, mixedRows } from './again.ts'
import { countOps } from './counters.ts'
import { fenceAndFill } from './holes.ts'
import { projectSlice } from './project.ts'
import { ReadAgain } from './read-again.ts'
import type { Run } from './run.ts'
import { droppedProblem, renamedAs } from './tables.ts'
import { quarantineBatch } from './dead-letters.ts'
import { transformStream } from './transform-step.ts'

/**
 * What a batch of the source becomes before the sink sees it: fenced, transformed, counted; null when nothing of it is to be
 * written and no position moves.
 */
export async function prepareBatch(run: Run, batch: StreamBatch, signal: AbortSignal): Promise<StreamBatch | null> {
  if (batch.barrier !== null) return prepareBarrier(run, batch, batch.barrier)
  if (batch.slices.length === 0) return batch
  run.sequences = once(sequencesOf, batch, run.placeCarry)
  let slices: readonly Slice[] = batch.slices.flatMap((slice) => liveSlice(run, slice))
  if (run.options.schemaChanges === 'ignore') slices = slices.map((slice) => asFirstSeen(run, slice))
  if (run.fences.size > 0) slices = await fenceSlices(run, slices, batch, signal)
  for (const slice of slices) run.tally.await(slice.schema.id, { read: slice.rows })
  if (!run.quarantine.empty) slices = await quarantineBatch(run, slices)
  if (run.options.transform !== null) slices = await transformStream(run, run.options.transform, { ...batch, slices })
  for (const slice of slices) run.tally.await(slice.schema.id, { written: slice.rows, ...countOps(slice) })
  const kept = slices.filter((slice) => slice.rows > 0)
  // Only where rows are told apart by their place: it costs a look at each.
  if (run.options.transform !== null || run.options.onRowError === 'dead-letter') run.placeCarry = carryOf(batch, run.placeCarry)
  if (kept.length === 0 && batch.position === null) return null
  return { ...batch, slices: kept.length === 0 ? EMPTY_SLICES : kept, rows: kept.reduce((sum, slice) => sum + slice.rows, 0) }
}

/** Calls a function when its result is first asked for. */
function once<A extends unknown[], T>(make: (...args: A) => T, ...args: A): () => T {
  let made: { readonly value: T } | null = null
  return () => (made ??= { value: make(...args) }).value
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
    else out.push(...(await fenceAndFill(run, slice, batch, fence, signal)))
  }
  return out
}

function prepareBarrier(run: Run, batch: StreamBatch, barrier: Barrier): StreamBatch | null {
  if (barrier.kind === 'truncate') return prepareTruncate(run, batch, barrier)
  const table = run.tables.get(barrier.schema.id)
  if (table === undefined || table.state === 'removed') return null
  if (barrier.changes.length === 0 && barrier.ambiguous === null) return asIgnored(run, batch, barrier, table.source.schema)
  if (barrier.ambiguous !== null && isCovered(run, batch, table.id)) return null
  const what = barrier.changes
    .map((change) => `${change.kind} ${[change.before, change.after].filter((name) => name !== null).join(' → ')}`)
    .join(', ')
  if (run.options.schemaChanges === 'stop') {
    throw new TailraceError('SCHEMA_CHANGED', `${table.id} changed (${what || barrier.ambiguous}) and --schema-changes is stop`, {
      hint: 'start again with --schema-changes evolve to follow it, or ignore to leave the target as it is',
      path: table.id,
    })
  }
  if (run.options.schemaChanges === 'ignore' && barrier.blind === true) {
    throw new TailraceError('SCHEMA_CHANGED', `${barrier.ambiguous}; with --schema-changes ignore its rows cannot be followed`, {
      hint: `tailrace resnapshot ${run.identity.name} ${tablesOption([table.id])}, or start again with --schema-changes evolve`,
      path: table.id,
    })
  }
  if (run.options.schemaChanges === 'ignore') {
    run.note({
      severity: 'warning',
      code: 'SCHEMA_CHANGED',
      message: `${table.id} changed (${what || barrier.ambiguous}); ignored as asked`,
      path: table.id,
    })
    return null
  }
  if (barrier.ambiguous !== null) throw new ReadAgain(barrier.schema, barrier.ambiguous)
  if (barrier.changes.some((change) => change.kind === 'table-dropped')) {
    run.note(droppedProblem(run.identity.name, table.id))
    return null
  }
  run.environment.logger.info(`${table.id} changed: ${what}`)
  return { ...batch, barrier: { ...barrier, previous: renamedAs(barrier.previous, barrier.schema) } }
}

/** The table was read, in one view, after what the barrier tells of: the copy shows it already. */
function isCovered(run: Run, batch: StreamBatch, table: TableId): boolean {
  const covers = run.source.covers?.bind(run.source)
  const transaction = batch.transactions[0]
  const fence = run.fences.get(table)
  if (covers === undefined || transaction === undefined || fence === undefined) return false
  return fence.chunks.every(({ view }) => view !== null && covers(view, transaction))
}

/** Nothing of the columns changed, only what the source must remember of the table: kept whatever the policy. */
function asIgnored(run: Run, batch: StreamBatch, barrier: Extract<Barrier, { kind: 'schema' }>, kept: TableSchema): StreamBatch {
  if (run.options.schemaChanges !== 'ignore') return batch
  const { partitions } = barrier.schema
  return { ...batch, barrier: { ...barrier, previous: kept, schema: { ...kept, ...(partitions === undefined ? {} : { partitions }) } } }
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
  for (const { id } of tables) {
    const table = run.tables.get(id)
    if (table !== undefined && keepsStrangers(run, table)) throw mixedRows(run, table, 'was truncated in the source')
    run.tally.await(id, { truncates: 1 })
  }
  return tables.length === 0 ? null : { ...batch, barrier: { ...barrier, tables } }
}
