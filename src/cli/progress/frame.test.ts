import assert from 'node:assert/strict'
import { test } from 'node:test'
import { displayWidth, fit, formatBytes, formatCount, formatElapsed, formatSeconds } from '../format.ts'
import { fakeReport, fakeTable } from '../testing/fake-engine.ts'
import { renderFrame } from './frame.ts'
import { plainLine } from './progress.ts'
import { Rates, secondsLeft, shareDone } from './rates.ts'

const copying = (rows: number): ReturnType<typeof fakeTable> =>
  fakeTable('public.orders', { state: 'copying', snapshot: { rows, bytes: rows * 100, chunks: 8, done: 2, expectedRows: 100_000 } })

function ratesOf(...rows: readonly number[]): Rates {
  const rates = new Rates()
  for (const [second, count] of rows.entries()) rates.add(fakeReport({ tables: [copying(count)] }), second * 1000)
  return rates
}

test('rates are those of the last seconds', () => {
  assert.deepEqual(ratesOf(0, 1000, 2000).of('public.orders'), { rows: 1000, bytes: 100_000 })
  // Ten seconds of nothing, then work: the old quiet does not count.
  assert.deepEqual(ratesOf(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 500, 1000, 1500, 2000, 2500).of('public.orders'), { rows: 500, bytes: 50_000 })
  assert.deepEqual(ratesOf(5).of('public.orders'), { rows: 0, bytes: 0 })
  assert.deepEqual(ratesOf(5000, 0).of('public.orders'), { rows: 0, bytes: 0 })
  assert.deepEqual(ratesOf(0, 1).of('another'), { rows: 0, bytes: 0 })
})

test('share and time left', () => {
  assert.equal(shareDone(copying(25_000)), 0.25)
  assert.equal(shareDone(copying(500_000)), 0.99)
  assert.equal(secondsLeft(copying(25_000), 1000), 75)
  assert.equal(secondsLeft(copying(25_000), 0), null)
  assert.equal(shareDone(fakeTable('t', { state: 'streaming' })), 1)
  assert.equal(shareDone(fakeTable('t', { state: 'pending', snapshot: { rows: 0, bytes: 0, chunks: 0, done: 0, expectedRows: -1 } })), null)
})

const many = (count: number): ReturnType<typeof fakeReport> =>
  fakeReport({
    state: 'streaming',
    lag: { seconds: 0.25, bytes: 1_200_000, rows: 12 },
    tables: Array.from({ length: count }, (_, i) =>
      fakeTable(`public.table_with_a_rather_long_name_${i}`, {
        state: i % 7 === 0 ? 'streaming' : i % 5 === 0 ? 'copying' : 'done',
        snapshot: { rows: i * 1000, bytes: i * 100_000, chunks: 4, done: 1, expectedRows: 1_000_000 },
        stream: { inserts: i, updates: i * 2, deletes: 0, truncates: 0 },
      }),
    ),
  })

test('a frame never exceeds the terminal, however small it is and however many tables there are', () => {
  for (const tables of [0, 1, 5, 300]) {
    for (const width of [1, 5, 10, 23, 24, 40, 80, 200]) {
      for (const height of [1, 2, 4, 5, 10, 50]) {
        const lines = renderFrame(many(tables), new Rates(), { width, height })
        assert.ok(lines.length >= 1 && lines.length <= height, `${lines.length} lines in ${height}`)
        for (const line of lines) assert.ok(displayWidth(line) <= width, `${JSON.stringify(line)} in ${width}`)
      }
    }
  }
})

test('with more tables than lines the active ones are shown and the rest is counted', () => {
  const lines = renderFrame(many(100), new Rates(), { width: 120, height: 15 })
  assert.equal(lines.length, 15)
  assert.match(lines.at(-2)!, /^… and 89 more: .*done/)
  assert.doesNotMatch(lines.slice(2, -2).join('\n'), / done /)
  assert.match(lines.at(-1)!, /^streaming, 0:02, .*lag 0\.25 s 1\.20 MB 12 rows/)
})

test('one table while it is copied', () => {
  const rates = ratesOf(0, 5000, 10_000)
  const lines = renderFrame(fakeReport({ state: 'copying', tables: [copying(10_000)] }), rates, { width: 100, height: 24 })
  assert.deepEqual(
    lines.map((line) => line.replace(/ +/g, ' ')),
    [
      'shop: toy://h/a → /dev/well',
      'table state rows done rows/s MB/s ETA',
      'public.orders copying 10.0k 10% 5.00k 0.5 0:18',
      'copying, 0:02, 10.0k rows, 5.00k rows/s, 500 kB/s',
    ],
  )
  assert.equal(
    plainLine(fakeReport({ state: 'copying', tables: [copying(10_000)] }), rates),
    'copying 0:02: 10.0k rows, 5.00k rows/s, 0 of 1 tables copied, public.orders 10%',
  )
})

test('names cannot move the cursor', () => {
  const evil = fakeReport({ tables: [fakeTable('public."\x1b[2J\nx"')], source: 'toy://\x1b]0;title\x07' })
  for (const line of renderFrame(evil, new Rates(), { width: 80, height: 24 })) assert.doesNotMatch(line, /\p{Cc}/u)
})

test('wide letters are counted as a terminal draws them', () => {
  assert.equal(displayWidth('表'), 2)
  assert.equal(displayWidth('e\u0301'), 1)
  assert.equal(displayWidth('😀a'), 3)
  assert.equal(fit('表表表', 4), '表…')
  assert.equal(fit('abcdef', 4), 'abc…')
  assert.equal(fit('abc', 0), '')
})

test('figures', () => {
  assert.deepEqual([0, 999, 1000, 999_499, 999_600, 1_234_567, 5e12].map(formatCount), [
    '0',
    '999',
    '1.00k',
    '999k',
    '1.00M',
    '1.23M',
    '5.00T',
  ])
  assert.deepEqual([0, 1500, 2.5e9].map(formatBytes), ['0 B', '1.50 kB', '2.50 GB'])
  assert.deepEqual([0, 7.4, 61, 3661, 90_000].map(formatSeconds), ['0:00', '0:07', '1:01', '1:01:01', '1d 01:00'])
  assert.deepEqual([0, 0.0034, 4.25, 75].map(formatElapsed), ['0 s', '0.003 s', '4.3 s', '1:15'])
})
