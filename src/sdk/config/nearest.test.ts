import assert from 'node:assert/strict'
import { test } from 'node:test'
import { didYouMean, nearest } from './nearest.ts'

test('the nearest name is found through usual mistakes', () => {
  const names = ['follow', 'snapshot', 'schema-changes', 'slot', 'on-error']
  for (const [typed, meant] of [
    ['folow', 'follow'],
    ['fllow', 'follow'],
    ['FOLLOW', 'follow'],
    ['snpashot', 'snapshot'],
    ['snap', 'snapshot'],
    ['changes', 'schema-changes'],
    ['schema_changes', 'schema-changes'],
    ['slto', 'slot'],
    ['error', 'on-error'],
  ] as const) {
    assert.equal(nearest(typed, names), meant, typed)
  }
})

test('what resembles nothing finds nothing', () => {
  assert.equal(nearest('xyz', ['follow', 'slot']), null)
  assert.equal(nearest('', ['follow']), null)
  assert.equal(nearest('x', []), null)
  assert.equal(nearest('follow', ['wallow-in-it']), null)
})

test('an exact name wins over one that it begins', () => {
  assert.equal(nearest('schema', ['schema-changes', 'schema']), 'schema')
})

test('a hint falls back on a short list', () => {
  assert.equal(
    didYouMean('slto', ['slot', 'host'], (name) => `--${name}`),
    'did you mean `--slot`?',
  )
  assert.equal(didYouMean('zzzzzz', ['slot', 'host']), 'there is `slot`, `host`')
  assert.equal(didYouMean('zzzzzz', []), null)
  assert.equal(
    didYouMean(
      'zzzzzz',
      Array.from({ length: 13 }, (_, i) => `name${i}`),
    ),
    null,
  )
})

test('a very long word costs nothing', () => {
  assert.equal(nearest('x'.repeat(1_000_000), ['slot']), null)
})
