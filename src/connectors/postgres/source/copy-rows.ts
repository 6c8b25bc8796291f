import { NULL_VALUE, Op, type Slice } from '../../../model/batch.ts'
import type { TableSchema } from '../../../model/schema.ts'
import { SliceBuilder } from '../../../model/slice-builder.ts'
import { TailraceError } from '../../../sdk/errors.ts'

const TAB = 9
const NEWLINE = 10
const BACKSLASH = 92
const FRAME_HEAD = 5

/** What follows a backslash in COPY's text format (manual, COPY "Text Format") → the byte that is meant. */
const ESCAPES = new Map<number, number>([
  [98, 8],
  [102, 12],
  [110, 10],
  [114, 13],
  [116, 9],
  [118, 11],
])

/**
 * CopyData messages of COPY's text format → a slice of `read` rows over the same bytes; escapes are resolved in place,
 * which only shrinks values.
 */
export function copyTextToSlice(schema: TableSchema, data: Buffer): Slice {
  const builder = new SliceBuilder(schema)
  let at = 0
  while (at < data.length) {
    const end = at + 1 + data.readInt32BE(at + 1)
    const cell = builder.begin(Op.read, builder.rows, 0, 0, 0)
    const filled = readLine(data, at + FRAME_HEAD, end, builder, cell) - cell
    // A line of a table without columns still has its end.
    if (filled !== Math.max(1, builder.columns)) throw damagedRow(schema)
    at = end
  }
  return builder.take(data)
}

function damagedRow({ id }: TableSchema): TailraceError {
  return new TailraceError('PROTOCOL', `copying ${id}: the PostgreSQL server sent a row that has not the columns that were asked for`, {
    path: id,
  })
}

/** Gives the cell after the last one that was filled: one for each end of a value. */
function readLine(data: Buffer, start: number, end: number, builder: SliceBuilder, first: number): number {
  const { starts, lengths } = builder
  let cell = first
  let from = start
  let to = start
  let isNull = false
  for (let at = start; at < end; at++) {
    const byte = data[at]!
    if (byte === TAB || byte === NEWLINE) {
      starts[cell] = from
      lengths[cell] = isNull ? NULL_VALUE : to - from
      cell++
      isNull = false
      from = at + 1
      to = from
    } else if (byte === BACKSLASH) {
      const next = data[++at]!
      if (next === 78) isNull = true
      else data[to++] = ESCAPES.get(next) ?? next
    } else {
      if (to !== at) data[to] = byte
      to++
    }
  }
  // What is left over has no end, and is no value.
  return from === end ? cell : first
}

/** CopyData messages → their payloads one behind the other, in place. */
export function stripFrames(data: Buffer): Buffer {
  let at = 0
  let to = 0
  while (at < data.length) {
    const end = at + 1 + data.readInt32BE(at + 1)
    data.copyWithin(to, at + FRAME_HEAD, end)
    to += end - at - FRAME_HEAD
    at = end
  }
  return data.subarray(0, to)
}
