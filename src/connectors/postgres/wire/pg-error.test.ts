import assert from 'node:assert/strict'
import { it } from 'node:test'
import { translate } from './pg-error.ts'

it('an abort is told from a mistake: one worker that fails has the others give up, and its own error must be the one that counts', () => {
  const aborted = AbortSignal.abort().reason as Error
  assert.equal(translate(aborted, 'connecting to PostgreSQL', 'source').code, 'ABORTED')
  assert.equal(translate(new TypeError('x is not a function'), 'connecting to PostgreSQL', 'source').code, 'BUG')
})
