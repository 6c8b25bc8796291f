import assert from 'node:assert/strict'
import { it } from 'node:test'
import { TailraceError } from '../errors.ts'
import { fitIdentifier, identifierProblem, qualify, quoteIdentifier, quoteLiteral, requireIdentifier } from './identifiers.ts'

it('CASE 30: any name is quoted so that it is read back', () => {
  assert.deepEqual(
    [quoteIdentifier('select'), quoteIdentifier('a"b'), qualify('S.x', 'T'), qualify(null, 't'), quoteLiteral("it's \\")],
    ['"select"', '"a""b"', '"S.x"."T"', '"t"', "'it''s \\'"],
  )
})

it('CASE 30: a name that does not fit is refused, in bytes', () => {
  assert.equal(identifierProblem('ä'.repeat(31), 63), null)
  assert.match(identifierProblem('ä'.repeat(32), 63) ?? '', /64 bytes/)
  assert.match(identifierProblem('a\0b', 63) ?? '', /NUL/)
  assert.match(identifierProblem('', 63) ?? '', /empty/)
  assert.throws(
    () => requireIdentifier('x'.repeat(64), 63, 'the table'),
    (error) => error instanceof TailraceError && error.code === 'SCHEMA_UNSUPPORTED',
  )
})

it('a name of ours is cut at a character and stays unique', () => {
  const [one, two] = [fitIdentifier(`${'ü'.repeat(40)}1`, 63), fitIdentifier(`${'ü'.repeat(40)}2`, 63)]
  assert.notEqual(one, two)
  assert.ok(Buffer.byteLength(one) <= 63 && !one.includes('\ufffd'))
  assert.equal(fitIdentifier('short', 63), 'short')
})
