import type { SnapshotFormat, SnapshotFrame, StreamBatch } from '../model/batch.ts'
import type { Position } from '../model/position.ts'
import type { TableId, TableSchema } from '../model/schema.ts'
import type { Chunk } from './source.ts'
import type { Problem } from './errors.ts'

/** Where a source table's rows go. */
export interface SinkTable {
  /** The source table; slices name it by `schema.id`. */
  readonly id: TableId
  /** Shape of the rows: the selected columns and key, with the source's names. */
  readonly schema: TableSchema
  readonly target: { readonly namespace: string | null; readonly name: string }
}

export type IfExists = 'stop' | 'append' | 'truncate' | 'replace'

export interface LoadRequest {
  readonly table: SinkTable
  readonly chunk: Chunk
  readonly format: SnapshotFormat
  /** The chunk may have been loaded before: its range is emptied first, in the same transaction (TRAPS 4a). */
  readonly replace: boolean
  /**
   * Rows that stand in the target stay: marked as deleted, or of somebody else. A row whose key is there takes its place, and
   * `replace` empties as `clear` does softly.
   */
  readonly merge?: boolean
}

/** Receives one chunk. Disposing it before `finish` leaves nothing of the chunk in the target. */
export interface Loader extends AsyncDisposable {
  /** Resolves when the frame's bytes may be reused. In call order. */
  write(frame: SnapshotFrame): Promise<void>
  /** Resolves = durable. Gives the rows that the target counted, to be compared with those read. */
  finish(): Promise<{ rows: number }>
}

/** What a transactional sink stored beside the rows. */
export interface Checkpoint {
  readonly epoch: number
  /** Position of the last committed stream batch; null when there was none. */
  readonly position: Position | null
}

/** A pipeline for which a target table was made or taken over. */
export interface Writer {
  readonly pipeline: string
  /** It has a position: it follows its source, and goes on writing. */
  readonly follows: boolean
}

/**
 * Checkpoints that commit with the rows: exactly once. The epoch is the fence (Invariant 8): every commit proves that it
 * still is ours.
 */
export interface SinkCheckpoints {
  /** What is stored now; null: nothing. Takes and changes nothing: asked before `claim`, which fences an earlier runner off. */
  look(signal: AbortSignal): Promise<Checkpoint | null>
  /** Every pipeline whose `applySchema` took the target, and that has not let it go since; ours may be among them. Changes nothing. */
  writers(table: SinkTable, signal: AbortSignal): Promise<readonly Writer[]>
  /** The targets are not this pipeline's any more. They stay as they are. */
  letGo(tables: readonly SinkTable[], signal: AbortSignal): Promise<void>
  /**
   * Takes the pipeline over: epoch + 1 under a row lock, once per start, before anything else is written; the earlier
   * runner's next commit fails with FENCED. Makes the bookkeeping table where it is missing.
   */
  claim(signal: AbortSignal): Promise<Checkpoint>
  /**
   * After any failed or given-up write: rolls back what is open, reconnects if need be, checks that the epoch is still
   * ours (FENCED otherwise; never takes a new one) and gives the position that is really stored (TRAPS 41).
   */
  recover(signal: AbortSignal): Promise<Checkpoint>
  /** Stores a position without rows, fenced: before the first snapshot row, and after reset. */
  store(position: Position | null, signal: AbortSignal): Promise<void>
}

/**
 * A system to write to. Calls come one at a time, but for `load`, which snapshot workers call in parallel (up to
 * `capabilities.parallelLoads`). `write` rejects with a TailraceError; after any rejection the batch is unknown and the
 * engine calls `checkpoints.recover` before it sends anything again.
 */
export interface Sink extends AsyncDisposable {
  /** Every problem at once, each with a hint to type. Changes nothing. */
  check(tables: readonly SinkTable[], signal: AbortSignal): Promise<readonly Problem[]>
  /** What is at the target's place now. */
  inspect(table: SinkTable, signal: AbortSignal): Promise<'absent' | 'empty' | 'filled'>
  /** Columns that stand at the target's place already and do not hold every value of the source's as it is. */
  misfits?(table: SinkTable, signal: AbortSignal): Promise<readonly Misfit[]>
  /** Columns of the table that its target does not have, although they would be written; null: there is no such table. */
  missingColumns?(table: SinkTable, signal: AbortSignal): Promise<readonly string[] | null>
  /** What `applySchema` would run, for `plan`. */
  describeSchema?(table: SinkTable): readonly string[]
  /** Columns whose values the target does not keep in a type of the same kind, and what becomes of them, for `plan`. */
  describeTypes?(table: SinkTable): readonly string[]
  /**
   * Makes the target table, or evolves it from `previous`; idempotent; never destroys data (a dropped column stays,
   * nullable). Also called at every start for each table, with previous = table, so that the sink knows its tables. Never
   * inside an open stream transaction: schema changes of the stream come as barriers through `write`. A sink with
   * checkpoints notes with it that the target is this pipeline's.
   */
  applySchema(table: SinkTable, previous: SinkTable | null, signal: AbortSignal, options?: ApplyOptions): Promise<void>
  /**
   * Empties the target table: before a snapshot under rule T, `--if-exists truncate`. Durable when resolved. `softly`
   * (`--deletes soft`): rows with a key are marked as deleted and stay, of those without one only the marked stay.
   */
  clear(table: SinkTable, signal: AbortSignal, options?: { readonly softly?: boolean }): Promise<void>
  /** The formats in which this table can be loaded, best first, where that depends on its types; after `applySchema`. */
  formats?(table: SinkTable, signal: AbortSignal): Promise<readonly SnapshotFormat[]>
  /** Starts to load one chunk of a snapshot. */
  load(request: LoadRequest, signal: AbortSignal): Promise<Loader>
  /** After the snapshot, and the stream past its newest view (TRAPS 4e): indexes, constraints, sequences. Idempotent. */
  seal?(tables: readonly SinkTable[], signal: AbortSignal): Promise<readonly Problem[]>
  /**
   * Applies a batch in order. With `position` set: resolves when rows and position are durable and visible. With null: may
   * buffer or hold a transaction open; nothing of it may become visible before a later batch brings a position.
   */
  write(batch: StreamBatch, signal: AbortSignal): Promise<void>
  readonly checkpoints?: SinkCheckpoints
  count?(table: SinkTable, signal: AbortSignal): Promise<bigint>
  /** Drops this pipeline's bookkeeping (not the copied tables); names it. */
  remove?(signal: AbortSignal): Promise<readonly string[]>
}

export interface ApplyOptions {
  /** Drop what stands there first (`--if-exists replace`). */
  readonly replace?: boolean
  /** The target is this pipeline's alone from now on, whosever it was. */
  readonly takeOver?: boolean
}

/** A column of a target table whose type is another than the one that its values would be given. */
export interface Misfit {
  readonly column: string
  /** The types in the target's own words. */
  readonly found: string
  readonly wanted: string
  /** What becomes of the few values that it changes (`-0.0 becomes 0.0`): worth a warning, no reason not to write to it. */
  readonly bends?: string
}

export interface SinkCapabilities {
  readonly commit: 'transactional' | 'idempotent' | 'none'
  /** Snapshot formats that it loads natively, best first. `rows` must be among them. */
  readonly formats: readonly SnapshotFormat[]
  readonly parallelLoads: number
  readonly delete: readonly ('hard' | 'soft')[]
  readonly truncate: boolean
  readonly schemaChanges: boolean
  /** Batch size at which the sink works best; the engine collects no more than this. */
  readonly maxBatch: { readonly rows: number; readonly bytes: number }
  readonly limits: { readonly identifierBytes: number; readonly columns: number }
}
