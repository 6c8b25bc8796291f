import { connectors } from '../../src/connectors/index.ts'
import { memory } from '../../src/connectors/memory/index.ts'
import type { Barrier, StreamBatch } from '../../src/model/batch.ts'
import type { Position } from '../../src/model/position.ts'
import { pipelineIdentity } from '../../src/engine/name.ts'
import type { Endpoint, Environment, PipelineOptions, Plan } from '../../src/engine/options.ts'
import { runPipeline } from '../../src/engine/pipeline.ts'
import { planPipeline } from '../../src/engine/plan.ts'
import type { Report } from '../../src/engine/report.ts'
import { pipelineOptions, type PipelineSettings } from '../../src/library/settings.ts'
import { verifyPipeline, type VerifyReport, type VerifyRequest } from '../../src/library/verification.ts'
import { resolveEndpoint } from '../../src/sdk/config/endpoint.ts'
import { References } from '../../src/sdk/config/references.ts'
import type { Connector } from '../../src/sdk/connector.ts'
import { createLogger, silentLogger, type Logger } from '../../src/sdk/logger.ts'
import type { Loader, LoadRequest, Sink } from '../../src/sdk/sink.ts'
import { memoryStore } from '../../src/state/memory.ts'
import { thisHolder } from '../../src/state/lease.ts'
import type { ControlRequest, StateStore } from '../../src/state/store.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import { lsnOf } from '../kit/lsn.ts'
import { until } from '../kit/until.ts'
import type { Target } from './kit-sinks.ts'
import type { SourceDatabase } from './kit-source.ts'

/** What a test does to the ends of its pipeline: all optional, all awaited. */
export interface Hooks {
  /** Before a target is made or brought to another shape. */
  applySchema?(): Promise<void>
  /** Before a chunk is loaded. */
  load?(request: LoadRequest): Promise<void>
  /** Before a batch is written. */
  write?(batch: StreamBatch): Promise<void>
  /** After a batch was written: what is thrown here is an answer that got lost. */
  wrote?(batch: StreamBatch): Promise<void>
  /** Before the source is told what it may forget. */
  confirm?(position: Position): Promise<void>
}

export type Settings = Omit<PipelineSettings, 'follow' | 'until'> & {
  readonly hooks?: Hooks
  readonly sourceOptions?: Readonly<Record<string, string>>
}

/** One pipeline of a test, which may be run several times on the same state. */
export class Pipeline {
  readonly store: StateStore = memoryStore()
  readonly #source: SourceDatabase
  readonly #target: Target
  readonly #settings: Settings

  constructor(source: SourceDatabase, target: Target, settings: Settings = {}) {
    this.#source = source
    this.#target = target
    this.#settings = settings
  }

  /** Copies and follows until stopped. `more` is laid over the settings. */
  async follow(more: Settings = {}): Promise<Running> {
    return this.#start({ follow: true }, more)
  }

  /** Runs to its end: a bounded copy, or until caught up. */
  async run(mode: 'copy' | 'caught-up', more: Settings = {}): Promise<Report> {
    await using running = await this.#start(mode === 'copy' ? {} : { until: 'caught-up' }, more)
    return await running.done
  }

  /** Copies and follows up to there. */
  until(goal: NonNullable<PipelineSettings['until']>, more: Settings = {}): Promise<Running> {
    return this.#start({ until: goal }, more)
  }

  async #start(mode: Pick<PipelineSettings, 'follow' | 'until'>, more: Settings): Promise<Running> {
    const probe = new Probe()
    const options = await this.#options({ ...this.#settings, ...more, ...mode }, probe)
    return Running.start(this.#source, options, this.store, probe)
  }

  /** What `sync --follow` would do. */
  async plan(): Promise<Plan> {
    await using folder = await tempFolder('tr-plan-')
    return planPipeline(await this.#options({ ...this.#settings, follow: true }, new Probe()), testEnvironment(folder.path, this.store))
  }

  /** What `tailrace verify` says of the tables that it copied. */
  async verify(
    more: Partial<Pick<VerifyRequest, 'limit' | 'live' | 'showValues' | 'repair' | 'transform'>> & { readonly probe?: Probe } = {},
  ): Promise<VerifyReport> {
    await using folder = await tempFolder('tr-verify-')
    const { probe = new Probe(), ...rest } = more
    const options = await this.#options(this.#settings, probe)
    const { name } = pipelineIdentity(options)
    const pipeline = { name, tables: await this.store.tables(name) }
    const request = {
      source: options.source,
      sink: options.sink,
      pipeline,
      options: null,
      limit: 10,
      showValues: false,
      live: false,
      repair: false,
      transform: options.transform,
      ...rest,
    }
    return verifyPipeline(request, testEnvironment(folder.path, this.store))
  }

  async #options(settings: Settings & PipelineSettings, probe: Probe): Promise<PipelineOptions> {
    const { hooks = {}, sourceOptions = {}, ...rest } = settings
    const source = await endpoint('source', withParameters(this.#source.uri, { watchInterval: '0.2', ...sourceOptions }))
    const sink = await endpoint('sink', this.#target.uri)
    const ends = {
      source: { ...source, connector: withConfirm(source.connector, hooks) },
      sink: { ...sink, connector: probe.watch(sink.connector, hooks) },
    }
    return pipelineOptions(rest, ends, process.cwd())
  }
}

function withConfirm(connector: Connector, { confirm }: Hooks): Connector {
  const { source } = connector
  if (source === undefined || confirm === undefined) return connector
  const open: typeof source.open = async (config, context) => {
    const opened = await source.open(config, context)
    return overridden(opened, {
      confirm: async (position, signal) => {
        await confirm(position)
        await opened.confirm?.(position, signal)
      },
    })
  }
  return { ...connector, source: { ...source, open } }
}

/** The object with some of its methods replaced. */
function overridden<T extends object>(object: T, methods: Partial<T>): T {
  return new Proxy(object, {
    get: (target, key) => {
      if (key in methods) return methods[key as keyof T]
      const value: unknown = Reflect.get(target, key, target)
      // Not `bind`: `await using` of Node 24 does not take a bound function for a method.
      return typeof value === 'function' ? (...args: unknown[]): unknown => Reflect.apply(value, target, args) : value
    },
  })
}

function withParameters(uri: string, parameters: Readonly<Record<string, string>>): string {
  const query = new URLSearchParams(parameters).toString()
  return query === '' ? uri : `${uri}?${query}`
}

export async function endpoint(role: 'source' | 'sink', uri: string, variables: Readonly<Record<string, string>> = {}): Promise<Endpoint> {
  if (uri.startsWith('memory:'))
    return { connector: memory, config: memory.config.parse({ database: uri.slice('memory:'.length) }), label: uri }
  return resolveEndpoint({ role, uri, flags: [], variables: {} }, connectors, new References({ variables }))
}

/** Sees what reaches the sink. */
export class Probe {
  /** End of the last durable batch. */
  position = 0n
  readonly barriers: Barrier[] = []
  loads = 0
  /** Rows that were loaded, by table. */
  readonly loaded = new Map<string, number>()

  /** The connector with its sink watched. */
  watch(connector: Connector, hooks: Hooks): Connector {
    const { sink } = connector
    if (sink === undefined) return connector
    return { ...connector, sink: { ...sink, open: async (config, context) => this.#wrap(await sink.open(config, context), hooks) } }
  }

  #wrap(sink: Sink, hooks: Hooks): Sink {
    const load: Sink['load'] = async (request, signal) => {
      this.loads++
      await hooks.load?.(request)
      const loader = await sink.load(request, signal)
      const finish: Loader['finish'] = async () => {
        const done = await loader.finish()
        this.loaded.set(request.table.id, (this.loaded.get(request.table.id) ?? 0) + done.rows)
        return done
      }
      return overridden(loader, { finish })
    }
    const write: Sink['write'] = async (batch, signal) => {
      await hooks.write?.(batch)
      await sink.write(batch, signal)
      await hooks.wrote?.(batch)
      if (batch.barrier !== null) this.barriers.push(batch.barrier)
      if (batch.position !== null) this.position = lsnOf(batch.position)
    }
    const applySchema: Sink['applySchema'] = async (...args) => {
      await hooks.applySchema?.()
      return sink.applySchema(...args)
    }
    return overridden(sink, { applySchema, load, write })
  }
}

const verbose = process.env['TAILRACE_TEST_LOG'] !== undefined

function testLogger(): Logger {
  return verbose
    ? createLogger({ level: 'debug', format: 'text', clock: Date.now, secrets: new Set(), write: (line) => console.error(line) })
    : silentLogger
}

/** What the library lends to an engine; nobody stops it. */
export function testEnvironment(scratchFolder: string, store: StateStore = memoryStore()): Environment {
  const never = new AbortController().signal
  return {
    store,
    holder: thisHolder(),
    logger: testLogger(),
    clock: Date.now,
    random: Math.random,
    drain: never,
    abort: never,
    scratchFolder,
  }
}

/** A pipeline that runs now. */
export class Running implements AsyncDisposable {
  readonly done: Promise<Report>
  readonly probe: Probe
  readonly #source: SourceDatabase
  readonly #store: StateStore
  readonly #name: string
  readonly #drain = new AbortController()
  readonly #abort = new AbortController()
  #ended: { readonly report: Report | null; readonly error: unknown } | null = null
  latest: Report | null = null

  private constructor(source: SourceDatabase, options: PipelineOptions, store: StateStore, probe: Probe, scratchFolder: string) {
    this.#source = source
    this.#store = store
    this.#name = pipelineIdentity(options).name
    this.probe = probe
    this.done = runPipeline(options, {
      ...testEnvironment(scratchFolder, store),
      drain: this.#drain.signal,
      abort: this.#abort.signal,
      onProgress: (report) => {
        this.latest = report
      },
    })
    this.done.then(
      (report) => {
        this.#ended = { report, error: null }
      },
      (error: unknown) => {
        this.#ended = { report: null, error }
      },
    )
  }

  static async start(source: SourceDatabase, options: PipelineOptions, store: StateStore, probe: Probe): Promise<Running> {
    const folder = await tempFolder('tr-scratch-')
    const running = new Running(source, options, store, probe, folder.path)
    const clean = async (): Promise<void> => folder[Symbol.asyncDispose]()
    void running.done.then(clean, clean)
    return running
  }

  /** The sink holds everything that was committed before the call, and every table streams. */
  async caughtUp(): Promise<void> {
    const head = await this.#source.head()
    await this.reaches(
      () =>
        this.probe.position >= head &&
        (this.latest?.tables ?? []).every((table) => table.state === 'streaming' || table.state === 'converging'),
      `position past ${head.toString(16)}`,
    )
  }

  /** Polls until it holds; fails at once when the pipeline ends before. */
  async reaches(holds: () => Promise<boolean> | boolean, what: string): Promise<void> {
    await until(
      what,
      async () => {
        if (await holds()) return true
        if (this.#ended !== null) throw new Error(`the pipeline ended before ${what}: ${this.#describeEnd()}`)
        return false
      },
      { detail: () => `${JSON.stringify(this.latest)}; at ${this.probe.position.toString(16)}` },
    )
  }

  /** Every table is copied and followed, and the server sends its log. */
  async streaming(): Promise<void> {
    await this.reaches(() => this.latest?.state === 'streaming' || this.latest?.state === 'converging', 'state streaming')
    await this.reaches(() => this.#source.isRead(), 'an active slot')
  }

  ask(request: ControlRequest): Promise<void> {
    return this.#store.request(this.#name, request)
  }

  get ended(): boolean {
    return this.#ended !== null
  }

  /** Drains; gives the final report. */
  async stop(): Promise<Report> {
    this.#drain.abort()
    return this.done
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#drain.abort()
    const giveUp = setTimeout(() => this.#abort.abort(), 10_000)
    await this.done.catch(() => {})
    clearTimeout(giveUp)
  }

  #describeEnd(): string {
    const { report, error } = this.#ended ?? { report: null, error: null }
    if (report !== null) return JSON.stringify(report.problems)
    return error instanceof Error ? (error.stack ?? error.message) : String(error)
  }
}
