import { memoryStore } from '../../src/state/memory.ts'
import type { StateStore } from '../../src/state/store.ts'
import { MemoryDatabase } from '../../src/connectors/memory/index.ts'
import { TailraceError } from '../../src/sdk/errors.ts'
import { Random } from '../kit/random.ts'
import { Invariants } from './invariants.ts'
import type { Plant } from './plants.ts'
import { VirtualTime } from './virtual-time.ts'

export const PIPELINE = 'simulated'
export const HOST = 'simulation'
/** Begins the message of every error that the simulation makes. */
export const SIMULATED = 'simulated:'

const never = new Promise<never>(() => {})

/** One run of the pipeline: a process, as far as the others can tell. */
export class Life {
  readonly number: number
  /** As after kill -9: nothing that it does from now on has an effect. */
  dead = false
  /** It stands still until then, and does not know; the state store takes it for dead. */
  stalledUntil = 0
  lost = false
  /** That it claimed in the sink. */
  epoch: number | null = null
  /** Its calls of the state store, one after the other. */
  turn: Promise<void> = Promise.resolve()
  readonly drain = new AbortController()

  constructor(number: number) {
    this.number = number
  }
}

/** How eventful a history is; drawn once for each. */
interface Weather {
  /** Share of calls that take time. */
  readonly slow: number
  readonly mostMillis: number
  /** Share of calls that fail. */
  fault: number
}

/** Everything that the parts of one history share. Whatever is drawn is drawn here, so that the seed tells all. */
export class World implements Disposable {
  readonly seed: number
  readonly plant: Plant | null
  readonly time = new VirtualTime()
  /** Of the schedule; the workload has its own. */
  readonly random: Random
  readonly source = new MemoryDatabase('source')
  readonly sink = new MemoryDatabase('sink')
  readonly store: StateStore
  readonly invariants: Invariants
  readonly weather: Weather
  readonly lives: Life[] = []
  /** Whose claim is the newest. */
  claimant: Life | null = null
  /** Every event, when `trace` is asked for; and a digest of them all. */
  readonly events: string[] | null
  digest = 0
  calls = 0

  constructor(seed: number, { plant = null, trace = false }: { readonly plant?: Plant | null; readonly trace?: boolean } = {}) {
    this.seed = seed
    this.plant = plant
    this.events = trace ? [] : null
    this.random = new Random(seed)
    this.weather = {
      slow: this.oneOf([0.15, 0.4, 0.8]),
      mostMillis: this.oneOf([3, 20, 60]),
      fault: this.oneOf([0, 0.004, 0.02]),
    }
    const clock = (): number => this.time.now
    this.source.clock = clock
    this.sink.clock = clock
    const started = (pid: number): string | null => (this.lives[pid]?.dead === false && !this.lives[pid].lost ? '' : null)
    this.store = memoryStore({ clock, processes: { host: HOST, started } })
    this.invariants = new Invariants(this)
  }

  newLife(): Life {
    const life = new Life(this.lives.length)
    this.lives.push(life)
    return life
  }

  chance(share: number): boolean {
    return share > 0 && this.random.next() < share
  }

  oneOf<T>(values: readonly T[]): T {
    return values[this.random.between(0, values.length - 1)]!
  }

  note(event: string): void {
    const line = `${this.time.elapsed} ${event}`
    for (let i = 0; i < line.length; i++) this.digest = (Math.imul(this.digest, 31) + line.charCodeAt(i)) | 0
    this.events?.push(line)
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ms))
  }

  /**
   * A call to something outside the run: it may take time, fail before or after its effect, or never come back because the run
   * is no more. `work` has its effect at once, or none.
   */
  async call<T>(life: Life, name: string, work: () => Promise<T>, code: 'SOURCE_FAILED' | 'SINK_FAILED' | null): Promise<T> {
    // The state store has no errors here, and takes the calls of a run in their order.
    if (code === null) await (life.turn = life.turn.then(() => this.#alive(life)))
    else await this.#pass(life)
    this.calls++
    this.note(`${life.number} ${name}`)
    this.#mayFail(life, name, code, 'before')
    const result = await work()
    await this.#pass(life)
    this.#mayFail(life, name, code, 'after')
    return result
  }

  /** Ends what a run that has died meanwhile would still do. */
  async #pass(life: Life): Promise<void> {
    if (this.chance(this.weather.slow)) await this.sleep(this.random.between(1, this.weather.mostMillis))
    await this.#alive(life)
  }

  async #alive(life: Life): Promise<void> {
    while (!life.dead && life.stalledUntil > this.time.now) await this.sleep(life.stalledUntil - this.time.now)
    if (life.dead) await never
  }

  #mayFail(life: Life, name: string, code: 'SOURCE_FAILED' | 'SINK_FAILED' | null, when: string): void {
    if (code === null || !this.chance(this.weather.fault)) return
    this.note(`${life.number} ${name} fails ${when}`)
    throw new TailraceError(code, `${SIMULATED} ${name} fails ${when} its effect`)
  }

  [Symbol.dispose](): void {
    for (const life of this.lives) life.dead = true
    this.time[Symbol.dispose]()
  }
}

/** The object with its promises made calls of a run; `own` methods are taken as they are. */
export function called<T extends object>(
  object: T,
  own: Partial<T>,
  plain: ReadonlySet<string>,
  call: (name: string, work: () => Promise<unknown>) => Promise<unknown>,
): T {
  return new Proxy(object, {
    get: (target, key) => {
      if (key in own) return own[key as keyof T]
      const value: unknown = Reflect.get(target, key, target)
      if (typeof value !== 'function') return value
      // Not `bind`: `await using` of Node 24 does not take a bound function for a method.
      const apply = (args: unknown[]): unknown => Reflect.apply(value, target, args) as unknown
      if (typeof key === 'symbol' || plain.has(key)) return (...args: unknown[]): unknown => apply(args)
      return (...args: unknown[]): unknown => call(key, () => apply(args) as Promise<unknown>)
    },
  })
}
