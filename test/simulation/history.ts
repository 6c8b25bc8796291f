import { memory } from '../../src/connectors/memory/index.ts'
import { memorySinkCapabilities } from '../../src/connectors/memory/sink.ts'
import type { Endpoint, Environment, Mode, PipelineOptions } from '../../src/engine/options.ts'
import { runPipeline } from '../../src/engine/pipeline.ts'
import type { Report } from '../../src/engine/report.ts'
import type { Connector } from '../../src/sdk/connector.ts'
import { asTailraceError } from '../../src/sdk/errors.ts'
import { silentLogger } from '../../src/sdk/logger.ts'
import { Hidden } from './hidden.ts'
import type { Plant } from './plants.ts'
import { sinkOf } from './sink.ts'
import { sourceOf } from './source.ts'
import { storeOf } from './store.ts'
import { Workload } from './workload.ts'
import { HOST, PIPELINE, SIMULATED, World, type Life } from './world.ts'

/** Virtual time after which a history waits for ever. */
const LIMIT_MILLIS = 30 * 60_000
/** A run that keeps failing at its start is not what is to be seen here. */
const MOST_LIVES = 60

/** What a run may be told that comes back when another has taken its place. */
const REPLACED: ReadonlySet<string> = new Set(['FENCED', 'HELD', 'TARGET_NOT_EMPTY', 'HISTORY_LOST'])

export interface Outcome {
  readonly seed: number
  /** What was violated first, in words; null: nothing. */
  readonly violation: string | null
  /** Equal for equal histories. */
  readonly digest: number
  readonly transactions: number
  readonly crashes: number
  readonly runs: number
  readonly calls: number
  readonly compared: number
  readonly events: readonly string[]
}

/** One random history from its seed: the workload, the runs of a pipeline, their crashes, and what must hold. */
export async function simulate(seed: number, options: { readonly plant?: Plant | null; readonly trace?: boolean } = {}): Promise<Outcome> {
  using world = new World(seed, options)
  const history = new History(world)
  const ended = new AbortController()
  history.play().then(
    () => ended.abort(),
    (error: unknown) => {
      world.invariants.violate(error instanceof Error ? String(error.stack) : String(error))
      ended.abort()
    },
  )
  const { invariants, time } = world
  while (!ended.signal.aborted && invariants.violation === null) {
    const goesOn = await time.advance()
    if (ended.signal.aborted) break
    if (!goesOn) invariants.violate(`everybody waits for nothing: ${history.doing}`)
    if (time.elapsed > LIMIT_MILLIS) invariants.violate(`it does not end: ${history.doing}`)
  }
  return {
    seed,
    violation: invariants.violation?.message ?? null,
    digest: world.digest,
    transactions: world.source.last,
    crashes: history.crashes,
    runs: world.lives.length,
    calls: world.calls,
    compared: invariants.compared,
    events: world.events ?? [],
  }
}

type Ended = { readonly report: Report } | { readonly error: unknown }

class History {
  readonly #world: World
  readonly #hidden: Hidden
  readonly #workload: Workload
  readonly #workers: number
  readonly #maxRows: number
  crashes = 0
  doing = 'nothing'

  constructor(world: World) {
    this.#world = world
    this.#hidden = new Hidden(world)
    this.#workload = new Workload(world, this.#hidden)
    this.#workers = world.random.between(1, 4)
    this.#maxRows = world.oneOf([2, 5, 1000])
  }

  async play(): Promise<void> {
    const world = this.#world
    this.#workload.fill()
    const work = this.#workload.run().catch((error: unknown) => world.invariants.violate(String((error as Error).stack)))
    const requests = this.#ask()
    for (let left = world.random.between(2, 4); left > 0;) if (await this.#untilCrash()) left--
    await Promise.all([work, requests])
    await this.#settle()
  }

  /** One run that follows, until it dies or is given up; false: it ended by itself before. */
  async #untilCrash(): Promise<boolean> {
    const world = this.#world
    const life = world.newLife()
    const ended = this.#start(life, { kind: 'follow' })
    const lasts = Math.round(2 ** (world.random.next() * 9 + 2))
    const first = await Promise.race([ended.then(() => 'ended' as const), world.sleep(lasts)])
    if (first === 'ended') {
      await world.sleep(20)
      if (world.lives.length > MOST_LIVES) world.weather.fault = 0
      return false
    }
    const end = world.random.next()
    if (end < 0.15) return this.#drain(life, ended)
    world.note(`${life.number} ${end < 0.4 ? 'stalls' : 'dies'}`)
    if (end < 0.4) this.#stall(life)
    else life.dead = true
    this.crashes++
    await world.sleep(world.random.between(0, 20))
    return true
  }

  async #drain(life: Life, ended: Promise<Ended>): Promise<boolean> {
    this.doing = `run ${life.number} is drained`
    life.drain.abort()
    await ended
    return false
  }

  /** As a machine that is suspended: it comes back and finds another in its place. */
  #stall(life: Life): void {
    life.lost = true
    life.stalledUntil = this.#world.time.now + this.#world.random.between(5, 600)
  }

  /** What people ask meanwhile. */
  async #ask(): Promise<void> {
    const world = this.#world
    for (let left = world.random.between(0, 3); left > 0; left--) {
      await world.sleep(world.random.between(10, 900))
      const table = world.oneOf(this.#workload.tables)
      if ((await world.store.find(PIPELINE)) === null) continue
      world.note(`resnapshot ${table}`)
      await world.store.request(PIPELINE, { kind: 'resnapshot', tables: [table] })
    }
  }

  /** The weather is fine at last, and one run brings everything up to date. */
  async #settle(): Promise<void> {
    const world = this.#world
    world.weather.fault = 0
    for (const life of world.lives) life.stalledUntil = 0
    await world.sleep(1000)
    for (const life of world.lives) life.dead = true
    for (let i = 0; i < 2; i++) {
      const ended = await this.#start(world.newLife(), { kind: 'until', until: 'caught-up' })
      if ('error' in ended) return
      if (!ended.report.ok) return world.invariants.violate(`the last run ended with ${JSON.stringify(ended.report.problems)}`)
      world.invariants.compareAtEnd()
    }
  }

  async #start(life: Life, mode: Mode): Promise<Ended> {
    const world = this.#world
    this.doing = `run ${life.number} ${mode.kind}`
    world.note(`${life.number} starts`)
    const environment: Environment = {
      store: storeOf(world, life),
      holder: { host: HOST, pid: life.number, started: '' },
      logger: silentLogger,
      clock: () => world.time.now,
      random: () => world.random.next(),
      drain: life.drain.signal,
      abort: new AbortController().signal,
      scratchFolder: '',
    }
    const ended = await runPipeline(this.#options(life, mode), environment).then(
      (report) => ({ report }),
      (error: unknown) => ({ error }),
    )
    world.note(`${life.number} ends`)
    if (!life.lost) life.dead = true
    this.#judge(life, ended)
    return ended
  }

  /** A run may end by what was done to it, and by being taken over; by nothing else. */
  #judge(life: Life, ended: Ended): void {
    const { invariants, claimant } = this.#world
    if ('report' in ended) invariants.account(ended.report)
    const problems =
      'error' in ended ? [asTailraceError(ended.error)] : ended.report.problems.filter(({ severity }) => severity === 'error')
    for (const { code, message } of problems) {
      const replaced = life.lost ? REPLACED.has(code) : code === 'FENCED' && claimant !== life
      if (!replaced && !message.startsWith(SIMULATED)) invariants.violate(`run ${life.number} ended with ${code}: ${message}`)
    }
  }

  #options(life: Life, mode: Mode): PipelineOptions {
    return {
      name: PIPELINE,
      source: this.#endpoint(life, 'source'),
      sink: this.#endpoint(life, 'sink'),
      mode,
      snapshot: 'initial',
      selection: { tables: [], columns: new Map(), exclude: [], where: new Map(), keys: new Map() },
      map: new Map(),
      transform: null,
      ifExists: 'stop',
      schemaChanges: 'evolve',
      deletes: 'hard',
      onRowError: 'stop',
      workers: this.#workers,
    }
  }

  #endpoint(life: Life, database: 'source' | 'sink'): Endpoint {
    const world = this.#world
    const capabilities = { ...memorySinkCapabilities, maxBatch: { rows: this.#maxRows, bytes: 1 << 20 } }
    const connector: Connector = {
      ...memory,
      source: { ...memory.source!, open: async (_config, context) => sourceOf(world, this.#hidden, life, context) },
      sink: { capabilities, open: async (_config, context) => sinkOf(world, life, context) },
    } as Connector
    return { connector, config: memory.config.parse({ database }), label: `memory:${database}` }
  }
}
