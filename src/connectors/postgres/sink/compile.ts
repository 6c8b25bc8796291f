import { OldImage, Op, UNCHANGED_VALUE, type Slice } from '../../../model/batch.ts'
import type { Compaction } from '../../../sdk/sql/compact.ts'
import type { FilledCell } from '../../../sdk/sql/fill.ts'
import type { MessageWriter } from '../wire/message-writer.ts'
import type { ExecuteResult } from '../wire/pipeline.ts'
import { CopyTextWriter, isAnyUnchanged, unchangedMask, writeIntArray, writeTextArray, type Cells } from './encode.ts'
import type { Purpose, Requests } from './requests.ts'
import type { TableStatements, WrittenColumn } from './statements.ts'

/** Rows per statement: longer arrays spool (APPLY.md A, rule 3). */
const CHUNK = 1000
/** From here on COPY beats INSERT … SELECT FROM unnest. */
const COPY_FROM = 24

/** The changes of one table in one batch. */
export interface TableWork {
  readonly statements: TableStatements
  readonly slice: Slice
  readonly compaction: Compaction
}

/**
 * How the rows of a batch are written, from the fastest on; each later one succeeds where an earlier one trips a constraint.
 * - `place`: deletes, updates in place, inserts by COPY.
 * - `replace`: updates as delete + insert, so that second unique values can be swapped (TRAPS 33, 34).
 * - `upsert`: inserts take the place of rows that are there already (APPLY.md rule 5).
 * - `rows`, `rows-upsert`: one by one in source order, for foreign keys and triggers that are not switched off (TRAPS 36).
 */
export type Manner = 'place' | 'replace' | 'upsert' | 'rows' | 'rows-upsert'

export function finalCells(compaction: Compaction, entries: Int32Array): Cells {
  const columns = compaction.slice.schema.columns.length
  const { starts, lengths } = compaction
  return { bytes: compaction.slice.bytes, starts, lengths, firsts: entries.map((entry) => compaction.rows[entry]! * columns) }
}

export function baseCells(compaction: Compaction, entries: Int32Array): Cells {
  const keys = compaction.keyColumns.length
  return {
    bytes: compaction.slice.bytes,
    starts: compaction.baseStarts,
    lengths: compaction.baseLengths,
    firsts: entries.map((entry) => entry * keys),
  }
}

/** Entries that are written as delete + insert but lack a column: their base rows are read first (TRAPS 34). */
export function entriesToFetch(work: TableWork, manner: Manner): Int32Array {
  const { compaction } = work
  const replaced = manner === 'replace' ? join(compaction.moves, compaction.updates) : compaction.moves
  const columns = work.statements.columns.map((column) => column.index)
  return replaced.filter((entry) => isAnyUnchanged(finalCells(compaction, Int32Array.of(entry)), columns))
}

export interface Fetch {
  readonly work: TableWork
  readonly entries: Int32Array
  readonly columns: readonly number[]
}

/** Asks for the columns that some of the entries lack. */
export function requestFetch(requests: Requests, work: TableWork, entries: Int32Array): Fetch {
  const { statements, compaction } = work
  const cells = finalCells(compaction, entries)
  const columns = statements.columns.map((column) => column.index).filter((index) => isAnyUnchanged(cells, [index]))
  requests.ask(purposeOf(work, 'fetch'), statements.fetch(columns), keyArrays(statements, baseCells(compaction, entries)))
  return { work, entries, columns }
}

/** The fetched values as cells of the final images; null when a base row is not there. */
export function fetchedCells(fetch: Fetch, result: ExecuteResult): FilledCell[] | null {
  const { compaction } = fetch.work
  const width = compaction.slice.schema.columns.length
  if (result.rows.length !== fetch.entries.length) return null
  return result.rows.flatMap(([place, ...values]) => {
    const row = compaction.rows[fetch.entries[Number(place) - 1]!]!
    const unknown = fetch.columns.map((column, i) => ({ row, column, value: values[i] ?? null }))
    return unknown.filter(({ column }) => compaction.lengths[row * width + column] === UNCHANGED_VALUE)
  })
}

/** The statements of one table, set by set: what goes, what stays, what comes. */
export function compileSets(requests: Requests, work: TableWork, manner: Manner): void {
  const { compaction } = work
  const { deletes, updates, moves, inserts, vanished } = compaction
  if (work.statements.match === 'image') {
    eachChunk(join(deletes, moves), (entries) => deleteImages(requests, work, baseCells(compaction, entries)))
    eachInsert(requests, work, compaction, join(moves, inserts), manner)
    return
  }
  const replace = manner === 'replace'
  // Under repetition a row may have moved already.
  const again = manner === 'upsert' && !work.statements.soft
  eachChunk(join(deletes, vanished, again ? moves : EMPTY), (entries) => deleteByKey(requests, work, baseCells(compaction, entries)))
  eachChunk(join(again ? EMPTY : moves, replace ? updates : EMPTY), (entries) => takeAway(requests, work, baseCells(compaction, entries)))
  if (!replace && work.statements.settable.length > 0) {
    eachChunk(updates, (entries) => update(requests, work, baseCells(compaction, entries), finalCells(compaction, entries)))
  }
  eachInsert(requests, work, compaction, join(moves, replace ? updates : EMPTY, inserts), manner)
}

/** All rows of the batch one by one, as the source did them. */
export function compileRows(requests: Requests, works: readonly TableWork[], upsert: boolean): void {
  const places = works.flatMap((work) => Array.from(work.slice.order, (order, row) => ({ work, row, order })))
  places.sort((a, b) => a.order - b.order)
  for (const { work, row } of places) compileRow(requests, work, row, upsert)
}

function compileRow(requests: Requests, work: TableWork, row: number, upsert: boolean): void {
  const { slice, statements } = work
  const firsts = Int32Array.of(row * slice.schema.columns.length)
  const image: Cells = { bytes: slice.bytes, starts: slice.starts, lengths: slice.lengths, firsts }
  const hasOld = slice.oldKinds !== null && slice.oldKinds[row] !== OldImage.none
  const old: Cells = hasOld ? { bytes: slice.bytes, starts: slice.oldStarts, lengths: slice.oldLengths, firsts } : image
  const op = slice.ops[row]
  if (op === Op.insert || op === Op.read) return insert(requests, work, image, upsert)
  if (statements.match === 'image') {
    deleteImages(requests, work, pickColumns(old, statements.columns))
    if (op === Op.update) insert(requests, work, withOld(image, old), upsert)
    return
  }
  const keys = pickColumns(old, statements.found)
  if (op === Op.delete) deleteByKey(requests, work, keys)
  else if (hasOld && movesTo(image, old, statements.found)) move(requests, work, keys, image)
  else if (statements.settable.length > 0) update(requests, work, keys, image)
}

/** Whether the key of a row's new image is another than that of its old one. */
function movesTo(image: Cells, old: Cells, key: readonly WrittenColumn[]): boolean {
  const [first = 0] = image.firsts
  return key.some(({ index }) => {
    const [length, before] = [image.lengths[first + index]!, old.lengths[first + index]!]
    if (length === UNCHANGED_VALUE) return false
    const [start, from] = [image.starts[first + index]!, old.starts[first + index]!]
    return length !== before || image.bytes.compare(image.bytes, from, from + Math.max(before, 0), start, start + Math.max(length, 0)) !== 0
  })
}

/** Cells of the given columns only, numbered from 0 as in a base key. */
function pickColumns(cells: Cells, columns: readonly WrittenColumn[]): Cells {
  const first = cells.firsts[0]!
  const starts = Int32Array.from(columns, (column) => cells.starts[first + column.index]!)
  const lengths = Int32Array.from(columns, (column) => cells.lengths[first + column.index]!)
  return { bytes: cells.bytes, starts, lengths, firsts: Int32Array.of(0) }
}

/** One row whose columns not sent are taken from its full old image. */
function withOld(image: Cells, old: Cells): Cells {
  const [first = 0] = image.firsts
  const starts = image.starts.slice()
  const lengths = image.lengths.slice()
  for (let cell = first; cell < lengths.length; cell++) {
    if (lengths[cell] !== UNCHANGED_VALUE) continue
    starts[cell] = old.starts[cell]!
    lengths[cell] = old.lengths[cell]!
  }
  return { ...image, starts, lengths }
}

function deleteByKey(requests: Requests, work: TableWork, keys: Cells): void {
  requests.bind(purposeOf(work), work.statements.delete(), keyArrays(work.statements, keys))
}

function takeAway(requests: Requests, work: TableWork, keys: Cells): void {
  requests.bind(purposeOf(work), work.statements.takeAway(), keyArrays(work.statements, keys), [String(keys.firsts.length)])
}

function update(requests: Requests, work: TableWork, keys: Cells, images: Cells): void {
  change(requests, work, keys, images, work.statements.settable, 'update')
}

function move(requests: Requests, work: TableWork, keys: Cells, images: Cells): void {
  change(requests, work, keys, images, work.statements.columns, 'move')
}

function change(
  requests: Requests,
  work: TableWork,
  keys: Cells,
  images: Cells,
  columns: readonly WrittenColumn[],
  kind: 'update' | 'move',
): void {
  const { statements } = work
  const indexes = columns.map((column) => column.index)
  const masked = isAnyUnchanged(images, indexes)
  const masks = Array.from({ length: masked ? statements.maskWords(columns) : 0 }, (_, word) => unchangedMask(images, indexes, word))
  const arrays = [
    ...keyArrays(statements, keys),
    ...imageArrays(columns, images),
    ...masks.map((mask) => (writer: MessageWriter) => writeIntArray(writer, mask)),
  ]
  requests.bind(purposeOf(work), kind === 'update' ? statements.update(masked) : statements.move(masked), arrays, [
    String(keys.firsts.length),
  ])
}

function insert(requests: Requests, work: TableWork, images: Cells, upsert: boolean): void {
  requests.bind(purposeOf(work), work.statements.insert(upsert), imageArrays(work.statements.columns, images))
}

/** Equal images are put together: the statement deletes so many of each. */
function deleteImages(requests: Requests, work: TableWork, images: Cells): void {
  const columns = work.statements.columns.length
  const seen = new Map<string, number>()
  const firsts: number[] = []
  const counts: number[] = []
  for (const first of images.firsts) {
    const text = imageText(images, first, columns)
    const known = seen.get(text)
    if (known === undefined) {
      seen.set(text, firsts.push(first) - 1)
      counts.push(1)
    } else counts[known]!++
  }
  const distinct = { ...images, firsts: Int32Array.from(firsts) }
  const arrays = [...keyArrays(work.statements, distinct), (writer: MessageWriter) => writeIntArray(writer, Int32Array.from(counts))]
  // A table without a key has to be scanned: once for all images, by a hash of the row.
  requests.run(purposeOf(work), `SELECT set_config('enable_seqscan', 'on', true), set_config('enable_hashjoin', 'on', true)`)
  requests.bind(purposeOf(work), work.statements.deleteImages(), arrays, [String(images.firsts.length)])
}

function imageText(cells: Cells, first: number, columns: number): string {
  let text = ''
  for (let cell = first; cell < first + columns; cell++) {
    const length = cells.lengths[cell]!
    text += length < 0 ? 'n,' : `${length}:${cells.bytes.toString('latin1', cells.starts[cell]!, cells.starts[cell]! + length)},`
  }
  return text
}

function eachInsert(requests: Requests, work: TableWork, compaction: Compaction, entries: Int32Array, manner: Manner): void {
  if (manner === 'upsert' || entries.length < COPY_FROM) {
    eachChunk(entries, (chunk) => insert(requests, work, finalCells(compaction, chunk), manner === 'upsert'))
    return
  }
  const writer = new CopyTextWriter()
  const columns = Int32Array.from(work.statements.columns, (column) => column.index)
  writer.rows(finalCells(compaction, entries), columns, work.slice.schema.id)
  requests.copy(purposeOf(work), work.statements.copy(''), writer.take())
}

function keyArrays(statements: TableStatements, keys: Cells): ((writer: MessageWriter) => void)[] {
  return statements.found.map((_, i) => (writer: MessageWriter) => writeTextArray(writer, keys, i))
}

function imageArrays(columns: readonly WrittenColumn[], images: Cells): ((writer: MessageWriter) => void)[] {
  return columns.map((column) => (writer: MessageWriter) => writeTextArray(writer, images, column.index))
}

function eachChunk(entries: Int32Array, work: (chunk: Int32Array) => void): void {
  for (let from = 0; from < entries.length; from += CHUNK) work(entries.subarray(from, from + CHUNK))
}

const EMPTY = new Int32Array(0)

function join(...lists: readonly Int32Array[]): Int32Array {
  const joined = new Int32Array(lists.reduce((sum, list) => sum + list.length, 0))
  let at = 0
  for (const list of lists) {
    joined.set(list, at)
    at += list.length
  }
  return joined
}

function purposeOf(work: TableWork, kind: Purpose['kind'] = 'rows'): Purpose {
  return { kind, table: work.slice.schema.id }
}
