import { ABSENT_VALUE, NULL_VALUE, UNCHANGED_VALUE } from '../../../model/batch.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { MessageWriter } from '../wire/message-writer.ts'

const TEXT_OID = 25
const INT4_OID = 23
const HEADER_BYTES = 20

/** Cells of some rows: column c of row i is cell `firsts[i] + c` of `starts` and `lengths`, bytes in `bytes`. */
export interface Cells {
  readonly bytes: Buffer
  readonly starts: Int32Array
  readonly lengths: Int32Array
  readonly firsts: Int32Array
}

/**
 * One column as a text[] parameter in binary form (array_send): the elements are the source's own bytes with their length
 * in front, so nothing is escaped and any type may be cast from it. UNCHANGED goes as null: the mask says not to take it.
 */
export function writeTextArray(writer: MessageWriter, cells: Cells, column: number): void {
  const { bytes, starts, lengths, firsts } = cells
  const sizeAt = writer.position
  arrayHead(writer, TEXT_OID, firsts.length)
  let nulls = 0
  for (let i = 0; i < firsts.length; i++) {
    const cell = firsts[i]! + column
    const length = lengths[cell]!
    if (length < 0) {
      writer.int32(-1)
      nulls = 1
      continue
    }
    const start = starts[cell]!
    writer.int32(length).range(bytes, start, start + length)
  }
  writer.patchInt32(sizeAt + 8, nulls)
  writer.patchInt32(sizeAt, writer.position - sizeAt - 4)
}

/** An int4[] parameter: masks, counts. */
export function writeIntArray(writer: MessageWriter, values: Int32Array): void {
  const sizeAt = writer.position
  arrayHead(writer, INT4_OID, values.length)
  for (const value of values) writer.int32(4).int32(value)
  writer.patchInt32(sizeAt, writer.position - sizeAt - 4)
}

/** Length of the parameter (patched later), dimensions, has-nulls flag, element type, size and lower bound. */
function arrayHead(writer: MessageWriter, type: number, count: number): void {
  writer.ensure(HEADER_BYTES + 4)
  writer.int32(0).int32(1).int32(0).int32(type).int32(count).int32(1)
}

/** Columns per int4 of a mask; the sign bit is left alone. */
export const MASK_BITS = 31

/** For each row a bit per listed column that it does not know; `word` counts groups of MASK_BITS columns. */
export function unchangedMask(cells: Cells, columns: readonly number[], word: number): Int32Array {
  const part = columns.slice(word * MASK_BITS, (word + 1) * MASK_BITS)
  const masks = new Int32Array(cells.firsts.length)
  for (let i = 0; i < masks.length; i++) {
    let mask = 0
    for (let bit = 0; bit < part.length; bit++) if (cells.lengths[cells.firsts[i]! + part[bit]!] === UNCHANGED_VALUE) mask |= 1 << bit
    masks[i] = mask
  }
  return masks
}

export function isAnyUnchanged(cells: Cells, columns: readonly number[]): boolean {
  for (const first of cells.firsts) for (const column of columns) if (cells.lengths[first + column] === UNCHANGED_VALUE) return true
  return false
}

/** Size at which a CopyData message is closed: the server holds one in memory at a time. */
const FRAME_BYTES = 1 << 18
const FIRST_BYTES = 1 << 14

const TAB = 9
const LF = 10
const CR = 13
const BACKSLASH = 92
const LETTER: Readonly<Record<number, number>> = { [TAB]: 116, [LF]: 110, [CR]: 114, [BACKSLASH]: BACKSLASH }

/** Rows as CopyData messages of COPY's text format. */
export class CopyTextWriter {
  /** Grows with the rows: a large one per small batch cost more than all the rest. */
  #buffer = Buffer.alloc(0)
  #end = 0
  #frames: Buffer[] = []

  /** Whole messages written since the last call. */
  take(): Buffer[] {
    this.#close()
    const frames = this.#frames
    this.#frames = []
    return frames
  }

  rows(cells: Cells, columns: Int32Array, table: string): void {
    for (const first of cells.firsts) {
      if (this.#end > FRAME_BYTES) this.#close()
      if (this.#end === 0) this.#open()
      this.#row(cells, first, columns, table)
    }
  }

  #open(): void {
    this.#ensure(FIRST_BYTES)
    this.#end = 5
  }

  #row(cells: Cells, first: number, columns: Int32Array, table: string): void {
    const { bytes, starts, lengths } = cells
    for (let i = 0; i < columns.length; i++) {
      const cell = first + columns[i]!
      const length = lengths[cell]!
      if (length < NULL_VALUE) throw missingValue(length, table)
      this.#ensure(length * 2 + 3)
      if (i > 0) this.#buffer[this.#end++] = TAB
      if (length === NULL_VALUE) this.#null()
      else this.#end = escape(bytes, starts[cell]!, length, this.#buffer, this.#end)
    }
    this.#ensure(1)
    this.#buffer[this.#end++] = LF
  }

  #null(): void {
    this.#buffer[this.#end++] = BACKSLASH
    this.#buffer[this.#end++] = 78
  }

  #ensure(more: number): void {
    if (this.#end + more <= this.#buffer.length) return
    const bigger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#end + more))
    this.#buffer.copy(bigger, 0, 0, this.#end)
    this.#buffer = bigger
  }

  #close(): void {
    if (this.#end === 0) return
    this.#buffer[0] = 0x64
    this.#buffer.writeInt32BE(this.#end - 1, 1)
    this.#frames.push(this.#buffer.subarray(0, this.#end))
    this.#buffer = Buffer.alloc(0)
    this.#end = 0
  }
}

function escape(from: Buffer, start: number, length: number, to: Buffer, at: number): number {
  let end = at
  for (let i = start; i < start + length; i++) {
    const byte = from[i]!
    if (byte === BACKSLASH || (byte <= CR && LETTER[byte] !== undefined)) {
      to[end++] = BACKSLASH
      to[end++] = LETTER[byte]!
    } else to[end++] = byte
  }
  return end
}

function missingValue(length: number, table: string): TailraceError {
  const what = length === ABSENT_VALUE ? 'the image does not hold' : 'the source did not send'
  return new TailraceError('NOT_ACCOUNTED', `a row to insert into ${table} has a column that ${what}`, { path: table })
}
