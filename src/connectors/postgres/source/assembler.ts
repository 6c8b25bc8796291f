import { EMPTY_SLICES, type Barrier, type Slice, type StreamBatch } from '../../../model/batch.ts'
import type { Position, Transaction } from '../../../model/position.ts'
import { SliceBuilder } from '../../../model/slice-builder.ts'
import type { TableSchema } from '../../../model/schema.ts'
import type { RelationTarget } from './pgoutput.ts'

interface Lane {
  readonly builder: SliceBuilder
  /** Rows up to the last commit. */
  marked: number
}

interface OpenTransaction {
  readonly id: string
  readonly position: Position
  readonly committedAt: number
}

/** One idle object per cell would cost more than the rows; the budget counts 16 bytes a cell and the receive buffer. */
const CELL_BYTES = 8

/**
 * Puts decoded rows together into batches that end at commits. Rows lie in the receive buffer; when the socket goes on in
 * another buffer, the batch ends there, if need be within a transaction, so that it holds one slice of a table.
 */
export class Assembler {
  readonly #lanes = new Map<TableSchema, Lane>()
  #transactions: Transaction[] = []
  #open: OpenTransaction | null = null
  /** Whether rows, even none, stand committed in the current batch; its resume position. */
  #mark: Position | null = null
  #order = 0
  #rows = 0
  #bytes = 0
  readonly #ready: StreamBatch[] = []
  #readyBytes = 0

  /** The transaction that is being received. */
  get open(): Transaction | null {
    return this.#open === null ? null : { ...this.#open, end: null }
  }

  get inTransaction(): boolean {
    return this.#open !== null
  }

  get empty(): boolean {
    return this.#rows === 0 && this.#mark === null && this.#ready.length === 0
  }

  /** Memory held by what waits to be taken. */
  get bytes(): number {
    return this.#bytes + this.#readyBytes
  }

  get rows(): number {
    return this.#rows
  }

  get hasCommit(): boolean {
    return this.#ready.length > 0 || this.#mark !== null
  }

  target(schema: TableSchema, columns: Int16Array): RelationTarget {
    const lane = this.#lanes.get(schema) ?? { builder: new SliceBuilder(schema), marked: 0 }
    this.#lanes.set(schema, lane)
    return { builder: lane.builder, columns }
  }

  /** A relation has a new shape: its lane is not needed any more once its rows are out. */
  forget(schema: TableSchema): void {
    const lane = this.#lanes.get(schema)
    if (lane?.builder.rows === 0) this.#lanes.delete(schema)
  }

  begin(transaction: OpenTransaction): void {
    this.#open = transaction
  }

  /** Order and transaction index of the next row. */
  nextOrder(): number {
    this.#rows++
    return this.#order++
  }

  get transactionIndex(): number {
    return this.#transactions.length
  }

  addBytes(count: number, columns: number): void {
    this.#bytes += count + columns * CELL_BYTES
  }

  commit(end: Position): void {
    const open = this.#open
    if (open !== null) this.#transactions.push({ ...open, end })
    this.#open = null
    this.#mark = end
    for (const lane of this.#lanes.values()) lane.marked = lane.builder.rows
  }

  /** A barrier travels alone: everything before it becomes batches of its own. */
  barrier(barrier: Barrier, buffer: Buffer): void {
    this.flush(buffer)
    const open = this.#open
    this.#queue({
      slices: EMPTY_SLICES,
      barrier,
      transactions: open === null ? [] : [{ ...open, end: null }],
      position: null,
      rows: 0,
      bytes: 256,
    })
  }

  /** Makes ready whatever is there, the part of an open transaction included: before a barrier, and when the buffer changes. */
  flush(buffer: Buffer): void {
    if (this.#mark !== null) this.#queue(this.#takeCommitted(buffer))
    if (this.#rows > 0) this.#queue(this.#takePart(buffer))
  }

  idle(position: Position): void {
    this.#queue({ slices: EMPTY_SLICES, barrier: null, transactions: [], position, rows: 0, bytes: 0 })
  }

  /** The next batch: up to the last commit; a part of a transaction only when `full`; null when there is none yet. */
  take(buffer: Buffer, full: boolean): StreamBatch | null {
    const ready = this.#ready.shift()
    if (ready !== undefined) {
      this.#readyBytes -= ready.bytes
      return ready
    }
    if (this.#mark !== null) return this.#takeCommitted(buffer)
    return full && this.#rows > 0 ? this.#takePart(buffer) : null
  }

  #queue(batch: StreamBatch): void {
    this.#ready.push(batch)
    this.#readyBytes += batch.bytes
  }

  #takeCommitted(buffer: Buffer): StreamBatch {
    const slices: Slice[] = []
    for (const lane of this.#lanes.values()) {
      if (lane.builder.rows === 0) continue
      const slice = lane.builder.takeUpTo(lane.marked, buffer)
      if (slice !== null) slices.push(slice)
      lane.marked = 0
    }
    return this.#finish(slices, this.#transactions, this.#mark)
  }

  #takePart(buffer: Buffer): StreamBatch {
    const slices: Slice[] = []
    for (const lane of this.#lanes.values()) if (lane.builder.rows > 0) slices.push(lane.builder.take(buffer))
    const open = this.#open
    return this.#finish(slices, open === null ? this.#transactions : [...this.#transactions, { ...open, end: null }], null)
  }

  #finish(slices: Slice[], transactions: Transaction[], position: Position | null): StreamBatch {
    let rows = 0
    for (const slice of slices) rows += slice.rows
    const share = this.#rows === 0 ? 1 : rows / this.#rows
    const bytes = Math.ceil(this.#bytes * share)
    this.#transactions = []
    this.#mark = null
    this.#rows -= rows
    this.#bytes -= bytes
    if (this.#rows === 0) this.#order = 0
    return { slices, barrier: null, transactions, position, rows, bytes }
  }
}
