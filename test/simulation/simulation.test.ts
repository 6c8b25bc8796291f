import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { complaint, explore, summary } from './explore.ts'
import { simulate } from './history.ts'
import { PLANTS, type Plant } from './plants.ts'

const SECONDS = 20
/** Within so many histories a planted fault must show. */
const ENOUGH = 300

test(`random histories, for ${SECONDS} seconds: nothing is ever violated`, async (t) => {
  // The same ones each time: `npm run soak` looks for new ones.
  const found = await explore({ seed: 1, seconds: SECONDS })
  t.diagnostic(summary(found))
  assert.ok(found.failed === null, found.failed === null ? '' : complaint(found.failed))
  assert.ok(found.transactions >= found.histories * 50, 'each history has 50 transactions or more')
  assert.ok(found.crashes >= found.histories * 2, 'each history has two crashes or more')
  assert.ok(found.compared >= found.histories, 'tables were compared')
})

test('a seed gives the same history again, event by event', async () => {
  for (const seed of [1, 2, 3, 4, 5]) {
    const [once, again] = [await simulate(seed, { trace: true }), await simulate(seed, { trace: true })]
    assert.deepEqual(again.events, once.events)
    assert.equal(again.digest, once.digest)
    assert.ok(once.events.length > 200, `seed ${seed} has ${once.events.length} events`)
  }
})

describe('a fault that is planted is found', () => {
  for (const [plant, what] of Object.entries(PLANTS) as [Plant, string][]) {
    test(what, async () => {
      const { failed } = await explore({ seed: 1, seconds: 120, most: ENOUGH, plant })
      assert.ok(failed !== null, `${ENOUGH} histories with it were all found good`)
    })
  }
})
