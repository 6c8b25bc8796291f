import assert from 'node:assert/strict'
import { it } from 'node:test'
import { MessageWriter } from '../wire/message-writer.ts'
import { CopyTextWriter, unchangedMask, writeTextArray, type Cells } from './encode.ts'

/** Cells of rows of `columns` values; undefined = UNCHANGED. */
function cellsOf(rows: readonly (readonly (string | null | undefined)[])[]): Cells {
  const columns = rows[0]?.length ?? 0
  const starts = new Int32Array(rows.length * columns)
  const lengths = new Int32Array(rows.length * columns)
  let bytes = Buffer.alloc(0)
  rows.flat().forEach((value, cell) => {
    starts[cell] = bytes.length
    lengths[cell] = value === undefined ? -2 : value === null ? -1 : Buffer.byteLength(value)
    if (typeof value === 'string') bytes = Buffer.concat([bytes, Buffer.from(value)])
  })
  return { bytes, starts, lengths, firsts: Int32Array.from(rows.keys(), (row) => row * columns) }
}

it('a text[] parameter in the form of array_send', () => {
  const writer = new MessageWriter(16)
  writeTextArray(
    writer,
    cellsOf([
      ['a', 'x'],
      [null, 'y'],
      ['ßc', 'z'],
    ]),
    0,
  )
  const int = (...values: readonly number[]): Buffer =>
    Buffer.concat(values.map((value) => Buffer.from([value >> 24, value >> 16, value >> 8, value].map((byte) => byte & 0xff))))
  const body = Buffer.concat([int(1, 1, 25, 3, 1), int(1), Buffer.from('a'), int(-1), int(3), Buffer.from('ßc')])
  assert.deepEqual(writer.bytes(), Buffer.concat([int(body.length), body]))
})

it('rows of COPY text, every special character escaped, in messages of bounded size', () => {
  const writer = new CopyTextWriter()
  writer.rows(
    cellsOf([
      ['a\tb\nc\rd\\e', null, ''],
      ['\\N', '\\.', 'ä\u0001\b'],
    ]),
    Int32Array.of(0, 1, 2),
    't',
  )
  const [message, ...more] = writer.take()
  assert.equal(more.length, 0)
  assert.equal(message?.readInt32BE(1), message!.length - 1)
  assert.equal(message?.toString('utf8', 5), 'a\\tb\\nc\\rd\\\\e\t\\N\t\n\\\\N\t\\\\.\tä\u0001\b\n')
  const rows = Array.from({ length: 300 }, () => ['x'.repeat(10_000)])
  writer.rows(cellsOf(rows), Int32Array.of(0), 't')
  const messages = writer.take()
  assert.ok(messages.length > 5 && messages.every((each) => each.length < 600_000))
  assert.equal(
    messages.reduce((sum, each) => sum + each.length - 5, 0),
    300 * 10_001,
  )
  assert.deepEqual(writer.take(), [])
})

it('a row that lacks a value is never written as null', () => {
  assert.throws(() => new CopyTextWriter().rows(cellsOf([['a', undefined]]), Int32Array.of(0, 1), 'public.t'), /public.t.*did not send/)
})

it('a mask has a bit per column that a row does not know, 31 to a word', () => {
  const row = Array.from({ length: 40 }, (_, i) => (i === 0 || i === 30 || i === 31 ? undefined : 'x'))
  const columns = row.map((_, i) => i)
  assert.deepEqual([unchangedMask(cellsOf([row]), columns, 0)[0], unchangedMask(cellsOf([row]), columns, 1)[0]], [1 | (1 << 30), 1])
})
