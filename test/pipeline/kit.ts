import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { PostgresOptions } from '../../src/testing/postgres-server.ts'
import { assertSame, type CompareOptions } from './kit-compare.ts'
import { Pipeline, type Running, type Settings } from './kit-run.ts'
import { openTarget, SINKS, skipReason, type SinkName, type Target } from './kit-sinks.ts'
import { Bench, type SourceDatabase } from './kit-source.ts'

export { assertSame, compare, splitName, type CompareOptions } from './kit-compare.ts'
export { Oracle, quote, type Cells } from '../../src/connectors/postgres/sink/test-data/oracle.ts'
export { endpoint, Pipeline, Probe, Running, testEnvironment, type Hooks, type Settings } from './kit-run.ts'
export { openTarget, SINKS, skipReason, type SinkName, type Target } from './kit-sinks.ts'
export { Bench, SourceDatabase } from './kit-source.ts'
export { MAJOR } from '../kit/source-database.ts'

/** One server for the tests of a file, from before the first until after the last; `shared` fills a database for all of them. */
export function useBench(options: Omit<PostgresOptions, 'major'> = {}, shared?: string): () => Bench {
  let bench: Bench | undefined
  before(async () => {
    bench = await Bench.start(options, shared)
  })
  after(async () => {
    await bench?.[Symbol.asyncDispose]()
  })
  return () => {
    assert.ok(bench !== undefined, 'the server is there from the first test on')
    return bench
  }
}

/** What a case has at hand: a source database, an empty target, a pipeline between them. */
export interface World {
  readonly source: SourceDatabase
  readonly target: Target
  readonly pipeline: Pipeline
  /** Starts to follow and waits until everything is copied. */
  follow(more?: Settings): Promise<Running>
  same(tables: readonly string[], options?: CompareOptions): Promise<void>
}

export interface CaseOptions {
  /** SQL that fills the source before the pipeline starts. */
  readonly setup: string
  readonly settings?: Settings
  readonly sinks?: readonly SinkName[]
  readonly skip?: string | false
}

/** Tests of one file, run four at a time: they mostly wait for servers. */
export function cases(title: string, declare: () => void): void {
  describe(title, { concurrency: 4 }, declare)
}

/** One test per sink. */
export function pipelineCase(bench: () => Bench, title: string, options: CaseOptions, body: (world: World) => Promise<void>): void {
  for (const sink of options.sinks ?? SINKS) {
    const skip = options.skip !== undefined && options.skip !== false ? options.skip : skipReason(sink)
    test(`${title} [${sink}]`, { skip }, () => runCase(bench(), sink, options, body))
  }
}

async function runCase(bench: Bench, sink: SinkName, options: CaseOptions, body: (world: World) => Promise<void>): Promise<void> {
  await using source = await bench.database(options.setup)
  await using target = await openTarget(sink, bench)
  const pipeline = new Pipeline(source, target, options.settings)
  const started: Running[] = []
  try {
    await body({
      source,
      target,
      pipeline,
      follow: async (more) => {
        const running = await pipeline.follow(more)
        started.push(running)
        await running.streaming()
        return running
      },
      same: (tables, compareOptions) => assertSame(source, target, tables, compareOptions),
    })
  } finally {
    for (const running of started) await running[Symbol.asyncDispose]()
  }
}
