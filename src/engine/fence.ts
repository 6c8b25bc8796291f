import { Op, OldImage, UNCHANGED_VALUE, type Slice, type OpCode } from '../model/batch.ts'
import { keyOrder, type KeyOrder } from '../model/logical-type.ts'
import type { Position, Transaction, View } from '../model/position.ts'
import { columnAt, type TableId, type TableSchema } from '../model/schema.ts'
import { oldTextAt, pickRows, textAt } from '../model/slice-builder.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Chunk } from '../sdk/source.ts'

/**
 * Fences of tables that were read in later views than the stream's origin (TRAPS 3, 4, 13): a change whose transaction the
 * view of its key's chunk has seen is in the copy already and must not be applied again.
 */

/** What the stream must know of one such table. */
export interface TableFence {
  readonly table: TableId
  /** Disjoint chunks that cover the table; `view` null: the origin's own view, which covers nothing of the stream. */
  readonly chunks: readonly FencedChunk[]
  /** Rows fetched again one by one: they have fences of their own. */
  readonly keys: Map<string, View>
  /** Past this position no change can be covered. */
  end: Position
}

export interface FencedChunk {
  readonly range: Chunk['range']
  readonly view: View | null
}

/** A key fetched for a hole of the slice at hand: `view` is its fence from that row on. */
export interface KeyFence {
  readonly row: number
  readonly view: View
}

export interface Fenced {
  readonly slice: Slice
  /** Rows left out because the copy has them already. */
  readonly covered: number
  /** Rows of the slice given, left out, that came to a new key without all columns, whose old row the copy does not have (TRAPS 4c). */
  readonly holes: readonly number[]
}

type Covers = (view: View, transaction: Transaction) => boolean

/** Key of one row as one text; lengths keep ('a','bc') and ('ab','c') apart. */
export function keyText(values: readonly (string | null | undefined)[]): string {
  return values.map((value) => (value === null || value === undefined ? '-' : `${value.length}:${value}`)).join('')
}

/**
 * Takes out of a slice what the views have seen, splitting key changes into "old key goes" and "new key comes". `fetched`:
 * keys with fences of their own from a row of this slice on.
 */
export function fenceSlice(
  slice: Slice,
  transactions: readonly Transaction[],
  fence: TableFence,
  covers: Covers,
  fetched: ReadonlyMap<string, readonly KeyFence[]> = NONE,
): Fenced {
  const chunkView = chunkFinder(slice.schema, fence)
  const find = (key: readonly (string | null)[], row: number): View | null =>
    (fetched.size === 0 ? null : viewFrom(fetched, key, row)) ?? chunkView(key)
  const rows: number[] = []
  const ops: OpCode[] = []
  const dropOld = new Set<number>()
  const holes: number[] = []
  const isCovered = (view: View | null, row: number): boolean => view !== null && covers(view, transactionOf(transactions, slice, row))
  for (let row = 0; row < slice.rows; row++) {
    const op = slice.ops[row] as OpCode
    const oldKey = oldKeyOf(slice, row)
    const newKey = op === Op.delete ? null : newKeyOf(slice, row)
    const goes = oldKey !== null && isCovered(find(oldKey, row), row)
    const comes = newKey !== null && isCovered(find(newKey, row), row)
    const moved = oldKey !== null && newKey !== null && keyText(oldKey) !== keyText(newKey)
    const kept = decide(op, moved, goes, comes)
    if (kept === null) continue
    if (kept === Op.insert && op === Op.update) {
      if (lacksColumns(slice, row)) {
        holes.push(row)
        continue
      }
      dropOld.add(row)
    }
    rows.push(row)
    ops.push(kept)
  }
  if (rows.length === slice.rows && dropOld.size === 0 && ops.every((op, i) => op === slice.ops[i])) return { slice, covered: 0, holes }
  const picked = pickRows(slice, rows, ops, (row) => dropOld.has(row))
  blankDeletes(picked)
  return { slice: picked, covered: slice.rows - rows.length, holes }
}

const NONE: ReadonlyMap<string, readonly KeyFence[]> = new Map()

function viewFrom(fetched: ReadonlyMap<string, readonly KeyFence[]>, key: readonly (string | null)[], row: number): View | null {
  let newest: KeyFence | null = null
  for (const each of fetched.get(keyText(key)) ?? []) if (each.row <= row && (newest === null || each.row > newest.row)) newest = each
  return newest?.view ?? null
}

/** Rule K (b): neither covered → as it is; both → nothing; old key covered only → insert; new key covered only → delete. */
function decide(op: OpCode, moved: boolean, goes: boolean, comes: boolean): OpCode | null {
  if (op === Op.delete) return goes ? null : op
  if (!moved) return comes ? null : op
  if (goes && comes) return null
  if (goes) return Op.insert
  return comes ? Op.delete : op
}

/** Updates that became deletes have no new image any more. */
function blankDeletes(slice: Slice): void {
  const columns = slice.schema.columns.length
  for (let row = 0; row < slice.rows; row++) if (slice.ops[row] === Op.delete) slice.lengths.fill(-3, row * columns, (row + 1) * columns)
}

function transactionOf(transactions: readonly Transaction[], slice: Slice, row: number): Transaction {
  const transaction = transactions[slice.transactions[row]!]
  if (transaction === undefined)
    throw new TailraceError('BUG', `a row of ${slice.schema.id} names a transaction that its batch does not hold`)
  return transaction
}

/** The key before the change, or null for an insert; for an update without old image the key is the new one. */
function oldKeyOf(slice: Slice, row: number): (string | null)[] | null {
  if (slice.ops[row] === Op.insert) return null
  const known = slice.oldKinds !== null && slice.oldKinds[row] !== OldImage.none
  return slice.schema.key.map((column) => (known ? oldTextAt(slice, row, column) : textAt(slice, row, column)) ?? null)
}

function newKeyOf(slice: Slice, row: number): (string | null)[] {
  // A key column that was not sent (TOAST) is the old one.
  return slice.schema.key.map((column) => textAt(slice, row, column) ?? oldTextAt(slice, row, column) ?? null)
}

function lacksColumns(slice: Slice, row: number): boolean {
  const columns = slice.schema.columns.length
  for (let column = 0; column < columns; column++) if (slice.lengths[row * columns + column] === UNCHANGED_VALUE) return true
  return false
}

type FindView = (key: readonly (string | null)[]) => View | null

/** Key → view of the chunk that holds it. Tables read whole have one chunk or chunks of one view. */
function chunkFinder(schema: TableSchema, fence: TableFence): FindView {
  const byKey: FindView = (key) => fence.keys.get(keyText(key)) ?? null
  const own = (find: FindView): FindView => (fence.keys.size === 0 ? find : (key) => byKey(key) ?? find(key))
  const views = new Set(fence.chunks.map((chunk) => chunk.view))
  if (views.size === 1) {
    const [view] = views
    return own(() => view ?? null)
  }
  const first = schema.key[0]
  const order = first === undefined ? null : keyOrder(columnAt(schema, first).type)
  if (order === null) throw new TailraceError('BUG', `table ${schema.id} was read in several views but its key has no order that we know`)
  const sorted = sortChunks(fence.chunks, order)
  return own((key) => findChunk(sorted, key[0] ?? '', order).view)
}

function sortChunks(chunks: readonly FencedChunk[], order: KeyOrder): FencedChunk[] {
  const from = (chunk: FencedChunk): string | null => (chunk.range.kind === 'key' ? chunk.range.from : null)
  return chunks.toSorted((a, b) => {
    const [left, right] = [from(a), from(b)]
    if (left === null || right === null) return left === right ? 0 : left === null ? -1 : 1
    return order(left, right)
  })
}

function findChunk(sorted: readonly FencedChunk[], value: string, order: KeyOrder): FencedChunk {
  let low = 0
  let high = sorted.length - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    const range = sorted[middle]!.range
    const from = range.kind === 'key' ? range.from : null
    if (from === null || order(from, value) <= 0) low = middle
    else high = middle - 1
  }
  const found = sorted[low]
  if (found === undefined) throw new TailraceError('BUG', 'a table with a fence has no chunk')
  return found
}
