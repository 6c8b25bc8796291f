import type { Barrier, StreamBatch } from '../model/batch.ts'
import type { Change, Row } from '../model/change.ts'
import type { Position, Transaction } from '../model/position.ts'
import { carryOf, changesOf, sequencesOf, type PlaceCarry } from '../model/row-view.ts'

/** A source transaction with its changes in order; or a part of one that is very large or truncates a table on its way. */
export interface SourceTransaction<T extends Row = Row> {
  readonly id: string
  /** Its end: confirm this when it is dealt with. Null: there is more of the transaction to come. */
  readonly position: Position | null
  /** Microseconds since 1970 UTC. */
  readonly committedAt: number
  readonly changes: readonly Change<T>[]
  /** A truncate or a change of a table's columns: then it is alone, without changes. */
  readonly barrier: Barrier | null
}

/** Makes transactions of batches: joins what is spread over several, up to a bound. */
export class TransactionReader<T extends Row> {
  readonly #most: number
  #open: Transaction | null = null
  /** Numbers rows of one place on from batch to batch, so that `sequence` is the same on every replay. */
  #carry: PlaceCarry | null = null
  #changes: Change<T>[] = []
  #partGiven = false

  constructor(most: number) {
    this.#most = most
  }

  /** Whether a part of a transaction was given whose end was not. */
  get isWithinTransaction(): boolean {
    return this.#partGiven
  }

  /** After a lost connection: the transaction comes again from its beginning. */
  forget(): void {
    this.#open = null
    this.#carry = null
    this.#changes = []
  }

  *read(batch: StreamBatch): Iterable<SourceTransaction<T>> {
    const changes = batch.rows === 0 ? [] : (changesOf(batch, sequencesOf(batch, this.#carry)) as Change<T>[])
    this.#carry = carryOf(batch, this.#carry)
    const owners = ownersOf(batch)
    let next = 0
    for (const [index, transaction] of batch.transactions.entries()) {
      this.#open = transaction
      while (next < changes.length && owners[next] === index) {
        this.#changes.push(changes[next++]!)
        if (this.#changes.length >= this.#most) yield this.#take(null)
      }
      if (batch.barrier !== null) yield* this.#barrier(transaction, batch.barrier)
      else if (transaction.end !== null) yield this.#take(transaction.end)
    }
  }

  *#barrier(transaction: Transaction, barrier: Barrier): Iterable<SourceTransaction<T>> {
    if (this.#changes.length > 0) yield this.#take(null)
    const { id, committedAt, end } = transaction
    this.#partGiven = end === null
    this.#open = end === null ? transaction : null
    yield { id, position: end, committedAt, changes: [], barrier }
  }

  #take(position: Position | null): SourceTransaction<T> {
    const { id, committedAt } = this.#open!
    const changes = this.#changes
    this.#changes = []
    this.#partGiven = position === null
    if (position !== null) this.#open = null
    return { id, position, committedAt, changes, barrier: null }
  }
}

/** Index of each change's transaction, in the order of `changesOf`. */
function ownersOf(batch: StreamBatch): Int32Array {
  const places: (readonly [number, number])[] = []
  for (const slice of batch.slices) for (let row = 0; row < slice.rows; row++) places.push([slice.order[row]!, slice.transactions[row]!])
  return Int32Array.from(
    places.sort(([a], [b]) => a - b),
    ([, owner]) => owner,
  )
}
