import { ABSENT_VALUE, NULL_VALUE, OldImage, Op, UNCHANGED_VALUE, type OpCode, type Slice } from './batch.ts'
import { UNCHANGED, type Change, type Row } from './change.ts'
import { originOf, type Origin } from './row-view.ts'
import type { TableSchema } from './schema.ts'
import { SliceBuilder } from './slice-builder.ts'
import { decoderOf, encodeValue, sameValue, ValueError, type ValueDecoder } from './value-text.ts'

/** A change with its place in the batch that it becomes part of. */
export interface PlacedChange {
  readonly change: Change
  /** The change of `changesOf` that it was made from: its bytes are kept wherever the value is still the same. */
  readonly origin?: Change | null
  readonly order: number
  /** Index of its transaction in the batch. */
  readonly transaction: number
  readonly placeHigh: number
  readonly placeLow: number
}

/** A change that cannot become a row of its table. `column` is set where it is about one; no value is in the message. */
export class RowError extends Error {
  readonly column: string | null

  constructor(message: string, column: string | null = null, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'RowError'
    this.column = column
  }
}

/**
 * Changes of one table as a slice: the inverse of `changesOfSlice`, and the way in for sources that have plain objects.
 *
 * A column whose value still is what its bytes decode to keeps those very bytes, so that a transform that does not touch
 * an array or a float does not respell it. A column that is missing in `after` is null in an insert or snapshot row and
 * unchanged in an update: `const { secret, ...rest } = change.after` drops a column from the target and nothing else. Key
 * columns must be there. `before` of kind `key` needs the key columns; of kind `full` it stays full as long as it has all
 * columns, which a table without a key insists on. Throws RowError.
 */
export function sliceOfChanges(schema: TableSchema, changes: readonly PlacedChange[]): Slice {
  const encoder = new SliceEncoder(schema)
  encoder.addAll(changes)
  return encoder.finish()
}

/** As `sliceOfChanges`, bit by bit: what does not fit throws and leaves what was added before. */
export class SliceEncoder {
  readonly #schema: TableSchema
  readonly #builder: SliceBuilder
  readonly #decoders: readonly ValueDecoder[]
  readonly #isKey: readonly boolean[]
  readonly #columns: ReadonlyMap<string, number>
  /** Cells that kept their bytes point into the first origin's buffer, which is then shared; new ones stand behind it. */
  #shared: Buffer | null = null
  #pieces: Buffer[] = []
  #end = 0
  /** Cells of the row that is being encoded: nothing goes into the builder before all of the row fits. */
  readonly #starts: Int32Array
  readonly #lengths: Int32Array
  readonly #oldStarts: Int32Array
  readonly #oldLengths: Int32Array

  constructor(schema: TableSchema) {
    const count = schema.columns.length
    this.#schema = schema
    this.#builder = new SliceBuilder(schema)
    this.#decoders = schema.columns.map((column) => decoderOf(column.type))
    this.#isKey = schema.columns.map((_, index) => schema.key.includes(index))
    this.#columns = new Map(schema.columns.map((column, index) => [column.name, index]))
    this.#starts = new Int32Array(count)
    this.#lengths = new Int32Array(count)
    this.#oldStarts = new Int32Array(count)
    this.#oldLengths = new Int32Array(count)
  }

  get rows(): number {
    return this.#builder.rows
  }

  #add({ change, origin = null, order, transaction, placeHigh, placeLow }: PlacedChange): void {
    const op = opCode(change)
    const source = this.#sourceOf(change, origin)
    this.#encodeAfter(change, source)
    const old = this.#encodeBefore(change, source)
    const cell = this.#builder.begin(op, order, transaction, placeHigh, placeLow)
    this.#builder.starts.set(this.#starts, cell)
    this.#builder.lengths.set(this.#lengths, cell)
    if (old !== OldImage.none) this.#putOld(old)
  }

  /** All of them or, when one does not fit, none. */
  addAll(changes: readonly PlacedChange[]): void {
    const [rows, pieces] = [this.#builder.rows, this.#pieces.length]
    try {
      for (const change of changes) this.#add(change)
    } catch (error) {
      for (const piece of this.#pieces.splice(pieces)) this.#end -= piece.length
      this.#builder.oldKinds.fill(OldImage.none, rows)
      this.#builder.rows = rows
      throw error
    }
  }

  finish(): Slice {
    const shared = this.#shared ?? Buffer.alloc(0)
    return this.#builder.take(this.#pieces.length === 0 ? shared : Buffer.concat([shared, ...this.#pieces], this.#end))
  }

  #putOld(kind: 1 | 2): void {
    const cell = this.#builder.beginOld(kind)
    this.#builder.oldStarts.set(this.#oldStarts, cell)
    this.#builder.oldLengths.set(this.#oldLengths, cell)
  }

  /** One that was held back and let go later knows its own bytes. They count only under the same schema. */
  #sourceOf(change: Change, origin: Change | null): Origin | null {
    const source = originOf(change) ?? (origin === null ? null : originOf(origin))
    if (source === null || source.slice.schema !== this.#schema) return null
    if (this.#shared === null && this.#end === 0) {
      this.#shared = source.slice.bytes
      this.#end = this.#shared.length
    }
    return source
  }

  #encodeAfter({ op, after, before }: Change, source: Origin | null): void {
    if (op === 'delete') {
      if (after !== null || before === null) throw new RowError('a delete has no `after`, and its row in `before`')
      this.#lengths.fill(ABSENT_VALUE)
      return
    }
    if (typeof after !== 'object' || after === null) throw new RowError(`${named(op)} has its row in \`after\``)
    this.#expectColumns(after)
    const { columns } = this.#schema
    const image = source === null ? null : imageOf(source, false)
    const old = source === null ? null : imageOf(source, true)
    for (let column = 0; column < columns.length; column++) {
      const value = ownValue(after, columns[column]!.name)
      const from = image !== null && image.lengths[image.first + column] === UNCHANGED_VALUE ? old : image
      // A large key column that did not change is not sent; the old image holds it.
      if (this.#isKey[column])
        this.#requireKey(column, value === UNCHANGED && before !== null ? ownValue(before, columns[column]!.name) : value)
      if (value === undefined) this.#lengths[column] = op === 'update' ? UNCHANGED_VALUE : NULL_VALUE
      else this.#cell(column, value, from, this.#starts, this.#lengths)
    }
  }

  #encodeBefore({ op, before, beforeKind }: Change, source: Origin | null): 0 | 1 | 2 {
    if (before === null) return OldImage.none
    if (beforeKind !== 'key' && beforeKind !== 'full') throw new RowError('`before` is there, but `beforeKind` is neither key nor full')
    if (op === 'insert' || op === 'read') throw new RowError(`${named(op)} has no \`before\``)
    this.#expectColumns(before)
    const { columns } = this.#schema
    // Without an old image, the key is the new one's.
    const image = source === null ? null : (imageOf(source, true) ?? imageOf(source, false))
    let complete = true
    for (let column = 0; column < columns.length; column++) {
      const value = ownValue(before, columns[column]!.name)
      if (this.#isKey[column]) this.#requireKey(column, value)
      complete &&= value !== undefined
      if (value === undefined) this.#oldLengths[column] = ABSENT_VALUE
      else this.#cell(column, value, image, this.#oldStarts, this.#oldLengths)
    }
    if (complete && beforeKind === 'full') return OldImage.full
    if (this.#schema.key.length === 0)
      throw new RowError(`\`before\` lacks a column, and the rows of ${this.#schema.id} are told apart by all of them`)
    this.#oldLengths.forEach((_, column) => {
      if (!this.#isKey[column]) this.#oldLengths[column] = ABSENT_VALUE
    })
    return OldImage.key
  }

  #requireKey(column: number, value: unknown): void {
    if (value !== undefined && value !== null && value !== UNCHANGED) return
    const { name } = this.#schema.columns[column]!
    throw new RowError(`key column ${name} has no value`, name)
  }

  #cell(column: number, value: unknown, source: Image | null, starts: Int32Array, lengths: Int32Array): void {
    starts[column] = 0
    if (value === UNCHANGED) lengths[column] = UNCHANGED_VALUE
    else if (value === null) lengths[column] = NULL_VALUE
    else if (source !== null && this.#keeps(column, value, source)) this.#copy(column, source, starts, lengths)
    else this.#put(column, Buffer.from(this.#encode(column, value), 'utf8'), starts, lengths)
  }

  #keeps(column: number, value: unknown, { bytes, first, starts, lengths }: Image): boolean {
    const length = lengths[first + column]!
    if (length < 0) return false
    const start = starts[first + column]!
    return sameValue(this.#decoders[column]!(bytes.toString('utf8', start, start + length)), value)
  }

  #copy(column: number, source: Image, starts: Int32Array, lengths: Int32Array): void {
    const start = source.starts[source.first + column]!
    const length = source.lengths[source.first + column]!
    if (source.bytes !== this.#shared) return this.#put(column, source.bytes.subarray(start, start + length), starts, lengths)
    starts[column] = start
    lengths[column] = length
  }

  #put(column: number, piece: Buffer, starts: Int32Array, lengths: Int32Array): void {
    this.#pieces.push(piece)
    starts[column] = this.#end
    lengths[column] = piece.length
    this.#end += piece.length
  }

  #encode(column: number, value: unknown): string {
    const { name, type } = this.#schema.columns[column]!
    try {
      return encodeValue(type, value)
    } catch (error) {
      if (error instanceof ValueError) throw new RowError(`column ${name}: ${error.message}`, name, error)
      throw error
    }
  }

  #expectColumns(row: Partial<Row>): void {
    for (const name of Object.keys(row))
      if (!this.#columns.has(name)) throw new RowError(`table ${this.#schema.id} has no column ${JSON.stringify(name)}`, name)
  }
}

/** One row's new or old image in a slice. */
interface Image {
  readonly bytes: Buffer
  readonly first: number
  readonly starts: Int32Array
  readonly lengths: Int32Array
}

function imageOf({ slice, row }: Origin, old: boolean): Image | null {
  if (old && (slice.oldKinds === null || slice.oldKinds[row] === OldImage.none)) return null
  const first = row * slice.schema.columns.length
  return { bytes: slice.bytes, first, starts: old ? slice.oldStarts : slice.starts, lengths: old ? slice.oldLengths : slice.lengths }
}

function ownValue(row: Partial<Row>, name: string): unknown {
  return Object.hasOwn(row, name) ? row[name] : undefined
}

const OPS: Readonly<Record<Change['op'], OpCode>> = { read: Op.read, insert: Op.insert, update: Op.update, delete: Op.delete }

function opCode({ op }: Change): OpCode {
  if (Object.hasOwn(OPS, op)) return OPS[op]
  throw new RowError(`${JSON.stringify(op)} is no op: expected insert, update or delete`)
}

function named(op: Change['op']): string {
  return op === 'read' ? 'a row of a snapshot' : op === 'insert' || op === 'update' ? `an ${op}` : `a ${op}`
}
