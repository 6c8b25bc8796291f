import type { Slice, StreamBatch } from '../model/batch.ts'
import type { Transform } from '../sdk/transform.ts'
import { deadLetter, saveLetters } from './dead-letters.ts'
import type { Run } from './run.ts'
import { transformBatch, transformSnapshot, type Transformed } from './transform.ts'

export interface TransformedFrame {
  readonly slices: readonly Slice[]
  /** Source rows that became `slices`; a row of which a transform made several counts once. */
  readonly written: number
  readonly filtered: number
  readonly deadLettered: number
}

function sum(counts: ReadonlyMap<unknown, number>): number {
  let total = 0
  for (const count of counts.values()) total += count
  return total
}

/** Rows of a snapshot through the user's transform. */
export async function transformFrame(run: Run, transform: Transform, slice: Slice): Promise<TransformedFrame> {
  const result = await transformSnapshot(slice, transform, { pipeline: run.identity.name, signal: run.environment.abort })
  await takeFailed(run, result)
  return {
    slices: result.slices,
    written: result.rows - sum(result.added),
    filtered: sum(result.filtered),
    deadLettered: result.failed.length,
  }
}

/** A batch of the stream through the user's transform; counts what was filtered and what failed. */
export async function transformStream(run: Run, transform: Transform, batch: StreamBatch): Promise<readonly Slice[]> {
  const result = await transformBatch(batch, transform, { pipeline: run.identity.name, signal: run.environment.abort }, run.placeCarry)
  await takeFailed(run, result)
  for (const [table, rows] of result.filtered) run.tally.await(table, { filtered: rows })
  // Counted as written below with all other rows: several results of one row are one.
  for (const [table, rows] of result.added) run.tally.await(table, { written: -rows })
  for (const failed of result.failed) run.tally.await(failed.slice.schema.id, { deadLettered: 1 })
  return result.slices
}

/** Invariant 6: a row that the transform failed on is a dead letter, or the pipeline stops. */
async function takeFailed(run: Run, { failed }: Transformed): Promise<void> {
  const [first] = failed
  if (first === undefined) return
  if (run.options.onRowError === 'stop') throw first.error
  await saveLetters(
    run,
    failed.map((row) => deadLetter(run, row, row.sequence, 'transform', row.error)),
  )
}
