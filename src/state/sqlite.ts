import { resolve } from 'node:path'
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import type { Position, View } from '../model/position.ts'
import type { TableId, TableSchema } from '../model/schema.ts'
import type { Memory } from '../sdk/connector.ts'
import type { Chunk } from '../sdk/source.ts'
import { closedError, fencedError, heldError, isAlive, otherPair, systemProcesses, unknownPipeline, type Processes, type StoreOptions } from './lease.ts'
import { openStateFile, translated } from './sqlite-file.ts'
import type {
  ChunkRecord,
  ControlRequest,
  DeadLetter,
  DesiredState,
  Holder,
  PipelineIdentity,
  PipelineRecord,
  PipelineState,
  StateStore,
  TableRecord,
  TableState,
  ViewRecord,
} from './store.ts'

/** The default state store: one SQLite file that several processes may use at once. */
export async function openSqliteStore(path: string, options: StoreOptions = {}): Promise<StateStore> {
  const store = new SqliteFile(resolve(path), options.clock ?? Date.now, options.processes ?? systemProcesses())
  return new SqliteStore(store)
}

type Cells = Record<string, string | number | null>

/** The connection: prepared statements by their text, short IMMEDIATE transactions, errors in our words. */
class SqliteFile {
  readonly clock: () => number
  readonly processes: Processes
  readonly #path: string
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  constructor(path: string, clock: () => number, processes: Processes) {
    this.#path = path
    this.clock = () => Math.round(clock())
    this.processes = processes
    this.#database = openStateFile(path)
  }

  all(sql: string, ...values: SQLInputValue[]): Cells[] {
    return translated(this.#path, () => this.#statement(sql).all(...values)) as Cells[]
  }

  get(sql: string, ...values: SQLInputValue[]): Cells | undefined {
    return translated(this.#path, () => this.#statement(sql).get(...values)) as Cells | undefined
  }

  /** Gives the number of changed rows. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return translated(this.#path, () => Number(this.#statement(sql).run(...values).changes))
  }

  /** IMMEDIATE: a deferred transaction that turns to writing after another process wrote fails at once (TRAPS 60). */
  transaction<T>(work: () => T): T {
    this.run('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.run('COMMIT')
      return result
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  close(): void {
    this.#statements.clear()
    if (this.#database.isOpen) this.#database.close()
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}

class SqliteStore implements StateStore {
  readonly #file: SqliteFile
  /** What this store lent out: a lease must not outlive the connection that could give it back. */
  readonly #leases = new Set<SqlitePipeline>()

  constructor(file: SqliteFile) {
    this.#file = file
  }

  async open(identity: PipelineIdentity, holder: Holder): Promise<PipelineState> {
    const file = this.#file
    const lease = file.transaction(() => {
      const found = file.get('SELECT * FROM pipelines WHERE name = ?', identity.name)
      if (found === undefined) this.#create(identity)
      else this.#expectFree(found, identity)
      return this.#take(identity, holder)
    })
    const pipeline = new SqlitePipeline(file, identity.name, lease, () => this.#leases.delete(pipeline))
    this.#leases.add(pipeline)
    return pipeline
  }

  async find(name: string): Promise<PipelineRecord | null> {
    const cells = this.#file.get('SELECT * FROM pipelines WHERE name = ?', name)
    return cells === undefined ? null : pipelineOf(cells, this.#file)
  }

  async list(): Promise<readonly PipelineRecord[]> {
    return this.#file.all('SELECT * FROM pipelines ORDER BY name').map((cells) => pipelineOf(cells, this.#file))
  }

  async tables(name: string): Promise<readonly TableRecord[]> {
    return tablesOf(this.#file, name)
  }

  async deadLetters(name: string, options: { readonly limit: number; readonly after?: number }): Promise<readonly DeadLetter[]> {
    const sql = 'SELECT * FROM dead_letters WHERE pipeline = ? AND id > ? ORDER BY id LIMIT ?'
    return this.#file.all(sql, name, options.after ?? 0, options.limit).map(deadLetterOfCells)
  }

  async countDeadLetters(name: string): Promise<number> {
    return Number(this.#file.get('SELECT count(*) AS n FROM dead_letters WHERE pipeline = ?', name)?.['n'])
  }

  async request(name: string, request: ControlRequest): Promise<void> {
    const file = this.#file
    file.transaction(() => {
      if (file.get('SELECT 1 FROM pipelines WHERE name = ?', name) === undefined) throw unknownPipeline(name)
      if (request.kind === 'pause') file.run(`UPDATE pipelines SET desired = 'paused' WHERE name = ?`, name)
      else if (request.kind === 'resume') file.run(`UPDATE pipelines SET desired = 'running' WHERE name = ?`, name)
      else file.run('INSERT INTO requests (pipeline, request) VALUES (?, ?)', name, JSON.stringify(request))
    })
  }

  async remove(name: string): Promise<void> {
    const file = this.#file
    file.transaction(() => {
      const found = file.get('SELECT * FROM pipelines WHERE name = ?', name)
      if (found === undefined) return
      this.#expectNoHolder(found)
      for (const table of ['memory', 'tables', 'chunks', 'views', 'dead_letters', 'requests']) {
        file.run(`DELETE FROM ${table} WHERE pipeline = ?`, name)
      }
      file.run('DELETE FROM pipelines WHERE name = ?', name)
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const lease of this.#leases) await lease[Symbol.asyncDispose]()
    this.#file.close()
  }

  #create(identity: PipelineIdentity): void {
    const now = this.#file.clock()
    this.#file.run(
      `INSERT INTO pipelines (name, source, sink, source_label, sink_label, epoch, held_since, heartbeat, desired, created_at, updated_at)
       VALUES (?, ?, ?, ?, ?, 0, 0, 0, 'running', ?, ?)`,
      identity.name, identity.source, identity.sink, identity.sourceLabel, identity.sinkLabel, now, now,
    )
  }

  #expectFree(found: Cells, identity: PipelineIdentity): void {
    if (found['source'] !== identity.source || found['sink'] !== identity.sink) {
      throw otherPair(identity.name, String(found['source_label']), String(found['sink_label']))
    }
    this.#expectNoHolder(found)
  }

  #expectNoHolder(found: Cells): void {
    const record = pipelineOf(found, this.#file)
    if (record.holder !== null && record.alive) throw heldError(record.name, record.holder, Number(found['held_since']), this.#file.processes)
  }

  #take(identity: PipelineIdentity, holder: Holder): Lease {
    const now = this.#file.clock()
    const taken = this.#file.get(
      `UPDATE pipelines SET epoch = epoch + 1, holder_host = ?, holder_pid = ?, holder_started = ?, held_since = ?, heartbeat = ?,
         source_label = ?, sink_label = ?, updated_at = ? WHERE name = ? RETURNING id, epoch`,
      holder.host, holder.pid, holder.started, now, now, identity.sourceLabel, identity.sinkLabel, now, identity.name,
    )
    return { id: Number(taken?.['id']), epoch: Number(taken?.['epoch']) }
  }
}

/** Names are used again after `remove`, ids never: an old handle must not pass for the runner of its namesake. */
interface Lease {
  readonly id: number
  readonly epoch: number
}

class SqlitePipeline implements PipelineState {
  readonly name: string
  readonly epoch: number
  readonly memory: Memory
  readonly #file: SqliteFile
  readonly #lease: Lease
  readonly #released: () => void
  #closed = false

  constructor(file: SqliteFile, name: string, lease: Lease, released: () => void) {
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
    this.#fenced(() =>
      this.#file.run(
        'INSERT OR REPLACE INTO tables (pipeline, id, state, schema, target, rule, counters) VALUES (?, ?, ?, ?, ?, ?, ?)',
        this.name, record.id, record.state, JSON.stringify(record.schema), JSON.stringify(record.target), record.rule, record.counters,
      ),
    )
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

  async takeRequests(): Promise<readonly ControlRequest[]> {
    // A runner asks often and mostly finds nothing: look first, so that the common case writes nothing.
    if (this.#file.get('SELECT 1 FROM requests WHERE pipeline = ? LIMIT 1', this.name) === undefined) return []
    return this.#fenced(() => {
      const rows = this.#file.all('SELECT request FROM requests WHERE pipeline = ? ORDER BY id', this.name)
      this.#file.run('DELETE FROM requests WHERE pipeline = ?', this.name)
      return rows.map((cells) => JSON.parse(String(cells['request'])) as ControlRequest)
    })
  }

  async reset(): Promise<void> {
    this.#fenced(() => {
      for (const table of ['memory', 'tables', 'chunks', 'views']) this.#file.run(`DELETE FROM ${table} WHERE pipeline = ?`, this.name)
      this.#updateOwn('position = NULL')
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

  #putChunk(table: TableId, { chunk, view, done, rows, bytes }: ChunkRecord): void {
    this.#file.run(
      'INSERT OR REPLACE INTO chunks (pipeline, table_id, id, chunk, view, done, rows, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
      this.name, table, chunk.id, JSON.stringify(chunk), view, done ? 1 : 0, rows, bytes,
    )
  }

  #putDeadLetter(letter: Omit<DeadLetter, 'id'>): number {
    return this.#file.run(
      `INSERT INTO dead_letters (pipeline, table_id, place, op, stage, code, reason, record, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (pipeline, table_id, place) DO NOTHING`,
      this.name, letter.table, letter.place, letter.op, letter.stage, letter.code, letter.reason, letter.record, letter.at,
    )
  }

  #recall(key: string): string | null {
    return (this.#file.get('SELECT value FROM memory WHERE pipeline = ? AND key = ?', this.name, key)?.['value'] as string | undefined) ?? null
  }

  #remember(key: string, value: string | null): void {
    this.#fenced(() => {
      if (value === null) this.#file.run('DELETE FROM memory WHERE pipeline = ? AND key = ?', this.name, key)
      else this.#file.run('INSERT OR REPLACE INTO memory (pipeline, key, value) VALUES (?, ?, ?)', this.name, key, value)
    })
  }
}

function pipelineOf(cells: Cells, file: SqliteFile): PipelineRecord {
  const holder = holderOf(cells)
  return {
    name: String(cells['name']),
    source: String(cells['source']),
    sink: String(cells['sink']),
    sourceLabel: String(cells['source_label']),
    sinkLabel: String(cells['sink_label']),
    epoch: Number(cells['epoch']),
    holder,
    alive: holder !== null && isAlive(holder, Number(cells['heartbeat']), file.clock(), file.processes),
    desired: cells['desired'] as DesiredState,
    position: cells['position'] as Position | null,
    report: cells['report'] as string | null,
    createdAt: Number(cells['created_at']),
    updatedAt: Number(cells['updated_at']),
  }
}

function holderOf(cells: Cells): Holder | null {
  if (cells['holder_pid'] === null) return null
  return { host: String(cells['holder_host']), pid: Number(cells['holder_pid']), started: String(cells['holder_started']) }
}

function tablesOf(file: SqliteFile, pipeline: string): TableRecord[] {
  return file.all('SELECT * FROM tables WHERE pipeline = ? ORDER BY id', pipeline).map((cells) => ({
    id: cells['id'] as TableId,
    state: cells['state'] as TableState,
    schema: JSON.parse(String(cells['schema'])) as TableSchema,
    target: JSON.parse(String(cells['target'])) as TableRecord['target'],
    rule: cells['rule'] as TableRecord['rule'],
    counters: cells['counters'] as string | null,
  }))
}

function chunkOf(cells: Cells): ChunkRecord {
  return {
    chunk: JSON.parse(String(cells['chunk'])) as Chunk,
    view: cells['view'] as number | null,
    done: cells['done'] === 1,
    rows: Number(cells['rows']),
    bytes: Number(cells['bytes']),
  }
}

function viewOf(cells: Cells): ViewRecord {
  return { id: Number(cells['id']), view: cells['view'] as View | null, viewEnd: cells['view_end'] as Position | null }
}

function deadLetterOfCells(cells: Cells): DeadLetter {
  return {
    id: Number(cells['id']),
    table: cells['table_id'] as TableId,
    place: String(cells['place']),
    op: String(cells['op']),
    stage: cells['stage'] as DeadLetter['stage'],
    code: String(cells['code']),
    reason: String(cells['reason']),
    record: String(cells['record']),
    at: Number(cells['at']),
  }
}
