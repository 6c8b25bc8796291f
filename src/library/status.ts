import type { Report, PipelineStateName, TableReport } from '../engine/report.ts'
import type { PipelineRecord, TableRecord } from '../state/store.ts'

/** The report last saved, with what only the store knows. */
export interface PipelineStatus extends Report {
  /** Who holds the lease; null when nobody does. `alive` is judged now. */
  readonly runner: { readonly host: string; readonly pid: number; readonly alive: boolean } | null
  readonly desired: 'running' | 'paused'
  /** What the last `verify` found: how many rows differed. */
  readonly verified: { readonly at: string; readonly tables: number; readonly rows: number; readonly differing: number } | null
  /** ISO 8601. */
  readonly updatedAt: string
}

const ENDED: ReadonlySet<PipelineStateName> = new Set(['stopped', 'done', 'failed', 'paused'])

export function statusOf(record: PipelineRecord, tables: readonly TableRecord[]): PipelineStatus {
  const saved = savedReport(record) ?? blankReport(record, tables)
  // A runner that was killed could not save that it ended.
  const lost = !record.alive && !ENDED.has(saved.state)
  const state = lost ? 'stopped' : saved.state
  const { holder } = record
  return {
    ...saved,
    state,
    epoch: record.epoch,
    position: record.position ?? saved.position,
    runner: holder === null ? null : { host: holder.host, pid: holder.pid, alive: record.alive },
    desired: record.desired,
    verified: record.verified === null ? null : { ...record.verified, at: new Date(record.verified.at).toISOString() },
    updatedAt: new Date(record.updatedAt).toISOString(),
  }
}

function savedReport(record: PipelineRecord): Report | null {
  if (record.report === null) return null
  try {
    return JSON.parse(record.report) as Report
  } catch {
    return null
  }
}

/** Before the first report was saved. */
function blankReport(record: PipelineRecord, tables: readonly TableRecord[]): Report {
  return {
    ok: true,
    pipeline: record.name,
    state: record.alive ? 'starting' : 'stopped',
    source: record.sourceLabel,
    sink: record.sinkLabel,
    guarantee: 'at-least-once',
    position: record.position,
    epoch: record.epoch,
    seconds: 0,
    lag: { seconds: null, bytes: null, rows: null },
    tables: tables.map(blankTable),
    problems: [],
    upstream: [],
  }
}

function blankTable(table: TableRecord): TableReport {
  const { namespace, name } = table.target
  return {
    source: table.id,
    sink: namespace === null ? name : `${namespace}.${name}`,
    state: table.state,
    read: 0,
    written: 0,
    deadLettered: 0,
    filtered: 0,
    snapshot: { rows: 0, bytes: 0, chunks: 0, done: 0, expectedRows: table.schema.estimate.rows },
    stream: { inserts: 0, updates: 0, deletes: 0, truncates: 0 },
  }
}
