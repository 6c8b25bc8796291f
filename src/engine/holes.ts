import { delay } from '../async/abort.ts'
import { ABSENT_VALUE, Op, type Slice, type StreamBatch } from '../model/batch.ts'
import type { Position, View } from '../model/position.ts'
import type { TableId } from '../model/schema.ts'
import { pickRows, textAt } from '../model/slice-builder.ts'
import { TailraceError } from '../sdk/errors.ts'
import { fenceSlice, keyText, type KeyFence, type TableFence } from './fence.ts'
import { ReadAgain } from './read-again.ts'
import type { Run } from './run.ts'

/**
 * TRAPS 4c. A hole is a row that came to a new key without its unchanged columns, while the copy never had its old row. It
 * is fetched by its new key in a new view, which from that change on is the fence of that key; a row that is not there any
 * more is only fenced.
 */

/** A commit may be in the log a moment before others can see it (TRAPS 12): then the row is asked for again. */
const LOOK_AGAIN_MILLIS = 20

/** Where the rows fetched for a slice go: in the place of the change that made the hole. */
interface Filled {
  readonly row: number
  readonly slice: Slice
  /** Null: it is not in the source any more. */
  readonly index: number | null
}

/** The slice without what the views have seen, and the rows that were fetched for it. */
export async function fenceAndFill(run: Run, slice: Slice, batch: StreamBatch, fence: TableFence, signal: AbortSignal): Promise<Slice[]> {
  const covers = run.source.covers?.bind(run.source)
  if (covers === undefined) throw new TailraceError('BUG', 'a source with later views must say what they cover')
  const fetchedHere = new Map<string, KeyFence[]>()
  const filled = new Map<number, Filled>()
  for (;;) {
    const { slice: kept, holes } = fenceSlice(slice, batch.transactions, fence, covers, fetchedHere)
    // A fetched row can be moved on by a later change of the same slice, to a key that is then a hole as well.
    if (holes.length === 0) {
      await remember(run, slice, batch, fence, fetchedHere)
      return [mergeFilled(kept, slice, [...filled.values()])].filter((each) => each.rows > 0)
    }
    if (holes.some((row) => filled.has(row))) await delay(LOOK_AGAIN_MILLIS, signal)
    signal.throwIfAborted()
    for (const each of await fetchHoles(run, slice, holes, fence, fetchedHere, signal)) filled.set(each.row, each)
  }
}

async function fetchHoles(
  run: Run,
  slice: Slice,
  holes: readonly number[],
  fence: TableFence,
  fences: Map<string, KeyFence[]>,
  signal: AbortSignal,
): Promise<Filled[]> {
  const table = run.tables.get(slice.schema.id)
  if (run.source.fetch === undefined || table === undefined)
    throw new TailraceError('BUG', `${slice.schema.id} has a row that must be fetched and the source cannot`)
  const keys = holes.map((row) => keyOf(slice, row))
  // As the rows are at this place of the log; what is ignored of them later is not asked for.
  const wanted = {
    ...table.source,
    schema: slice.schema,
    columnsFixed: table.source.columnsFixed || run.options.schemaChanges === 'ignore',
  }
  const fetched = await run.source.fetch(wanted, keys, signal)
  // Its fence would keep away what changes between here and there did to columns that the row was fetched without.
  if (fetched === null) throw new ReadAgain(slice.schema, 'rows of it must be fetched by key, and its columns have changed since')
  if (run.source.comparePositions?.(fetched.viewEnd, fence.end) === 1) fence.end = fetched.viewEnd
  const found = new Map(Array.from({ length: fetched.slice.rows }, (_, index) => [keyText(keyOf(fetched.slice, index)), index]))
  return holes.map((row, i) => {
    const text = keyText(keys[i] ?? [])
    const others = (fences.get(text) ?? []).filter((each) => each.row !== row)
    fences.set(text, [...others, { row, view: fetched.view }])
    return { row, slice: fetched.slice, index: found.get(text) ?? null }
  })
}

function keyOf(slice: Slice, row: number): string[] {
  return slice.schema.key.map((column) => textAt(slice, row, column) ?? '')
}

/** One slice again, for a sink applies slices one after the other: fetched rows stand where their holes were. */
function mergeFilled(kept: Slice, slice: Slice, filled: readonly Filled[]): Slice {
  const fetched = filled.flatMap(({ row, slice: from, index }) => {
    if (index === null) return []
    const one = pickRows(from, [index], [Op.insert])
    one.order[0] = slice.order[row] ?? 0
    one.transactions[0] = slice.transactions[row] ?? 0
    one.places.set(slice.places.subarray(row * 2, row * 2 + 2))
    return [one]
  })
  return fetched.length === 0 ? kept : joinSlices([kept, ...fetched])
}

/** Rows of slices of one table as one slice, by `order`. */
function joinSlices(slices: readonly Slice[]): Slice {
  const columns = slices[0]!.schema.columns.length
  const buffers = [...new Set(slices.map((each) => each.bytes))]
  const offsets = new Map<Buffer, number>()
  let length = 0
  for (const buffer of buffers) {
    offsets.set(buffer, length)
    length += buffer.length
  }
  const places = slices
    .flatMap((each) => Array.from({ length: each.rows }, (_, row) => ({ each, row })))
    .toSorted((a, b) => a.each.order[a.row]! - b.each.order[b.row]!)
  const withOld = slices.some((each) => each.oldKinds !== null)
  const count = places.length
  const joined = {
    schema: slices[0]!.schema,
    bytes: Buffer.concat(buffers),
    rows: count,
    ops: new Uint8Array(count),
    starts: new Int32Array(count * columns),
    lengths: new Int32Array(count * columns),
    oldKinds: withOld ? new Uint8Array(count) : null,
    oldStarts: new Int32Array(withOld ? count * columns : 0),
    oldLengths: new Int32Array(withOld ? count * columns : 0).fill(ABSENT_VALUE),
    order: new Int32Array(count),
    transactions: new Int32Array(count),
    places: new Uint32Array(count * 2),
  }
  places.forEach(({ each, row }, to) => copyRow(each, row, joined, to, offsets.get(each.bytes) ?? 0))
  return joined
}

function copyRow(from: Slice, row: number, to: Slice, at: number, offset: number): void {
  const columns = from.schema.columns.length
  to.ops[at] = from.ops[row]!
  to.order[at] = from.order[row]!
  to.transactions[at] = from.transactions[row]!
  to.places.set(from.places.subarray(row * 2, row * 2 + 2), at * 2)
  for (let column = 0; column < columns; column++) {
    to.starts[at * columns + column] = from.starts[row * columns + column]! + offset
    to.lengths[at * columns + column] = from.lengths[row * columns + column]!
    if (from.oldKinds === null) continue
    to.oldStarts[at * columns + column] = from.oldStarts[row * columns + column]! + offset
    to.oldLengths[at * columns + column] = from.oldLengths[row * columns + column]!
  }
  if (from.oldKinds !== null && to.oldKinds !== null) to.oldKinds[at] = from.oldKinds[row]!
}

// The fences of fetched keys, in the store: a run that dies before the table has passed them must know them again, or it
// would apply to the newer row what that row holds already.

interface StoredHoles {
  readonly view: View
  readonly end: Position
  /** Keys as `keyText`, each with the commit that made it a hole: what is not applied yet will be found again. */
  readonly keys: readonly (readonly [key: string, commit: Position])[]
}

const countKey = (table: TableId): string => `engine.holes.${table}`
const itemKey = (table: TableId, index: number): string => `engine.holes.${table}.${index}`

async function countOf(run: Run, table: TableId): Promise<number> {
  return Number((await run.state.memory.get(countKey(table))) ?? 0)
}

async function remember(
  run: Run,
  slice: Slice,
  batch: StreamBatch,
  fence: TableFence,
  fetched: ReadonlyMap<string, readonly KeyFence[]>,
): Promise<void> {
  const byView = new Map<View, [string, Position][]>()
  for (const [key, fences] of fetched) {
    for (const { row, view } of fences) {
      const commit = batch.transactions[slice.transactions[row] ?? 0]?.position
      if (commit === undefined)
        throw new TailraceError('BUG', `a row of ${slice.schema.id} names a transaction that its batch does not hold`)
      byView.set(view, [...(byView.get(view) ?? []), [key, commit]])
    }
    const last = fences.reduce((newest, each) => (each.row >= newest.row ? each : newest))
    fence.keys.set(key, last.view)
  }
  const { memory } = run.state
  let count = byView.size === 0 ? 0 : await countOf(run, fence.table)
  for (const [view, keys] of byView) {
    const stored: StoredHoles = { view, end: fence.end, keys }
    await memory.set(itemKey(fence.table, count), JSON.stringify(stored))
    await memory.set(countKey(fence.table), String(++count))
  }
}

/** Of an earlier connection or run: what was applied before the position is fenced as it was then. */
export async function recallHoles(run: Run, fence: TableFence): Promise<void> {
  const from = run.checkpointer.position
  const count = await countOf(run, fence.table)
  for (let i = 0; i < count; i++) {
    const text = await run.state.memory.get(itemKey(fence.table, i))
    if (text === null || from === null) continue
    const { view, end, keys } = JSON.parse(text) as StoredHoles
    const applied = keys.filter(([, commit]) => run.source.comparePositions?.(from, commit) === 1)
    for (const [key] of applied) fence.keys.set(key, view)
    if (applied.length > 0 && run.source.comparePositions?.(end, fence.end) === 1) fence.end = end
  }
}

/** The table has passed its fences or is read anew. */
export async function forgetHoles(run: Run, table: TableId): Promise<void> {
  const { memory } = run.state
  const count = await countOf(run, table)
  if (count === 0) return
  await memory.set(countKey(table), null)
  for (let i = 0; i < count; i++) await memory.set(itemKey(table, i), null)
}
