import type { Position, Transaction } from './position.ts'
import type { TableSchema } from './schema.ts'

/** What happened to a row. `read` is a row of a snapshot. */
export const Op = { read: 0, insert: 1, update: 2, delete: 3 } as const
export type OpCode = (typeof Op)[keyof typeof Op]

/** Lengths that are no lengths. */
export const NULL_VALUE = -1
/** The source did not send the column: it keeps the value that it has (Invariant 7). Not null. */
export const UNCHANGED_VALUE = -2
/** The image does not hold the column at all: old images of key columns only, after-images of deletes. */
export const ABSENT_VALUE = -3

/** What is known of the row before the change. */
export const OldImage = { none: 0, key: 1, full: 2 } as const

/**
 * The rows of one table within a batch: the source's bytes plus offsets; a value is decoded only where someone looks.
 *
 * Row r, column c of the new image lies at `bytes[starts[r*C+c] .. +lengths[r*C+c]]`, C = `schema.columns.length`;
 * a negative length is NULL_VALUE, UNCHANGED_VALUE or ABSENT_VALUE. Deletes have no new image (all ABSENT_VALUE).
 * Old images, where `oldKinds` is not null, are laid out alike. The format is text: the form in which PostgreSQL writes
 * values with DateStyle ISO, IntervalStyle postgres, TimeZone UTC, bytea hex, extra_float_digits 1, UTF-8.
 */
export interface Slice {
  readonly schema: TableSchema
  readonly bytes: Buffer
  readonly rows: number
  /** Op code of each row. */
  readonly ops: Uint8Array
  readonly starts: Int32Array
  readonly lengths: Int32Array
  /** `OldImage` of each row; null when no row of the slice has one. */
  readonly oldKinds: Uint8Array | null
  readonly oldStarts: Int32Array
  readonly oldLengths: Int32Array
  /** Place of each row in the whole batch: sorting all slices by it gives the source's order. */
  readonly order: Int32Array
  /** Index of each row's transaction in the batch's `transactions`. */
  readonly transactions: Int32Array
  /** Each row's own place in the log as high and low word, 2 per row; for `sequence`, never a position to resume from. */
  readonly places: Uint32Array
}

export type SchemaChangeKind =
  | 'column-added'
  | 'column-dropped'
  | 'column-renamed'
  | 'type-changed'
  | 'nullability-changed'
  | 'key-changed'
  | 'table-renamed'
  | 'table-dropped'

export interface SchemaChangeDetail {
  readonly kind: SchemaChangeKind
  /** Column name before (dropped, renamed, changed), null for added. */
  readonly before: string | null
  /** Column name after, null for dropped. */
  readonly after: string | null
}

/** Things that travel alone, between batches of rows. */
export type Barrier =
  | { readonly kind: 'truncate'; readonly tables: readonly TableSchema[]; readonly cascade: boolean; readonly restartIdentity: boolean }
  | {
      readonly kind: 'schema'
      readonly previous: TableSchema
      readonly schema: TableSchema
      readonly changes: readonly SchemaChangeDetail[]
      /** Rows may have changed without being in the stream (TRAPS 46) or columns cannot be told apart (47). */
      readonly ambiguous: string | null
      /** The source cannot say which columns the rows that follow have: nobody can go on from here without a new reading. */
      readonly blind?: boolean
    }

/**
 * A piece of the change stream, in source order. Either `slices` or `barrier` or neither (idle: only a newer position).
 */
export interface StreamBatch {
  /** One per table and schema version; rows of different slices are ordered by `order`. */
  readonly slices: readonly Slice[]
  readonly barrier: Barrier | null
  readonly transactions: readonly Transaction[]
  /**
   * Set when the batch ends where a source transaction ends: after it the sink may commit (Invariant 4). Null: the last
   * transaction goes on in the next batch and must not become visible yet.
   */
  readonly position: Position | null
  readonly rows: number
  /** Bytes of memory that the batch holds. */
  readonly bytes: number
}

export const EMPTY_SLICES: readonly Slice[] = []

/** A batch without rows: only the position moves. */
export function idleBatch(position: Position): StreamBatch {
  return { slices: EMPTY_SLICES, barrier: null, transactions: [], position, rows: 0, bytes: 0 }
}

/**
 * Byte formats in which a snapshot can be handed over.
 * - `rows`: a Slice of `read` rows.
 * - `pg-copy-binary`: PostgreSQL CopyData messages as they are on the wire ('d', length, payload), binary format, one
 *   COPY per chunk with its header and trailer: relayed untouched.
 * - `csv`: rows of PostgreSQL's CSV (comma, quote ", null = nothing unquoted, LF), UTF-8, no header.
 */
export type SnapshotFormat = 'rows' | 'pg-copy-binary' | 'csv'

/** A piece of a chunk. `bytes` is only valid until the `write` that it is given to resolves. */
export type SnapshotFrame =
  | { readonly format: 'rows'; readonly slice: Slice; readonly rows: number; readonly bytes: number }
  | { readonly format: 'pg-copy-binary' | 'csv'; readonly data: Buffer; readonly rows: number; readonly bytes: number }
