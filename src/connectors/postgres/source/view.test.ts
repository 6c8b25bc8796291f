import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Position, Transaction } from '../../../model/position.ts'
import { covers, viewOfSnapshot } from './view.ts'

const transaction = (id: bigint): Transaction => ({ id: String(id % 2n ** 32n), position: 'p' as Position, end: null, committedAt: 0 })

function covered(snapshot: string, ...ids: readonly bigint[]): boolean[] {
  return ids.map((id) => covers(viewOfSnapshot(snapshot), transaction(id)))
}

it('TRAP 13: a view covers what lies below xmin, and below xmax what did not run', () => {
  assert.deepEqual(covered('100:105:100,103', 99n, 100n, 101n, 102n, 103n, 104n, 105n, 106n), [
    true,
    false,
    true,
    true,
    false,
    true,
    false,
    false,
  ])
  assert.deepEqual(covered('100:100:', 99n, 100n), [true, false])
})

it('TRAP 13: the 32 bits of the log are extended by the epoch nearest to xmin', () => {
  const wrap = 2n ** 32n
  for (const xmin of [wrap * 3n + 5n, wrap * 3n - 5n]) {
    const [below, above] = [xmin - 10n, xmin + 10n]
    assert.deepEqual(covered(`${xmin}:${above}:${xmin}`, below, xmin, xmin + 1n, above), [true, false, true, false])
  }
})
