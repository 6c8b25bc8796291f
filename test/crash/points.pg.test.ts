import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tempFolder, type TempFolder } from '../../src/testing/temp-folder.ts'
import { assertEqual, type Target } from '../kit/compare.ts'
import { Random } from '../kit/random.ts'
import { TRANSACTIONAL_SINKS, unavailable } from '../kit/sinks.ts'
import { MAJOR, startSource, type SourceDatabase } from '../kit/source-database.ts'
import { startWriteLoad } from '../kit/write-load.ts'
import type { Death, Side } from './crash-points.ts'
import { Life, noted, type Noted } from './life.ts'
import { makePlace, makeTemplate, POISON, ROWS, type Place } from './places.ts'
import type { Outcome, Phase } from './scenario.ts'

/** `npm run test:crash` dies at every point, before and after; else each point has its turn, see `chosen`. */
const ALL = process.env['TAILRACE_CRASH_POINTS'] === 'all'
const SEED = Number(process.env['TAILRACE_TEST_SEED'] || 7)
/** What `npm test` gives each sink; deaths that a busy machine has no time for are counted in the last line. */
const SECONDS = ALL ? Infinity : Number(process.env['TAILRACE_CRASH_SECONDS'] || 25)
/** Places in which processes die at the same time. */
const LANES = 2
/** A process that is told a late time may come to its end without: the load is another one each time. The first time is always met. */
const ATTEMPTS = 3
const SIDES: readonly Side[] = ['before', 'after']
/** The sinks and majors that `npm test` runs over share what is not the sink's. */
const QUICK_SHARE = 3

/**
 * Methods of the contracts in which nothing becomes durable. Whoever adds a method sees to it that the scenario passes it, or
 * says here that it only reads; whoever makes something durable in one of these is told as well.
 */
const READERS: ReadonlySet<string> = new Set(
  [
    'store: find list tables deadLetters countDeadLetters pending',
    'state: record tables chunks views desired',
    'state.memory: get',
    'source: check strays discover count assertResumable stream comparePositions distance head endAt parsePosition covers fetch',
    'source: retention plannedUpstream upstream limits',
    'sink: check inspect misfits missingColumns describeSchema describeTypes formats load count look writers recover',
    'sink.load: write',
  ].flatMap((line) => {
    const [prefix = '', names = ''] = line.split(': ')
    return names.split(' ').map((name) => `${prefix}.${name}`)
  }),
)

for (const [index, sink] of TRANSACTIONAL_SINKS.entries()) {
  test(
    `killed at every durable step, PostgreSQL → ${sink.kind}${ALL ? '' : ', a part of them'}, seed ${SEED}`,
    { timeout: 7_200_000, skip: await unavailable(sink.kind) },
    async (t) => {
      await using server = await startSource()
      await using temp = await tempFolder('tr-points-')
      await makeTemplate(server)
      const crashes = new Crashes(server, sink.kind, temp)
      const life = await crashes.whole()

      await t.test('every method of the contracts is passed, or only reads', () => assertMethods(life))

      const times = new Map<string, number>()
      for (const point of life.points) times.set(point, (times.get(point) ?? 0) + 1)
      const deaths = chosen([...times.keys()], index).map(({ point, side }) => ({ point, side, most: times.get(point) ?? 1 }))
      const started = performance.now()
      const seconds = (): number => (performance.now() - started) / 1000
      const left = await inLanes(deaths, seconds, ({ point, side, most }) =>
        t.test(`${side} ${point}`, () => crashes.die(point, side, most)),
      )
      t.diagnostic(
        `${times.size} points, ${times.size * 2} deaths; had their turn: ${deaths.length}, no time for: ${left}, ${Math.round(seconds())} s`,
      )
      for (const line of crashes.results.sort()) t.diagnostic(line)
    },
  )
}

function assertMethods({ methods, points }: Noted): void {
  const passed = (method: string): boolean => points.some((point) => new RegExp(`^${method.replaceAll('.', '\\.')}(:| |$)`).test(point))
  const unmet = methods.filter((method) => !passed(method) && !READERS.has(method))
  assert.deepEqual(unmet, [], 'no step of these methods is durable in the scenario: let it pass them, or name them in READERS')
  assert.deepEqual(
    methods.filter((method) => passed(method) && READERS.has(method)),
    [],
    'these methods are said to read only',
  )
}

/**
 * All, before and after; or what a run of the suite can afford: the sink's own points, of the others every third (the other
 * sinks take theirs), of both one half (the other major takes it), before or after by turns.
 */
function chosen(points: readonly string[], sink: number): { readonly point: string; readonly side: Side }[] {
  if (ALL) return points.flatMap((point) => SIDES.map((side) => ({ point, side })))
  const sorted = [...points].sort()
  const turns = (list: readonly string[], share: number): string[] => list.filter((_, i) => (i + sink + SEED) % share === 0)
  const mine = [
    ...sorted.filter((point) => point.startsWith('sink')),
    ...turns(
      sorted.filter((point) => !point.startsWith('sink')),
      QUICK_SHARE,
    ),
  ]
  const half = MAJOR < 18 ? 0 : 1
  return mine.flatMap((point, i) => ((i + SEED) % 2 === half ? [{ point, side: SIDES[((i >> 1) + SEED) % 2] ?? 'after' }] : []))
}

/** In the order of the seed, until the time is over; gives how many are left. */
async function inLanes<T>(list: readonly T[], seconds: () => number, work: (each: T) => Promise<void>): Promise<number> {
  const random = new Random(SEED)
  const left = list
    .map((each) => ({ each, place: random.next() }))
    .sort((a, b) => a.place - b.place)
    .map(({ each }) => each)
  const lane = async (): Promise<void> => {
    while (seconds() < SECONDS) {
      const each = left.shift()
      if (each === undefined) return
      await work(each)
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane))
  return left.length
}

class Crashes {
  readonly results: string[] = []
  readonly #server: SourceDatabase
  readonly #kind: Target['kind']
  readonly #temp: TempFolder
  readonly #random = new Random(SEED)

  constructor(server: SourceDatabase, kind: Target['kind'], temp: TempFolder) {
    this.#server = server
    this.#kind = kind
    this.#temp = temp
  }

  /** A life without a death: finds the points. */
  async whole(): Promise<Noted> {
    await using place = await makePlace(this.#server, this.#kind, this.#temp)
    await using load = await startWriteLoad(place.source, { seed: SEED, rows: ROWS, transactionsPerSecond: 40 })
    assert.equal(await lifeIn(place, null), false)
    await load.stop()
    return noted(logOf(place))
  }

  /** Dies, goes on under the same write load, and compares everything when it has ended. */
  async die(point: string, side: Side, most: number): Promise<void> {
    let time = this.#random.between(1, Math.ceil(most / 2))
    for (let kills = 0; kills < ATTEMPTS; time = 1, kills++) {
      const rows = await this.#attempt({ point, time, side })
      if (rows === null) continue
      this.results.push(`${point} | ${this.#kind} | ${side}, time ${time} of ${most} | killed | equal: ${JSON.stringify(rows)}`)
      return
    }
    assert.fail(`${point} was not reached in ${ATTEMPTS} runs`)
  }

  /** Rows that were compared; null: the point was not reached. */
  async #attempt(death: Death): Promise<Readonly<Record<string, number>> | null> {
    await using place = await makePlace(this.#server, this.#kind, this.#temp)
    await using load = await startWriteLoad(place.source, { seed: SEED, rows: ROWS, transactionsPerSecond: 40 })
    if (!(await lifeIn(place, death))) return null
    const { phase } = noted(logOf(place))
    const outcome = await recoverIn(place, phase, () => load.stop())
    return await assertRecovered(place, phase, outcome)
  }
}

function logOf({ folder }: Place): string {
  return `${folder}/points.log`
}

async function lifeIn(place: Place, death: Death | null): Promise<boolean> {
  const { source, target, folder } = place
  await using life = new Life({ source: source.uri, sink: target.uri, folder, orders: { log: logOf(place), death }, died: null })
  return await life.died()
}

async function recoverIn(place: Place, died: Phase, stopLoad: () => Promise<void>): Promise<Outcome> {
  const { source, target, folder } = place
  const orders = { log: `${folder}/recovery.log`, death: null }
  await using life = new Life({ source: source.uri, sink: target.uri, folder, orders, died })
  await life.streaming()
  await stopLoad()
  life.end()
  assert.equal(await life.died(), false, 'the run that goes on was killed')
  return life.outcome()
}

/** Every row of every table that is followed, and nothing left behind upstream. */
async function assertRecovered(place: Place, phase: Phase, outcome: Outcome): Promise<Readonly<Record<string, number>>> {
  const { source, target } = place
  const wanted = phase === 'anchor' ? ['later'] : ['notes', 'orders', 'pairs', 'people', 'poison']
  assert.deepEqual(
    wanted.filter((table) => !outcome.streaming.includes(table)),
    [],
    'tables that do not stream',
  )
  const upstream = await source.query<{ slots: number; publications: number }>(
    `SELECT (SELECT count(*)::int FROM pg_replication_slots WHERE database = current_database()) AS slots, (SELECT count(*)::int FROM pg_publication) AS publications`,
  )
  assert.deepEqual(upstream, [{ slots: 1, publications: 1 }], 'one slot and one publication are kept upstream')
  if (phase !== 'anchor') {
    for await (const page of target.rows('poison', [{ name: 'id', type: 'integer' }])) assert.equal(page.length, 0)
    assert.ok(outcome.deadLetters >= POISON, `${outcome.deadLetters} dead letters`)
  }
  return assertEqual(
    source,
    target,
    outcome.streaming.filter((table) => table !== 'poison'),
  )
}
