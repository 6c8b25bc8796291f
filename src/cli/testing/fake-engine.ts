import type { Environment, PipelineOptions, Plan } from '../../engine/options.ts'
import type { Report, TableReport } from '../../engine/report.ts'
import type { ManageRequest } from '../../engine/manage.ts'
import type { Engine } from '../../library/engine.ts'

export interface FakeEngine extends Engine {
  /** What it was asked to do, newest last. */
  readonly pipelines: PipelineOptions[]
  readonly managed: ManageRequest[]
  readonly environments: Environment[]
}

export interface FakeEngineOptions {
  run?(options: PipelineOptions, environment: Environment): Promise<Report>
  plan?(options: PipelineOptions): Promise<Plan>
}

/** Does nothing and remembers what it should have done. */
export function fakeEngine(options: FakeEngineOptions = {}): FakeEngine {
  const pipelines: PipelineOptions[] = []
  const managed: ManageRequest[] = []
  const environments: Environment[] = []
  const manage = async (request: ManageRequest): Promise<readonly string[]> => {
    managed.push(request)
    return [`dropped slot of ${request.name}`]
  }
  return {
    pipelines,
    managed,
    environments,
    runPipeline: async (pipeline, environment) => {
      pipelines.push(pipeline)
      environments.push(environment)
      return (
        (await options.run?.(pipeline, environment)) ??
        fakeReport({ pipeline: pipeline.name ?? '', source: pipeline.source.label, sink: pipeline.sink.label })
      )
    },
    planPipeline: async (pipeline, environment) => {
      pipelines.push(pipeline)
      environments.push(environment)
      return (await options.plan?.(pipeline)) ?? fakePlan(pipeline.name ?? '')
    },
    verifyPipeline: async ({ source, sink, pipeline }, environment) => {
      environments.push(environment)
      return {
        ok: true,
        pipeline: pipeline?.name ?? null,
        source: source.label,
        sink: sink.label,
        seconds: 0,
        tables: [],
        repaired: null,
        problems: [],
      }
    },
    whyRow: async () => {
      throw new Error('no row is asked for')
    },
    resetPipeline: manage,
    removePipeline: manage,
    anchorPipeline: manage,
  }
}

export function fakeTable(source: string, rest: Partial<TableReport> = {}): TableReport {
  return {
    source,
    sink: source,
    state: 'done',
    read: 0,
    written: 0,
    deadLettered: 0,
    filtered: 0,
    snapshot: { rows: 0, bytes: 0, chunks: 1, done: 1, expectedRows: 0 },
    stream: { inserts: 0, updates: 0, deletes: 0, truncates: 0 },
    ...rest,
  }
}

export function fakeReport(rest: Partial<Report> = {}): Report {
  return {
    ok: true,
    pipeline: 'shop',
    state: 'done',
    source: 'toy://h/a',
    sink: '/dev/well',
    guarantee: 'at-least-once',
    position: null,
    epoch: 1,
    seconds: 2,
    lag: { seconds: null, bytes: null, rows: null },
    tables: [fakeTable('public.a', { read: 1234, written: 1234 })],
    problems: [],
    upstream: [],
    ...rest,
  }
}

export function fakePlan(pipeline: string): Plan {
  const table = {
    source: 'public.a',
    sink: 'a',
    rows: 10,
    bytes: 2000,
    chunks: 1,
    rule: 'table',
    reason: 'no key',
    key: ['id'],
    ddl: ['CREATE TABLE a ()'],
    notes: ['b is not copied'],
  } as const
  return {
    ok: true,
    pipeline,
    source: 'toy://h/a',
    sink: '/dev/well',
    guarantee: 'at-least-once',
    format: 'rows',
    tables: [table],
    upstream: [{ what: 'slot s', drop: 'DROP' }],
    limits: ['no deletes'],
    problems: [],
  }
}
