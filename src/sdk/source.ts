import type { Position, View, Transaction } from '../model/position.ts'
import type { SnapshotFormat, SnapshotFrame, StreamBatch, Slice } from '../model/batch.ts'
import type { TableId, TableSchema } from '../model/schema.ts'
import type { Problem } from './errors.ts'

/** Which tables, columns and rows a pipeline wants; already validated by the engine for form, not for existence. */
export interface Selection {
  /** Patterns `name`, `schema.name`, with `*`; `!pattern` leaves tables out. None but such: every table that a person made. */
  readonly tables: readonly string[]
  /** Columns to take per table pattern; a table without an entry gives all. */
  readonly columns: ReadonlyMap<string, readonly string[]>
  /** `table.column` patterns to leave out. */
  readonly exclude: readonly string[]
  /** SQL conditions per table pattern, in the source's dialect. */
  readonly where: ReadonlyMap<string, string>
  /** Identity columns per table pattern, for tables without a key or to choose another unique one. */
  readonly keys: ReadonlyMap<string, readonly string[]>
}

/** A table as the pipeline takes it: `schema` holds only the selected columns, with the chosen key. */
export interface SourceTable {
  readonly id: TableId
  readonly schema: TableSchema
  /** Row condition, in the source's dialect. */
  readonly where: string | null
  /** The columns were listed (`--columns`): one that is added later is not taken. */
  readonly columnsFixed: boolean
  /** The key was chosen (`--key`): it does not follow the source's. */
  readonly keyFixed?: boolean
  /** Columns left out by name (`--exclude`). */
  readonly excluded: readonly string[]
}

/** What the source will be asked for; `check` judges against it. */
export type Purpose = 'copy' | 'follow' | 'stream'

/** A piece of a table's snapshot: plain data, kept in the ledger. */
export interface Chunk {
  readonly id: number
  /**
   * `key`: rows with `from <= column < to` (null = open end, texts of the source); may be read again alone.
   * `heap`: a range of the source's own choosing (PostgreSQL: ctid blocks); good for one view only.
   * `all`: the whole table.
   */
  readonly range:
    | { readonly kind: 'all' }
    | { readonly kind: 'key'; readonly column: string; readonly from: string | null; readonly to: string | null }
    | { readonly kind: 'heap'; readonly from: number; readonly to: number | null }
  /** Estimates; −1 where unknown. */
  readonly rows: number
  readonly bytes: number
}

/**
 * How a table is read again after its view died: `chunk` = only unfinished key ranges (TRAPS rule K), `table` = whole,
 * into an emptied target (rule T).
 */
export interface ChunkPlan {
  readonly rule: 'chunk' | 'table'
  /** Why this rule, for `plan`. */
  readonly reason: string
  readonly chunks: readonly Chunk[]
}

export interface Snapshot extends AsyncDisposable {
  /**
   * Where the stream starts that fits this snapshot; set only when this call made the origin of the stream (slot). The
   * engine stores it before it reads a row (Invariant 3).
   */
  readonly position: Position | null
  /** What this snapshot sees; null when the stream starts exactly at it, so that nothing of the stream is covered. */
  readonly view: View | null
  /** Past this position no streamed transaction can be covered by `view`, so that the check may be dropped. */
  readonly viewEnd: Position | null
  plan(table: SourceTable, signal: AbortSignal): Promise<ChunkPlan>
  /** Reads a chunk. May be called from several workers at once; each call uses a connection of its own on the same view. */
  read(table: SourceTable, chunk: Chunk, format: SnapshotFormat, signal: AbortSignal): AsyncIterable<SnapshotFrame>
  /**
   * Whether two rows of the table have one key: asked before rows are merged by a key that the source does not keep unique,
   * where the later row would take the place of the earlier one.
   */
  hasKeyTwice?(table: SourceTable, signal: AbortSignal): Promise<boolean>
  /** The tables as this snapshot sees them, columns taken under lock; sequences' values included. */
  tables(): readonly SourceTable[]
}

export interface SnapshotRequest {
  readonly tables: readonly SourceTable[]
  /**
   * `bounded`: one consistent view, nothing left behind. `origin`: make the stream's origin (publication, then slot) and
   * give the view that fits it. `again`: a new view while the origin exists already.
   */
  readonly mode: 'bounded' | 'origin' | 'again'
  readonly workers: number
}

export interface StreamRequest {
  readonly from: Position
  readonly tables: readonly SourceTable[]
  /**
   * Tables that were read in a later view than the stream's origin: rows of transactions that the view covers will be left
   * out by the engine, so their shape does not matter and is no schema change.
   */
  readonly views: ReadonlyMap<TableId, View>
  /** The most that one batch may hold; a larger transaction comes in several. */
  readonly maxBatch: { readonly rows: number; readonly bytes: number }
}

/** Health of what the source keeps upstream for this pipeline. */
export interface Retention {
  readonly name: string
  readonly retainedBytes: number
  /** PostgreSQL: wal_status. */
  readonly status: string
  /** Bytes left until the server gives up on us; null: no limit. */
  readonly remainingBytes: number | null
  readonly active: boolean
}

/**
 * A system to read from. Every method may be called once connected, none after dispose; all of them end quickly when
 * `signal` aborts. Contract prose: docs/contracts.md.
 */
export interface Source extends AsyncDisposable {
  /**
   * Every problem at once, each with a hint to type. Changes nothing. `beside`: tables that the pipeline writes in this very
   * place, when source and sink are one: their changes must not come back (TRAPS 55).
   */
  check(
    tables: readonly SourceTable[],
    purpose: Purpose,
    signal: AbortSignal,
    beside?: readonly { readonly namespace: string | null; readonly name: string }[],
  ): Promise<readonly Problem[]>
  /** The tables that the selection names, ordered by id. Patterns that match nothing are a USAGE error. */
  discover(selection: Selection, signal: AbortSignal): Promise<readonly SourceTable[]>
  count?(table: SourceTable, signal: AbortSignal): Promise<{ rows: bigint; exact: boolean }>
  openSnapshot?(request: SnapshotRequest, signal: AbortSignal): Promise<Snapshot>
  /** Makes the stream's origin without a snapshot (`--snapshot never`), or finds the one made already. */
  anchor?(tables: readonly SourceTable[], signal: AbortSignal): Promise<Position>
  /**
   * The change stream after `from`, in commit order, transactions whole or in parts (`StreamBatch.position`). Idle gives
   * an idle batch with a newer position now and then. Ends quietly on abort; throws otherwise, `retry` when the same call
   * may be made again from the last saved position. Never waits for `confirm` (Invariant 2).
   */
  stream?(request: StreamRequest, signal: AbortSignal): AsyncIterable<StreamBatch>
  /** Partial order of positions; undefined: not comparable. */
  comparePositions?(a: Position, b: Position): -1 | 0 | 1 | undefined
  /** Bytes of log between two positions, for lag. */
  distance?(from: Position, to: Position): number
  /**
   * Rejects with HISTORY_LOST when the stream cannot go on from there, as `stream` would: asked where a run ends before it
   * reads anything, because it is there already.
   */
  assertResumable?(from: Position, signal: AbortSignal): Promise<void>
  /** End of the log now. */
  head?(signal: AbortSignal): Promise<Position>
  /**
   * A position past every transaction that was committed up to the time (milliseconds since 1970), once the source's own clock
   * has passed it; null before. For `--until <time>` on a quiet source; without it, our clock and `head` decide.
   */
  endAt?(time: number, signal: AbortSignal): Promise<Position | null>
  /** Position of a person's text (`--until 0/16B3748`); null when it is none of this source's. */
  parsePosition?(text: string, signal: AbortSignal): Promise<Position | null>
  /** Whether what the transaction did is in the view already. */
  covers?(view: View, transaction: Transaction): boolean
  /**
   * Rows by key, as they are now in a new view: fills holes (TRAPS 4, 53). Order and number of rows are not promised. Null: the
   * table has other columns in that view than those asked for (with `columnsFixed`, not all of them).
   */
  fetch?(
    table: SourceTable,
    keys: readonly (readonly string[])[],
    signal: AbortSignal,
  ): Promise<{ slice: Slice; view: View; viewEnd: Position } | null>
  /** The source may forget everything before. Cumulative, advisory. */
  confirm?(position: Position, signal: AbortSignal): Promise<void>
  retention?(signal: AbortSignal): Promise<Retention | null>
  /** What following would make upstream, for `plan`: names end in `…` where a part is drawn when they are made. */
  plannedUpstream?(): readonly { readonly what: string; readonly drop: string }[]
  /** Names of what this pipeline keeps upstream and the command that drops each. */
  upstream?(): readonly { readonly what: string; readonly drop: string }[]
  /** What a pipeline of this name seems to have left upstream, of which its state does not know: warnings with what drops it. */
  strays?(signal: AbortSignal): Promise<readonly Problem[]>
  /** What protects the source from us, in sentences for `plan` (Invariant 9). */
  limits?(): readonly string[]
  /** Drops what this pipeline made upstream, nothing else; names it. */
  remove?(signal: AbortSignal): Promise<readonly string[]>
}

export interface SourceCapabilities {
  readonly formats: readonly SnapshotFormat[]
  readonly snapshot: boolean
  readonly stream: boolean
  /** Several workers can read one snapshot. */
  readonly parallelSnapshot: boolean
}
