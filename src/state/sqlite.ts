import { resolve } from 'node:path'
import { heldError, otherPair, systemProcesses, unknownPipeline, type StoreOptions } from './lease.ts'
import { StateConnection, type Cells } from './sqlite-connection.ts'
import { SqlitePipeline, type Lease } from './sqlite-pipeline.ts'
import { deadLetterOf, pipelineOf, requestsOf, tablesOf, VERIFIED_KEY } from './sqlite-records.ts'
import type {
  ControlRequest,
  DeadLetter,
  Holder,
  PendingRequest,
  PipelineIdentity,
  PipelineRecord,
  PipelineState,
  StateStore,
  TableRecord,
  Verified,
} from './store.ts'

/** The default state store: one SQLite file that several processes may use at once. */
export async function openSqliteStore(path: string, options: StoreOptions = {}): Promise<StateStore> {
  const store = new StateConnection(resolve(path), options.clock ?? Date.now, options.processes ?? systemProcesses())
  return new SqliteStore(store)
}

class SqliteStore implements StateStore {
  readonly #file: StateConnection
  /** What this store lent out: a lease must not outlive the connection that could give it back. */
  readonly #leases = new Set<SqlitePipeline>()

  constructor(file: StateConnection) {
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
    return this.#file.all(sql, name, options.after ?? 0, options.limit).map(deadLetterOf)
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

  async pending(name: string): Promise<readonly PendingRequest[]> {
    return requestsOf(this.#file, name)
  }

  async noteVerified(name: string, verified: Verified): Promise<void> {
    const file = this.#file
    file.transaction(() => {
      if (file.get('SELECT 1 FROM pipelines WHERE name = ?', name) === undefined) return
      file.run('INSERT OR REPLACE INTO memory (pipeline, key, value) VALUES (?, ?, ?)', name, VERIFIED_KEY, JSON.stringify(verified))
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
      identity.name,
      identity.source,
      identity.sink,
      identity.sourceLabel,
      identity.sinkLabel,
      now,
      now,
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
    if (record.holder !== null && record.alive)
      throw heldError(record.name, record.holder, Number(found['held_since']), this.#file.processes)
  }

  #take(identity: PipelineIdentity, holder: Holder): Lease {
    const now = this.#file.clock()
    const taken = this.#file.get(
      `UPDATE pipelines SET epoch = epoch + 1, holder_host = ?, holder_pid = ?, holder_started = ?, held_since = ?, heartbeat = ?,
         source_label = ?, sink_label = ?, updated_at = ? WHERE name = ? RETURNING id, epoch`,
      holder.host,
      holder.pid,
      holder.started,
      now,
      now,
      identity.sourceLabel,
      identity.sinkLabel,
      now,
      identity.name,
    )
    return { id: Number(taken?.['id']), epoch: Number(taken?.['epoch']) }
  }
}
