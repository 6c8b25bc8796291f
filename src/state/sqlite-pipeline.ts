import type { SQLInputValue } from 'node:sqlite'
import type { Position } from '../model/position.ts'
import type { TableId } from '../model/schema.ts'
import type { Memory } from '../sdk/connector.ts'
import { closedError, fencedError } from './lease.ts'
import type { StateConnection } from './sqlite-connection.ts'
import { chunkOf, pipelineOf, requestsOf, tablesOf, viewOf } from './sqlite-records.ts'
import type {
  ChunkRecord,
  DeadLetter,
  DesiredState,
  KeptTable,
  PendingRequest,
  PipelineRecord,
  PipelineState,
  TableRecord,
  ViewRecord,
} from './store.ts'

/** Names are used again after `remove`, ids never: an old handle must not pass for the runner of its namesake. */
export interface Lease {
  readonly id: number
  readonly epoch: number
}

export class SqlitePipeline implements PipelineState {
  readonly name: string
  readonly epoch: number
  readonly memory: Memory
  readonly #file: StateConnection
  readonly #lease: Lease
  readonly #released: () => void
  #closed = false

  constructor(file: StateConnection, name: string, lease: Lease, released: () => void) {
    this.#file = file
    this.#lease = lease
    this.#released = released
    this.name = name
    this.epoch = lease.epoch
    this.memory = { get: async (key) => this.#recall(key), set: async (key, value) => this.#remember(key, value) }
  }

  async record(): Promise<PipelineRecord> {
    const cells = this.#file.get('SELECT * FROM pipelines WHERE id = ?', this.#lease.id)
    if (cells === undefined) throw fencedError(this.name, this.epoch)
    return pipelineOf(cells, this.#file)
  }

  async heartbeat(): Promise<void> {
    this.#updateOwn('heartbeat = ?', this.#file.clock())
  }

  async savePosition(position: Position | null): Promise<void> {
    this.#updateOwn('position = ?, updated_at = ?', position, this.#file.clock())
  }

  async saveReport(report: string): Promise<void> {
    this.#updateOwn('report = ?, updated_at = ?', report, this.#file.clock())
  }

  async tables(): Promise<readonly TableRecord[]> {
    return tablesOf(this.#file, this.name)
  }

  async saveTable(record: TableRecord): Promise<void> {
    this.#fenced(() => this.#putTable(record))
  }

  async chunks(table: TableId): Promise<readonly ChunkRecord[]> {
    return this.#file.all('SELECT * FROM chunks WHERE pipeline = ? AND table_id = ? ORDER BY id', this.name, table).map(chunkOf)
  }

  async saveChunks(table: TableId, chunks: readonly ChunkRecord[]): Promise<void> {
    this.#fenced(() => {
      this.#file.run('DELETE FROM chunks WHERE pipeline = ? AND table_id = ?', this.name, table)
      for (const chunk of chunks) this.#putChunk(table, chunk)
    })
  }

  async saveChunk(table: TableId, chunk: ChunkRecord): Promise<void> {
    this.#fenced(() => this.#putChunk(table, chunk))
  }

  async views(): Promise<readonly ViewRecord[]> {
    return this.#file.all('SELECT * FROM views WHERE pipeline = ? ORDER BY id', this.name).map(viewOf)
  }

  async saveView(view: Omit<ViewRecord, 'id'>): Promise<number> {
    return this.#fenced(() => {
      const sql = 'INSERT INTO views (pipeline, view, view_end) VALUES (?, ?, ?) RETURNING id'
      return Number(this.#file.get(sql, this.name, view.view, view.viewEnd)?.['id'])
    })
  }

  async saveDeadLetters(letters: readonly Omit<DeadLetter, 'id'>[]): Promise<number> {
    return this.#fenced(() => letters.reduce((stored, letter) => stored + this.#putDeadLetter(letter), 0))
  }

  async desired(): Promise<DesiredState> {
    return (await this.record()).desired
  }

  async requests(): Promise<readonly PendingRequest[]> {
    // A runner asks often and mostly finds nothing: the common case writes nothing.
    const requests = requestsOf(this.#file, this.name)
    if (requests.length > 0) this.#fenced(() => {})
    return requests
  }

  async forgetRequest(id: number): Promise<void> {
    this.#fenced(() => this.#file.run('DELETE FROM requests WHERE pipeline = ? AND id = ?', this.name, id))
  }

  async reset(kept: readonly KeptTable[] = []): Promise<void> {
    this.#fenced(() => {
      for (const table of ['memory', 'tables', 'chunks', 'views']) this.#file.run(`DELETE FROM ${table} WHERE pipeline = ?`, this.name)
      this.#updateOwn('position = NULL')
      for (const { table, chunks } of kept) {
        this.#putTable(table)
        for (const chunk of chunks) this.#putChunk(table.id, chunk)
      }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#released()
    const release = 'UPDATE pipelines SET holder_host = NULL, holder_pid = NULL, holder_started = NULL WHERE id = ? AND epoch = ?'
    this.#file.run(release, this.#lease.id, this.epoch)
  }

  /** Writes our own row: 0 rows changed means that a newer lease exists, or that the pipeline was removed. */
  #updateOwn(assignments: string, ...values: SQLInputValue[]): void {
    if (this.#closed) throw closedError(this.name)
    const changed = this.#file.run(`UPDATE pipelines SET ${assignments} WHERE id = ? AND epoch = ?`, ...values, this.#lease.id, this.epoch)
    if (changed !== 1) throw fencedError(this.name, this.epoch)
  }

  /** Writes elsewhere, in one transaction that begins with the fence. */
  #fenced<T>(work: () => T): T {
    if (this.#closed) throw closedError(this.name)
    return this.#file.transaction(() => {
      this.#updateOwn('updated_at = ?', this.#file.clock())
      return work()
    })
  }

  #putTable(record: TableRecord): void {
    this.#file.run(
      'INSERT OR REPLACE INTO tables (pipeline, id, state, schema, target, rule, counters, terms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      this.name,
      record.id,
      record.state,
      JSON.stringify(record.schema),
      JSON.stringify(record.target),
      record.rule,
      record.counters,
      record.terms === null ? null : JSON.stringify(record.terms),
    )
  }

  #putChunk(table: TableId, { chunk, view, done, rows, bytes }: ChunkRecord): void {
    this.#file.run(
      'INSERT OR REPLACE INTO chunks (pipeline, table_id, id, chunk, view, done, rows, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      this.name,
      table,
      chunk.id,
      JSON.stringify(chunk),
      view,
      done ? 1 : 0,
      rows,
      bytes,
    )
  }

  #putDeadLetter(letter: Omit<DeadLetter, 'id'>): number {
    return this.#file.run(
      `INSERT INTO dead_letters (pipeline, table_id, place, op, stage, code, reason, record, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (pipeline, table_id, place) DO NOTHING`,
      this.name,
      letter.table,
      letter.place,
      letter.op,
      letter.stage,
      letter.code,
      letter.reason,
      letter.record,
      letter.at,
    )
  }

  #recall(key: string): string | null {
    return (
      (this.#file.get('SELECT value FROM memory WHERE pipeline = ? AND key = ?', this.name, key)?.['value'] as string | undefined) ?? null
    )
  }

  #remember(key: string, value: string | null): void {
    this.#fenced(() => {
      if (value === null) this.#file.run('DELETE FROM memory WHERE pipeline = ? AND key = ?', this.name, key)
      else this.#file.run('INSERT OR REPLACE INTO memory (pipeline, key, value) VALUES (?, ?, ?)', this.name, key, value)
    })
  }
}
