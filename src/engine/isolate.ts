import type { Slice, StreamBatch } from '../model/batch.ts'
import { sequenceAt } from '../model/row-view.ts'
import { pickRows } from '../model/slice-builder.ts'
import { asTailraceError, type TailraceError } from '../sdk/errors.ts'
import type { LoadRequest } from '../sdk/sink.ts'
import { countOps } from './counters.ts'
import { deadLetter, keysOfRow, saveLetters } from './dead-letters.ts'
import type { Run } from './run.ts'

/** One row of a batch. */
interface Place {
  readonly slice: number
  readonly row: number
  readonly order: number
}

export function isRowError(error: unknown): error is TailraceError {
  return asTailraceError(error).retry === 'row'
}

/**
 * The sink refused a batch because of a row. Finds the first row that it refuses by writing prefixes that are rolled back
 * (a binary search: 14 writes for 10,000 rows), makes it and later changes of its key dead letters, and goes on until the
 * rest is taken. The batch must begin where the sink's last commit ended.
 */
export async function writeWithoutPoison(run: Run, batch: StreamBatch, first: TailraceError, signal: AbortSignal): Promise<void> {
  const { checkpoints } = run.sink
  if (checkpoints === undefined || batch.position === null) throw first
  let rest = batch
  for (let error = first; ;) {
    await checkpoints.recover(signal)
    const places = inOrder(rest)
    const poison = places[await firstRefused(run, rest, places, signal)]
    if (poison === undefined) throw error
    rest = await withoutRow(run, rest, places, poison, error)
    try {
      await run.sink.write(rest, signal)
      return
    } catch (next) {
      if (!isRowError(next)) throw next
      error = next
    }
  }
}

function inOrder(batch: StreamBatch): Place[] {
  const places = batch.slices.flatMap((slice, index) =>
    Array.from({ length: slice.rows }, (_, row) => ({ slice: index, row, order: slice.order[row]! })),
  )
  return places.toSorted((a, b) => a.order - b.order)
}

/** Number of rows that the sink takes before the first that it refuses; past the end when it takes all of them. */
async function firstRefused(run: Run, batch: StreamBatch, places: readonly Place[], signal: AbortSignal): Promise<number> {
  let taken = 0
  let refused = places.length + 1
  while (refused - taken > 1) {
    const middle = Math.min(places.length, (taken + refused) >> 1)
    const fits = await takes(run, prefix(batch, places.slice(0, middle)), signal)
    if (fits) taken = middle
    else refused = middle
    if (fits && middle === places.length) break
  }
  return taken
}

async function takes(run: Run, batch: StreamBatch, signal: AbortSignal): Promise<boolean> {
  try {
    await run.sink.write({ ...batch, position: null }, signal)
    return true
  } catch (error) {
    if (!isRowError(error)) throw error
    return false
  } finally {
    await run.sink.checkpoints?.recover(signal)
  }
}

function prefix(batch: StreamBatch, places: readonly Place[]): StreamBatch {
  const rows = batch.slices.map((): number[] => [])
  for (const place of places) rows[place.slice]?.push(place.row)
  const slices = batch.slices.map((slice, index) => pickRows(slice, rows[index] ?? [])).filter((slice) => slice.rows > 0)
  return { ...batch, slices, rows: places.length }
}

/** The row, and every later change of its keys in the batch, become dead letters. */
async function withoutRow(
  run: Run,
  batch: StreamBatch,
  places: readonly Place[],
  poison: Place,
  error: TailraceError,
): Promise<StreamBatch> {
  const table = batch.slices[poison.slice]?.schema.id
  const keep: Place[] = []
  const letters = []
  for (const place of places) {
    const slice = batch.slices[place.slice]
    if (slice === undefined) continue
    const follows =
      place.order > poison.order &&
      slice.schema.id === table &&
      keysOfRow(slice, place.row).some((key) => run.quarantine.has(slice.schema.id, key))
    if (place !== poison && !follows) {
      keep.push(place)
      continue
    }
    letters.push(deadLetter(run, { slice, row: place.row }, sequenceAt(batch, slice, place.row, null), 'sink', error))
    const ops = countOps(pickRows(slice, [place.row]))
    run.tally.await(slice.schema.id, { deadLettered: 1, written: -1, inserts: -ops.inserts, updates: -ops.updates, deletes: -ops.deletes })
  }
  await saveLetters(run, letters)
  return prefix(batch, keep)
}

export interface Isolated {
  written: number
  deadLettered: number
}

/** Loads rows of a chunk in transactions of their own, halving what the sink refuses until single rows are left. */
export async function loadWithoutPoison(
  run: Run,
  request: LoadRequest,
  slice: Slice,
  totals: Isolated,
  signal: AbortSignal,
): Promise<void> {
  try {
    await using loader = await run.sink.load(request, signal)
    await loader.write({ format: 'rows', slice, rows: slice.rows, bytes: slice.bytes.length })
    const { rows } = await loader.finish()
    totals.written += rows
  } catch (error) {
    if (!isRowError(error)) throw error
    if (slice.rows === 1) {
      await saveLetters(run, [deadLetter(run, { slice, row: 0 }, '', 'sink', error)])
      totals.deadLettered++
      return
    }
    const middle = slice.rows >> 1
    const rows = Array.from({ length: slice.rows }, (_, row) => row)
    await loadWithoutPoison(run, request, pickRows(slice, rows.slice(0, middle)), totals, signal)
    await loadWithoutPoison(run, { ...request, replace: false }, pickRows(slice, rows.slice(middle)), totals, signal)
  }
}
