import { NULL_VALUE } from '../../model/batch.ts'

const COMMA = 0x2c
const QUOTE = 0x22
const NEWLINE = 0x0a
const FIRST_SIZE = 1 << 16

/** Bytes that make a value need quotes. */
const SPECIAL = new Uint8Array(256)
for (const byte of [COMMA, QUOTE, NEWLINE, 0x0d]) SPECIAL[byte] = 1

/**
 * Rows of CSV as PostgreSQL writes them, by byte loops: null is nothing, the empty string is `""`. One growing buffer,
 * used again; what `bytes` gave is only valid until `reset`.
 */
export class CsvEncoder {
  #buffer = Buffer.allocUnsafe(FIRST_SIZE)
  #length = 0
  #rowStart = 0
  #rows = 0
  #longest = 0
  #isFirst = true

  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  get rows(): number {
    return this.#rows
  }

  /** Bytes of the longest row. */
  get longest(): number {
    return this.#longest
  }

  reset(): void {
    this.#length = 0
    this.#rowStart = 0
    this.#rows = 0
    this.#longest = 0
    this.#isFirst = true
  }

  /** A value; a negative length is null, whichever kind of not-there it means. */
  cell(bytes: Buffer, start: number, length: number): void {
    this.#reserve(length > 0 ? length * 2 + 3 : 3)
    if (this.#isFirst) this.#isFirst = false
    else this.#buffer[this.#length++] = COMMA
    if (length <= NULL_VALUE) return
    if (length === 0) this.#quoted(bytes, 0, 0)
    else if (isPlain(bytes, start, start + length)) this.#plain(bytes, start, length)
    else this.#quoted(bytes, start, start + length)
  }

  /** A small number, or a flag. */
  number(value: number): void {
    const text = Buffer.from(String(value), 'latin1')
    this.cell(text, 0, text.length)
  }

  endRow(): void {
    this.#reserve(1)
    this.#buffer[this.#length++] = NEWLINE
    this.#longest = Math.max(this.#longest, this.#length - this.#rowStart)
    this.#rowStart = this.#length
    this.#rows++
    this.#isFirst = true
  }

  #plain(bytes: Buffer, start: number, length: number): void {
    if (length > 64) bytes.copy(this.#buffer, this.#length, start, start + length)
    else for (let i = 0; i < length; i++) this.#buffer[this.#length + i] = bytes[start + i]!
    this.#length += length
  }

  #quoted(bytes: Buffer, start: number, end: number): void {
    const buffer = this.#buffer
    let at = this.#length
    buffer[at++] = QUOTE
    for (let i = start; i < end; i++) {
      const byte = bytes[i]!
      if (byte === QUOTE) buffer[at++] = QUOTE
      buffer[at++] = byte
    }
    buffer[at++] = QUOTE
    this.#length = at
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes
    if (needed <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2))
    this.#buffer.copy(larger, 0, 0, this.#length)
    this.#buffer = larger
  }
}

function isPlain(bytes: Buffer, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (SPECIAL[bytes[i]!] === 1) return false
  return true
}
