import type { Slice, StreamBatch } from '../model/batch.ts'
import type { TailraceError } from '../sdk/errors.ts'
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
  const context = { pipeline: run.identity.name, signal: run.environment.abort }
  const result = await transformBatch(batch, transform, context, run.sequences())
  run.sequences = () => result.sequences
  await takeFailed(run, result)
  for (const [table, rows] of result.filtered) run.tally.await(table, { filtered: rows })
  // Counted as written below with all other rows: several results of one row are one.
  for (const [table, rows] of result.added) run.tally.await(table, { written: -rows })
  // What the source did counts, not how it is written.
  for (const [table, rows] of result.replacing) run.tally.await(table, { inserts: -rows, updates: rows })
  for (const [table, rows] of result.moved) run.tally.await(table, { deletes: -rows })
  for (const failed of result.failed) run.tally.await(failed.slice.schema.id, { deadLettered: 1 })
  return result.slices
}

/** What a person's own code said may hold values of the row: it goes to the log and not into the report, which is stored. */
function tellThrown(run: Run, { message, cause }: TailraceError): void {
  const said = cause instanceof Error ? cause.message : String(cause)
  if (cause === undefined || message.includes(said)) return
  const place = cause instanceof Error ? (/^ +(at .*)$/m.exec(cause.stack ?? '')?.[1] ?? '') : ''
  run.environment.logger.error(`the transform threw: ${said} ${place}`.trimEnd())
}

/** Invariant 6: a row that the transform failed on is a dead letter, or the pipeline stops. */
async function takeFailed(run: Run, { failed }: Transformed): Promise<void> {
  const [first] = failed
  if (first === undefined) return
  if (run.options.onRowError === 'stop') {
    tellThrown(run, first.error)
    throw first.error
  }
  await saveLetters(
    run,
    failed.map((row) => deadLetter(run, row, row.sequence, 'transform', row.error)),
  )
}
