import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PartCollector } from './parts.ts'

function partsOf(kind: 'int64' | 'uuid', values: readonly (string | null)[]): unknown {
  const collector = new PartCollector({ kind })
  for (const value of values) collector.add(value)
  return collector.parts?.map(({ from, to }) => [from, to])
}

test('single values, and neighbours together, in the order of the key', () => {
  assert.deepEqual(partsOf('int64', ['7', '-3', '8', '100', '7']), [
    ['-3', '-2'],
    ['7', '9'],
    ['100', '101'],
  ])
  assert.deepEqual(partsOf('int64', []), [])
  assert.deepEqual(partsOf('uuid', ['00000000-0000-0000-0000-0000000000ff', 'ffffffff-ffff-ffff-ffff-ffffffffffff']), [
    ['00000000-0000-0000-0000-0000000000ff', '00000000-0000-0000-0000-000000000100'],
    ['ffffffff-ffff-ffff-ffff-ffffffffffff', null],
  ])
})

test('a row that no part holds', () => {
  assert.equal(partsOf('int64', ['1', null]), undefined)
})

test('many values make few parts, which hold all of them', () => {
  const collector = new PartCollector({ kind: 'int64' })
  for (let i = 0; i < 250_000; i++) collector.add(String(i * 3 + (i > 125_000 ? 1e9 : 0)))
  const parts = collector.parts ?? []
  assert.ok(parts.length > 0 && parts.length <= 500, String(parts.length))
  const holds = (value: number): boolean => parts.some(({ from, to }) => BigInt(from!) <= BigInt(value) && BigInt(value) < BigInt(to!))
  for (const value of [0, 3, 374_997, 1e9 + 375_006, 1e9 + 749_997]) assert.ok(holds(value), String(value))
  assert.ok(!holds(5e8), 'the largest gap is left out')
})
