import { ABSENT_VALUE, NULL_VALUE, OldImage, UNCHANGED_VALUE, type OpCode, type Slice } from './batch.ts'
import type { TableSchema } from './schema.ts'

const FIRST_ROWS = 64

/**
 * Collects rows of one table into growing arrays. Two users: decoders, which write offsets into a buffer that they own,
 * and `rowsToSlice`, which makes a slice of plain objects. Reusable: `take` hands the arrays out and starts anew.
 */
export class SliceBuilder {
  readonly schema: TableSchema
  readonly columns: number
  rows = 0
  ops = new Uint8Array(0)
  starts = new Int32Array(0)
  lengths = new Int32Array(0)
  oldKinds = new Uint8Array(0)
  oldStarts = new Int32Array(0)
  oldLengths = new Int32Array(0)
  order = new Int32Array(0)
  transactions = new Int32Array(0)
  places = new Uint32Array(0)
  #hasOld = false

  constructor(schema: TableSchema) {
    this.schema = schema
    this.columns = schema.columns.length
  }

  /** Starts a row and returns the index of its first cell; the caller then fills `starts` and `lengths` from there. */
  begin(op: OpCode, order: number, transaction: number, placeHigh: number, placeLow: number): number {
    const row = this.rows
    if (row === this.ops.length) this.#grow()
    this.rows = row + 1
    this.ops[row] = op
    this.order[row] = order
    this.transactions[row] = transaction
    this.places[row * 2] = placeHigh
    this.places[row * 2 + 1] = placeLow
    return row * this.columns
  }

  /** Marks the row last begun as having an old image, whose cells the caller then fills; returns the first cell's index. */
  beginOld(kind: 1 | 2): number {
    const row = this.rows - 1
    if (!this.#hasOld) this.#startOld()
    this.oldKinds[row] = kind
    return row * this.columns
  }

  /**
   * Hands out the first `rows` rows and keeps the others, which all belong to one transaction: the first of the next batch.
   * Null when there is nothing to hand out.
   */
  takeUpTo(rows: number, bytes: Buffer): Slice | null {
    const rest = this.rows - rows
    if (rest === 0) return this.take(bytes)
    if (rows === 0) {
      this.transactions.fill(0, 0, rest)
      return null
    }
    const { columns } = this
    const [first, last] = [rows, this.rows]
    const kept = {
      ops: this.ops.slice(first, last),
      starts: this.starts.slice(first * columns, last * columns),
      lengths: this.lengths.slice(first * columns, last * columns),
      order: this.order.slice(first, last),
      places: this.places.slice(first * 2, last * 2),
      oldKinds: this.oldKinds.slice(first, last),
      oldStarts: this.oldStarts.slice(first * columns, last * columns),
      oldLengths: this.oldLengths.slice(first * columns, last * columns),
    }
    const hadOld = this.#hasOld
    this.rows = rows
    const slice = this.take(bytes)
    Object.assign(this, kept)
    this.transactions = new Int32Array(rest)
    this.rows = rest
    this.#hasOld = hadOld
    return slice
  }

  take(bytes: Buffer): Slice {
    const { rows, columns } = this
    const slice: Slice = {
      schema: this.schema,
      bytes,
      rows,
      ops: this.ops.subarray(0, rows),
      starts: this.starts.subarray(0, rows * columns),
      lengths: this.lengths.subarray(0, rows * columns),
      oldKinds: this.#hasOld ? this.oldKinds.subarray(0, rows) : null,
      oldStarts: this.oldStarts.subarray(0, this.#hasOld ? rows * columns : 0),
      oldLengths: this.oldLengths.subarray(0, this.#hasOld ? rows * columns : 0),
      order: this.order.subarray(0, rows),
      transactions: this.transactions.subarray(0, rows),
      places: this.places.subarray(0, rows * 2),
    }
    this.rows = 0
    this.ops = new Uint8Array(0)
    this.starts = new Int32Array(0)
    this.lengths = new Int32Array(0)
    this.order = new Int32Array(0)
    this.transactions = new Int32Array(0)
    this.places = new Uint32Array(0)
    this.oldKinds = new Uint8Array(0)
    this.oldStarts = new Int32Array(0)
    this.oldLengths = new Int32Array(0)
    this.#hasOld = false
    return slice
  }

  #startOld(): void {
    this.#hasOld = true
    this.oldKinds = new Uint8Array(this.ops.length)
    this.oldStarts = new Int32Array(this.ops.length * this.columns)
    this.oldLengths = new Int32Array(this.ops.length * this.columns).fill(ABSENT_VALUE)
  }

  #grow(): void {
    const size = Math.max(FIRST_ROWS, this.ops.length * 2)
    const cells = size * this.columns
    this.ops = copyInto(new Uint8Array(size), this.ops)
    this.starts = copyInto(new Int32Array(cells), this.starts)
    this.lengths = copyInto(new Int32Array(cells), this.lengths)
    this.order = copyInto(new Int32Array(size), this.order)
    this.transactions = copyInto(new Int32Array(size), this.transactions)
    this.places = copyInto(new Uint32Array(size * 2), this.places)
    if (!this.#hasOld) return
    const filled = this.oldLengths.length
    this.oldKinds = copyInto(new Uint8Array(size), this.oldKinds)
    this.oldStarts = copyInto(new Int32Array(cells), this.oldStarts)
    this.oldLengths = copyInto(new Int32Array(cells), this.oldLengths)
    this.oldLengths.fill(ABSENT_VALUE, filled)
  }
}

function copyInto<T extends Uint8Array | Int32Array | Uint32Array>(target: T, from: T): T {
  target.set(from)
  return target
}

/** Makes a slice of some rows of another, in the given order, with the given ops; bytes are shared, not copied. */
export function pickRows(slice: Slice, rows: ArrayLike<number>, ops?: ArrayLike<number>, dropOld?: (row: number) => boolean): Slice {
  const columns = slice.schema.columns.length
  const count = rows.length
  const picked = {
    schema: slice.schema,
    bytes: slice.bytes,
    rows: count,
    ops: new Uint8Array(count),
    starts: new Int32Array(count * columns),
    lengths: new Int32Array(count * columns),
    oldKinds: slice.oldKinds === null ? null : new Uint8Array(count),
    oldStarts: new Int32Array(slice.oldKinds === null ? 0 : count * columns),
    oldLengths: new Int32Array(slice.oldKinds === null ? 0 : count * columns).fill(ABSENT_VALUE),
    order: new Int32Array(count),
    transactions: new Int32Array(count),
    places: new Uint32Array(count * 2),
  }
  for (let i = 0; i < count; i++) {
    const row = rows[i]!
    picked.ops[i] = ops === undefined ? slice.ops[row]! : ops[i]!
    picked.order[i] = slice.order[row]!
    picked.transactions[i] = slice.transactions[row]!
    picked.places[i * 2] = slice.places[row * 2]!
    picked.places[i * 2 + 1] = slice.places[row * 2 + 1]!
    const from = row * columns
    picked.starts.set(slice.starts.subarray(from, from + columns), i * columns)
    picked.lengths.set(slice.lengths.subarray(from, from + columns), i * columns)
    if (slice.oldKinds === null || picked.oldKinds === null || dropOld?.(row) === true) continue
    picked.oldKinds[i] = slice.oldKinds[row]!
    picked.oldStarts.set(slice.oldStarts.subarray(from, from + columns), i * columns)
    picked.oldLengths.set(slice.oldLengths.subarray(from, from + columns), i * columns)
  }
  return picked
}

export interface TextRow {
  readonly op: OpCode
  /** Text of each column, null, or undefined for UNCHANGED; null for a delete. */
  readonly after: readonly (string | Uint8Array | null | undefined)[] | null
  readonly before?: { readonly kind: 1 | 2; readonly values: readonly (string | Uint8Array | null | undefined)[] } | null
  readonly order?: number
  readonly transaction?: number
  readonly place?: bigint
}

/** Makes a slice of rows given as text: for sources with plain objects, for transforms, for tests. */
export function textRowsToSlice(schema: TableSchema, rows: readonly TextRow[]): Slice {
  const builder = new SliceBuilder(schema)
  const pieces: Buffer[] = []
  let offset = 0
  const put = (
    value: string | Uint8Array | null | undefined,
    starts: Int32Array,
    lengths: Int32Array,
    cell: number,
    missing: number,
  ): void => {
    starts[cell] = offset
    if (value === null) lengths[cell] = NULL_VALUE
    else if (value === undefined) lengths[cell] = missing
    else {
      const piece = typeof value === 'string' ? Buffer.from(value, 'utf8') : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
      pieces.push(piece)
      lengths[cell] = piece.length
      offset += piece.length
    }
  }
  rows.forEach((row, index) => {
    const place = row.place ?? 0n
    const cell = builder.begin(row.op, row.order ?? index, row.transaction ?? 0, Number(place >> 32n), Number(place & 0xffffffffn))
    for (let c = 0; c < builder.columns; c++) {
      if (row.after === null) builder.lengths[cell + c] = ABSENT_VALUE
      else put(row.after[c], builder.starts, builder.lengths, cell + c, UNCHANGED_VALUE)
    }
    if (row.before === undefined || row.before === null) return
    const old = builder.beginOld(row.before.kind)
    for (let c = 0; c < builder.columns; c++) put(row.before.values[c], builder.oldStarts, builder.oldLengths, old + c, ABSENT_VALUE)
  })
  return builder.take(Buffer.concat(pieces, offset))
}

/** The text of a cell of the new image: null, undefined for UNCHANGED or ABSENT. */
export function textAt(slice: Slice, row: number, column: number): string | null | undefined {
  const cell = row * slice.schema.columns.length + column
  return cellText(slice.bytes, slice.starts[cell]!, slice.lengths[cell]!)
}

/** The text of a cell of the old image; undefined where it is not known. */
export function oldTextAt(slice: Slice, row: number, column: number): string | null | undefined {
  if (slice.oldKinds === null || slice.oldKinds[row] === OldImage.none) return undefined
  const cell = row * slice.schema.columns.length + column
  return cellText(slice.bytes, slice.oldStarts[cell]!, slice.oldLengths[cell]!)
}

function cellText(bytes: Buffer, start: number, length: number): string | null | undefined {
  if (length >= 0) return bytes.toString('utf8', start, start + length)
  return length === NULL_VALUE ? null : undefined
}
