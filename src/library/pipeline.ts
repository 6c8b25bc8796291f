import { pipelineIdentity } from '../engine/name.ts'
import type { Environment, PipelineOptions, Plan } from '../engine/options.ts'
import type { Report } from '../engine/report.ts'
import { problem, ProblemsError, usage } from '../sdk/config/problems.ts'
import type { Problem } from '../sdk/errors.ts'
import { silentLogger, type Logger } from '../sdk/logger.ts'
import type { StateStore } from '../state/store.ts'
import { endpointFrom, type EndpointInput } from './endpoints.ts'
import { engine } from './engine.ts'
import { environmentOn, findState, openState, statePlace, type StatePlace } from './environment.ts'
import { checkKeys, pipelineOptions, SETTING_KEYS, type PipelineSettings } from './settings.ts'

/** Where pipelines are remembered and who may interrupt: common to all calls. */
export interface Surroundings {
  /** A file, `sqlite:<file>` or `memory:`; default `.tailrace/state.db` in the working folder. */
  readonly state?: string
  /** Ends a run in good order: drain, checkpoint, report. */
  readonly signal?: AbortSignal
  /** Gives up at once. */
  readonly abort?: AbortSignal
  /** Default: silent. */
  readonly logger?: Logger
}

export interface SyncOptions extends PipelineSettings, Surroundings {
  readonly source: EndpointInput
  readonly sink: EndpointInput
  /** A few times a second, with the newest report. */
  readonly onProgress?: (report: Report) => void
}

export type PlanOptions = Omit<SyncOptions, 'onProgress'>

export const SURROUNDING_KEYS: readonly string[] = ['state', 'signal', 'abort', 'logger'] satisfies readonly (keyof Surroundings)[]
const SYNC_KEYS: readonly string[] = [...SETTING_KEYS, ...SURROUNDING_KEYS, 'source', 'sink', 'onProgress']

/** A run that failed: the first problem speaks for all of them, the report says how far it came. */
export class SyncError extends ProblemsError {
  readonly report: Report

  constructor(problems: ConstructorParameters<typeof ProblemsError>[0], report: Report) {
    super(problems)
    this.name = 'SyncError'
    this.report = report
  }
}

/** Runs a pipeline until it is done or stopped. Rejects with a SyncError when the run failed, with a TailraceError when it could not start. */
export async function sync(options: SyncOptions): Promise<Report> {
  const prepared = await prepare(options)
  await using store = await openState(prepared.place)
  const report = await engine.runPipeline(prepared.pipeline, await libraryEnvironment(store, prepared.place, options, options.onProgress))
  if (report.ok) return report
  const [first, ...rest] = errorsOf(report)
  throw new SyncError([first ?? problem('BUG', 'the run failed and its report does not say why'), ...rest], report)
}

/** What made a run fail, without its warnings. */
export function errorsOf({ problems }: Report): readonly Problem[] {
  return problems.flatMap((each) => (each.severity === 'warning' ? [] : [{ ...each, severity: 'error' as const }]))
}

/** What `sync` would do. Changes nothing. */
export async function plan(options: PlanOptions): Promise<Plan> {
  const prepared = await prepare(options)
  await using store = (await findState(prepared.place)) ?? (await openState({ file: null }))
  return await engine.planPipeline(prepared.pipeline, await libraryEnvironment(store, prepared.place, options))
}

async function prepare(options: SyncOptions): Promise<{ readonly pipeline: PipelineOptions; readonly place: StatePlace }> {
  checkKeys(options, SYNC_KEYS)
  for (const role of ['source', 'sink'] as const) if (options[role] === undefined) throw usage(`no ${role} is given`)
  const source = await endpointFrom(options.source, 'source')
  const sink = await endpointFrom(options.sink, 'sink')
  const pipeline = await pipelineOptions(options, { source, sink }, process.cwd())
  return { pipeline: { ...pipeline, name: pipelineIdentity(pipeline).name }, place: statePlace(options.state ?? null, process.cwd()) }
}

export function libraryEnvironment(
  store: StateStore,
  place: StatePlace,
  options: Surroundings,
  onProgress?: (report: Report) => void,
): Promise<Environment> {
  const never = new AbortController().signal
  return environmentOn(store, place, process.cwd(), {
    logger: options.logger ?? silentLogger,
    clock: Date.now,
    random: Math.random,
    drain: options.signal ?? never,
    abort: options.abort ?? never,
    ...(onProgress === undefined ? {} : { onProgress }),
  })
}
