import type { Position } from '../model/position.ts'
import type { PlaceCarry } from '../model/row-view.ts'
import type { TableId, TableSchema } from '../model/schema.ts'
import type { Problem } from '../sdk/errors.ts'
import type { Sink, SinkCapabilities } from '../sdk/sink.ts'
import type { Retention, Source } from '../sdk/source.ts'
import type { PipelineIdentity, PipelineState } from '../state/store.ts'
import { Checkpointer } from './checkpointer.ts'
import type { Wanted } from './choose.ts'
import { Tally } from './counters.ts'
import { Quarantine } from './quarantine.ts'
import type { TableFence } from './fence.ts'
import { Suspects } from './suspects.ts'
import { derivedState } from './machine.ts'
import { withName } from './name.ts'
import type { Environment, PipelineOptions } from './options.ts'
import type { Guarantee, Lag, PipelineStateName, Report, ReportProblem, TableReport } from './report.ts'
import { recordOf, targetLabel, type PipelineTable } from './tables.ts'

const PROGRESS_MILLIS = 200
const REPORT_MILLIS = 1000

export interface RunParts {
  readonly options: PipelineOptions
  readonly environment: Environment
  readonly identity: PipelineIdentity
  readonly state: PipelineState
  readonly source: Source
  readonly sink: Sink
}

/** Everything that one run of a pipeline shares between its phases, and the report made of it. */
export class Run {
  readonly options: PipelineOptions
  readonly environment: Environment
  readonly identity: PipelineIdentity
  readonly state: PipelineState
  readonly source: Source
  readonly sink: Sink
  readonly capabilities: SinkCapabilities
  readonly tables = new Map<TableId, PipelineTable>()
  /** What is asked now of tables that were copied on other terms, until it is done. */
  readonly wanted = new Map<TableId, Wanted>()
  readonly fences = new Map<TableId, TableFence>()
  /** Tables of which parts alone are read again. */
  readonly repaired = new Set<TableId>()
  /**
   * Shapes that schema changes of the open transaction brought. They count from its commit on: stored earlier, a crash would
   * leave a shape that the target does not have, and no change would come to mend it.
   */
  readonly shapes = new Map<TableId, TableSchema>()
  readonly tally = new Tally()
  readonly quarantine = new Quarantine()
  /** Parts of a source transaction lie in the sink's open transaction. */
  midTransaction = false
  /** Numbers rows of one place across the parts of a transaction; see row-view.ts. */
  placeCarry: PlaceCarry | null = null
  /** The sequence of each row of the batch at hand by its `order`, whatever was taken out of the batch since it came. */
  sequences: () => ReadonlyMap<number, string> = () => new Map()
  readonly suspects = new Suspects()
  readonly checkpointer: Checkpointer
  readonly #problems = new Map<string, ReportProblem>()
  readonly #saved = new Set<TableId>()
  readonly #startedAt: number
  #override: PipelineStateName | null = 'starting'
  #lag: Lag = { seconds: null, bytes: null, rows: null }
  #retention: Retention | null = null
  #progressAt = 0
  #reportAt = 0

  constructor(parts: RunParts, position: Position | null) {
    this.options = parts.options
    this.environment = parts.environment
    this.identity = parts.identity
    this.state = parts.state
    this.source = parts.source
    this.sink = parts.sink
    this.capabilities = capabilitiesOf(parts.options)
    this.checkpointer = new Checkpointer(parts.state, parts.source, parts.environment.clock, position)
    this.#startedAt = parts.environment.clock()
  }

  get live(): PipelineTable[] {
    return [...this.tables.values()].filter((table) => table.state !== 'removed')
  }

  get guarantee(): Guarantee {
    return guaranteeOf(this.capabilities)
  }

  /** What the pipeline does now, where the tables' states do not say it. */
  set doing(state: PipelineStateName | null) {
    this.#override = state
    this.progress(true)
  }

  set lag(lag: Lag) {
    this.#lag = lag
  }

  set retention(retention: Retention | null) {
    this.#retention = retention
  }

  /** The sink holds everything up to a source commit. */
  commit(): void {
    this.tally.commit()
    for (const [id, schema] of this.shapes) {
      const table = this.tables.get(id)
      if (table !== undefined) table.source = { ...table.source, schema }
    }
    this.shapes.clear()
    this.suspects.clear()
  }

  /** The sequence of the row of the batch at hand that has this `order`; '' for one of a snapshot. */
  readonly sequenceAt = (order: number): string => this.sequences().get(order) ?? ''

  /** The open transaction will come again. */
  rollback(): void {
    this.tally.rollback()
    this.shapes.clear()
    this.placeCarry = null
    this.midTransaction = false
  }

  note(problem: Problem | ReportProblem): void {
    this.#problems.set(`${problem.code} ${problem.path ?? ''} ${problem.message}`, withName(problem, this.identity.name))
  }

  /** What was noted under a code is over: a reconnect succeeded. */
  clear(code: Problem['code']): void {
    for (const [key, problem] of this.#problems) if (problem.code === code) this.#problems.delete(key)
  }

  async saveTable(table: PipelineTable): Promise<void> {
    this.#saved.add(table.id)
    await this.state.saveTable(recordOf(table, JSON.stringify(this.tally.of(table.id))))
  }

  /** Shows and, less often, stores how far it is. */
  progress(now = false): void {
    const time = this.environment.clock()
    if (!now && time - this.#progressAt < PROGRESS_MILLIS) return
    this.#progressAt = time
    this.environment.onProgress?.(this.report())
  }

  /** Stores report and counters for `status`, at most once a second. */
  async persist(now = false): Promise<void> {
    const time = this.environment.clock()
    if (!now && time - this.#reportAt < REPORT_MILLIS) return
    this.#reportAt = time
    // A table whose target was never made is not known: what stands there would count as ours at the next start.
    for (const table of this.live) if (table.ours || this.#saved.has(table.id)) await this.saveTable(table)
    await this.state.saveReport(JSON.stringify(this.report()))
    await this.state.heartbeat()
  }

  report(): Report {
    const problems = [...this.#problems.values()]
    const tables = this.live
    return {
      ok: this.#override !== 'failed' && !problems.some((problem) => problem.severity === 'error'),
      pipeline: this.identity.name,
      state: this.#override ?? derivedState(tables),
      source: this.identity.sourceLabel,
      sink: this.identity.sinkLabel,
      guarantee: this.guarantee,
      position: this.checkpointer.position,
      epoch: this.state.epoch,
      seconds: Math.round((this.environment.clock() - this.#startedAt) / 10) / 100,
      lag: this.#lag,
      tables: tables.map((table) => this.#tableReport(table)),
      problems,
      upstream: this.source.upstream?.() ?? [],
      ...(this.#retention === null ? {} : { retention: retentionOf(this.#retention) }),
    }
  }

  #tableReport(table: PipelineTable): TableReport {
    const counters = this.tally.of(table.id)
    return {
      source: table.id,
      sink: targetLabel(table.target),
      state: table.state,
      read: counters.read,
      written: counters.written,
      deadLettered: counters.deadLettered,
      filtered: counters.filtered,
      snapshot: {
        rows: counters.snapshotRows,
        bytes: counters.snapshotBytes,
        chunks: table.chunks,
        done: table.chunksDone,
        expectedRows: table.source.schema.estimate.rows,
      },
      stream: { inserts: counters.inserts, updates: counters.updates, deletes: counters.deletes, truncates: counters.truncates },
    }
  }
}

function retentionOf({ name, retainedBytes, status, remainingBytes }: Retention): NonNullable<Report['retention']> {
  return { name, retainedBytes, status, remainingBytes }
}

export function capabilitiesOf(options: Pick<PipelineOptions, 'sink'>): SinkCapabilities {
  const capabilities = options.sink.connector.sink?.capabilities
  if (capabilities === undefined) throw new TypeError('the sink connector has no sink')
  return capabilities
}

export function guaranteeOf(capabilities: SinkCapabilities): Guarantee {
  switch (capabilities.commit) {
    case 'transactional':
      return 'exactly-once'
    case 'idempotent':
      return 'effectively-once'
    case 'none':
      return 'at-least-once'
    default:
      return capabilities.commit satisfies never
  }
}
