import type { Problem } from '../sdk/errors.ts'
import type { TableState } from '../state/store.ts'

/** The one object that `--json`, `status`, the API and the dashboard show. No secret and no row value is ever in it. */
export interface Report {
  readonly ok: boolean
  readonly pipeline: string
  readonly state: PipelineStateName
  readonly source: string
  readonly sink: string
  readonly guarantee: Guarantee
  readonly position: string | null
  readonly epoch: number
  /** Seconds since this run started. */
  readonly seconds: number
  readonly lag: Lag
  readonly tables: readonly TableReport[]
  readonly problems: readonly ReportProblem[]
  /** What is kept upstream for the pipeline, and the command that drops it. */
  readonly upstream: readonly { readonly what: string; readonly drop: string }[]
  readonly retention?: {
    readonly name: string
    readonly retainedBytes: number
    readonly status: string
    readonly remainingBytes: number | null
  }
}

export type PipelineStateName = 'starting' | 'copying' | 'converging' | 'streaming' | 'paused' | 'retrying' | 'stopped' | 'done' | 'failed'
export type Guarantee = 'exactly-once' | 'effectively-once' | 'at-least-once'

export interface Lag {
  /** Age of the newest applied commit, 0 when caught up; null before the stream starts. */
  readonly seconds: number | null
  readonly bytes: number | null
  readonly rows: number | null
}

export interface TableReport {
  readonly source: string
  readonly sink: string
  readonly state: TableState
  readonly read: number
  readonly written: number
  readonly deadLettered: number
  readonly filtered: number
  readonly snapshot: {
    readonly rows: number
    readonly bytes: number
    readonly chunks: number
    readonly done: number
    /** Estimate of all rows, −1 unknown: for percent and ETA. */
    readonly expectedRows: number
  }
  readonly stream: { readonly inserts: number; readonly updates: number; readonly deletes: number; readonly truncates: number }
}

export interface ReportProblem extends Omit<Problem, 'severity'> {
  readonly severity?: 'error' | 'warning'
}
