import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { formatArray, parseArray } from './array-text.ts'
import type { LogicalType, ScalarKind } from './logical-type.ts'
import { decoderOf, encodeValue, sameValue, ValueError } from './value-text.ts'

const scalar = (kind: ScalarKind): LogicalType => ({ kind })
const arrayOf = (element: LogicalType): LogicalType => ({ kind: 'array', element })

function integers(bits: number, signed: boolean): fc.Arbitrary<bigint> {
  const size = 1n << BigInt(signed ? bits - 1 : bits)
  return fc.bigInt({ min: signed ? -size : 0n, max: size - 1n })
}

/** Every kind whose values are not plain texts, with arbitrary values of it. */
const typed: readonly (readonly [LogicalType, fc.Arbitrary<unknown>])[] = [
  [scalar('boolean'), fc.boolean()],
  ...(
    [
      ['int8', 8, true],
      ['int16', 16, true],
      ['int32', 32, true],
      ['uint8', 8, false],
      ['uint16', 16, false],
      ['uint32', 32, false],
    ] as const
  ).map(([kind, bits, signed]): readonly [LogicalType, fc.Arbitrary<unknown>] => [scalar(kind), integers(bits, signed).map(Number)]),
  [scalar('int64'), integers(64, true)],
  [scalar('uint64'), integers(64, false)],
  [scalar('float64'), fc.double()],
  [scalar('float32'), fc.float()],
  [scalar('bytes'), fc.uint8Array()],
  [scalar('string'), fc.string({ unit: 'grapheme' })],
  [arrayOf(scalar('string')), fc.array(fc.option(fc.string({ unit: 'grapheme' })))],
  [arrayOf(scalar('int64')), fc.array(fc.option(integers(64, true)))],
  [arrayOf(scalar('bytes')), fc.array(fc.option(fc.uint8Array()))],
  [arrayOf(scalar('float64')), fc.array(fc.option(fc.double()))],
  [arrayOf(scalar('boolean')), fc.array(fc.array(fc.option(fc.boolean()), { minLength: 1 }), { minLength: 1 })],
]

describe('values and their text', () => {
  for (const [type, values] of typed) {
    test(`of ${type.kind}${type.kind === 'array' ? ` of ${type.element.kind}` : ''} come back the same`, () => {
      const decode = decoderOf(type)
      fc.assert(
        fc.property(values, (value) => {
          const back = decode(encodeValue(type, value))
          assert.ok(sameValue(back, value), `${String(value)} came back as ${String(back)}`)
        }),
      )
    })
  }

  test('a text that is not of its type is given as it is', () => {
    const odd: readonly (readonly [LogicalType, string])[] = [
      [scalar('boolean'), 'yes'],
      [scalar('int32'), ''],
      [scalar('int32'), 'x1'],
      [scalar('int64'), '1.0'],
      [scalar('bytes'), '\\x0'],
      [scalar('bytes'), 'abc\\000'],
      [arrayOf(scalar('int32')), '{1,2'],
      [arrayOf(scalar('int32')), '{1,,2}'],
      [arrayOf(scalar('int32')), '[0:1]=1'],
      [arrayOf(scalar('string')), '{"a}'],
    ]
    for (const [type, text] of odd) assert.equal(decoderOf(type)(text), text)
  })

  test('special numbers', () => {
    const decode = decoderOf(scalar('float64'))
    assert.deepEqual(['NaN', 'Infinity', '-Infinity', '-0', '1e-05'].map(decode), [NaN, Infinity, -Infinity, -0, 0.00001])
    assert.deepEqual(
      [NaN, Infinity, -Infinity, -0].map((value) => encodeValue(scalar('float64'), value)),
      ['NaN', 'Infinity', '-Infinity', '-0'],
    )
  })

  test('numbers, bigints and texts are taken where they fit', () => {
    assert.equal(encodeValue(scalar('int64'), 5), '5')
    assert.equal(encodeValue(scalar('int32'), 5n), '5')
    assert.equal(encodeValue(scalar('int32'), '-7'), '-7')
    const decimal: LogicalType = { kind: 'decimal', precision: null, scale: null }
    assert.deepEqual(
      ['1.50', 'NaN', 12n, 0.5, '1e-7'].map((value) => encodeValue(decimal, value)),
      ['1.50', 'NaN', '12', '0.5', '1e-7'],
    )
    assert.equal(encodeValue(arrayOf(scalar('int32')), '[0:1]={1,2}'), '[0:1]={1,2}')
  })

  test('what does not fit is refused, naming types and no value', () => {
    const refused: readonly (readonly [LogicalType, unknown])[] = [
      [scalar('boolean'), 1],
      [scalar('int8'), 128],
      [scalar('uint8'), -1],
      [scalar('int64'), 2 ** 60],
      [scalar('int64'), 2n ** 63n],
      [scalar('int32'), 1.5],
      [scalar('int32'), 'secret'],
      [scalar('float64'), 'secret'],
      [{ kind: 'decimal', precision: null, scale: null }, 1e21],
      [scalar('bytes'), 'secret'],
      [scalar('string'), 5],
      [scalar('string'), '\ud800'],
      [scalar('json'), { secret: 1 }],
      [scalar('timestamptz'), new Date(0)],
      [arrayOf(scalar('int32')), 'secret'],
      [arrayOf(scalar('int32')), [1, 'secret']],
    ]
    for (const [type, value] of refused) {
      assert.throws(
        () => encodeValue(type, value),
        (error) => error instanceof ValueError && !error.message.includes('secret'),
        `${type.kind} ${String(value)}`,
      )
    }
  })
})

describe('arrays', () => {
  const text = (part: string): string => part

  test('as PostgreSQL writes them', () => {
    const cases: readonly (readonly [string, unknown])[] = [
      ['{}', []],
      ['{1,NULL,3}', ['1', null, '3']],
      ['{NULL,"NULL",null}', [null, 'NULL', null]],
      ['{"a b","c,d","e\\"f","g\\\\h","","{}"}', ['a b', 'c,d', 'e"f', 'g\\h', '', '{}']],
      [
        '{{1,2},{3,4}}',
        [
          ['1', '2'],
          ['3', '4'],
        ],
      ],
      ['[0:2]={1,2,3}', ['1', '2', '3']],
      [
        '[-1:0][2:3]={{1,2},{3,NULL}}',
        [
          ['1', '2'],
          ['3', null],
        ],
      ],
    ]
    for (const [written, items] of cases) assert.deepEqual(parseArray(written, text), items, written)
    assert.deepEqual(parseArray('{(1,2),(0,0);(3,4),(1,1)}', text, ';'), ['(1,2),(0,0)', '(3,4),(1,1)'])
  })

  test('what is no array is null', () => {
    for (const written of ['', '1', '{', '}', '{1', '{1}x', '{1,}', '{,1}', '{"a', '{"a"b}', '{{1}', '[1:2]', '[1:2]=', '{1 {2}}']) {
      assert.equal(parseArray(written, text), null, written)
    }
  })

  test('any nested list of texts comes back', () => {
    const item = fc.option(fc.string({ unit: fc.constantFrom('a', ',', '"', '\\', '{', '}', ' ', '\n', 'NULL', ';', '=') }))
    const nested = fc.oneof(fc.array(item), fc.array(fc.array(item, { minLength: 1 }), { minLength: 1 }))
    fc.assert(fc.property(nested, (items) => assert.deepEqual(parseArray(formatArray(items, text), text), items)))
  })
})
