import type { Slice, StreamBatch } from '../model/batch.ts'
import { pickRows } from '../model/slice-builder.ts'
import { asTailraceError, TailraceError } from '../sdk/errors.ts'
import type { LoadRequest } from '../sdk/sink.ts'
import { countOps } from './counters.ts'
import { deadLetter, followerError, keysOfRow, saveLetters } from './dead-letters.ts'
import type { Run } from './run.ts'
import { pickPlaces, placesOf, type Place } from './suspects.ts'

export function isRowError(error: unknown): error is TailraceError {
  return asTailraceError(error).retry === 'row'
}

/**
 * The sink refused a batch because of a row. Finds the first row that it refuses by writing prefixes that are rolled back
 * (a binary search: 14 writes for 10,000 rows), makes it and later changes of its key dead letters, and goes on until the
 * rest is taken. A batch that is a part of a transaction cannot be repeated by itself: all of the transaction comes again.
 */
export async function writeWithoutPoison(run: Run, batch: StreamBatch, first: TailraceError, signal: AbortSignal): Promise<void> {
  const { checkpoints } = run.sink
  if (checkpoints === undefined) throw first
  if (batch.position === null || run.midTransaction) throw await narrow(run, batch, first)
  let rest = batch
  for (let error = first; ;) {
    await checkpoints.recover(signal)
    const places = placesOf(rest)
    const refusal = await firstRefused(run, rest, places, signal)
    if (refusal === null) throw error
    rest = await withoutRow(run, rest, places, refusal)
    try {
      await run.sink.write(rest, signal)
      return
    } catch (next) {
      if (!isRowError(next)) throw next
      error = next
    }
  }
}

/** The parts in which a batch is to be written: one, unless its transaction is repeated to find a row that was refused. */
export function partsOf(run: Run, batch: StreamBatch): readonly StreamBatch[] {
  const { parts, poison } = run.suspects.cut(batch, run.sequenceAt)
  for (const place of poison) countLetter(run, batch.slices[place.slice]!, place.row)
  return parts
}

/** A part of a transaction was refused: a single row becomes a dead letter, several are suspected. What makes it come again. */
async function narrow(run: Run, part: StreamBatch, error: TailraceError): Promise<TailraceError> {
  const places = placesOf(part)
  const [first] = places
  // A commit is refused for the sake of the transaction, not of a row.
  if (first === undefined) return error
  const slice = part.slices[first.slice]!
  const sequences = places.map((place) => run.sequenceAt(place.order))
  if (places.length > 1) run.suspects.suspect(sequences)
  else {
    await saveLetters(run, [deadLetter(run, { slice, row: first.row }, sequences[0]!, 'sink', error)])
    run.suspects.condemn(sequences[0]!)
  }
  const path = error.path ?? slice.schema.id
  return new TailraceError('SINK_FAILED', `${error.message}; its transaction comes again, to find the row or to leave it out`, { path })
}

/** A row that was counted as written is a dead letter. */
function countLetter(run: Run, slice: Slice, row: number): void {
  const ops = countOps(pickRows(slice, [row]))
  run.tally.await(slice.schema.id, { deadLettered: 1, written: -1, inserts: -ops.inserts, updates: -ops.updates, deletes: -ops.deletes })
}

interface Refusal {
  readonly poison: Place
  /** What the sink said where this row was the only bad one: that of the whole batch may count others, too. */
  readonly error: TailraceError
}

/** The first row that the sink refuses; null when it takes all of them. */
async function firstRefused(run: Run, batch: StreamBatch, places: readonly Place[], signal: AbortSignal): Promise<Refusal | null> {
  let taken = 0
  let refused = places.length + 1
  let said: TailraceError | null = null
  while (refused - taken > 1) {
    const middle = Math.min(places.length, (taken + refused) >> 1)
    const error = await refusalOf(run, pickPlaces(batch, places.slice(0, middle)), signal)
    if (error === null) taken = middle
    else [refused, said] = [middle, error]
    if (error === null && middle === places.length) break
  }
  const poison = places[taken]
  return poison === undefined || said === null ? null : { poison, error: said }
}

/** Why the sink does not take the rows; null when it does. Either way they are rolled back. */
async function refusalOf(run: Run, batch: StreamBatch, signal: AbortSignal): Promise<TailraceError | null> {
  try {
    await run.sink.write({ ...batch, position: null }, signal)
    return null
  } catch (error) {
    if (!isRowError(error)) throw error
    return error
  } finally {
    await run.sink.checkpoints?.recover(signal)
  }
}

/** The row, and every later change of its keys in the batch, become dead letters. */
async function withoutRow(run: Run, batch: StreamBatch, places: readonly Place[], { poison, error }: Refusal): Promise<StreamBatch> {
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
    const reason = follows ? followerError(slice.schema.id) : error
    letters.push(deadLetter(run, { slice, row: place.row }, run.sequenceAt(place.order), 'sink', reason))
    countLetter(run, slice, place.row)
  }
  await saveLetters(run, letters)
  return pickPlaces(batch, keep)
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
