import { createHash } from 'node:crypto'
import type { Slice, StreamBatch } from '../model/batch.ts'
import type { Change } from '../model/change.ts'
import { changesOf, changesOfSlice, originOf, type Origin, type PlaceCarry } from '../model/row-view.ts'
import type { TableId } from '../model/schema.ts'
import { oldTextAt, textAt } from '../model/slice-builder.ts'
import { RowError, SliceEncoder, type PlacedChange } from '../model/slice-of-changes.ts'
import { nearest } from '../sdk/config/nearest.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Transform, TransformContext, TransformResult } from '../sdk/transform.ts'
import type { DeadLetter } from '../state/store.ts'

/**
 * What a transform made of a batch. Rows in = rows out − added + filtered + failed, for each table (Invariant 6).
 *
 * A transform may change values, give null (filtered) or several changes; they stay in the order and transaction of the
 * change that they came from, and in its table. Null for an update leaves the row as it is in the target: a filter on
 * values must give a delete for a row that matches no more (TRAPS 45). One that maps key columns must map them in
 * `before` too, or deletes and key changes miss their row. Filtered schema changes and truncates do not exist: barriers
 * pass untouched.
 */
export interface Transformed {
  readonly slices: readonly Slice[]
  readonly rows: number
  readonly bytes: number
  /** Rows per table for which the transform gave null or nothing. */
  readonly filtered: ReadonlyMap<TableId, number>
  /** Rows per table beyond one for each row that went in. */
  readonly added: ReadonlyMap<TableId, number>
  readonly failed: readonly FailedRow[]
  /** Where a row of `slices` came from: the same text on every replay, `.n` behind it for the n-th of several. */
  sequenceOf(slice: Slice, row: number): string
}

/** A row that the transform failed on, as it was: `slice` and `row` are the input's. */
export interface FailedRow {
  readonly slice: Slice
  readonly row: number
  readonly sequence: string
  readonly error: TailraceError
}

/** A batch of the stream. `carry` is that of the batch as it came from the source (`carryOf`). */
export async function transformBatch(
  batch: StreamBatch,
  transform: Transform,
  context: TransformContext,
  carry: PlaceCarry | null,
): Promise<{ readonly batch: StreamBatch } & Transformed> {
  const work = new TransformRun(transform, context)
  for (const change of changesOf(batch, carry)) await work.take(change)
  const done = work.finish()
  return { ...done, batch: { ...batch, slices: done.slices, rows: done.rows, bytes: done.bytes } }
}

/** Rows of a snapshot. */
export async function transformSnapshot(slice: Slice, transform: Transform, context: TransformContext): Promise<Transformed> {
  const work = new TransformRun(transform, context)
  for (const change of changesOfSlice(slice, null)) await work.take(change)
  return work.finish()
}

interface Output {
  readonly encoder: SliceEncoder
  /** Of each row that was encoded. */
  readonly sequences: string[]
}

class TransformRun {
  readonly #transform: Transform
  readonly #context: TransformContext
  /** By input slice, in the order in which they were first met. */
  readonly #outputs = new Map<Slice, Output>()
  readonly #filtered = new Map<TableId, number>()
  readonly #added = new Map<TableId, number>()
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
      this.#put(origin, change, sequence, listOf(isPromise(result) ? await result : result))
    } catch (error) {
      // Given up is not failed: such a row must not become a dead letter.
      this.#context.signal.throwIfAborted()
      this.#failed.push({ ...origin, sequence, error: transformError(error, origin.slice) })
    }
  }

  finish(): Transformed {
    const sequences = new Map<Slice, readonly string[]>()
    for (const output of this.#outputs.values()) if (output.encoder.rows > 0) sequences.set(output.encoder.finish(), output.sequences)
    const slices = [...sequences.keys()]
    return {
      slices,
      rows: slices.reduce((sum, slice) => sum + slice.rows, 0),
      bytes: slices.reduce((sum, slice) => sum + slice.bytes.length, 0),
      filtered: this.#filtered,
      added: this.#added,
      failed: this.#failed,
      sequenceOf(slice, row) {
        const found = sequences.get(slice)?.[row]
        if (found === undefined) throw new TailraceError('BUG', 'the row is of another batch')
        return found
      },
    }
  }

  #put(origin: Origin, change: Change, sequence: string, results: readonly Change[]): void {
    const { slice, row } = origin
    const placed = results.map((result, n): PlacedChange => {
      expectSameKind(origin, result)
      const [placeHigh, placeLow] = [slice.places[row * 2]!, slice.places[row * 2 + 1]!]
      return { change: result, origin: change, order: this.#order + n, transaction: slice.transactions[row]!, placeHigh, placeLow }
    })
    const output = this.#outputOf(slice)
    output.encoder.addAll(placed)
    this.#order += results.length
    results.forEach((_, n) => output.sequences.push(results.length === 1 ? sequence : `${sequence}.${n}`))
    if (results.length === 0) count(this.#filtered, slice.schema.id, 1)
    else if (results.length > 1) count(this.#added, slice.schema.id, results.length - 1)
  }

  #outputOf(slice: Slice): Output {
    let output = this.#outputs.get(slice)
    if (output === undefined) {
      output = { encoder: new SliceEncoder(slice.schema), sequences: [] }
      this.#outputs.set(slice, output)
    }
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
    return new TailraceError('TRANSFORM_FAILED', `the transform threw ${name} for a row of ${schema.id}`, { cause: error, path })
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
