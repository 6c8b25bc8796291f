import { connectors } from '../../src/connectors/index.ts'
import { memory } from '../../src/connectors/memory/index.ts'
import type { Barrier, StreamBatch } from '../../src/model/batch.ts'
import { pipelineIdentity } from '../../src/engine/name.ts'
import type { Endpoint, PipelineOptions } from '../../src/engine/options.ts'
import { runPipeline } from '../../src/engine/pipeline.ts'
import type { Report } from '../../src/engine/report.ts'
import { pipelineOptions, type PipelineSettings } from '../../src/library/settings.ts'
import { resolveEndpoint } from '../../src/sdk/config/endpoint.ts'
import { References } from '../../src/sdk/config/references.ts'
import type { Connector } from '../../src/sdk/connector.ts'
import { createLogger, silentLogger, type Logger } from '../../src/sdk/logger.ts'
import type { LoadRequest, Sink } from '../../src/sdk/sink.ts'
import { memoryStore } from '../../src/state/memory.ts'
import { thisHolder } from '../../src/state/lease.ts'
import type { ControlRequest, StateStore } from '../../src/state/store.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import { lsnOf, until } from './kit-oracle.ts'
import type { Target } from './kit-sinks.ts'
import type { SourceDatabase } from './kit-source.ts'

/** What a test does to the sink of its pipeline: all optional, all awaited. */
export interface Hooks {
  /** Before a chunk is loaded. */
  load?(request: LoadRequest): Promise<void>
  /** Before a batch is written. */
  write?(batch: StreamBatch): Promise<void>
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
    const settings = { ...this.#settings, ...more }
    const probe = new Probe()
    const options = await this.#options({ ...settings, follow: true }, probe)
    return Running.start(this.#source, options, this.store, probe)
  }

  /** Runs to its end: a bounded copy, or until caught up. */
  async run(mode: 'copy' | 'caught-up', more: Settings = {}): Promise<Report> {
    const settings = { ...this.#settings, ...more }
    const probe = new Probe()
    const options = await this.#options(mode === 'copy' ? settings : { ...settings, until: 'caught-up' }, probe)
    await using running = await Running.start(this.#source, options, this.store, probe)
    return await running.done
  }

  async #options(settings: Settings & PipelineSettings, probe: Probe): Promise<PipelineOptions> {
    const { hooks = {}, sourceOptions = {}, ...rest } = settings
    const source = await endpoint('source', withParameters(this.#source.uri, { watchInterval: '0.2', ...sourceOptions }))
    const sink = await endpoint('sink', this.#target.uri)
    return pipelineOptions(rest, { source, sink: { ...sink, connector: probe.watch(sink.connector, hooks) } }, process.cwd())
  }
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
      return sink.load(request, signal)
    }
    const write: Sink['write'] = async (batch, signal) => {
      await hooks.write?.(batch)
      await sink.write(batch, signal)
      if (batch.barrier !== null) this.barriers.push(batch.barrier)
      if (batch.position !== null) this.position = lsnOf(batch.position.split(':')[3] ?? '')
    }
    return new Proxy(sink, {
      get: (target, key) => {
        if (key === 'load') return load
        if (key === 'write') return write
        const value: unknown = Reflect.get(target, key, target)
        // Not `bind`: `await using` of Node 24 does not take a bound function for a method.
        return typeof value === 'function' ? (...args: unknown[]): unknown => Reflect.apply(value, target, args) : value
      },
    })
  }
}

const verbose = process.env['TAILRACE_TEST_LOG'] !== undefined

function testLogger(): Logger {
  return verbose
    ? createLogger({ level: 'debug', format: 'text', clock: Date.now, secrets: new Set(), write: (line) => console.error(line) })
    : silentLogger
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
      store,
      holder: thisHolder(),
      logger: testLogger(),
      clock: Date.now,
      random: Math.random,
      drain: this.#drain.signal,
      abort: this.#abort.signal,
      scratchFolder,
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
      async () => {
        if (await holds()) return true
        if (this.#ended !== null) throw new Error(`the pipeline ended before ${what}: ${this.#describeEnd()}`)
        return false
      },
      () => `${what}; ${JSON.stringify(this.latest)}; at ${this.probe.position.toString(16)}`,
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
