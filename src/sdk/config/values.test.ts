import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatValue, parseDuration, parseSize, parseValue, splitList, splitOutsideQuotes, type ValueShape } from './values.ts'

function parsed(text: string, shape: ValueShape): unknown {
  const result = parseValue(text, shape)
  return result.ok ? result.value : `expected ${result.expected}`
}

test('sizes', () => {
  const cases = {
    '64MB': 64 * 2 ** 20,
    '1.5 GiB': 1.5 * 2 ** 30,
    '512k': 512 * 1024,
    '1048576': 1_048_576,
    '0': 0,
    '7B': 7,
    '2tb': 2 * 2 ** 40,
  }
  for (const [text, bytes] of Object.entries(cases)) assert.equal(parseSize(text), bytes, text)
  for (const text of ['', 'MB', '-1MB', '1 2', '64XB', '1e3', 'Infinity', '64MBs']) assert.equal(parseSize(text), null, text)
})

test('durations', () => {
  assert.equal(parseDuration('5m', 's'), 300)
  assert.equal(parseDuration('250ms', 'ms'), 250)
  assert.equal(parseDuration('1h30m', 's'), 5400)
  assert.equal(parseDuration('1.5s', 'ms'), 1500)
  assert.equal(parseDuration('10', 's'), 10)
  assert.equal(parseDuration('10', 'ms'), 10)
  for (const text of ['', 'm', '-5m', '5 minutes', '5x', '1h-30m']) assert.equal(parseDuration(text, 's'), null, text)
})

test('booleans, numbers, enums', () => {
  assert.equal(parsed('YES', { kind: 'boolean' }), true)
  assert.equal(parsed('off', { kind: 'boolean' }), false)
  assert.equal(parsed('maybe', { kind: 'boolean' }), 'expected true or false')
  assert.equal(parsed('-12', { kind: 'integer', unit: null }), -12)
  assert.equal(parsed('1.5', { kind: 'number', unit: null }), 1.5)
  for (const text of ['1.5', '0x10', '', ' ', 'NaN', '9007199254740993', '1_000']) {
    assert.equal(parsed(text, { kind: 'integer', unit: null }), 'expected a whole number', text)
  }
  assert.equal(parsed('Hard', { kind: 'enum', values: ['hard', 'soft'] }), 'expected one of `hard`, `soft`')
  assert.equal(parsed('64MB', { kind: 'integer', unit: 'bytes' }), 64 * 2 ** 20)
  assert.equal(parsed('64XB', { kind: 'integer', unit: 'bytes' }), 'expected a size such as 64MB')
})

test('lists keep what stands in quotes together', () => {
  assert.deepEqual(parsed('a, b,"c,d"', { kind: 'list', element: { kind: 'string' } }), ['a', 'b', '"c,d"'])
  assert.deepEqual(parsed('1,x', { kind: 'list', element: { kind: 'integer', unit: null } }), 'expected a list of a whole number')
  assert.deepEqual(splitList(' a ,, b,'), ['a', 'b'])
  assert.deepEqual(splitOutsideQuotes('"a=b"=c=d', '='), ['"a=b"', 'c', 'd'])
})

test('a union takes the narrowest member that fits', () => {
  const shape: ValueShape = { kind: 'union', members: [{ kind: 'string' }, { kind: 'boolean' }, { kind: 'integer', unit: null }] }
  assert.equal(parsed('true', shape), true)
  assert.equal(parsed('7', shape), 7)
  assert.equal(parsed('seven', shape), 'seven')
})

test('defaults are shown as they would be typed', () => {
  const size: ValueShape = { kind: 'integer', unit: 'bytes' }
  assert.equal(formatValue(64 * 2 ** 20, size), '64MB')
  assert.equal(formatValue(1000, size), '1000B')
  assert.equal(formatValue(300, { kind: 'number', unit: 's' }), '5m')
  assert.equal(formatValue(0.25, { kind: 'number', unit: 's' }), '250ms')
  assert.equal(formatValue(0, { kind: 'number', unit: 's' }), '0')
  assert.equal(formatValue(['a', 'b'], { kind: 'list', element: { kind: 'string' } }), 'a,b')
  assert.equal(formatValue(false, { kind: 'boolean' }), 'false')
})

test('what is formatted parses back to the same', () => {
  for (const bytes of [1, 1023, 1024, 1536, 5 * 2 ** 30, 2 ** 40 + 1]) {
    assert.equal(parseSize(formatValue(bytes, { kind: 'integer', unit: 'bytes' })), bytes)
  }
  for (const ms of [1, 999, 1000, 61_000, 3_600_000, 86_400_001]) {
    assert.equal(parseDuration(formatValue(ms, { kind: 'integer', unit: 'ms' }), 'ms'), ms)
  }
})
