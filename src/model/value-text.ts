import { formatArray, parseArray, type Nested } from './array-text.ts'
import type { Value } from './change.ts'
import { formatType, type LogicalType } from './logical-type.ts'

/**
 * Values for people and their text in PostgreSQL's form, by logical type. A text that is not of its type's form is given
 * as it is: nothing is lost because a source writes something unexpected.
 */
export type ValueDecoder = (text: string) => Value

/** A value that a column cannot hold. The message names types, never the value. */
export class ValueError extends Error {
  constructor(type: LogicalType, value: unknown, expected: string) {
    super(`a value of type ${describe(value)} does not fit ${formatType(type)}: expected ${expected}`)
    this.name = 'ValueError'
  }
}

function describe(value: unknown): string {
  if (value === null) return 'null'
  if (typeof value === 'object')
    return (Object.getPrototypeOf(value) as { constructor?: { name?: string } } | null)?.constructor?.name ?? 'object'
  return typeof value
}

const INTEGER = /^-?\d+$/
const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/
const SPECIAL_NUMBER = /^(?:NaN|[+-]?Infinity)$/
const HEX_BYTES = /^\\x(?:[0-9a-fA-F]{2})*$/

export function decoderOf(type: LogicalType): ValueDecoder {
  switch (type.kind) {
    case 'boolean':
      return decodeBoolean
    case 'int8':
    case 'int16':
    case 'int32':
    case 'uint8':
    case 'uint16':
    case 'uint32':
    case 'float32':
    case 'float64':
      return decodeNumber
    case 'int64':
    case 'uint64':
      return decodeBigInt
    case 'bytes':
      return decodeBytes
    case 'array':
      return arrayDecoder(type.element)
    default:
      return decodeText
  }
}

const decodeText: ValueDecoder = (text) => text

const decodeBoolean: ValueDecoder = (text) => (text === 't' || text === 'true' ? true : text === 'f' || text === 'false' ? false : text)

const decodeNumber: ValueDecoder = (text) => {
  const number = Number(text)
  return (Number.isNaN(number) && text !== 'NaN') || text.trim() === '' ? text : number
}

const decodeBigInt: ValueDecoder = (text) => (INTEGER.test(text) ? BigInt(text) : text)

const decodeBytes: ValueDecoder = (text) => (HEX_BYTES.test(text) ? new Uint8Array(Buffer.from(text.slice(2), 'hex')) : text)

function arrayDecoder(element: LogicalType): ValueDecoder {
  const decode = decoderOf(element)
  const delimiter = delimiterOf(element)
  return (text) => parseArray<Value>(text, decode, delimiter) ?? text
}

/** PostgreSQL's one type that is not delimited by a comma, as boxes hold commas themselves. */
function delimiterOf(element: LogicalType): string {
  return element.kind === 'other' && element.name === 'box' ? ';' : ','
}

/** The text of a value that is neither null nor UNCHANGED. Also takes the text itself. Throws ValueError. */
export function encodeValue(type: LogicalType, value: unknown): string {
  switch (type.kind) {
    case 'boolean':
      return encodeBoolean(type, value)
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint8':
    case 'uint16':
    case 'uint32':
    case 'uint64':
      return encodeInteger(type, value)
    case 'float32':
    case 'float64':
      return encodeFloat(type, value)
    case 'decimal':
      return encodeDecimal(type, value)
    case 'bytes':
      return encodeBytes(type, value)
    case 'array':
      return encodeArray(type, value)
    default:
      return encodeText(type, value)
  }
}

function encodeBoolean(type: LogicalType, value: unknown): string {
  if (typeof value === 'boolean') return value ? 't' : 'f'
  if (value === 't' || value === 'f') return value
  throw new ValueError(type, value, 'true or false')
}

const INTEGER_BITS: Partial<Record<LogicalType['kind'], readonly [bits: bigint, signed: boolean]>> = {
  int8: [8n, true],
  int16: [16n, true],
  int32: [32n, true],
  int64: [64n, true],
  uint8: [8n, false],
  uint16: [16n, false],
  uint32: [32n, false],
  uint64: [64n, false],
}

function encodeInteger(type: LogicalType, value: unknown): string {
  const whole =
    typeof value === 'bigint' ||
    (typeof value === 'number' && Number.isSafeInteger(value)) ||
    (typeof value === 'string' && INTEGER.test(value))
  if (!whole) throw new ValueError(type, value, 'a whole number or a bigint')
  const integer = BigInt(value)
  const [bits, signed] = INTEGER_BITS[type.kind] ?? [64n, true]
  const [least, most] = signed ? [-(1n << (bits - 1n)), (1n << (bits - 1n)) - 1n] : [0n, (1n << bits) - 1n]
  if (integer < least || integer > most) throw new ValueError(type, value, `one from ${least} to ${most}`)
  return integer.toString()
}

function encodeFloat(type: LogicalType, value: unknown): string {
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value)
  if (typeof value === 'string' && (DECIMAL.test(value) || SPECIAL_NUMBER.test(value))) return value
  throw new ValueError(type, value, 'a number')
}

/** A number goes as far as its shortest text has no exponent: beyond that its digits are not what anybody meant. */
function encodeDecimal(type: LogicalType, value: unknown): string {
  if (typeof value === 'bigint') return value.toString()
  const text = typeof value === 'number' ? String(value) : value
  if (typeof text === 'string' && (DECIMAL.test(text) || SPECIAL_NUMBER.test(text)) && (typeof value === 'string' || !text.includes('e')))
    return text
  throw new ValueError(type, value, 'the digits as a string, a bigint or a number')
}

function encodeBytes(type: LogicalType, value: unknown): string {
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`
  if (typeof value === 'string' && HEX_BYTES.test(value)) return value
  throw new ValueError(type, value, 'a Uint8Array')
}

function encodeArray(type: Extract<LogicalType, { kind: 'array' }>, value: unknown): string {
  if (typeof value === 'string' && parseArray(value, decodeText, delimiterOf(type.element)) !== null) return value
  if (!Array.isArray(value)) throw new ValueError(type, value, 'an array')
  return formatArray<unknown>(value as readonly Nested<unknown>[], (item) => encodeValue(type.element, item), delimiterOf(type.element))
}

function encodeText(type: LogicalType, value: unknown): string {
  // Half a surrogate pair has no UTF-8: it would be stored as another character.
  if (typeof value === 'string' && value.isWellFormed()) return value
  throw new ValueError(type, value, type.kind === 'json' || type.kind === 'document' ? 'JSON as text' : 'a string')
}

/** Whether two decoded values are the same: -0 is not 0, NaN is NaN, lists and bytes are compared by what they hold. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0
  return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, index) => sameValue(item, b[index]))
}
