import type { LogicalType } from '../model/logical-type.ts'
import type { KeyPart } from '../state/store.ts'

/** Differing rows are read again in no more parts than this: each is a transaction of the target. */
const MOST_PARTS = 500
/** Values that are kept one by one. */
const MOST_VALUES = 100_000

/**
 * Collects values of a key's first column and gives the parts of its order that hold them: exactly them where they are few,
 * otherwise with what lies in the smallest gaps between them. Whole numbers and uuids.
 */
export class PartCollector {
  readonly #isUuid: boolean
  /** Closed ranges, in no order. */
  #ranges: Range[] = []
  #isUnknown = false

  constructor(type: LogicalType) {
    this.#isUuid = type.kind === 'uuid'
  }

  /** Null: a row that no part holds. */
  add(text: string | null): void {
    if (text === null) {
      this.#isUnknown = true
      return
    }
    const value = this.#isUuid ? BigInt(`0x${text.replaceAll('-', '')}`) : BigInt(text)
    this.#ranges.push({ from: value, to: value })
    if (this.#ranges.length > MOST_VALUES) this.#ranges = joined(this.#ranges)
  }

  /** Null: only the whole table holds all of them. */
  get parts(): readonly KeyPart[] | null {
    if (this.#isUnknown) return null
    return joined(this.#ranges).map(({ from, to }) => ({ from: this.#text(from), to: this.#text(to + 1n) }))
  }

  #text(value: bigint): string | null {
    if (!this.#isUuid) return value.toString()
    const hex = value.toString(16).padStart(32, '0')
    return hex.length > 32 ? null : hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  }
}

interface Range {
  readonly from: bigint
  readonly to: bigint
}

/** In order and apart, no more than there may be: the smallest gaps are closed. */
function joined(ranges: readonly Range[]): Range[] {
  const apart: Range[] = []
  for (const { from, to } of ranges.toSorted((a, b) => compare(a.from, b.from))) {
    const last = apart.at(-1)
    if (last === undefined || from > last.to + 1n) apart.push({ from, to })
    else if (to > last.to) apart[apart.length - 1] = { from: last.from, to }
  }
  const gaps = apart.slice(1).map(({ from }, i) => ({ size: from - apart[i]!.to, at: i + 1 }))
  const widest = gaps.toSorted((a, b) => compare(b.size, a.size)).slice(0, MOST_PARTS - 1)
  const cuts = [0, ...widest.map(({ at }) => at).toSorted((a, b) => a - b), apart.length]
  return cuts.slice(1).flatMap((end, i) => {
    const [first, last] = [apart[cuts[i]!], apart[end - 1]]
    return first === undefined || last === undefined ? [] : [{ from: first.from, to: last.to }]
  })
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0
}
