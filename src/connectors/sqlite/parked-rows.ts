import type { SQLInputValue, SQLOutputValue } from 'node:sqlite'
import { NULL_VALUE, OldImage, type Slice } from '../../model/batch.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import type { CellEncoder } from './encode.ts'
import { fold } from './identifiers.ts'
import { isUniqueViolation } from './sqlite-errors.ts'
import type { TableStatements, WrittenColumn } from './statements.ts'

/** A row that was taken out of the table because a younger one came to its key. */
interface ParkedRow {
  readonly names: readonly string[]
  readonly values: SQLOutputValue[]
}

/**
 * Two rows at one key at once (TRAP 35). Under a deferrable key `id = id + 1` is logged as 1→2, 2→3: in between, two rows
 * have key 2, which the index of the target forbids. The elder row waits here until the change that moves it comes: with
 * a full old image it is known by that, else first in, first out. At the end of the source transaction nobody may wait.
 *
 * Compaction by lineage (as for PostgreSQL) was the alternative: it needs the whole transaction in memory, this only the
 * rows that collide, and rarely more than one of them at a time.
 */
export class ParkedRows {
  readonly #statements: TableStatements
  readonly #encoder: CellEncoder
  readonly #waiting = new Map<string, ParkedRow[]>()

  constructor(statements: TableStatements, encoder: CellEncoder) {
    this.#statements = statements
    this.#encoder = encoder
  }

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  /**
   * Frees a key that a row is about to take. A row that was only marked as deleted goes for good. A living one is parked
   * where the source may mean it later; an identity that is no full image is never deferrable, so there it is not of this
   * source and is replaced. `nobody`: the collision was in another unique index.
   */
  makeRoom(key: string, values: readonly SQLInputValue[]): 'nobody' | 'ghost' | 'replaced' | 'parked' {
    const row = this.#statements.select.get(...values)
    if (row === undefined) return 'nobody'
    this.#statements.erase.run(...values)
    if (this.#statements.softDeletes && row[DELETED_COLUMN] === 1n) return 'ghost'
    if (this.#statements.schema.identity !== 'full') return 'replaced'
    this.#list(key).push({ names: Object.keys(row), values: Object.values(row) })
    return 'parked'
  }

  /** Takes the row out that a change of this key means; null: it means the row in the table. */
  take(key: string, slice: Slice, row: number): ParkedRow | null {
    const list = this.#waiting.get(key)
    if (list === undefined) return null
    const isFull = slice.oldKinds !== null && slice.oldKinds[row] === OldImage.full
    const at = isFull ? list.findIndex((parked) => this.#isImage(parked, slice, row)) : 0
    const found = list[at]
    if (found === undefined) return null
    list.splice(at, 1)
    if (list.length === 0) this.#waiting.delete(key)
    return found
  }

  /** Gives a row its new values and puts it at `key`: into the table, or back to waiting when its key did not change. */
  putBack(
    parked: ParkedRow,
    changes: readonly { readonly column: WrittenColumn; readonly value: SQLInputValue }[],
    waitAt: string | null,
  ): void {
    for (const { column, value } of changes) {
      const at = parked.names.findIndex((name) => fold(name) === fold(column.name))
      parked.values[at] = asStored(value, column)
    }
    if (waitAt === null) this.#restore(parked)
    else this.#list(waitAt).unshift(parked)
  }

  /**
   * At the end of a source transaction: whoever is alone at its key returns. Where a younger row stands, the source has
   * only that one: the elder is not of this source, and is replaced. Gives how many were.
   */
  settle(): number {
    let replaced = 0
    for (const list of this.#waiting.values()) {
      for (const parked of list) {
        try {
          this.#restore(parked)
        } catch (error) {
          if (!isUniqueViolation(error)) throw error
          replaced++
        }
      }
    }
    this.#waiting.clear()
    return replaced
  }

  clear(): void {
    this.#waiting.clear()
  }

  #restore(parked: ParkedRow): void {
    this.#statements.restore(parked.names).run(...parked.values)
  }

  #list(key: string): ParkedRow[] {
    const list = this.#waiting.get(key) ?? []
    this.#waiting.set(key, list)
    return list
  }

  #isImage(parked: ParkedRow, slice: Slice, row: number): boolean {
    const first = row * slice.schema.columns.length
    return this.#statements.columns.every((column) => {
      const length = slice.oldLengths[first + column.index]!
      if (length < NULL_VALUE) return true
      const wanted =
        length === NULL_VALUE ? null : this.#encoder.encode(column.encoding, slice.bytes, slice.oldStarts[first + column.index]!, length)
      const at = parked.names.findIndex((name) => fold(name) === fold(column.name))
      return isSame(asStored(wanted, column), parked.values[at] ?? null)
    })
  }
}

/** What reading the value back would give: text instead of its bytes. */
function asStored(value: SQLInputValue, column: WrittenColumn): SQLOutputValue {
  if (value === null || typeof value !== 'object') return value
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  return column.isText ? bytes.toString('utf8') : Buffer.from(bytes)
}

function isSame(a: SQLOutputValue, b: SQLOutputValue): boolean {
  if (a instanceof Uint8Array) return b instanceof Uint8Array && Buffer.compare(a, b) === 0
  // An INTEGER column gives a BigInt where a number or a text was bound.
  if (typeof b === 'bigint' && (typeof a === 'number' || typeof a === 'string')) return String(b) === String(a)
  return Object.is(a, b)
}
