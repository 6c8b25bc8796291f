const MEGABYTE = 1e6

/** With less a checkpoint may fail, even for narrow tables (seen at 31 MB). */
const LEAST = 40 * MEGABYTE
/** Each column of a table that is written pins blocks of 256 KB: 61 columns fail below 100 MB, 201 below 250 MB (measured). */
const BASE = 30 * MEGABYTE
const PER_COLUMN = 1.2 * MEGABYTE
/** With half of the memory of the machine for itself, DuckDB is no longer the one to blame. */
const MOST_OF_MACHINE = 0.5

export interface MemoryOptions {
  /** The user's limit, kept whatever happens; null: ours, which grows when it must. */
  readonly fixed: number | null
  /** INSERTs of a snapshot that run at once. */
  readonly inserts: number
  readonly machine: number
}

/**
 * How much memory DuckDB may use. Always set (DESIGN 8: < 200 MB in all), small at first, and raised only for what is known
 * to need more: wide tables, big values, a transaction that ran out of it.
 */
export class MemoryLimit {
  readonly #options: MemoryOptions
  #columns = 0
  /** Raised by failures. */
  #floor = 0
  /** Lent to statements with big values that run now. */
  #lent = 0
  /** What deleted rows hold until the next checkpoint. */
  #versions = 0

  constructor(options: MemoryOptions) {
    this.#options = options
  }

  get fixed(): boolean {
    return this.#options.fixed !== null
  }

  /** Bytes, for `SET memory_limit`. */
  get bytes(): number {
    const { fixed, inserts } = this.#options
    if (fixed !== null) return fixed
    return Math.max(LEAST, BASE + this.#columns * PER_COLUMN * inserts, this.#floor) + this.#lent + this.#versions
  }

  /** The widest table so far. */
  widen(columns: number): void {
    this.#columns = Math.max(this.#columns, columns)
  }

  /** For a statement that handles values of this size: DuckDB holds up to eight copies on the way (measured, 100 MB values). */
  lend(valueBytes: number): number {
    const bytes = this.fixed ? 0 : 8 * valueBytes
    this.#lent += bytes
    return bytes
  }

  /** What deleted rows hold by now. True: the limit changed. */
  setVersions(bytes: number): boolean {
    if (this.fixed || bytes === this.#versions) return false
    this.#versions = bytes
    return true
  }

  giveBack(bytes: number): void {
    this.#lent -= bytes
  }

  /** After running out of memory. False: there is no more to give. */
  grow(): boolean {
    const { fixed, machine } = this.#options
    const most = machine * MOST_OF_MACHINE
    if (fixed !== null || this.bytes >= most) return false
    this.#floor = Math.min(most, this.bytes * 1.5)
    return true
  }
}

/** `SET memory_limit` takes whole megabytes. */
export function megabytes(bytes: number): number {
  return Math.ceil(bytes / MEGABYTE)
}
