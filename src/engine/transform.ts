import { createHash } from 'node:crypto'
import type { Slice, StreamBatch } from '../model/batch.ts'
import type { Change } from '../model/change.ts'
import { changesOf, changesOfSlice, originOf, type Origin } from '../model/row-view.ts'
import type { TableId } from '../model/schema.ts'
import { oldTextAt, textAt } from '../model/slice-builder.ts'
import { RowError, SliceEncoder, type PlacedChange } from '../model/slice-of-changes.ts'
import { nearest } from '../sdk/config/nearest.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Transform, TransformContext, TransformResult } from '../sdk/transform.ts'
import type { DeadLetter } from '../state/store.ts'
import { deleteOf, withoutNeedOfRow } from './row-filter.ts'

/**
 * What a transform made of a batch. Rows in = rows out − added + filtered + failed, for each table (Invariant 6).
 *
 * A transform may change values, give null (filtered) or several changes; they stay in the order and transaction of the
 * change that they came from, and in its table. Null for an update is a delete of the row as the target may hold it, for a
 * row that matches no more must go (TRAPS 45); it still counts as filtered. An update of a row that the target may not hold
 * is written as an insert where it has all columns (row-filter.ts). One that maps key columns must map them in
 * `before` too, or deletes and key changes miss their row, and give that delete itself. Filtered schema changes and
 * truncates do not exist: barriers pass untouched.
 */
export interface Transformed {
  readonly slices: readonly Slice[]
  readonly rows: number
  readonly bytes: number
  /** Rows per table for which the transform gave null or nothing. */
  readonly filtered: ReadonlyMap<TableId, number>
  /** Rows per table beyond one for each row that went in. */
  readonly added: ReadonlyMap<TableId, number>
  /** Updates per table that are written as inserts, which replace, and those of them that also delete the row at its old key. */
  readonly replacing: ReadonlyMap<TableId, number>
  readonly moved: ReadonlyMap<TableId, number>
  readonly failed: readonly FailedRow[]
  /** Where a row of `slices` came from, by its `order`: the same text on every replay, `.n` behind it for the n-th of several. */
  readonly sequences: ReadonlyMap<number, string>
}

/** A row that the transform failed on, as it was: `slice` and `row` are the input's. */
export interface FailedRow {
  readonly slice: Slice
  readonly row: number
  readonly sequence: string
  readonly error: TailraceError
}

/** A batch of the stream. `sequences` are those of its rows as they came from the source (`sequencesOf`). */
export async function transformBatch(
  batch: StreamBatch,
  transform: Transform,
  context: TransformContext,
  sequences: ReadonlyMap<number, string>,
): Promise<{ readonly batch: StreamBatch } & Transformed> {
  const work = new TransformRun(transform, context)
  for (const change of changesOf(batch, sequences)) await work.take(change)
  const done = work.finish()
  return { ...done, batch: { ...batch, slices: done.slices, rows: done.rows, bytes: done.bytes } }
}

/** Rows of a snapshot. */
export async function transformSnapshot(slice: Slice, transform: Transform, context: TransformContext): Promise<Transformed> {
  const work = new TransformRun(transform, context)
  for (const change of changesOfSlice(slice, null)) await work.take(change)
  return work.finish()
}

class TransformRun {
  readonly #transform: Transform
  readonly #context: TransformContext
  /** By input slice, in the order in which they were first met. */
  readonly #outputs = new Map<Slice, SliceEncoder>()
  readonly #sequences = new Map<number, string>()
  readonly #filtered = new Map<TableId, number>()
  readonly #added = new Map<TableId, number>()
  readonly #replacing = new Map<TableId, number>()
  readonly #moved = new Map<TableId, number>()
  readonly #failed: FailedRow[] = []
  #order = 0

  constructor(transform: Transform, context: TransformContext) {
    this.#transform = transform
    this.#context = context
  }

  /** One after the other: a transform may remember what it saw. */
  async take(change: Change): Promise<void> {
    const origin = originOf(change)
    const { sequence } = change
    if (origin === null) throw new TailraceError('BUG', 'a change of a batch does not know its row')
    try {
      const result = this.#transform(change, this.#context)
      // No promise for a transform that needs none.
      const results = listOf(isPromise(result) ? await result : result)
      this.#put(origin, change, sequence, results)
      if (results.length === 0) count(this.#filtered, change.table, 1)
    } catch (error) {
      // Given up is not failed: such a row must not become a dead letter.
      this.#context.signal.throwIfAborted()
      this.#failed.push({ ...origin, sequence, error: transformError(error, origin.slice) })
    }
  }

  finish(): Transformed {
    const slices = [...this.#outputs.values()].filter((output) => output.rows > 0).map((output) => output.finish())
    return {
      slices,
      rows: slices.reduce((sum, slice) => sum + slice.rows, 0),
      bytes: slices.reduce((sum, slice) => sum + slice.bytes.length, 0),
      filtered: this.#filtered,
      added: this.#added,
      replacing: this.#replacing,
      moved: this.#moved,
      failed: this.#failed,
      sequences: this.#sequences,
    }
  }

  #put(origin: Origin, change: Change, sequence: string, results: readonly Change[]): void {
    const { slice, row } = origin
    for (const result of results) expectSameKind(origin, result)
    const forgets = results.length === 0 && change.op === 'update'
    const written = forgets ? [deleteOf(change, slice.schema)] : results.flatMap((result) => withoutNeedOfRow(result, slice.schema))
    const placed = written.map((result, n): PlacedChange => {
      const [placeHigh, placeLow] = [slice.places[row * 2]!, slice.places[row * 2 + 1]!]
      return { change: result, origin: change, order: this.#order + n, transaction: slice.transactions[row]!, placeHigh, placeLow }
    })
    this.#outputOf(slice).addAll(placed)
    if (sequence !== '') placed.forEach(({ order }, n) => this.#sequences.set(order, written.length === 1 ? sequence : `${sequence}.${n}`))
    this.#order += written.length
    // A row that was filtered counts as that, whatever is written for it.
    const beyond = written.length - Math.min(results.length, 1)
    if (beyond > 0) count(this.#added, slice.schema.id, beyond)
    const replacing = results.filter(({ op }) => op === 'update').length - written.filter(({ op }) => op === 'update').length
    if (replacing > 0) count(this.#replacing, slice.schema.id, replacing)
    const moved = written.length - results.length
    if (!forgets && moved > 0) count(this.#moved, slice.schema.id, moved)
  }

  #outputOf(slice: Slice): SliceEncoder {
    const output = this.#outputs.get(slice) ?? new SliceEncoder(slice.schema)
    this.#outputs.set(slice, output)
    return output
  }
}

function count(counts: Map<TableId, number>, table: TableId, rows: number): void {
  counts.set(table, (counts.get(table) ?? 0) + rows)
}

function isPromise(result: TransformResult | Promise<TransformResult>): result is Promise<TransformResult> {
  return typeof (result as { then?: unknown } | null | undefined)?.then === 'function'
}

function listOf(result: TransformResult | undefined): readonly Change[] {
  if (result === null) return []
  // A forgotten `return` must not throw rows away.
  if (typeof result !== 'object') throw new RowError(`it gave ${typeof result}: expected a change, several, or null`)
  const list: readonly unknown[] = isList(result) ? result : [result]
  if (list.some((item) => typeof item !== 'object' || item === null)) throw new RowError('it gave a list that does not hold changes only')
  return list as readonly Change[]
}

function isList(result: Change | readonly Change[]): result is readonly Change[] {
  return Array.isArray(result)
}

function expectSameKind({ slice, row }: Origin, { table, op }: Change): void {
  if (table !== slice.schema.id) throw new RowError('it moved the row to another table')
  const snapshot = slice.ops[row] === 0
  if (snapshot !== (op === 'read'))
    throw new RowError(snapshot ? `it made ${op} of a snapshot row, which stays read` : 'it made a snapshot row of a change')
}

function transformError(error: unknown, { schema }: Slice): TailraceError {
  const path = schema.id
  if (!(error instanceof RowError)) {
    const name = error instanceof Error ? error.name : typeof error
    return new TailraceError('TRANSFORM_FAILED', `the transform threw ${name} for a row of ${schema.id}`, {
      hint: 'what it threw stands in the log; --on-error dead-letter sets such rows aside',
      cause: error,
      path,
    })
  }
  const names = schema.columns.map((column) => column.name)
  const guess = error.column === null || names.includes(error.column) ? null : nearest(error.column, names)
  const hint = guess === null ? {} : { hint: `did you mean ${guess}?` }
  return new TailraceError('TRANSFORM_FAILED', `what the transform gave for a row of ${schema.id} cannot be used: ${error.message}`, {
    cause: error,
    path,
    ...hint,
  })
}

export interface DeadRow {
  readonly slice: Slice
  readonly row: number
  /** Of the change as the source sent it; '' for a row of a snapshot. */
  readonly sequence: string
  readonly stage: DeadLetter['stage']
  readonly error: TailraceError
  readonly at: number
}

const OP_NAMES = ['read', 'insert', 'update', 'delete'] as const

/** A row as a dead letter: every column's own text, nothing decoded. */
export function deadLetterOf({ slice, row, sequence, stage, error, at }: DeadRow): Omit<DeadLetter, 'id'> {
  const op = OP_NAMES[slice.ops[row]!] ?? 'update'
  const after = op === 'delete' ? null : cellsOf(slice, row, textAt)
  const before = slice.oldKinds === null || slice.oldKinds[row] === 0 ? null : cellsOf(slice, row, oldTextAt)
  const record = JSON.stringify({ before, after })
  return {
    table: slice.schema.id,
    place: sequence === '' ? snapshotPlace(slice, row, record) : sequence,
    op,
    stage,
    code: error.code,
    reason: reasonOf(error),
    record,
    at,
  }
}

/** Column → text or null; a column that was not sent is not there. */
function cellsOf(slice: Slice, row: number, text: typeof textAt): Readonly<Record<string, string | null>> {
  const cells = slice.schema.columns.map((column, index) => [column.name, text(slice, row, index)] as const)
  return Object.fromEntries(cells.filter((cell): cell is readonly [string, string | null] => cell[1] !== undefined))
}

/** A snapshot may be read again: one letter for one row, whatever chunk or reading it came from. No value shows. */
function snapshotPlace(slice: Slice, row: number, record: string): string {
  const { key } = slice.schema
  const identity = key.length === 0 ? record : JSON.stringify(key.map((column) => textAt(slice, row, column)))
  return `snapshot/${createHash('sha256').update(identity).digest('hex').slice(0, 32)}`
}

/** The letter lies beside its record, so that a cause's own words may stand in it; in logs and reports they may not. */
function reasonOf(error: TailraceError): string {
  const { cause } = error
  return cause instanceof Error && !error.message.includes(cause.message) ? `${error.message}: ${cause.message}` : error.message
}
