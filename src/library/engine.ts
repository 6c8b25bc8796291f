import type { Environment, PipelineOptions, Plan, Endpoint } from '../engine/options.ts'
import type { Report } from '../engine/report.ts'

export interface ManageRequest {
  readonly name: string
  /** Null: it cannot be opened; what is kept there stays. */
  readonly source: Endpoint | null
  readonly sink: Endpoint | null
  readonly environment: Environment
}

/** What the command line asks of the engine: an argument of `main`, so that tests need no database. */
export interface Engine {
  runPipeline(options: PipelineOptions, environment: Environment): Promise<Report>
  planPipeline(options: PipelineOptions, environment: Environment): Promise<Plan>
  /** Both give lines that say what was dropped. */
  resetPipeline(request: ManageRequest): Promise<readonly string[]>
  removePipeline(request: ManageRequest): Promise<readonly string[]>
}

/** The engine itself, each part loaded when it is called. */
export const engine: Engine = {
  runPipeline: async (options, environment) => (await import('../engine/pipeline.ts')).runPipeline(options, environment),
  planPipeline: async (options, environment) => (await import('../engine/plan.ts')).planPipeline(options, environment),
  resetPipeline: async (request) => (await import('../engine/manage.ts')).resetPipeline(request),
  removePipeline: async (request) => (await import('../engine/manage.ts')).removePipeline(request),
}
