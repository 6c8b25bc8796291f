import { ABSENT_VALUE, NULL_VALUE, Op, OldImage, UNCHANGED_VALUE, type Slice } from '../../model/batch.ts'
import { columnAt, isWritable } from '../../model/schema.ts'
import { TailraceError } from '../errors.ts'
import { tablesOption } from '../selection.ts'

/**
 * What the changes of one slice come to, by lineage (TRAPS 34): each row that is alive somewhere in the batch remembers
 * the key that it had when the batch began (its base), or that it was born here. "Last operation per key" was tried
 * elsewhere and corrupts: `2→3`, `1→2`, `update 2` with an unchanged TOAST column gave row 2 the value of the old row 2.
 *
 * A sink writes it so: (1) fetch the base rows of `moves` (and of `updates` that it writes as delete + insert) that lack
 * a column; (2) delete the bases of `deletes` and `moves`; (3) update `updates`; (4) insert the final images of `moves`
 * and `inserts`. Deletes stand before everything else, so swaps, chains and delete + insert of one key need no care.
 */
export interface Compaction {
  readonly slice: Slice
  /** Columns that identify a row: the key, or every column that travels when rows are matched by image. */
  readonly keyColumns: Int32Array
  /** New images laid out as in the slice, but a column not sent has the value that an earlier change of the row gave. */
  readonly starts: Int32Array
  readonly lengths: Int32Array
  /** Base key (or base image) of each entry: `keyColumns.length` cells in `slice.bytes` per entry. Void for inserts. */
  readonly baseStarts: Int32Array
  readonly baseLengths: Int32Array
  /** The slice's row that holds the final image of each entry; −1: none. */
  readonly rows: Int32Array
  /** Entries whose base row goes and nothing comes. */
  readonly deletes: Int32Array
  /** Entries whose final key is their base key. Cells still UNCHANGED_VALUE keep what the base row has. */
  readonly updates: Int32Array
  /** Entries whose key changed. Cells still UNCHANGED_VALUE take what the base row has, never the row at the new key. */
  readonly moves: Int32Array
  /** Entries born in the batch. All cells are known. */
  readonly inserts: Int32Array
  /**
   * Entries born in the batch that are not at their first key any more (`baseStarts` has it), be they gone or among `inserts`: an
   * insert replaces what stands there, so that this goes as well. None whose first key is the base of another entry.
   */
  readonly vanished: Int32Array
}

/**
 * `key`: rows are told apart by the schema's key. `image`: by the whole row, each matching one row; for tables without
 * a key (TRAPS 40) and for deferrable keys, where two rows have one key for a while (TRAPS 35). Needs full old images.
 */
export type MatchBy = 'key' | 'image'

export function compact(slice: Slice, match: MatchBy = slice.schema.key.length === 0 ? 'image' : 'key'): Compaction {
  const lineages = new Lineages(slice, match)
  for (let row = 0; row < slice.rows; row++) lineages.apply(row)
  return lineages.result()
}

const NOTHING = -1
const FNV_OFFSET = 0x811c9dc5
const FNV_PRIME = 0x01000193

/** A hash table of rows by the key that they have at this point of the batch, entries chained in arrays: no object per row. */
class Lineages {
  readonly #slice: Slice
  readonly #columns: number
  readonly #match: MatchBy
  readonly #keys: Int32Array
  /** Columns whose values travel: generated ones are computed by the target. */
  readonly #written: Int32Array
  #starts: Int32Array
  #lengths: Int32Array
  #owned = false
  #count = 0
  readonly #rows: Int32Array
  readonly #born: Uint8Array
  readonly #gone: Uint8Array
  readonly #baseStarts: Int32Array
  readonly #baseLengths: Int32Array
  /** Hash of the key under which the entry is linked: its present key while it lives, its base key when dead. */
  readonly #hashes: Int32Array
  readonly #next: Int32Array
  readonly #heads: Int32Array

  constructor(slice: Slice, match: MatchBy) {
    this.#slice = slice
    this.#match = match
    this.#columns = slice.schema.columns.length
    this.#written = Int32Array.from(slice.schema.columns.keys().filter((c) => isWritable(columnAt(slice.schema, c))))
    this.#keys = match === 'key' ? Int32Array.from(slice.schema.key) : this.#written
    this.#starts = slice.starts
    this.#lengths = slice.lengths
    this.#rows = new Int32Array(slice.rows).fill(NOTHING)
    this.#born = new Uint8Array(slice.rows)
    this.#gone = new Uint8Array(slice.rows)
    this.#baseStarts = new Int32Array(slice.rows * this.#keys.length)
    this.#baseLengths = new Int32Array(slice.rows * this.#keys.length)
    this.#hashes = new Int32Array(slice.rows)
    this.#next = new Int32Array(slice.rows)
    this.#heads = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(4, slice.rows * 2)))).fill(NOTHING)
  }

  apply(row: number): void {
    const op = this.#slice.ops[row]
    if (op === Op.delete) this.#delete(row)
    else if (op === Op.update) this.#update(row)
    else this.#insert(row)
  }

  #insert(row: number): void {
    const first = row * this.#columns
    this.#requireComplete(first)
    const hash = this.#hash(this.#starts, this.#lengths, first)
    const live = this.#match === 'key' ? this.#findLive(this.#starts, this.#lengths, first, hash) : NOTHING
    // A second insert of a living key comes only from a source that repeats itself: the last one is right.
    if (live !== NOTHING) {
      this.#rows[live] = row
      return
    }
    const dead = this.#findDead(first, hash)
    const entry = dead === NOTHING ? this.#open(this.#starts, this.#lengths, first, hash) : dead
    if (dead === NOTHING) this.#born[entry] = 1
    this.#rows[entry] = row
  }

  #update(row: number): void {
    const first = row * this.#columns
    const hasOld = this.#hasOldKey(row, first)
    if (hasOld) this.#takeFromOld(first)
    const starts = hasOld ? this.#slice.oldStarts : this.#starts
    const lengths = hasOld ? this.#slice.oldLengths : this.#lengths
    const hash = this.#hash(starts, lengths, first)
    let entry = this.#findLive(starts, lengths, first, hash)
    if (entry === NOTHING) entry = this.#open(starts, lengths, first, hash)
    else this.#carry(this.#rows[entry]! * this.#columns, first)
    this.#rows[entry] = row
    if (!hasOld) return
    const newHash = this.#hash(this.#starts, this.#lengths, first)
    if (newHash === hash) return
    this.#unlink(entry)
    this.#link(entry, newHash)
  }

  #delete(row: number): void {
    const first = row * this.#columns
    const hasOld = this.#hasOldKey(row, first)
    const starts = hasOld ? this.#slice.oldStarts : this.#starts
    const lengths = hasOld ? this.#slice.oldLengths : this.#lengths
    const hash = this.#hash(starts, lengths, first)
    const entry = this.#findLive(starts, lengths, first, hash)
    if (entry === NOTHING) {
      this.#open(starts, lengths, first, hash)
      return
    }
    this.#rows[entry] = NOTHING
    this.#unlink(entry)
    if (this.#born[entry] === 1) this.#gone[entry] = 1
    else this.#link(entry, this.#baseHash(entry))
  }

  /** A new entry whose base is the key at these cells, linked there; dead until a row is set. */
  #open(starts: Int32Array, lengths: Int32Array, first: number, hash: number): number {
    const entry = this.#count++
    const keys = this.#keys
    const base = entry * keys.length
    for (let i = 0; i < keys.length; i++) {
      this.#baseStarts[base + i] = starts[first + keys[i]!]!
      this.#baseLengths[base + i] = lengths[first + keys[i]!]!
    }
    this.#link(entry, hash)
    return entry
  }

  /** Whether the old image tells the key. When it does not, the key did not change and stands in the new image. */
  #hasOldKey(row: number, first: number): boolean {
    const { oldKinds, oldLengths } = this.#slice
    const kind = oldKinds === null ? OldImage.none : oldKinds[row]!
    const lengths = kind === OldImage.none ? this.#lengths : oldLengths
    if (this.#match === 'image' && kind !== OldImage.full)
      throw this.#hole('was changed without its full old row, by which a table without a key finds it')
    for (let i = 0; i < this.#keys.length; i++) {
      if (lengths[first + this.#keys[i]!]! < NULL_VALUE) throw this.#hole('was changed without the old value of its key')
    }
    return kind !== OldImage.none
  }

  /** Columns not sent whose value the old image has: TOASTed keys, and everything under REPLICA IDENTITY FULL. */
  #takeFromOld(first: number): void {
    const { oldStarts, oldLengths } = this.#slice
    for (let cell = first; cell < first + this.#columns; cell++) {
      if (this.#lengths[cell] === UNCHANGED_VALUE && oldLengths[cell]! >= NULL_VALUE)
        this.#setCell(cell, oldStarts[cell]!, oldLengths[cell]!)
    }
  }

  /** A later UNCHANGED takes the earlier value of the batch, else stays UNCHANGED. */
  #carry(from: number, to: number): void {
    for (let c = 0; c < this.#columns; c++) {
      if (this.#lengths[to + c] === UNCHANGED_VALUE) this.#setCell(to + c, this.#starts[from + c]!, this.#lengths[from + c]!)
    }
  }

  #setCell(cell: number, start: number, length: number): void {
    if (!this.#owned) {
      this.#starts = this.#starts.slice()
      this.#lengths = this.#lengths.slice()
      this.#owned = true
    }
    this.#starts[cell] = start
    this.#lengths[cell] = length
  }

  #requireComplete(first: number): void {
    for (let i = 0; i < this.#written.length; i++) {
      const length = this.#lengths[first + this.#written[i]!]!
      if (length === UNCHANGED_VALUE || length === ABSENT_VALUE) throw this.#hole('was inserted without the value of a column')
    }
  }

  /** The row of the given key that lives at this point; of several the one that came first (TRAPS 35). */
  #findLive(starts: Int32Array, lengths: Int32Array, first: number, hash: number): number {
    let found = NOTHING
    for (let entry = this.#heads[hash & (this.#heads.length - 1)]!; entry !== NOTHING; entry = this.#next[entry]!) {
      if (this.#hashes[entry] !== hash || this.#rows[entry] === NOTHING) continue
      if (this.#hasLiveKey(entry, starts, lengths, first)) found = entry
    }
    return found
  }

  /** A base row with the given key that is gone by now: an insert of its key may take its place. */
  #findDead(first: number, hash: number): number {
    for (let entry = this.#heads[hash & (this.#heads.length - 1)]!; entry !== NOTHING; entry = this.#next[entry]!) {
      if (this.#hashes[entry] === hash && this.#rows[entry] === NOTHING && this.#hasBaseKey(entry, first)) return entry
    }
    return NOTHING
  }

  #hasLiveKey(entry: number, starts: Int32Array, lengths: Int32Array, first: number): boolean {
    const own = this.#rows[entry]! * this.#columns
    for (let i = 0; i < this.#keys.length; i++) {
      const key = this.#keys[i]!
      if (!this.#sameBytes(this.#starts[own + key]!, this.#lengths[own + key]!, starts[first + key]!, lengths[first + key]!)) return false
    }
    return true
  }

  #hasBaseKey(entry: number, first: number): boolean {
    const base = entry * this.#keys.length
    for (let i = 0; i < this.#keys.length; i++) {
      const cell = first + this.#keys[i]!
      if (!this.#sameBytes(this.#baseStarts[base + i]!, this.#baseLengths[base + i]!, this.#starts[cell]!, this.#lengths[cell]!))
        return false
    }
    return true
  }

  #sameBytes(start: number, length: number, otherStart: number, otherLength: number): boolean {
    if (length !== otherLength) return false
    if (start === otherStart) return true
    const bytes = this.#slice.bytes
    for (let i = 0; i < length; i++) if (bytes[start + i] !== bytes[otherStart + i]) return false
    return true
  }

  #link(entry: number, hash: number): void {
    const slot = hash & (this.#heads.length - 1)
    this.#hashes[entry] = hash
    this.#next[entry] = this.#heads[slot]!
    this.#heads[slot] = entry
  }

  #unlink(entry: number): void {
    const slot = this.#hashes[entry]! & (this.#heads.length - 1)
    if (this.#heads[slot] === entry) {
      this.#heads[slot] = this.#next[entry]!
      return
    }
    let before = this.#heads[slot]!
    while (this.#next[before] !== entry) before = this.#next[before]!
    this.#next[before] = this.#next[entry]!
  }

  #hash(starts: Int32Array, lengths: Int32Array, first: number): number {
    let hash = FNV_OFFSET
    for (let i = 0; i < this.#keys.length; i++) {
      const cell = first + this.#keys[i]!
      hash = this.#mix(hash, starts[cell]!, lengths[cell]!)
    }
    return hash ^ (hash >>> 15)
  }

  #baseHash(entry: number): number {
    let hash = FNV_OFFSET
    const base = entry * this.#keys.length
    for (let i = base; i < base + this.#keys.length; i++) hash = this.#mix(hash, this.#baseStarts[i]!, this.#baseLengths[i]!)
    return hash ^ (hash >>> 15)
  }

  #mix(hash: number, start: number, length: number): number {
    const bytes = this.#slice.bytes
    let mixed = Math.imul(hash ^ length, FNV_PRIME)
    for (let i = start; i < start + length; i++) mixed = Math.imul(mixed ^ bytes[i]!, FNV_PRIME)
    return mixed
  }

  #hole(what: string): TailraceError {
    return new TailraceError('NOT_ACCOUNTED', `a row of ${this.#slice.schema.id} ${what}`, {
      path: this.#slice.schema.id,
      hint: `read the table again: tailrace resnapshot <pipeline> ${tablesOption([this.#slice.schema.id])}`,
    })
  }

  result(): Compaction {
    const groups = {
      deletes: [] as number[],
      updates: [] as number[],
      moves: [] as number[],
      inserts: [] as number[],
      born: [] as number[],
    }
    for (let entry = 0; entry < this.#count; entry++) groups[this.#group(entry)].push(entry)
    const vanished = this.#vanished()
    return {
      slice: this.#slice,
      keyColumns: this.#keys,
      starts: this.#starts,
      lengths: this.#lengths,
      baseStarts: this.#baseStarts,
      baseLengths: this.#baseLengths,
      rows: this.#rows.subarray(0, this.#count),
      deletes: Int32Array.from(groups.deletes),
      updates: Int32Array.from(groups.updates),
      moves: Int32Array.from(groups.moves),
      inserts: Int32Array.from(groups.inserts),
      vanished: Int32Array.from(vanished),
    }
  }

  #vanished(): number[] {
    const entries = Array.from({ length: this.#count }, (_, entry) => entry)
    const left = entries.filter((entry) => this.#born[entry] === 1 && (this.#gone[entry] === 1 || !this.#isAtBase(entry)))
    if (left.length === 0) return left
    const bases = new Set(entries.filter((entry) => this.#born[entry] === 0).map((entry) => this.#baseText(entry)))
    // Each key once: several rows may have come and gone at it.
    const byKey = new Map(left.map((entry) => [this.#baseText(entry), entry]))
    return [...byKey].flatMap(([key, entry]) => (bases.has(key) ? [] : [entry]))
  }

  #baseText(entry: number): string {
    const cells = Array.from({ length: this.#keys.length }, (_, i) => entry * this.#keys.length + i)
    return cells
      .map((cell) => {
        const [start, length] = [this.#baseStarts[cell]!, this.#baseLengths[cell]!]
        return `${length}:${this.#slice.bytes.toString('latin1', start, start + Math.max(length, 0))}`
      })
      .join(',')
  }

  #isAtBase(entry: number): boolean {
    return this.#hasBaseKey(entry, this.#rows[entry]! * this.#columns)
  }

  #group(entry: number): 'deletes' | 'updates' | 'moves' | 'inserts' | 'born' {
    if (this.#gone[entry] === 1) return 'born'
    if (this.#rows[entry] === NOTHING) return 'deletes'
    if (this.#born[entry] === 1) return 'inserts'
    return this.#isAtBase(entry) ? 'updates' : 'moves'
  }
}

/** Columns that some of the entries' final images do not know: their values are those of the base rows. */
export function columnsUnchanged(compaction: Compaction, entries: Int32Array): number[] {
  const columns = compaction.slice.schema.columns.length
  const found: number[] = []
  for (let c = 0; c < columns; c++) {
    if (entries.some((entry) => compaction.lengths[compaction.rows[entry]! * columns + c] === UNCHANGED_VALUE)) found.push(c)
  }
  return found
}

/** Whether the entry's final image lacks a column. */
export function isPartial(compaction: Compaction, entry: number): boolean {
  const columns = compaction.slice.schema.columns.length
  const first = compaction.rows[entry]! * columns
  for (let cell = first; cell < first + columns; cell++) if (compaction.lengths[cell] === UNCHANGED_VALUE) return true
  return false
}
