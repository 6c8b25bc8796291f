import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { TailraceError } from '../../sdk/errors.ts'
import { LOGICAL_KINDS, targetType } from '../../sdk/sql/type-table.ts'
import { CellEncoder } from './encode.ts'
import { Encoding, SQLITE_TYPES, typeTable, type EncodingCode } from './type-table.ts'

function encode(encoding: EncodingCode, text: string): unknown {
  const padded = Buffer.from(`##${text}##`, 'utf8')
  const value = new CellEncoder().encode(encoding, padded, 2, padded.length - 4)
  return value instanceof Uint8Array && encoding !== Encoding.bytes ? Buffer.from(value).toString('utf8') : value
}

const isRejected = (error: unknown): boolean => error instanceof TailraceError && error.code === 'ROW_REJECTED'

describe('cells of SQLite', () => {
  it('integers up to 15 digits are numbers, longer ones their text', () => {
    assert.deepEqual(
      ['0', '7', '-7', '999999999999999', '-999999999999999'].map((text) => encode(Encoding.integer, text)),
      [0, 7, -7, 999999999999999, -999999999999999],
    )
    assert.deepEqual(
      ['9007199254740993', '-9223372036854775808', '9223372036854775807'].map((text) => encode(Encoding.integer, text)),
      ['9007199254740993', '-9223372036854775808', '9223372036854775807'],
    )
  })

  it('what is no integer goes on as text, for the STRICT column to refuse', () => {
    assert.deepEqual(
      ['', '-', '1.5', 'abc'].map((text) => encode(Encoding.integer, text)),
      ['', '-', '1.5', 'abc'],
    )
  })

  it('unsigned integers past 2^63 are text, others integers', () => {
    assert.deepEqual(
      ['0', '9223372036854775807', '9223372036854775808', '18446744073709551615'].map((text) => encode(Encoding.unsigned, text)),
      [0n, 9223372036854775807n, '9223372036854775808', '18446744073709551615'],
    )
    assert.throws(() => encode(Encoding.unsigned, '-1'), isRejected)
  })

  it('floats keep -0, infinities and NaN; what is no number is refused, never null', () => {
    assert.deepEqual(
      ['1.5', 'Infinity', '-Infinity', 'NaN', '5e-324'].map((text) => encode(Encoding.float, text)),
      [1.5, Infinity, -Infinity, 'NaN', 5e-324],
    )
    assert.ok(Object.is(encode(Encoding.float, '-0'), -0))
    assert.throws(() => encode(Encoding.float, 'abc'), isRejected)
    assert.throws(() => encode(Encoding.float, ''), isRejected)
  })

  it('timestamps are RFC 3339 with microseconds', () => {
    const cases: Record<string, string> = {
      '2024-02-29 12:34:56+00': '2024-02-29T12:34:56.000000Z',
      '2024-02-29 12:34:56.1+00': '2024-02-29T12:34:56.100000Z',
      '2024-02-29 12:34:56.123456+00': '2024-02-29T12:34:56.123456Z',
      '2024-02-29T12:34:56.123456Z': '2024-02-29T12:34:56.123456Z',
      '2024-02-29 12:34:56+00:00': '2024-02-29T12:34:56.000000Z',
    }
    for (const [given, wanted] of Object.entries(cases)) assert.equal(encode(Encoding.timestamptz, given), wanted)
    assert.equal(encode(Encoding.timestamp, '2024-02-29 12:34:56.5'), '2024-02-29T12:34:56.500000')
  })

  it("timestamps that RFC 3339 cannot carry stay the source's own text", () => {
    for (const text of [
      'infinity',
      '-infinity',
      '0044-03-15 12:00:00+00 BC',
      '12024-01-01 00:00:00+00',
      '2024-02-29 12:34:56+02',
      '2024-02-29 12:34:56.1234567+00',
      '',
    ]) {
      assert.equal(encode(Encoding.timestamptz, text), text)
    }
    for (const text of ['0044-03-15 12:00:00 BC', '12024-01-01 00:00:00', '2024-02-29 12:34:56+00'])
      assert.equal(encode(Encoding.timestamp, text), text)
  })

  it('many timestamps at once do not overwrite each other', () => {
    const encoder = new CellEncoder()
    const texts = Array.from({ length: 4000 }, (_, i) => `2024-02-29 12:34:56.${String(i).padStart(6, '0')}+00`)
    const values = texts.map((text) => encoder.encode(Encoding.timestamptz, Buffer.from(text), 0, text.length))
    assert.equal(Buffer.from(values[0] as Uint8Array).toString(), '2024-02-29T12:34:56.000000Z')
    assert.equal(Buffer.from(values[3999] as Uint8Array).toString(), '2024-02-29T12:34:56.003999Z')
  })

  it('bytes come from hex, and only from it', () => {
    assert.deepEqual(encode(Encoding.bytes, '\\x00ff'), Buffer.from([0, 255]))
    assert.deepEqual(encode(Encoding.bytes, '\\x'), Buffer.alloc(0))
    for (const text of ['', 'abc', '\\x0', '\\xzz']) assert.throws(() => encode(Encoding.bytes, text), isRejected)
  })

  it('booleans are 1 and 0', () => {
    assert.deepEqual(
      ['t', 'f', 'true', 'false'].map((text) => encode(Encoding.boolean, text)),
      [1, 0, 1, 0],
    )
    assert.throws(() => encode(Encoding.boolean, ''), isRejected)
    assert.throws(() => encode(Encoding.boolean, '2'), isRejected)
  })

  it('every logical type has one rule', () => {
    for (const kind of LOGICAL_KINDS) assert.equal(SQLITE_TYPES.filter((rule) => rule.logical === kind).length, 1, kind)
    assert.equal(targetType(typeTable('real'), { kind: 'decimal', precision: 10, scale: 2 }).sql, 'ANY')
  })
})
