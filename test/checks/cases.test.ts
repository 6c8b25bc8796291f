import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CASE_NOTES, CASE_PARTS } from './case-notes.ts'
import { CASE_NAMES } from './case-table.ts'
import { caseTests } from './case-titles.ts'

/** What the issue "PostgreSQL to three sinks" must show: by name, not by note. */
const MUST_SHOW = [
  ...[...range(1, 11), ...range(13, 19), ...range(21, 25), ...range(27, 32), 40].map((number) => `CASE ${number}`),
  // The verified traps of sections A–C and E–G; 16 is about a technique that is not used.
  ...[...range(1, 15), ...range(17, 26), ...range(33, 60)].map((number) => `TRAP ${number}`),
]

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i)
}

const covered = new Set(caseTests().map((each) => each.name))

test('every case that must be shown has a test of its name', () => {
  assert.deepEqual(
    MUST_SHOW.filter((name) => !covered.has(name)),
    [],
  )
})

test('every other case has a test or a note that says with what it comes', () => {
  assert.deepEqual(
    CASE_NAMES.filter((name) => !covered.has(name) && CASE_NOTES[name] === undefined),
    [],
  )
})

test('no note is stale', () => {
  assert.deepEqual(
    Object.keys(CASE_NOTES).filter((name) => covered.has(name)),
    [],
  )
  assert.deepEqual(
    Object.keys(CASE_PARTS).filter((name) => !covered.has(name)),
    [],
  )
})

test('no test names a case that does not exist', () => {
  const known = new Set([...CASE_NAMES, ...range(61, 66).map((number) => `TRAP ${number}`)])
  assert.deepEqual(
    caseTests()
      .filter(({ name }) => !known.has(name))
      .map(({ name, file }) => `${file}: ${name}`),
    [],
  )
})
