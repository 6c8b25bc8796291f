import type { Position } from '../model/position.ts'
import type { TableId } from '../model/schema.ts'
import type { Memory } from '../sdk/connector.ts'
import {
  closedError,
  fencedError,
  heldError,
  isAlive,
  otherPair,
  systemProcesses,
  unknownPipeline,
  type Processes,
  type StoreOptions,
} from './lease.ts'
import type {
  ChunkRecord,
  ControlRequest,
  DeadLetter,
  DesiredState,
  KeptTable,
  PendingRequest,
  Holder,
  PipelineIdentity,
  PipelineRecord,
  PipelineState,
  StateStore,
  TableRecord,
  Verified,
  ViewRecord,
} from './store.ts'

/** A state store that ends with the process: for tests, and for a plain copy that needs no resumption. */
export function memoryStore(options: StoreOptions = {}): StateStore {
  return new MemoryStore({ clock: options.clock ?? Date.now, processes: options.processes ?? systemProcesses() })
}

interface World {
  readonly clock: () => number
  readonly processes: Processes
}

/** Everything of one pipeline; the store and the leased handle share it. */
interface Entry {
  identity: PipelineIdentity
  epoch: number
  holder: Holder | null
  heldSince: number
  heartbeat: number
  desired: DesiredState
  position: Position | null
  report: string | null
  createdAt: number
  updatedAt: number
  /** Ids of views and dead letters; never used twice. */
  lastId: number
  verified: Verified | null
  readonly memory: Map<string, string>
  readonly tables: Map<TableId, TableRecord>
  readonly chunks: Map<TableId, Map<number, ChunkRecord>>
  views: ViewRecord[]
  readonly deadLetters: Map<string, DeadLetter>
  requests: PendingRequest[]
}

class MemoryStore implements StateStore {
  readonly #world: World
  readonly #entries = new Map<string, Entry>()

  constructor(world: World) {
    this.#world = world
  }

  async open(identity: PipelineIdentity, holder: Holder): Promise<PipelineState> {
    const entry = this.#entries.get(identity.name) ?? newEntry(identity, this.#world.clock())
    const { source, sink, sourceLabel, sinkLabel } = entry.identity
    if (source !== identity.source || sink !== identity.sink) throw otherPair(identity.name, sourceLabel, sinkLabel)
    this.#expectNoHolder(entry)
    const now = this.#world.clock()
    entry.identity = identity
    entry.epoch++
    entry.holder = holder
    entry.heldSince = entry.heartbeat = entry.updatedAt = now
    this.#entries.set(identity.name, entry)
    return new MemoryPipeline(this.#world, this.#entries, entry)
  }

  async find(name: string): Promise<PipelineRecord | null> {
    const entry = this.#entries.get(name)
    return entry === undefined ? null : recordOf(entry, this.#world)
  }

  async list(): Promise<readonly PipelineRecord[]> {
    return [...this.#entries.values()].map((entry) => recordOf(entry, this.#world)).sort(byText((record) => record.name))
  }

  async tables(name: string): Promise<readonly TableRecord[]> {
    const entry = this.#entries.get(name)
    return entry === undefined ? [] : tablesOf(entry)
  }

  async deadLetters(name: string, options: { readonly limit: number; readonly after?: number }): Promise<readonly DeadLetter[]> {
    const letters = [...(this.#entries.get(name)?.deadLetters.values() ?? [])]
    return letters.filter((letter) => letter.id > (options.after ?? 0)).slice(0, options.limit)
  }

  async countDeadLetters(name: string): Promise<number> {
    return this.#entries.get(name)?.deadLetters.size ?? 0
  }

  async request(name: string, request: ControlRequest): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry === undefined) throw unknownPipeline(name)
    if (request.kind === 'pause') entry.desired = 'paused'
    else if (request.kind === 'resume') entry.desired = 'running'
    else entry.requests.push({ id: ++entry.lastId, request })
  }

  async pending(name: string): Promise<readonly PendingRequest[]> {
    return [...(this.#entries.get(name)?.requests ?? [])]
  }

  async noteVerified(name: string, verified: Verified): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry !== undefined) entry.verified = { ...verified }
  }

  async remove(name: string): Promise<void> {
    const entry = this.#entries.get(name)
    if (entry === undefined) return
    this.#expectNoHolder(entry)
    this.#entries.delete(name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#entries.clear()
  }

  #expectNoHolder(entry: Entry): void {
    const { holder, alive, name } = recordOf(entry, this.#world)
    if (holder !== null && alive) throw heldError(name, holder, entry.heldSince, this.#world.processes)
  }
}

class MemoryPipeline implements PipelineState {
  readonly name: string
  readonly epoch: number
  readonly memory: Memory
  readonly #world: World
  readonly #entries: ReadonlyMap<string, Entry>
  readonly #entry: Entry
  #closed = false

  constructor(world: World, entries: ReadonlyMap<string, Entry>, entry: Entry) {
    this.#world = world
    this.#entries = entries
    this.#entry = entry
    this.name = entry.identity.name
    this.epoch = entry.epoch
    this.memory = { get: async (key) => entry.memory.get(key) ?? null, set: async (key, value) => this.#remember(key, value) }
  }

  async record(): Promise<PipelineRecord> {
    if (this.#entries.get(this.name) !== this.#entry) throw fencedError(this.name, this.epoch)
    return recordOf(this.#entry, this.#world)
  }

  async heartbeat(): Promise<void> {
    this.#own().heartbeat = this.#world.clock()
  }

  async savePosition(position: Position | null): Promise<void> {
    this.#own().position = position
  }

  async saveReport(report: string): Promise<void> {
    this.#own().report = report
  }

  async tables(): Promise<readonly TableRecord[]> {
    return tablesOf(this.#entry)
  }

  async saveTable(record: TableRecord): Promise<void> {
    this.#own().tables.set(record.id, structuredClone(record))
  }

  async chunks(table: TableId): Promise<readonly ChunkRecord[]> {
    const chunks = [...(this.#entry.chunks.get(table)?.values() ?? [])]
    return chunks.sort((a, b) => a.chunk.id - b.chunk.id)
  }

  async saveChunks(table: TableId, chunks: readonly ChunkRecord[]): Promise<void> {
    this.#own().chunks.set(table, new Map(chunks.map((record) => [record.chunk.id, structuredClone(record)])))
  }

  async saveChunk(table: TableId, chunk: ChunkRecord): Promise<void> {
    const { chunks } = this.#own()
    const ledger = chunks.get(table) ?? new Map<number, ChunkRecord>()
    ledger.set(chunk.chunk.id, structuredClone(chunk))
    chunks.set(table, ledger)
  }

  async views(): Promise<readonly ViewRecord[]> {
    return [...this.#entry.views]
  }

  async saveView(view: Omit<ViewRecord, 'id'>): Promise<number> {
    const entry = this.#own()
    const id = ++entry.lastId
    entry.views.push({ id, view: view.view, viewEnd: view.viewEnd })
    return id
  }

  async saveDeadLetters(letters: readonly Omit<DeadLetter, 'id'>[]): Promise<number> {
    const entry = this.#own()
    const before = entry.deadLetters.size
    for (const letter of letters) {
      const key = JSON.stringify([letter.table, letter.place])
      if (!entry.deadLetters.has(key)) entry.deadLetters.set(key, { ...letter, id: ++entry.lastId })
    }
    return entry.deadLetters.size - before
  }

  async desired(): Promise<DesiredState> {
    return (await this.record()).desired
  }

  async requests(): Promise<readonly PendingRequest[]> {
    return [...this.#own().requests]
  }

  async forgetRequest(id: number): Promise<void> {
    const entry = this.#own()
    entry.requests = entry.requests.filter((pending) => pending.id !== id)
  }

  async reset(kept: readonly KeptTable[] = []): Promise<void> {
    const entry = this.#own()
    entry.position = null
    entry.views = []
    entry.verified = null
    for (const map of [entry.memory, entry.tables, entry.chunks]) map.clear()
    for (const { table, chunks } of kept) {
      await this.saveTable(table)
      await this.saveChunks(table.id, chunks)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    if (this.#entry.epoch === this.epoch) this.#entry.holder = null
  }

  #remember(key: string, value: string | null): void {
    const { memory } = this.#own()
    if (value === null) memory.delete(key)
    else memory.set(key, value)
  }

  /** The entry for writing, as long as the lease is ours. */
  #own(): Entry {
    if (this.#closed) throw closedError(this.name)
    const entry = this.#entries.get(this.name)
    if (entry !== this.#entry || entry.epoch !== this.epoch) throw fencedError(this.name, this.epoch)
    entry.updatedAt = this.#world.clock()
    return entry
  }
}

function newEntry(identity: PipelineIdentity, now: number): Entry {
  return {
    identity,
    epoch: 0,
    holder: null,
    heldSince: 0,
    heartbeat: 0,
    desired: 'running',
    position: null,
    report: null,
    createdAt: now,
    updatedAt: now,
    lastId: 0,
    verified: null,
    memory: new Map(),
    tables: new Map(),
    chunks: new Map(),
    views: [],
    deadLetters: new Map(),
    requests: [],
  }
}

function recordOf(entry: Entry, world: World): PipelineRecord {
  return {
    ...entry.identity,
    epoch: entry.epoch,
    holder: entry.holder,
    alive: entry.holder !== null && isAlive(entry.holder, entry.heartbeat, world.clock(), world.processes),
    desired: entry.desired,
    position: entry.position,
    report: entry.report,
    verified: entry.verified,
    createdAt: entry.createdAt,
    updatedAt: entry.updatedAt,
  }
}

function tablesOf(entry: Entry): TableRecord[] {
  return [...entry.tables.values()].sort(byText((record) => record.id))
}

function byText<T>(text: (item: T) => string): (a: T, b: T) => number {
  return (a, b) => (text(a) < text(b) ? -1 : text(a) > text(b) ? 1 : 0)
}
