import { NULL_VALUE } from '../../model/batch.ts'
import type { Compaction } from '../../sdk/sql/compact.ts'
import { CsvEncoder } from './csv-encoder.ts'
import { CsvFile } from './csv-file.ts'
import type { Database } from './database.ts'
import type { TargetColumn } from './target-table.ts'

/** Buffers that held a giant batch are not kept. */
const KEEP_BYTES = 8 << 20

/**
 * Entries of a compaction as a CSV file for one statement. Files are the only way in, also for ten rows (0.3 ms): appender
 * and JSON parameters were within 10 %, and this way stream and snapshot share parser and casts (Invariant 7).
 */
export class Stage {
  readonly database: Database
  readonly #scratch: string
  #encoder = new CsvEncoder()

  constructor(database: Database, scratch: string) {
    this.database = database
    this.#scratch = scratch
  }

  /** Writes a file by `fill`, lends its FROM item to `work`, removes it. */
  async with<T>(columns: number, fill: (csv: CsvEncoder) => void, work: (from: string) => Promise<T>): Promise<T> {
    if (this.#encoder.bytes.length > KEEP_BYTES) this.#encoder = new CsvEncoder()
    this.#encoder.reset()
    fill(this.#encoder)
    const file = await CsvFile.create(this.#scratch)
    try {
      await file.append(this.#encoder.bytes, this.#encoder.longest)
      await file.close()
      return await this.database.withRoomFor(file.longest, () => work(file.table(columns)))
    } finally {
      await file.remove()
    }
  }
}

/** Base keys (or base images) of the entries, one row each. */
export function writeBases(csv: CsvEncoder, compaction: Compaction, entries: Int32Array): void {
  for (const entry of entries) {
    writeBase(csv, compaction, entry)
    csv.endRow()
  }
}

/** The place of each entry in the list, then its base image. */
export function writeNumberedBases(csv: CsvEncoder, compaction: Compaction, entries: Int32Array): void {
  for (const [number, entry] of entries.entries()) {
    csv.number(number)
    writeBase(csv, compaction, entry)
    csv.endRow()
  }
}

export function writeNumberedFinals(csv: CsvEncoder, compaction: Compaction, entries: Int32Array, columns: readonly TargetColumn[]): void {
  const indexes = Int32Array.from(columns, (column) => column.index)
  for (const [number, entry] of entries.entries()) {
    csv.number(number)
    writeFinal(csv, compaction, entry, indexes)
    csv.endRow()
  }
}

/** Keys of the entries' final images. */
export function writeFinalKeys(csv: CsvEncoder, compaction: Compaction, entries: Int32Array): void {
  for (const entry of entries) {
    writeFinal(csv, compaction, entry, compaction.keyColumns)
    csv.endRow()
  }
}

export function writeFinals(csv: CsvEncoder, compaction: Compaction, entries: Int32Array, columns: readonly TargetColumn[]): void {
  const indexes = Int32Array.from(columns, (column) => column.index)
  for (const entry of entries) {
    writeFinal(csv, compaction, entry, indexes)
    csv.endRow()
  }
}

export function writeBasesAndFinals(csv: CsvEncoder, compaction: Compaction, entries: Int32Array, columns: readonly TargetColumn[]): void {
  const indexes = Int32Array.from(columns, (column) => column.index)
  for (const entry of entries) {
    writeBase(csv, compaction, entry)
    writeFinal(csv, compaction, entry, indexes)
    csv.endRow()
  }
}

/** Place in the list, final image, and for each column that some entry lacks a flag where this one does. */
export function writePartials(
  csv: CsvEncoder,
  compaction: Compaction,
  entries: Int32Array,
  columns: readonly TargetColumn[],
  lacking: readonly number[],
): void {
  const indexes = Int32Array.from(columns, (column) => column.index)
  const cells = compaction.slice.schema.columns.length
  for (const [number, entry] of entries.entries()) {
    csv.number(number)
    writeFinal(csv, compaction, entry, indexes)
    for (const column of lacking) {
      if (compaction.lengths[compaction.rows[entry]! * cells + column]! < NULL_VALUE) csv.number(1)
      else csv.cell(compaction.slice.bytes, 0, NULL_VALUE)
    }
    csv.endRow()
  }
}

function writeBase(csv: CsvEncoder, compaction: Compaction, entry: number): void {
  const width = compaction.keyColumns.length
  for (let i = entry * width; i < (entry + 1) * width; i++)
    csv.cell(compaction.slice.bytes, compaction.baseStarts[i]!, compaction.baseLengths[i]!)
}

function writeFinal(csv: CsvEncoder, compaction: Compaction, entry: number, columns: Int32Array): void {
  const first = compaction.rows[entry]! * compaction.slice.schema.columns.length
  for (const column of columns) csv.cell(compaction.slice.bytes, compaction.starts[first + column]!, compaction.lengths[first + column]!)
}

export function joinEntries(...groups: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(groups.reduce((sum, group) => sum + group.length, 0))
  let at = 0
  for (const group of groups) {
    all.set(group, at)
    at += group.length
  }
  return all
}
