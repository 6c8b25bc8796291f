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

export interface Packed {
  readonly slices: readonly PackedSlice[]
  /** Schemas that the worker has not seen yet. */
  readonly schemas: readonly { readonly id: number; readonly schema: TableSchema }[]
  readonly transfer: readonly ArrayBuffer[]
}

/**
 * Copies slices for one worker: a new worker knows no schemas and needs a new packer. The copies are handed over, the originals stay whole: the engine may need them again, for
 * another sink or for dead letters. Not posted as they are, because a posted view takes its whole buffer along, which for
 * a decoder's is many times the batch; of each buffer only the bytes between the first and last cell are copied, once.
 */
export class Packer {
  readonly #numbers = new WeakMap<TableSchema, number>()
  #count = 0

  pack(slices: readonly Slice[]): Packed {
    const schemas: { id: number; schema: TableSchema }[] = []
    const copies = new Map<Buffer, { low: number; bytes: Uint8Array<ArrayBuffer> }>()
    for (const [buffer, range] of ranges(slices))
      copies.set(buffer, { low: range.low, bytes: new Uint8Array(buffer.subarray(range.low, range.high)) })
    const packed = slices.map((slice) => packSlice(slice, this.#number(slice.schema, schemas), copies.get(slice.bytes)!))
    return { slices: packed, schemas, transfer: buffersOf(packed) }
  }

  #number(schema: TableSchema, schemas: { id: number; schema: TableSchema }[]): number {
    const known = this.#numbers.get(schema)
    if (known !== undefined) return known
    const id = this.#count++
    this.#numbers.set(schema, id)
    schemas.push({ id, schema })
    return id
  }
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

function packSlice(slice: Slice, schema: number, copy: { low: number; bytes: Uint8Array<ArrayBuffer> }): PackedSlice {
  const hasOld = slice.oldKinds !== null
  return {
    schema,
    bytes: copy.bytes,
    rows: slice.rows,
    ops: new Uint8Array(slice.ops),
    starts: moved(slice.starts, slice.lengths, copy.low),
    lengths: new Int32Array(slice.lengths),
    oldKinds: slice.oldKinds === null ? null : new Uint8Array(slice.oldKinds),
    oldStarts: hasOld ? moved(slice.oldStarts, slice.oldLengths, copy.low) : new Int32Array(0),
    oldLengths: hasOld ? new Int32Array(slice.oldLengths) : new Int32Array(0),
    order: new Int32Array(slice.order),
    transactions: new Int32Array(slice.transactions),
  }
}

/** Offsets from the start of the copy; empty cells lie at 0. */
function moved(starts: Int32Array, lengths: Int32Array, by: number): Int32Array<ArrayBuffer> {
  const result = new Int32Array(starts.length)
  for (let cell = 0; cell < starts.length; cell++) if (lengths[cell]! > 0) result[cell] = starts[cell]! - by
  return result
}

function buffersOf(slices: readonly PackedSlice[]): readonly ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>()
  for (const slice of slices) {
    for (const array of [
      slice.bytes,
      slice.ops,
      slice.starts,
      slice.lengths,
      slice.oldKinds,
      slice.oldStarts,
      slice.oldLengths,
      slice.order,
      slice.transactions,
    ]) {
      if (array !== null) buffers.add(array.buffer)
    }
  }
  return [...buffers]
}

const NO_PLACES = new Uint32Array(0)

/** The slice again, in the worker. It has no `places`: a sink that keeps no history needs none. */
export function unpack(packed: PackedSlice, schema: TableSchema): Slice {
  const bytes = Buffer.from(packed.bytes.buffer, packed.bytes.byteOffset, packed.bytes.byteLength)
  return { ...packed, schema, bytes, places: NO_PLACES }
}
