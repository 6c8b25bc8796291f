import type { z } from 'zod'
import type { Connector } from '../sdk/connector.ts'
import type { Logger } from '../sdk/logger.ts'
import type { IfExists } from '../sdk/sink.ts'
import type { Selection } from '../sdk/source.ts'
import type { Transform } from '../sdk/transform.ts'
import type { Holder, StateStore } from '../state/store.ts'
import type { Report } from './report.ts'

/** A connector with a validated configuration. */
export interface Endpoint {
  readonly connector: Connector
  readonly config: z.infer<z.ZodObject>
  /** Redacted URI, as shown to people. */
  readonly label: string
}

/**
 * `copy`: one consistent copy, nothing left upstream. `follow`: copy, then follow until stopped. `until`: copy, then follow
 * up to a point and end, keeping the slot.
 */
export type Mode =
  | { readonly kind: 'copy' }
  | { readonly kind: 'follow' }
  | { readonly kind: 'until'; readonly until: 'caught-up' | { readonly position: string } | { readonly time: number } }

export interface PipelineOptions {
  /** `--name`, or null: a hash of the two identities. */
  readonly name: string | null
  readonly source: Endpoint
  readonly sink: Endpoint
  readonly mode: Mode
  readonly snapshot: 'initial' | 'never'
  readonly selection: Selection
  /** Source table (as typed) → target table (as typed). */
  readonly map: ReadonlyMap<string, string>
  readonly transform: Transform | null
  readonly ifExists: IfExists
  readonly schemaChanges: 'evolve' | 'ignore' | 'stop'
  readonly deletes: 'hard' | 'soft'
  /** What a row that the sink refuses, or a transform that throws, does. */
  readonly onRowError: 'stop' | 'dead-letter'
  /** Parallel snapshot workers. */
  readonly workers: number
  /**
   * Only what was asked of an earlier run's tables, as that run has copied them (`verify --repair`): what is not said here is
   * taken from what the state remembers, tables that are copied are not copied anew.
   */
  readonly asBefore?: boolean
}

/** What the outside lends: tests own all of it. */
export interface Environment {
  readonly store: StateStore
  readonly holder: Holder
  readonly logger: Logger
  readonly clock: () => number
  readonly random: () => number
  /** Aborted by the first Ctrl-C: drain, checkpoint, end with a report. */
  readonly drain: AbortSignal
  /** Aborted by the second: give up at once. */
  readonly abort: AbortSignal
  /** Where connectors keep scratch files: `.tailrace/scratch`. */
  readonly scratchFolder: string
  /** Called a few times a second with the newest report; must not throw. */
  readonly onProgress?: (report: Report) => void
}

/** What `plan` says. Plain data; nothing was changed to make it. */
export interface Plan {
  readonly ok: boolean
  readonly pipeline: string
  readonly source: string
  readonly sink: string
  readonly guarantee: string
  readonly format: string
  readonly tables: readonly {
    readonly source: string
    readonly sink: string
    readonly rows: number
    readonly bytes: number
    readonly chunks: number
    readonly rule: 'chunk' | 'table'
    readonly reason: string
    readonly key: readonly string[]
    readonly ddl: readonly string[]
    /** Columns whose type changes on the way, and columns that are not copied. */
    readonly notes: readonly string[]
  }[]
  readonly upstream: readonly { readonly what: string; readonly drop: string }[]
  readonly limits: readonly string[]
  readonly problems: readonly {
    readonly severity: 'error' | 'warning'
    readonly code: string
    readonly message: string
    readonly hint?: string
    readonly path?: string
  }[]
}
