import type { Slice } from '../../model/batch.ts'
import type { TableSchema } from '../../model/schema.ts'

/** A slice on its way to the worker: arrays that nobody else holds, the schema by number. */
export interface PackedSlice {
  readonly schema: number
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly rows: number
  readonly ops: Uint8Array<ArrayBuffer>
  readonly starts: Int32Array<ArrayBuffer>
  readonly lengths: Int32Array<ArrayBuffer>
  readonly oldKinds: Uint8Array<ArrayBuffer> | null
  readonly oldStarts: Int32Array<ArrayBuffer>
  readonly oldLengths: Int32Array<ArrayBuffer>
  readonly order: Int32Array<ArrayBuffer>
  readonly transactions: Int32Array<ArrayBuffer>
}

/** What is posted in one message. */
export interface Parcel {
  readonly slices: readonly PackedSlice[]
  /** Schemas that the worker has not seen yet. */
  readonly schemas: readonly { readonly id: number; readonly schema: TableSchema }[]
  readonly transfer: readonly ArrayBuffer[]
}

/**
 * Copies slices for one worker: a new one knows no schemas and needs a new packer. The copies are handed over, the
 * originals stay whole: the engine may need them again, for another sink or for dead letters. They are not posted as they
 * are, because a posted view takes its whole buffer along, which for a decoder's is many times the batch; of each buffer
 * only the bytes between the first and last cell are copied, once.
 */
export class Packer {
  readonly #numbers = new WeakMap<TableSchema, number>()
  readonly #unsent = new Map<number, TableSchema>()
  #count = 0

  pack(slices: readonly Slice[]): readonly PackedSlice[] {
    const copies = new Map<Buffer, Copy>()
    for (const [buffer, { low, high }] of ranges(slices)) copies.set(buffer, { low, bytes: new Uint8Array(buffer.subarray(low, high)) })
    return slices.map((slice) => packSlice(slice, this.#number(slice.schema), copies.get(slice.bytes)!))
  }

  /** To be posted at once: from here on the schemas count as known to the worker. */
  parcel(slices: readonly PackedSlice[]): Parcel {
    const schemas = [...this.#unsent].map(([id, schema]) => ({ id, schema }))
    this.#unsent.clear()
    return { slices, schemas, transfer: [...new Set(slices.flatMap((slice) => [slice.bytes.buffer, slice.starts.buffer]))] }
  }

  #number(schema: TableSchema): number {
    const known = this.#numbers.get(schema)
    if (known !== undefined) return known
    const id = this.#count++
    this.#numbers.set(schema, id)
    this.#unsent.set(id, schema)
    return id
  }
}

interface Copy {
  readonly low: number
  readonly bytes: Uint8Array<ArrayBuffer>
}

/** The bytes of each buffer that any cell lies in. */
function ranges(slices: readonly Slice[]): Map<Buffer, { low: number; high: number }> {
  const found = new Map<Buffer, { low: number; high: number }>()
  for (const slice of slices) {
    const range = found.get(slice.bytes) ?? { low: slice.bytes.length, high: 0 }
    widen(range, slice.starts, slice.lengths)
    if (slice.oldKinds !== null) widen(range, slice.oldStarts, slice.oldLengths)
    found.set(slice.bytes, range)
  }
  for (const range of found.values()) if (range.high < range.low) range.low = range.high
  return found
}

function widen(range: { low: number; high: number }, starts: Int32Array, lengths: Int32Array): void {
  let { low, high } = range
  for (let cell = 0; cell < lengths.length; cell++) {
    const length = lengths[cell]!
    if (length <= 0) continue
    const start = starts[cell]!
    if (start < low) low = start
    if (start + length > high) high = start + length
  }
  range.low = low
  range.high = high
}

/** All arrays of a slice in one buffer: each buffer that is handed over costs a microsecond or more. */
function packSlice(slice: Slice, schema: number, copy: Copy): PackedSlice {
  const { rows, lengths, oldLengths } = slice
  const words = 2 * lengths.length + 2 * oldLengths.length + 2 * rows
  const buffer = new ArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT + 2 * rows)
  let at = 0
  const take = (count: number): Int32Array<ArrayBuffer> => {
    const part = new Int32Array(buffer, at, count)
    at += part.byteLength
    return part
  }
  const starts = moveInto(take(lengths.length), slice.starts, lengths, copy.low)
  const oldStarts = moveInto(take(oldLengths.length), slice.oldStarts, oldLengths, copy.low)
  const packed = { lengths: take(lengths.length), oldLengths: take(oldLengths.length), order: take(rows), transactions: take(rows) }
  packed.lengths.set(lengths)
  packed.oldLengths.set(oldLengths)
  packed.order.set(slice.order)
  packed.transactions.set(slice.transactions)
  const ops = new Uint8Array(buffer, at, rows)
  ops.set(slice.ops)
  const oldKinds = slice.oldKinds === null ? null : new Uint8Array(buffer, at + rows, rows)
  if (slice.oldKinds !== null) oldKinds?.set(slice.oldKinds)
  return { schema, bytes: copy.bytes, rows, starts, oldStarts, ops, oldKinds, ...packed }
}

/** Offsets from the start of the copy; empty cells lie at 0. */
function moveInto(target: Int32Array<ArrayBuffer>, starts: Int32Array, lengths: Int32Array, by: number): Int32Array<ArrayBuffer> {
  for (let cell = 0; cell < lengths.length; cell++) if (lengths[cell]! > 0) target[cell] = starts[cell]! - by
  return target
}

/** Bytes that a packed slice holds. */
export function packedBytes(slice: PackedSlice): number {
  return slice.bytes.byteLength + slice.starts.buffer.byteLength
}

const NO_PLACES = new Uint32Array(0)

/** The slice again, in the worker. It has no `places`: a sink that keeps no history needs none. */
export function unpack(packed: PackedSlice, schema: TableSchema): Slice {
  const bytes = Buffer.from(packed.bytes.buffer, packed.bytes.byteOffset, packed.bytes.byteLength)
  return { ...packed, schema, bytes, places: NO_PLACES }
}
