import type { SQLInputValue } from 'node:sqlite'
import { ABSENT_VALUE, NULL_VALUE, OldImage, Op, UNCHANGED_VALUE, type Slice } from '../../model/batch.ts'
import { isKeptUnique, type TableId } from '../../model/schema.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { tablesOption } from '../../sdk/selection.ts'
import type { CellEncoder } from './encode.ts'
import { ParkedRows } from './parked-rows.ts'
import { isKeyViolation, isUniqueViolation, notUnique, translate } from './sqlite-errors.ts'
import type { TableStatements, UpdateStatement, WrittenColumn } from './statements.ts'

const ZERO = 0x30
const ONE = 0x31

/**
 * Writes rows of one table in the order given: one statement per change, INSERTs several at once. No compaction: SQLite
 * gains nothing by it but on hot keys (APPLY C), and the source's own order satisfies every key that is not deferrable.
 */
export class TableWriter {
  readonly #statements: TableStatements
  readonly #encoder: CellEncoder
  readonly #parked: ParkedRows
  readonly #columns: readonly WrittenColumn[]
  readonly #key: readonly WrittenColumn[]
  readonly #values: SQLInputValue[] = []
  readonly #sent: Uint8Array
  #mask = ''
  /** The transaction, by its number in the batch, in which rows were parked. */
  #parkedIn = 0
  /** What an insert does that meets a row with its key: in the stream it takes its place, in a load it is refused. */
  collisions: 'replace' | 'refuse' = 'replace'
  /** Deletes that found nothing: the row is gone, as it should be, but somebody else did it. */
  missed = 0
  /** Rows that SQLite says it inserted. */
  inserted = 0
  /** Rows that stood at a key to which the source brought another one. */
  replaced = 0

  constructor(statements: TableStatements, encoder: CellEncoder) {
    this.#statements = statements
    this.#encoder = encoder
    this.#parked = new ParkedRows(statements, encoder)
    this.#columns = statements.columns
    this.#key = statements.key
    this.#sent = new Uint8Array(statements.columns.length)
  }

  /** Applies the rows `from` to `to` (exclusive). Throws on the first that cannot be; the caller rolls everything back. */
  apply(slice: Slice, from: number, to: number): void {
    let row = from
    try {
      while (row < to) {
        if (!this.#parked.isEmpty && slice.transactions[row] !== this.#parkedIn) this.replaced += this.#parked.settle()
        row += this.#applyNext(slice, row, to)
      }
    } catch (error) {
      throw translate(error, `${OP_NAMES[slice.ops[row] ?? 0]!} of a row`, slice.schema.id)
    }
  }

  /** The last transaction of the batch is over. */
  settle(): void {
    if (this.#parked.isEmpty) return
    try {
      this.replaced += this.#parked.settle()
    } catch (error) {
      throw translate(error, 'the end of a transaction', this.#statements.schema.id)
    }
  }

  /** The last transaction of the batch goes on in the next one, as its first. */
  carryOver(): void {
    this.#parkedIn = 0
  }

  /** Everything was rolled back. */
  forget(): void {
    this.#parked.clear()
  }

  #applyNext(slice: Slice, row: number, to: number): number {
    switch (slice.ops[row]) {
      case Op.update:
        this.#applyUpdate(slice, row)
        return 1
      case Op.delete:
        this.#applyDelete(slice, row)
        return 1
      default:
        return this.#applyInserts(slice, row, to)
    }
  }

  #applyInserts(slice: Slice, row: number, to: number): number {
    const many = this.#statements.rowsPerInsert
    if (many > 1 && row + many <= to && this.#parked.isEmpty && areInserts(slice.ops, row, row + many)) {
      for (let i = 0; i < many; i++) this.#fillInsert(slice, row + i, i * this.#columns.length)
      this.#values.length = many * this.#columns.length
      try {
        this.inserted += Number(this.#statements.insertMany.run(...this.#values).changes)
        return many
      } catch (error) {
        // The statement was undone as a whole: one by one, so that the row that collides is known.
        if (!isUniqueViolation(error)) throw error
      }
    }
    this.#insert(slice, row)
    return 1
  }

  #insert(slice: Slice, row: number): void {
    this.#fillInsert(slice, row, 0)
    this.#values.length = this.#columns.length
    const { changes } = this.#runIntoRoom(slice, row, () => this.#statements.insert.run(...this.#values))
    this.inserted += Number(changes)
  }

  #fillInsert(slice: Slice, row: number, at: number): void {
    const columns = this.#columns
    const first = row * slice.schema.columns.length
    for (let i = 0; i < columns.length; i++) {
      const column = columns[i]!
      const cell = first + column.index
      const length = slice.lengths[cell]!
      if (length >= 0) this.#values[at + i] = this.#encoder.encode(column.encoding, slice.bytes, slice.starts[cell]!, length)
      // In a key that is the rowid SQLite would put a number in the place of NULL.
      else if (length === NULL_VALUE && (column.nullable || !column.isKey)) this.#values[at + i] = null
      else if (length === NULL_VALUE) throw new TailraceError('ROW_REJECTED', `a new row has no key: ${column.name} is null`)
      else throw new TailraceError('NOT_ACCOUNTED', `a new row came without a value for column ${column.name}`)
    }
  }

  #applyUpdate(slice: Slice, row: number): void {
    const keyChanged = this.#isKeyChanged(slice, row)
    if (!this.#parked.isEmpty && this.#updateParked(slice, row, keyChanged)) return
    const mask = this.#maskOf(slice, row, keyChanged)
    if (!keyChanged) {
      const update = this.#statements.update(mask)
      this.#bindUpdate(slice, row, update)
      if (Number(update.statement.run(...this.#values).changes) !== 1) throw hole(slice.schema.id)
      return
    }
    const move = this.#statements.softDeletes ? this.#statements.copy(mask) : this.#statements.update(mask)
    this.#bindUpdate(slice, row, move)
    const { changes } = this.#runIntoRoom(slice, row, () => move.statement.run(...this.#values))
    if (Number(changes) !== 1) throw hole(slice.schema.id)
    if (this.#statements.softDeletes) this.#deleteAt(slice, row)
  }

  #bindUpdate(slice: Slice, row: number, update: UpdateStatement): void {
    const first = row * slice.schema.columns.length
    this.#values.length = 0
    for (const column of update.columns) this.#values.push(this.#newValue(slice, first, column))
    this.#pushWhere(slice, row)
  }

  /** Which columns this row brings, a letter each. Most rows bring the same ones as the row before. */
  #maskOf(slice: Slice, row: number, keyChanged: boolean): string {
    const first = row * slice.schema.columns.length
    let same = this.#mask !== ''
    for (let i = 0; i < this.#columns.length; i++) {
      const column = this.#columns[i]!
      const isSent = slice.lengths[first + column.index]! >= NULL_VALUE && (keyChanged || !column.isKey) ? ONE : ZERO
      if (this.#sent[i] === isSent) continue
      this.#sent[i] = isSent
      same = false
    }
    if (!same) this.#mask = String.fromCharCode(...this.#sent)
    return this.#mask
  }

  #applyDelete(slice: Slice, row: number): void {
    if (!this.#parked.isEmpty && this.#parked.take(this.#keyText(slice, row), slice, row) !== null) return
    this.#deleteAt(slice, row)
  }

  #deleteAt(slice: Slice, row: number): void {
    this.#values.length = 0
    this.#pushWhere(slice, row)
    if (Number(this.#statements.delete.run(...this.#values).changes) > 0) return
    // Without a key there are rows that are not the source's: the one that was meant may stand there with other values.
    if (this.#key.length === 0) throw hole(slice.schema.id)
    this.missed++
  }

  /** Runs a statement that brings a row to a key; where one is there already, that one is parked first. */
  #runIntoRoom<T>(slice: Slice, row: number, run: () => T): T {
    try {
      return run()
    } catch (error) {
      if (!isUniqueViolation(error) || this.#key.length === 0) throw error
      if (this.collisions === 'refuse') throw this.#refused(error)
      const first = row * slice.schema.columns.length
      const wasEmpty = this.#parked.isEmpty
      // Encoded anew into an array of its own: `run` binds #values once more.
      const outcome = this.#parked.makeRoom(
        this.#newKeyText(slice, row),
        this.#key.map((column) => this.#newKeyValue(slice, first, column)),
      )
      if (outcome === 'nobody') throw error
      if (outcome === 'replaced') this.replaced++
      if (wasEmpty) this.#parkedIn = slice.transactions[row] ?? 0
      return run()
    }
  }

  /** A key that nobody keeps unique is no key: it is not this row that is wrong. */
  #refused(error: unknown): unknown {
    const { schema } = this.#statements
    return !isKeptUnique(schema) && isKeyViolation(error, schema) ? notUnique(schema, error) : error
  }

  #updateParked(slice: Slice, row: number, keyChanged: boolean): boolean {
    const key = this.#keyText(slice, row)
    const parked = this.#parked.take(key, slice, row)
    if (parked === null) return false
    const first = row * slice.schema.columns.length
    const changes = this.#columns
      .filter((column) => slice.lengths[first + column.index]! >= NULL_VALUE)
      .map((column) => ({ column, value: this.#newValue(slice, first, column) }))
    if (keyChanged) this.#runIntoRoom(slice, row, () => this.#parked.putBack(parked, changes, null))
    else this.#parked.putBack(parked, changes, key)
    return true
  }

  #newValue(slice: Slice, first: number, column: WrittenColumn): SQLInputValue {
    const length = slice.lengths[first + column.index]!
    return length < 0 ? null : this.#encoder.encode(column.encoding, slice.bytes, slice.starts[first + column.index]!, length)
  }

  /** A key column that did not change may not have been sent. */
  #newKeyValue(slice: Slice, first: number, column: WrittenColumn): SQLInputValue {
    return slice.lengths[first + column.index]! >= NULL_VALUE ? this.#newValue(slice, first, column) : this.#oldValue(slice, first, column)
  }

  #oldValue(slice: Slice, first: number, column: WrittenColumn): SQLInputValue {
    const length = slice.oldLengths[first + column.index]!
    return length < 0 ? null : this.#encoder.encode(column.encoding, slice.bytes, slice.oldStarts[first + column.index]!, length)
  }

  /** Binds what finds the row as it was: its old key where the source sent one, else its key. */
  #pushWhere(slice: Slice, row: number): void {
    const first = row * slice.schema.columns.length
    const columns = this.#key.length === 0 ? this.#columns : this.#key
    if (this.#key.length === 0 && slice.oldKinds?.[row] !== OldImage.full) throw noIdentity()
    for (const column of columns) {
      if (this.#hasOld(slice, row, first, column)) this.#values.push(this.#oldValue(slice, first, column))
      else if (this.#key.length > 0 && slice.lengths[first + column.index]! >= NULL_VALUE)
        this.#values.push(this.#newValue(slice, first, column))
      else throw noIdentity()
    }
  }

  #hasOld(slice: Slice, row: number, first: number, column: WrittenColumn): boolean {
    return slice.oldKinds !== null && slice.oldKinds[row] !== OldImage.none && slice.oldLengths[first + column.index]! >= NULL_VALUE
  }

  #isKeyChanged(slice: Slice, row: number): boolean {
    if (slice.oldKinds === null || slice.oldKinds[row] === OldImage.none) return false
    const first = row * slice.schema.columns.length
    for (const column of this.#key) {
      const cell = first + column.index
      const length = slice.lengths[cell]!
      const oldLength = slice.oldLengths[cell]!
      if (length === UNCHANGED_VALUE || length === ABSENT_VALUE || oldLength < NULL_VALUE) continue
      if (length !== oldLength) return true
      if (
        length > 0 &&
        slice.bytes.compare(
          slice.bytes,
          slice.oldStarts[cell]!,
          slice.oldStarts[cell]! + length,
          slice.starts[cell]!,
          slice.starts[cell]! + length,
        ) !== 0
      )
        return true
    }
    return false
  }

  /** The key that finds the row, as text: the source writes equal keys alike. */
  #keyText(slice: Slice, row: number): string {
    const first = row * slice.schema.columns.length
    return this.#key
      .map((column) =>
        this.#hasOld(slice, row, first, column)
          ? text(slice.bytes, slice.oldStarts, slice.oldLengths, first + column.index)
          : text(slice.bytes, slice.starts, slice.lengths, first + column.index),
      )
      .join()
  }

  #newKeyText(slice: Slice, row: number): string {
    const first = row * slice.schema.columns.length
    return this.#key
      .map((column) =>
        slice.lengths[first + column.index]! >= NULL_VALUE
          ? text(slice.bytes, slice.starts, slice.lengths, first + column.index)
          : text(slice.bytes, slice.oldStarts, slice.oldLengths, first + column.index),
      )
      .join()
  }
}

const OP_NAMES = ['the copy', 'the insert', 'the update', 'the delete'] as const

function areInserts(ops: Uint8Array, from: number, to: number): boolean {
  for (let row = from; row < to; row++) if (ops[row] === Op.update || ops[row] === Op.delete) return false
  return true
}

function text(bytes: Buffer, starts: Int32Array, lengths: Int32Array, cell: number): string {
  const length = lengths[cell]!
  return length < 0 ? String(length) : `${length}:${bytes.toString('latin1', starts[cell]!, starts[cell]! + length)}`
}

/** Never made good by an insert: columns that were not sent would become NULL (TRAP 34). */
function hole(table: TableId): TailraceError {
  return new TailraceError('NOT_ACCOUNTED', 'the row that is changed is not in the target', {
    hint: `look for another writer in the target; tailrace resnapshot <pipeline> ${tablesOption([table])} reads the table again`,
    path: table,
  })
}

function noIdentity(): TailraceError {
  return new TailraceError('NOT_ACCOUNTED', 'a change does not say which row it is about', {
    hint: 'in PostgreSQL: ALTER TABLE … REPLICA IDENTITY FULL, or name a key with --key',
  })
}
