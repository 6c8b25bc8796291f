import type { Position, View } from '../model/position.ts'
import type { TableId, TableSchema } from '../model/schema.ts'
import type { TableTerms } from '../sdk/selection.ts'
import type { Chunk } from '../sdk/source.ts'
import type { Memory } from '../sdk/connector.ts'

/**
 * The state store: everything that a pipeline must remember between two starts, for many pipelines in one place. All
 * writes are durable when they resolve and O(1) in the size of the pipeline. `sqlite.ts` and `memory.ts` obey this and
 * pass one suite (`testing/store-suite.ts`).
 */
export interface StateStore extends AsyncDisposable {
  /**
   * Makes the pipeline or finds it, and takes its lease: epoch + 1. Rejects with HELD, naming the holder, while another
   * lease lives; with USAGE when the name belongs to another pair of source and sink.
   */
  open(identity: PipelineIdentity, holder: Holder): Promise<PipelineState>
  /** Without a lease, for `status` and friends. */
  find(name: string): Promise<PipelineRecord | null>
  list(): Promise<readonly PipelineRecord[]>
  tables(name: string): Promise<readonly TableRecord[]>
  deadLetters(name: string, options: { readonly limit: number; readonly after?: number }): Promise<readonly DeadLetter[]>
  countDeadLetters(name: string): Promise<number>
  /** What a person asks of the runner that holds the lease, or of the next one. */
  request(name: string, request: ControlRequest): Promise<void>
  /** What was asked and is not done yet. */
  pending(name: string): Promise<readonly PendingRequest[]>
  /** What a comparison found; nothing where there is no such pipeline. Without a lease: it says nothing that a run relies on. */
  noteVerified(name: string, verified: Verified): Promise<void>
  /** Forgets the pipeline wholly. Rejects with HELD while a lease lives. */
  remove(name: string): Promise<void>
}

export interface Verified {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly tables: number
  /** Of the source. */
  readonly rows: number
  /** Rows that were on one side only, or not the same. */
  readonly differing: number
}

export interface PipelineIdentity {
  readonly name: string
  /** Connector identities: without user, password and options. */
  readonly source: string
  readonly sink: string
  /** As shown to people: redacted URIs. */
  readonly sourceLabel: string
  readonly sinkLabel: string
}

/** Who runs a pipeline. A lease is dead when its process is (same host) or its heartbeat is older than `LEASE_SECONDS`. */
export interface Holder {
  readonly host: string
  readonly pid: number
  /** Start time of the process as the system tells it, so that a reused pid is not taken for the holder. */
  readonly started: string
}

export const LEASE_SECONDS = 30

export type DesiredState = 'running' | 'paused'

export interface PipelineRecord extends PipelineIdentity {
  readonly epoch: number
  readonly holder: Holder | null
  /** Whether the holder lives, judged now. */
  readonly alive: boolean
  readonly desired: DesiredState
  readonly position: Position | null
  /** The report last saved by the runner: JSON. */
  readonly report: string | null
  /** What the last comparison of both sides found, as `noteVerified` was told. */
  readonly verified: Verified | null
  readonly createdAt: number
  readonly updatedAt: number
}

export type TableState = 'pending' | 'copying' | 'converging' | 'streaming' | 'done' | 'failed' | 'removed'

export interface TableRecord {
  readonly id: TableId
  readonly state: TableState
  /** As the target has it. */
  readonly schema: TableSchema
  readonly target: { readonly namespace: string | null; readonly name: string }
  readonly rule: 'chunk' | 'table' | null
  /** JSON of counters, so that a later run goes on counting. */
  readonly counters: string | null
  /** On what terms it is copied, to be compared with what is asked later; null: an older release did not say. */
  readonly terms: KeptTerms | null
}

/** The terms of a table and what else a later run must know of how it came in. */
export interface KeptTerms extends TableTerms {
  /** `tailrace tables <pipeline> add|remove`: a person's word counts more than the selection. */
  readonly asked: 'in' | 'out' | null
  /**
   * Rows of somebody else in the target when the copy began. `kept` (`--if-exists append`): they are never emptied out;
   * `to-go` (`truncate`): they go before the first reading.
   */
  readonly strangers: 'none' | 'kept' | 'to-go'
}

export interface ChunkRecord {
  readonly chunk: Chunk
  /** Id of the view that it was read from, null until it is begun. */
  readonly view: number | null
  readonly done: boolean
  readonly rows: number
  readonly bytes: number
}

/** A table that a reset leaves known, with its ledger. */
export interface KeptTable {
  readonly table: TableRecord
  readonly chunks: readonly ChunkRecord[]
}

export interface ViewRecord {
  readonly id: number
  readonly view: View | null
  readonly viewEnd: Position | null
}

export interface DeadLetter {
  readonly id: number
  readonly table: TableId
  /** `position/sequence`: the same record is the same on every replay, and stored once (TRAPS 45). */
  readonly place: string
  readonly op: string
  readonly stage: 'transform' | 'sink' | 'source'
  readonly code: string
  readonly reason: string
  /** The record exactly as it was: JSON `{before, after}`, each an object of column → text, null, or absent = unchanged. */
  readonly record: string
  readonly at: number
}

/** `from <= value < to`; null: no bound. */
export interface KeyPart {
  readonly from: string | null
  readonly to: string | null
}

export type ControlRequest =
  | { readonly kind: 'pause' }
  | { readonly kind: 'resume' }
  | { readonly kind: 'resnapshot'; readonly tables: readonly TableId[] }
  /** Parts of the order of the key's first column, sorted and apart; none: the whole table. */
  | { readonly kind: 'repair'; readonly table: TableId; readonly parts: readonly KeyPart[] }
  | { readonly kind: 'add-tables'; readonly tables: readonly string[] }
  | { readonly kind: 'remove-tables'; readonly tables: readonly TableId[] }

export interface PendingRequest {
  readonly id: number
  readonly request: ControlRequest
}

/** The leased handle. Every write rejects with FENCED once a newer lease exists. Dispose gives the lease back. */
export interface PipelineState extends AsyncDisposable {
  readonly name: string
  readonly epoch: number
  readonly memory: Memory
  record(): Promise<PipelineRecord>
  heartbeat(): Promise<void>
  /** Never moves back: the caller compares (Invariant 8). Null: start over. */
  savePosition(position: Position | null): Promise<void>
  saveReport(report: string): Promise<void>
  tables(): Promise<readonly TableRecord[]>
  saveTable(record: TableRecord): Promise<void>
  chunks(table: TableId): Promise<readonly ChunkRecord[]>
  /** Replaces the ledger of the table. */
  saveChunks(table: TableId, chunks: readonly ChunkRecord[]): Promise<void>
  /** One row: the chunk is begun (done false) or done. */
  saveChunk(table: TableId, chunk: ChunkRecord): Promise<void>
  views(): Promise<readonly ViewRecord[]>
  saveView(view: Omit<ViewRecord, 'id'>): Promise<number>
  /** Stores letters that are not there yet; gives how many were new. */
  saveDeadLetters(letters: readonly Omit<DeadLetter, 'id'>[]): Promise<number>
  desired(): Promise<DesiredState>
  /** Requests other than pause and resume, oldest first; each stays until it is forgotten. */
  requests(): Promise<readonly PendingRequest[]>
  /** A request whose effect is saved, or which was refused for good. One that is gone already is no error. */
  forgetRequest(id: number): Promise<void>
  /**
   * Forgets tables, chunks, views, position, memory: `reset`. The lease stays, and so do the tables that are given: in the same
   * step, for after a crash nobody would know any more that what their targets hold is ours.
   */
  reset(kept?: readonly KeptTable[]): Promise<void>
}
