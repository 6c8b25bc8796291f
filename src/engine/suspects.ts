import { EMPTY_SLICES, type StreamBatch } from '../model/batch.ts'
import { pickRows } from '../model/slice-builder.ts'

/** One row of a batch. */
export interface Place {
  readonly slice: number
  readonly row: number
  readonly order: number
}

/** Into how many pieces the rows among which one was refused are cut. */
const PIECES = 100

/**
 * CASE 33 in a transaction that comes in several batches: what the sink took of it is gone with the batch that it refused, so
 * the refused row is found by repetition. The transaction comes again; the rows of that batch are written in smaller pieces,
 * then one by one, until one row alone is refused, which is left out from then on. Rows are known by their sequences.
 */
export class Suspects {
  /** Rows among which one was refused. */
  #rows: ReadonlySet<string> = new Set()
  /** Dead letters of the open transaction. */
  readonly #poison = new Set<string>()

  /** The transaction is durable: nothing of it comes again. */
  clear(): void {
    this.#rows = new Set()
    this.#poison.clear()
  }

  suspect(rows: readonly string[]): void {
    this.#rows = new Set(rows)
  }

  condemn(row: string): void {
    this.#rows = new Set()
    this.#poison.add(row)
  }

  /** The batch without its poison, cut where rows are suspected. The last part brings the position, and has no row to blame. */
  cut(
    batch: StreamBatch,
    sequenceAt: (order: number) => string,
  ): { readonly parts: readonly StreamBatch[]; readonly poison: readonly Place[] } {
    if (this.#rows.size + this.#poison.size === 0 || batch.barrier !== null) return { parts: [batch], poison: [] }
    const poison: Place[] = []
    const parts: Place[][] = []
    const size = Math.ceil(this.#rows.size / PIECES)
    let suspected = false
    for (const place of placesOf(batch)) {
      const sequence = sequenceAt(place.order)
      if (this.#poison.has(sequence)) {
        poison.push(place)
        continue
      }
      const part = parts.at(-1)
      const suspect = this.#rows.has(sequence)
      if (part === undefined || suspect !== suspected || (suspect && part.length >= size)) parts.push([place])
      else part.push(place)
      suspected = suspect
    }
    const pieces = parts.map((places): StreamBatch => ({ ...pickPlaces(batch, places), position: null }))
    return { parts: batch.position === null ? pieces : [...pieces, { ...batch, slices: EMPTY_SLICES, rows: 0 }], poison }
  }
}

/** Rows of a batch in the source's order. */
export function placesOf(batch: StreamBatch): Place[] {
  const places = batch.slices.flatMap((slice, index) =>
    Array.from({ length: slice.rows }, (_, row) => ({ slice: index, row, order: slice.order[row]! })),
  )
  return places.toSorted((a, b) => a.order - b.order)
}

/** Some rows of a batch as a batch. */
export function pickPlaces(batch: StreamBatch, places: readonly Place[]): StreamBatch {
  const rows = batch.slices.map((): number[] => [])
  for (const place of places) rows[place.slice]?.push(place.row)
  const slices = batch.slices.map((slice, index) => pickRows(slice, rows[index] ?? [])).filter((slice) => slice.rows > 0)
  return { ...batch, slices, rows: places.length }
}
