import type { SQLInputValue } from 'node:sqlite'
import { TailraceError } from '../../sdk/errors.ts'
import { Encoding, type EncodingCode } from './type-table.ts'

/** Digits that a double holds exactly whatever they are. */
const SAFE_DIGITS = 15
const LARGEST_INTEGER = 9_223_372_036_854_775_807n
/** No canonical timestamp is longer: `2024-01-02T03:04:05.678901Z`. */
const TIMESTAMP_BYTES = 27
const SCRATCH_BYTES = 1 << 18

const ZERO = 0x30
const NINE = 0x39
const MINUS = 0x2d
const DOT = 0x2e
const PLUS = 0x2b
const COLON = 0x3a
const SPACE = 0x20
const BACKSLASH = 0x5c
const LETTER_T = 0x54
const LETTER_Z = 0x5a
const LOWER_T = 0x74
const LOWER_F = 0x66
const LOWER_X = 0x78

/**
 * Cells as what SQLite is given: the one encoder of snapshot rows, streamed rows, keys and defaults (Invariant 7).
 *
 * Text is bound as the source's bytes and cast in the statement (`CAST(? AS TEXT)`, see `placeholder`): no JavaScript
 * string is made of them, which is a fifth faster than utf8Slice and keeps every byte as it is.
 */
export class CellEncoder {
  #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES)
  #used = 0

  /** `length` is not negative. The value must be bound before 9,000 more timestamps are encoded: SQLite copies on binding. */
  encode(encoding: EncodingCode, bytes: Buffer, start: number, length: number): SQLInputValue {
    const end = start + length
    switch (encoding) {
      case Encoding.text:
        return bytes.subarray(start, end)
      case Encoding.integer:
        return integer(bytes, start, end)
      case Encoding.boolean:
        return boolean(bytes, start, end)
      case Encoding.float:
        return float(bytes, start, end)
      case Encoding.timestamp:
        return this.#timestamp(bytes, start, end, false)
      case Encoding.timestamptz:
        return this.#timestamp(bytes, start, end, true)
      case Encoding.bytes:
        return hexBytes(bytes, start, end)
      case Encoding.unsigned:
        return unsigned(bytes.toString('latin1', start, end))
      default:
        encoding satisfies never
        throw new TailraceError('BUG', 'a column has an encoding that does not exist')
    }
  }

  /**
   * RFC 3339 with microseconds, without offset for `timestamp`. What it cannot carry (infinity, BC, years past 9999, an
   * offset that is not UTC) goes as the source's own text.
   */
  #timestamp(bytes: Buffer, start: number, end: number, zoned: boolean): SQLInputValue {
    const fraction = start + 19
    if (!isDateTime(bytes, start, end)) return bytes.subarray(start, end)
    let stop = fraction
    if (bytes[fraction] === DOT) {
      stop++
      while (stop < end && isDigit(bytes[stop]!)) stop++
    }
    const digits = Math.max(0, stop - fraction - 1)
    if (digits > 6 || !endsAs(bytes, stop, end, zoned)) return bytes.subarray(start, end)
    if (this.#used + TIMESTAMP_BYTES > SCRATCH_BYTES) this.#used = 0
    const out = this.#scratch
    const at = this.#used
    bytes.copy(out, at, start, start + 19)
    out[at + 10] = LETTER_T
    out[at + 19] = DOT
    for (let i = 0; i < 6; i++) out[at + 20 + i] = i < digits ? bytes[fraction + 1 + i]! : ZERO
    if (zoned) out[at + 26] = LETTER_Z
    this.#used = at + TIMESTAMP_BYTES
    return out.subarray(at, zoned ? at + TIMESTAMP_BYTES : at + TIMESTAMP_BYTES - 1)
  }
}

/** What stands for a bound value in a statement. */
export function placeholder(encoding: EncodingCode): string {
  return isTextEncoding(encoding) ? 'CAST(? AS TEXT)' : '?'
}

/** Bound as bytes, stored as text. */
export function isTextEncoding(encoding: EncodingCode): boolean {
  return encoding === Encoding.text || encoding === Encoding.timestamp || encoding === Encoding.timestamptz
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= NINE
}

function isDateTime(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < 19) return false
  const between = bytes[start + 10]
  if (between !== SPACE && between !== LETTER_T) return false
  if (bytes[start + 4] !== MINUS || bytes[start + 7] !== MINUS || bytes[start + 13] !== COLON || bytes[start + 16] !== COLON) return false
  return isDigit(bytes[start]!) && isDigit(bytes[start + 3]!) && isDigit(bytes[start + 18]!)
}

/** What stands after the fraction: nothing, or an offset of zero: `+00`, `+00:00`, `Z`. */
function endsAs(bytes: Buffer, stop: number, end: number, zoned: boolean): boolean {
  if (!zoned) return stop === end
  if (bytes[stop] === LETTER_Z) return stop + 1 === end
  if (bytes[stop] !== PLUS || bytes[stop + 1] !== ZERO || bytes[stop + 2] !== ZERO) return false
  return stop + 3 === end || (stop + 6 === end && bytes[stop + 3] === COLON && bytes[stop + 4] === ZERO && bytes[stop + 5] === ZERO)
}

/**
 * Up to 15 digits as a number, which an INTEGER column takes back without loss; longer ones as text, which it converts
 * exactly within 64 bits and refuses beyond. BigInts were no faster and need the string as well.
 */
function integer(bytes: Buffer, start: number, end: number): SQLInputValue {
  const negative = bytes[start] === MINUS
  const first = negative ? start + 1 : start
  if (end - first > SAFE_DIGITS || end === first) return bytes.toString('latin1', start, end)
  let value = 0
  for (let i = first; i < end; i++) {
    const byte = bytes[i]!
    if (!isDigit(byte)) return bytes.toString('latin1', start, end)
    value = value * 10 + byte - ZERO
  }
  return negative ? -value : value
}

/** An ANY column converts nothing: what must be an integer there is bound as one. */
function unsigned(text: string): SQLInputValue {
  if (!/^\d{1,20}$/.test(text)) throw rejected('an unsigned integer')
  if (text.length < 19) return BigInt(text)
  const value = BigInt(text)
  return value <= LARGEST_INTEGER ? value : text
}

function boolean(bytes: Buffer, start: number, end: number): SQLInputValue {
  if (end > start && bytes[start] === LOWER_T) return 1
  if (end > start && bytes[start] === LOWER_F) return 0
  throw rejected('a boolean (t or f)')
}

/** node:sqlite binds NaN as NULL, which would be silent loss: NaN goes as text, and what is no number at all is refused. */
function float(bytes: Buffer, start: number, end: number): SQLInputValue {
  const text = bytes.toString('latin1', start, end)
  const value = Number(text)
  if (value === value && end > start) return value
  if (text === 'NaN') return text
  throw rejected('a number')
}

function hexBytes(bytes: Buffer, start: number, end: number): SQLInputValue {
  if (end - start < 2 || bytes[start] !== BACKSLASH || bytes[start + 1] !== LOWER_X) throw rejected('bytes in hex form')
  const value = Buffer.from(bytes.toString('latin1', start + 2, end), 'hex')
  if (value.length * 2 !== end - start - 2) throw rejected('bytes in hex form')
  return value
}

function rejected(expected: string): TailraceError {
  return new TailraceError('ROW_REJECTED', `a value is not ${expected}`)
}
