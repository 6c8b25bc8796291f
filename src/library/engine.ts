import type { AnchorRequest } from '../engine/anchor.ts'
import type { ManageRequest } from '../engine/manage.ts'
import type { Environment, PipelineOptions, Plan } from '../engine/options.ts'
import type { Report } from '../engine/report.ts'
import type { VerifyReport, VerifyRequest } from './verification.ts'
import type { WhyReport, WhyRequest } from './why.ts'

/** What the command line asks of the engine: an argument of `main`, so that tests need no database. */
export interface Engine {
  runPipeline(options: PipelineOptions, environment: Environment): Promise<Report>
  planPipeline(options: PipelineOptions, environment: Environment): Promise<Plan>
  verifyPipeline(request: VerifyRequest, environment: Environment): Promise<VerifyReport>
  whyRow(request: WhyRequest, environment: Environment): Promise<WhyReport>
  /** Both give lines that say what was dropped. */
  resetPipeline(request: ManageRequest): Promise<readonly string[]>
  removePipeline(request: ManageRequest): Promise<readonly string[]>
  /** A new origin for a stream that lost its history. */
  anchorPipeline(request: AnchorRequest): Promise<readonly string[]>
}

/** The engine itself, each part loaded when it is called. */
export const engine: Engine = {
  runPipeline: async (options, environment) => (await import('../engine/pipeline.ts')).runPipeline(options, environment),
  planPipeline: async (options, environment) => (await import('../engine/plan.ts')).planPipeline(options, environment),
  verifyPipeline: async (request, environment) => (await import('./verification.ts')).verifyPipeline(request, environment),
  whyRow: async (request, environment) => (await import('./why.ts')).whyRow(request, environment),
  resetPipeline: async (request) => (await import('../engine/manage.ts')).resetPipeline(request),
  removePipeline: async (request) => (await import('../engine/manage.ts')).removePipeline(request),
  anchorPipeline: async (request) => (await import('../engine/anchor.ts')).anchorPipeline(request),
}
