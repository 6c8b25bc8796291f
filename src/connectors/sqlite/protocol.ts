import type { Barrier } from '../../model/batch.ts'
import type { Position } from '../../model/position.ts'
import type { TableSchema } from '../../model/schema.ts'
import type { Problem } from '../../sdk/errors.ts'
import type { ApplyOptions, Checkpoint, Misfit, SinkTable, Writer } from '../../sdk/sink.ts'
import type { Chunk } from '../../sdk/source.ts'
import type { SqliteConfig } from './config.ts'
import type { PackedSlice } from './pack.ts'
import type { PlainError } from './sqlite-errors.ts'

/** What the worker needs to know to begin with. */
export interface WorkerSetup {
  readonly path: string
  readonly config: SqliteConfig
  readonly pipeline: string
  readonly softDeletes: boolean
  /** Epoch that was claimed before this worker lived; null: none yet. */
  readonly epoch: number | null
  /** Tables made known before this worker lived. */
  readonly tables: readonly SinkTable[]
}

export interface PostedBatch {
  readonly slices: readonly PackedSlice[]
  readonly schemas: readonly { readonly id: number; readonly schema: TableSchema }[]
  readonly barrier: Barrier | null
  readonly position: Position | null
}

/** State of the write-ahead log after a commit. */
export interface LogState {
  readonly bytes: number
  /** Readers keep it from being emptied. */
  readonly isStuck: boolean
}

export interface Written {
  /** Deletes that found nothing, and rows of somebody else that gave way: signs of another writer, for the log. */
  readonly missed: number
  readonly replaced: number
  readonly log: LogState | null
}

/** The calls that cross to the worker: arguments → result. All of them are run one after another, in the order posted. */
export interface WorkerCalls {
  check(tables: readonly SinkTable[]): readonly Problem[]
  inspect(table: SinkTable): 'absent' | 'empty' | 'filled'
  misfits(table: SinkTable): readonly Misfit[]
  missingColumns(table: SinkTable): readonly string[] | null
  count(table: SinkTable): bigint
  look(): Checkpoint | null
  writers(table: SinkTable): readonly Writer[]
  letGo(tables: readonly SinkTable[]): void
  claim(): Checkpoint
  recover(): Checkpoint
  store(position: Position | null): void
  applySchema(table: SinkTable, previous: SinkTable | null, options: ApplyOptions): void
  clear(table: SinkTable, softly: boolean): void
  write(batch: PostedBatch): Written
  beginLoad(table: SinkTable, chunk: Chunk, how: { readonly replace: boolean; readonly merge: boolean }): void
  loadRows(batch: PostedBatch): void
  finishLoad(): { readonly rows: number; readonly log: LogState }
  abandonLoad(): void
  seal(tables: readonly SinkTable[]): readonly Problem[]
  remove(): readonly string[]
  /** Gives the file back. The worker ends after it. */
  close(): void
}

export type CallName = keyof WorkerCalls

export interface Request {
  readonly id: number
  readonly name: CallName
  readonly parameters: readonly unknown[]
}

export type Reply = { readonly id: number; readonly result: unknown } | { readonly id: number; readonly error: PlainError }
