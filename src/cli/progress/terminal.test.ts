import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fakeReport } from '../testing/fake-engine.ts'
import { TestIo, TestStream } from '../testing/test-io.ts'
import { Output } from '../output.ts'
import { openProgress, progressKind } from './progress.ts'
import { LiveLines } from './terminal.ts'

const PART = /\p{Cc}\[[?\d]*[A-Za-z]|\r|\n|\P{Cc}+/gu

/** A terminal that knows just what we send: what stands on its screen, and whether it was given back as it was. */
function screenOf(text: string): { readonly lines: readonly string[]; readonly cursor: boolean; readonly wrap: boolean } {
  const lines: string[] = ['']
  let row = 0
  let cursor = true
  let wrap = true
  for (const [part] of text.matchAll(PART)) {
    if (part === '\n') lines[++row] ??= ''
    else if (part === '\x1b[?25l') cursor = false
    else if (part === '\x1b[?25h') cursor = true
    else if (part === '\x1b[?7l') wrap = false
    else if (part === '\x1b[?7h') wrap = true
    else if (part.endsWith('A')) row -= Number(/\d+/.exec(part)![0])
    else if (part === '\x1b[0J') lines.splice(row, Infinity, '')
    else if (part !== '\r') lines[row] += part
  }
  return { lines: lines.filter((line) => line !== ''), cursor, wrap }
}

test('lines are drawn over in place, others stand above them', () => {
  const stream = new TestStream()
  const live = new LiveLines(stream)
  live.above('before')
  live.draw(['a1', 'b1'])
  live.draw(['a2'])
  live.above('log')
  live.draw(['a3', 'b3', 'c3'])
  assert.deepEqual(screenOf(stream.text), { lines: ['before', 'log', 'a3', 'b3', 'c3'], cursor: false, wrap: false })
  live[Symbol.dispose]()
  live[Symbol.dispose]()
  live.above('after')
  assert.deepEqual(screenOf(stream.text), { lines: ['before', 'log', 'after'], cursor: true, wrap: true })
})

test('the live view is throttled, draws at once when the state changes, and ends clean', () => {
  const io = new TestIo('/')
  io.stderr.isTTY = true
  const output = new Output(io, { json: false, logFormat: 'text', logLevel: 'info' }, new Set())
  const progress = openProgress('live', { io, output, secrets: new Set() })
  let draws = 0
  const count = (): number => {
    const drawn = io.stderr.text.split('shop:').length - 1 - draws
    draws += drawn
    return drawn
  }
  progress.update(fakeReport({ state: 'copying' }))
  for (let i = 0; i < 100; i++) progress.update(fakeReport({ state: 'copying' }))
  assert.equal(count(), 1)
  progress.update(fakeReport({ state: 'streaming' }))
  assert.equal(count(), 1)
  io.now += 200
  progress.update(fakeReport({ state: 'streaming' }))
  assert.equal(count(), 1)
  output.note('a log line')
  assert.equal(io.exitListeners.size, 1)
  progress[Symbol.dispose]()
  output.note('afterwards')
  assert.deepEqual(screenOf(io.stderr.text), { lines: ['a log line', 'afterwards'], cursor: true, wrap: true })
  assert.equal(io.exitListeners.size, 0)
})

test('the end of the process gives the terminal back too', () => {
  const io = new TestIo('/')
  io.stderr.isTTY = true
  const output = new Output(io, { json: false, logFormat: 'text', logLevel: 'info' }, new Set())
  openProgress('live', { io, output, secrets: new Set() }).update(fakeReport())
  for (const listener of io.exitListeners) listener()
  assert.equal(screenOf(io.stderr.text).cursor, true)
})

test('which view is taken', () => {
  const io = new TestIo('/')
  assert.equal(progressKind('auto', io, 'text'), 'plain')
  io.stderr.isTTY = true
  assert.equal(progressKind('auto', io, 'text'), 'live')
  assert.equal(progressKind('auto', io, 'json'), 'json')
  assert.equal(progressKind('none', io, 'text'), 'none')
  io.variables['TERM'] = 'dumb'
  assert.equal(progressKind('auto', io, 'text'), 'plain')
})

test('plain lines come every few seconds, JSON lines every second', () => {
  const io = new TestIo('/')
  const output = new Output(io, { json: false, logFormat: 'text', logLevel: 'info' }, new Set())
  for (const [kind, expected] of [
    ['plain', 3],
    ['json', 11],
  ] as const) {
    io.stderr.text = ''
    using progress = openProgress(kind, { io, output, secrets: new Set() })
    for (let i = 0; i <= 50; i++) {
      progress.update(fakeReport({ state: 'copying' }))
      io.now += 200
    }
    const lines = io.stderr.text.trimEnd().split('\n')
    assert.equal(lines.length, expected)
    assert.doesNotMatch(io.stderr.text, /\p{Cc}\[/u)
    if (kind === 'json') for (const line of lines) assert.equal((JSON.parse(line) as { event: string }).event, 'progress')
  }
})
