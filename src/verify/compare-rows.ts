import {
  bucketOf,
  type Agreement,
  type Digest,
  type HashedRow,
  type KeyRange,
  type Region,
  type RowFields,
  type SideRows,
} from '../sdk/compare.ts'
import { asTailraceError } from '../sdk/errors.ts'
import { Pool } from './pool.ts'

export type DifferenceKind = 'missing' | 'extra' | 'different'

/** A row of one key that is not on both sides, or not the same. Without a key: `key` is empty, `count` says how many rows. */
export interface Difference {
  readonly kind: DifferenceKind
  readonly key: readonly (string | null)[]
  readonly count: number
  /** Where the row is on both sides and somebody wants to know: the columns that differ, by their numbers. */
  readonly columns?: readonly DifferingColumn[]
}

export interface DifferingColumn {
  readonly column: number
  /** Texts, where values are asked for. */
  readonly source: string | null
  readonly sink: string | null
}

/** What makes a comparison possible while both sides change. */
export interface LiveComparison {
  /** Resolves when the sink has everything that the source has committed before the call. */
  caughtUp(signal: AbortSignal): Promise<void>
}

export interface RowCounts {
  readonly source: number
  readonly sink: number
}

export interface CompareRowsOptions {
  readonly source: SideRows
  readonly sink: SideRows
  readonly agreement: Agreement
  /** Whether a range holds every row; else those with a NULL in the key are looked at by themselves. */
  readonly nulls: boolean
  /** Estimates of the source; −1 where unknown. */
  readonly estimate: { readonly rows: number; readonly bytes: number }
  readonly parallel: number
  readonly onDifference: (difference: Difference) => void
  /** Of how many more rows that differ the columns are of interest, and whether with their values. */
  readonly details: { rows(): number; readonly values: boolean }
  /** Null: nobody writes meanwhile. */
  readonly live: LiveComparison | null
  /** Rows that changed on every look, where somebody writes. */
  readonly onUndecided: (rows: number) => void
  /** Rows of both sides that were compared since the last call. */
  readonly onRows: (counts: RowCounts) => void
}

/** Rows of a region that are fetched key by key. */
const FEW_ROWS = 2000
/** Into how many pieces a region that differs is cut. */
const PIECES = 16
/** What a piece should hold: enough that a query is worth it, little enough that its hash is made in memory. */
const PIECE_BYTES = 4 << 20
const MOST_ROWS = 50_000
/** Rows of unknown width are taken to be so wide. */
const ROW_BYTES = 160
/** Rows in a bucket, as expected. */
const BUCKET_ROWS = 500
const MOST_DIGITS = 4
/** Looks at a region under write load before what changes in it all the time is given up. */
const MOST_LOOKS = 20
/** Rows of a bucket that are not fetched before it is cut once more. */
const MOST_BUCKET_ROWS = 8000
/** Buckets of one query. */
const BUCKETS = 64

/**
 * Compares two tables by hashes of regions that both sides make themselves; regions that differ are cut until the keys are
 * known. What is held in memory does not grow with the tables.
 *
 * Ranges of the key where both sides sort it alike, which an index finds again; buckets of the key's hash where they do not,
 * or where many rows share what ranges are made of: each look at buckets reads the region once.
 */
export async function compareRows(options: CompareRowsOptions, signal: AbortSignal): Promise<void> {
  await new RowComparison(options, signal).run()
}

class RowComparison {
  readonly #options: CompareRowsOptions
  readonly #signal: AbortSignal
  readonly #pool: Pool

  constructor(options: CompareRowsOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
    this.#pool = new Pool(options.parallel)
  }

  async run(): Promise<void> {
    const { agreement, nulls } = this.#options
    if (agreement.ranged === 0) {
      const { rows } = this.#options.estimate
      await this.#topBuckets({ rows: { kind: 'all' } }, rows < 0 ? 1e6 : rows)
    } else {
      if (nulls) await this.#pool.add(() => this.#top({ rows: { kind: 'nulls' } }))
      await this.#topRanges()
    }
    await this.#pool.done()
  }

  get #pieceRows(): number {
    const { rows, bytes } = this.#options.estimate
    const width = rows > 0 && bytes > 0 ? Math.max(1, bytes / rows) : ROW_BYTES
    return Math.max(100, Math.min(MOST_ROWS, Math.floor(PIECE_BYTES / width)))
  }

  async #topRanges(): Promise<void> {
    let from: readonly string[] | null = null
    for (;;) {
      const { to, rows } = await this.#nextBound(from)
      const region: Region = { rows: { kind: 'range', from, to } }
      await this.#pool.add(() => (rows > this.#pieceRows ? this.#topBuckets(region, rows) : this.#top(region)))
      if (to === null) return
      from = to
    }
  }

  /** Where the next piece begins, and how many rows the one before it has at most: more than wanted where they share what ranges are made of. */
  async #nextBound(from: readonly string[] | null): Promise<{ readonly to: readonly string[] | null; readonly rows: number }> {
    for (let rows = this.#pieceRows; ; rows *= 2) {
      const to = await this.#options.source.bound({ kind: 'range', from, to: null }, rows, this.#signal)
      if (to === null || String(to) !== String(from)) return { to, rows }
    }
  }

  /** A region of the first cut: its rows are counted. */
  async #top(region: Region): Promise<void> {
    const [source, sink] = await this.#digests(region)
    this.#options.onRows({ source: source.rows, sink: sink.rows })
    if (!isSame(source, sink)) await this.#cut(region, source, sink)
  }

  async #digests(region: Region): Promise<readonly [Digest, Digest]> {
    const both = (careful: boolean): Promise<[Digest, Digest]> =>
      Promise.all([this.#options.source.digest(region, careful, this.#signal), this.#options.sink.digest(region, careful, this.#signal)])
    try {
      return await both(false)
    } catch (error) {
      // Too many bytes for one value, as a rule; what is wrong otherwise is so again.
      if (this.#signal.aborted || asTailraceError(error).code === 'UNREACHABLE') throw error
      return await both(true)
    }
  }

  /** A region that differs. */
  async #cut(region: Region, source: Digest, sink: Digest): Promise<void> {
    const rows = Math.max(source.rows, sink.rows)
    if (rows <= FEW_ROWS) return this.#leaf(region)
    if (await this.#wasLate(region)) return
    const side = source.rows >= sink.rows ? this.#options.source : this.#options.sink
    const { rows: where } = region
    const pieces = where.kind === 'range' && region.buckets === undefined ? await this.#pieces(where, side, Math.ceil(rows / PIECES)) : []
    if (pieces.length < 2) return this.#buckets(region, rows)
    for (const piece of pieces) {
      const smaller: Region = { rows: piece }
      const [ours, theirs] = await this.#digests(smaller)
      if (!isSame(ours, theirs)) await this.#cut(smaller, ours, theirs)
    }
  }

  /** Whether the sink was only behind: at a common position both are the same. */
  async #wasLate(region: Region): Promise<boolean> {
    const { live, source, sink } = this.#options
    if (live === null) return false
    const first = await source.digest(region, true, this.#signal)
    await live.caughtUp(this.#signal)
    const theirs = await sink.digest(region, true, this.#signal)
    return isSame(first, theirs) && isSame(first, await source.digest(region, true, this.#signal))
  }

  async #pieces(range: KeyRange, side: SideRows, rows: number): Promise<KeyRange[]> {
    const pieces: KeyRange[] = []
    for (let { from } = range; ;) {
      const to = await side.bound({ ...range, from }, rows, this.#signal)
      // The same again: more rows than that have what ranges are made of in common.
      const end = to === null || String(to) === String(from)
      pieces.push({ kind: 'range', from, to: end ? range.to : to })
      if (end) return pieces
      from = to
    }
  }

  /** `expected`: how many rows there are, as far as is known. */
  async #topBuckets(region: Region, expected: number): Promise<void> {
    const [ours, theirs] = await this.#bucketDigests(region, digitsFor(expected))
    const sum = (digests: ReadonlyMap<string, Digest>): number => [...digests.values()].reduce((all, { rows }) => all + rows, 0)
    this.#options.onRows({ source: sum(ours), sink: sum(theirs) })
    await this.#differing(region, ours, theirs)
  }

  async #buckets(region: Region, rows: number): Promise<void> {
    const within = region.buckets?.[0]?.length ?? 0
    const [ours, theirs] = await this.#bucketDigests(region, within + digitsFor(rows))
    await this.#differing(region, ours, theirs)
  }

  #bucketDigests(region: Region, digits: number): Promise<[ReadonlyMap<string, Digest>, ReadonlyMap<string, Digest>]> {
    return Promise.all([
      this.#options.source.buckets(region, digits, this.#signal),
      this.#options.sink.buckets(region, digits, this.#signal),
    ])
  }

  /** Buckets that differ, a few at a time: the rows of all of them are fetched by one query. */
  async #differing(region: Region, ours: ReadonlyMap<string, Digest>, theirs: ReadonlyMap<string, Digest>): Promise<void> {
    let batch: string[] = []
    let rows = 0
    const look = async (): Promise<void> => {
      const buckets = batch
      batch = []
      rows = 0
      if (buckets.length > 0) await this.#leaf({ rows: region.rows, buckets })
    }
    for (const bucket of new Set([...ours.keys(), ...theirs.keys()])) {
      const [source, sink] = [ours.get(bucket) ?? NO_ROWS, theirs.get(bucket) ?? NO_ROWS]
      if (isSame(source, sink)) continue
      const most = Math.max(source.rows, sink.rows)
      // An estimate was wrong. One key alone, or one row many times, is no smaller however it is cut.
      if (most > MOST_BUCKET_ROWS && ours.size + theirs.size > 2) {
        await this.#buckets({ rows: region.rows, buckets: [bucket] }, most)
        continue
      }
      if (rows + most > FEW_ROWS * 2 || batch.length === BUCKETS) await look()
      batch.push(bucket)
      rows += most
    }
    await look()
  }

  async #leaf(region: Region): Promise<void> {
    const found = this.#options.live === null ? await this.#look(region) : await this.#settled(region, this.#options.live)
    for (const difference of await this.#detailed(region, found)) this.#options.onDifference(difference)
  }

  async #look(region: Region): Promise<Difference[]> {
    const { source, sink } = this.#options
    const [ours, theirs] = await Promise.all([source.rows(region, this.#signal), sink.rows(region, this.#signal)])
    return differences(ours, theirs)
  }

  /**
   * Differences that are no delay. The sink is read at or past a position that it shares with the first of two looks at the
   * source: a row that is there as one of them shows it is equal at a position between. What differs from both is looked at
   * again; it counts when the source did not change it meanwhile, twice, for a row may have been changed and changed back.
   */
  async #settled(region: Region, live: LiveComparison): Promise<Difference[]> {
    const { source, sink } = this.#options
    const confirmed: Difference[] = []
    let suspects: ReadonlyMap<string, Difference | null> | null = null
    for (let look = 1; look <= MOST_LOOKS; look++) {
      const first = await source.rows(region, this.#signal)
      await live.caughtUp(this.#signal)
      const theirs = await sink.rows(region, this.#signal)
      const second = await source.rows(region, this.#signal)
      const before = new Set(differences(first, theirs).map(keyOf))
      const moved = new Set(differences(first, second).map(keyOf))
      const next = new Map<string, Difference | null>()
      for (const difference of differences(second, theirs)) {
        const key = keyOf(difference)
        // Of rows without a key some may be missing, and others too many.
        const id = `${difference.kind} ${key}`
        const seen = suspects?.get(id)
        if (!before.has(key) || (suspects !== null && seen === undefined)) continue
        if (moved.has(key)) next.set(id, null)
        else if (seen !== null && seen !== undefined && wordsOf(seen) === wordsOf(difference)) confirmed.push(difference)
        else next.set(id, difference)
      }
      if (next.size === 0) return confirmed
      suspects = next
    }
    this.#options.onUndecided(suspects?.size ?? 0)
    return confirmed
  }

  async #detailed(region: Region, found: readonly Difference[]): Promise<readonly Difference[]> {
    const { details } = this.#options
    const wanted = found.filter(({ kind, key }) => kind === 'different' && key.length > 0).slice(0, details.rows())
    if (wanted.length === 0) return found
    // Only these: the values of a whole region may be more than memory holds.
    const only = { rows: region.rows, buckets: [...new Set(wanted.map(({ key }) => bucketOf(key)))] }
    const [ours, theirs] = await Promise.all([
      this.#options.source.fields(only, !details.values, this.#signal),
      this.#options.sink.fields(only, !details.values, this.#signal),
    ])
    const [left, right] = [byKey(ours), byKey(theirs)]
    return found.map((difference) => {
      const text = JSON.stringify(difference.key)
      const [a, b] = [left.get(text), right.get(text)]
      if (difference.kind !== 'different' || a === undefined || b === undefined) return difference
      const columns = a.flatMap((source, column) => (source === b[column] ? [] : [{ column, source, sink: b[column] ?? null }]))
      return { ...difference, columns }
    })
  }
}

function byKey(rows: readonly RowFields[]): ReadonlyMap<string, RowFields['fields']> {
  return new Map(rows.map(({ key, fields }) => [JSON.stringify(key), fields]))
}

function keyOf({ key }: Difference): string {
  return JSON.stringify(key)
}

function wordsOf({ kind, key, count }: Difference): string {
  return JSON.stringify([kind, key, count])
}

const NO_ROWS: Digest = { rows: 0, hash: '' }

function isSame(a: Digest, b: Digest): boolean {
  return a.rows === b.rows && a.hash === b.hash
}

function digitsFor(rows: number): number {
  return Math.max(1, Math.min(MOST_DIGITS, Math.ceil(Math.log2(Math.max(2, rows / BUCKET_ROWS)) / 4)))
}

/** What tells two multisets of rows apart, key by key. */
export function differences(source: readonly HashedRow[], sink: readonly HashedRow[]): Difference[] {
  const keys = new Map<string, { key: HashedRow['key']; hashes: Map<string, number> }>()
  const count = (rows: readonly HashedRow[], sign: 1 | -1): void => {
    for (const { key, hash, count: times } of rows) {
      const text = JSON.stringify(key)
      const entry = keys.get(text) ?? { key, hashes: new Map<string, number>() }
      entry.hashes.set(hash, (entry.hashes.get(hash) ?? 0) + sign * times)
      keys.set(text, entry)
    }
  }
  count(source, 1)
  count(sink, -1)
  return [...keys.values()].flatMap(({ key, hashes }) => {
    let [missing, extra] = [0, 0]
    for (const balance of hashes.values()) {
      if (balance > 0) missing += balance
      else extra -= balance
    }
    // Of rows with a key, one that is there with other values; rows without one are other rows.
    const different = key.length === 0 ? 0 : Math.min(missing, extra)
    const found: Difference[] = [
      { kind: 'missing', key, count: missing - different },
      { kind: 'extra', key, count: extra - different },
      { kind: 'different', key, count: different },
    ]
    return found.filter((each) => each.count > 0)
  })
}
