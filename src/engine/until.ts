import type { StreamBatch } from '../model/batch.ts'
import type { Position, Transaction } from '../model/position.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Source } from '../sdk/source.ts'
import type { Mode } from './options.ts'
import type { Run } from './run.ts'
import { pickPlaces, placesOf } from './suspects.ts'

/** The position that a person typed for `--until`; refused where it is none of the source's. Null for the other goals. */
export async function namedPosition(source: Source, mode: Mode, signal: AbortSignal): Promise<Position | null> {
  if (mode.kind !== 'until' || mode.until === 'caught-up' || 'time' in mode.until) return null
  const position = (await source.parsePosition?.(mode.until.position, signal)) ?? null
  if (position !== null) return position
  throw new TailraceError('USAGE', `${JSON.stringify(mode.until.position)} is no position of this source`, {
    hint: '--until caught-up, a position such as 0/16B3748, or a time such as 2026-01-31T12:00:00Z',
    path: 'until',
  })
}

/**
 * Where `--until` ends the stream: before the first transaction that was committed past a position, or after a time. A quiet
 * source has no such transaction: what it says of the end of its log counts then, for a time once its clock has passed it. The
 * end is never inside a transaction, and never while a table is converging (TRAPS 5).
 */
export class Until {
  readonly #run: Run
  /** Milliseconds. */
  readonly #time: number | null
  #position: Position | null

  private constructor(run: Run, time: number | null, position: Position | null) {
    this.#run = run
    this.#time = time
    this.#position = position
  }

  static async of(run: Run, signal: AbortSignal): Promise<Until> {
    const { mode } = run.options
    if (mode.kind !== 'until') return new Until(run, null, null)
    if (mode.until === 'caught-up') return new Until(run, null, await caughtUpAt(run, signal))
    return new Until(run, 'time' in mode.until ? mode.until.time : null, await namedPosition(run.source, mode, signal))
  }

  /** The sink holds all that is wanted, and every table is consistent. */
  get isReached(): boolean {
    if (this.#position === null || this.#run.fences.size > 0) return false
    const { position } = this.#run.checkpointer
    return position !== null && isAtOrPast(this.#run, position, this.#position)
  }

  /** Looks at the source's clock: to be called now and then, for a quiet source shows no other sign. */
  async look(signal: AbortSignal): Promise<void> {
    if (this.#time === null || this.#position !== null) return
    this.#position = await endAt(this.#run, this.#time, signal)
  }

  /** The transactions of the batch that are wanted: all of them, some, or null: none, and the stream is at its end. */
  cut(batch: StreamBatch): StreamBatch | null {
    // A table that is converging wants all there is.
    if (this.#run.fences.size > 0) return batch
    const count = this.#wanted(batch)
    if (count >= batch.transactions.length) return batch
    return count === 0 ? null : firstTransactions(batch, count)
  }

  #wanted({ transactions }: StreamBatch): number {
    const [time, position] = [this.#time, this.#position]
    // What is half written was begun when a table was still converging.
    const least = this.#run.midTransaction ? 1 : 0
    const late = time === null ? -1 : transactions.findIndex((each) => each.committedAt > time * 1000)
    const past = position === null ? -1 : this.#firstPast(transactions, position)
    const first = Math.min(...[late, past].map((index) => (index === -1 ? Infinity : index)))
    return Math.max(least, first)
  }

  /** Commits stand in the order of the log: as long as the last one is wanted, so are all, and one comparison a batch is enough. */
  #firstPast(transactions: readonly Transaction[], position: Position): number {
    const last = transactions.at(-1)
    if (last === undefined || !isCommittedPast(this.#run, last, position)) return -1
    return transactions.findIndex((each) => isCommittedPast(this.#run, each, position))
  }
}

function isAtOrPast(run: Run, position: Position, goal: Position): boolean {
  const order = run.source.comparePositions?.(position, goal)
  return order === 0 || order === 1
}

/** A commit may begin where the one before ends (TRAPS 18), so that its end is asked where the beginning is the goal itself. */
function isCommittedPast(run: Run, { position, end }: Transaction, goal: Position): boolean {
  const order = run.source.comparePositions?.(position, goal)
  return order === 1 || (order === 0 && end !== null && run.source.comparePositions?.(end, goal) === 1)
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

/** Past every commit up to the time; null while more may come. A source without a clock of its own is judged by ours. */
async function endAt(run: Run, time: number, signal: AbortSignal): Promise<Position | null> {
  if (run.source.endAt !== undefined) return run.source.endAt(time, signal)
  return run.environment.clock() > time ? ((await run.source.head?.(signal)) ?? null) : null
}

function firstTransactions(batch: StreamBatch, count: number): StreamBatch {
  const places = placesOf(batch).filter(({ slice, row }) => batch.slices[slice]!.transactions[row]! < count)
  const transactions = batch.transactions.slice(0, count)
  const position = transactions.at(-1)?.end
  if (position === undefined || position === null) throw new TailraceError('BUG', 'a transaction within a batch has no end')
  return { ...pickPlaces(batch, places), transactions, position }
}
