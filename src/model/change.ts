import type { Position } from './position.ts'
import type { TableId } from './schema.ts'

/** A column that the source did not send because it did not change (PostgreSQL: TOAST). Not null (Invariant 7). */
export const UNCHANGED: unique symbol = Symbol.for('tailrace.UNCHANGED')

/**
 * A value for people, by logical type: boolean → boolean; int8–int32, uint8–uint32, float → number; int64, uint64 → bigint;
 * decimal, date, time, timestamps, interval, uuid, enum, json and everything else → string, the source's own text, so that
 * nothing is lost; bytes → Uint8Array; array → array of these; null; UNCHANGED.
 */
export type Value = boolean | number | bigint | string | Uint8Array | null | typeof UNCHANGED | readonly Value[]

export type Row = Record<string, Value>

/** The row view of one change: for transforms and for `for await (const tx of source.stream(…))`. */
export interface Change<T extends Row = Row> {
  readonly op: 'read' | 'insert' | 'update' | 'delete'
  readonly table: TableId
  /** Null for a delete. */
  readonly after: T | null
  /** What is known of the old row: its key, all of it, or nothing. */
  readonly before: Partial<T> | null
  readonly beforeKind: 'none' | 'key' | 'full'
  /** End of the transaction's commit; null in a snapshot. */
  readonly position: Position | null
  /** The same on every replay; unique within the source. Empty in a snapshot. */
  readonly sequence: string
  /** Microseconds since 1970 UTC; null in a snapshot. */
  readonly committedAt: number | null
}
