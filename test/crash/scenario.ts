import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { endpointFrom } from '../../src/library/endpoints.ts'
import { environmentOn } from '../../src/library/environment.ts'
import { pipelineOptions, type PipelineSettings } from '../../src/library/settings.ts'
import { runPipeline } from '../../src/engine/pipeline.ts'
import { removePipeline, resetPipeline } from '../../src/engine/manage.ts'
import type { Endpoint, Environment } from '../../src/engine/options.ts'
import type { Report } from '../../src/engine/report.ts'
import { silentLogger } from '../../src/sdk/logger.ts'
import type { Transform } from '../../src/sdk/transform.ts'
import type { ControlRequest, StateStore } from '../../src/state/store.ts'
import { openSqliteStore } from '../../src/state/sqlite.ts'
import { tableId } from '../../src/model/schema.ts'
import { lsnOf } from '../kit/lsn.ts'
import { until } from '../kit/until.ts'
import { namedSink, namedSource, namedStore } from './contracts.ts'
import { note, obeyOrders, type Orders } from './crash-points.ts'

/**
 * The process that dies: one life of a pipeline, from the first copy to its removal, with everything between that makes
 * something durable. Started again after its death it does what a person would do then, and comes to an end.
 */
export interface Task {
  readonly source: string
  readonly sink: string
  readonly folder: string
  readonly orders: Orders
  /** The phase in which an earlier process died; null: this is the first one. */
  readonly died: Phase | null
}

export type Phase = 'follow' | 'reset' | 'again' | 'remove' | 'anchor'

/** What is known at the end of a recovery. */
export interface Outcome {
  /** Tables that are followed and wholly copied. */
  readonly streaming: readonly string[]
  readonly deadLetters: number
}

const NAME = 'crash'
/** A pipeline of its own that copies nothing and follows from now on. */
const LATER = 'later'
const TABLES = ['orders', 'people', 'pairs', 'notes', 'poison', 'spare']
const CHUNK_BYTES = 65_536

class Scenario {
  readonly #task: Task
  readonly #raw: StateStore
  readonly #store: StateStore
  readonly #sql: pg.Client

  constructor(task: Task, store: StateStore, sql: pg.Client) {
    this.#task = task
    this.#raw = store
    this.#store = namedStore(store)
    this.#sql = sql
  }

  static async of(task: Task): Promise<Scenario> {
    const sql = new pg.Client(task.source)
    await sql.connect()
    return new Scenario(task, await openSqliteStore(`${task.folder}/state.db`), sql)
  }

  async close(): Promise<void> {
    await this.#store[Symbol.asyncDispose]()
    await this.#sql.end()
  }

  async live(): Promise<void> {
    await this.#follow()
    await this.#phase('reset', () => this.#manage(resetPipeline))
    await this.#phase('again', () => this.#sync({ until: 'caught-up' }))
    await this.#phase('remove', () => this.#manage(removePipeline))
    await this.#anchor()
  }

  /** What a person does who finds the process dead: the same once more. */
  async recover(died: Phase): Promise<Outcome> {
    const record = await this.#raw.find(NAME)
    if (died === 'anchor') {
      await this.#followLater(() => this.#toldToEnd())
      return this.#outcome(LATER)
    }
    if (died === 'reset') await this.#manage(resetPipeline)
    if (died === 'remove' && record !== null) await this.#manage(removePipeline)
    // A person who asked for a pause has to end it as well.
    else if (record?.desired === 'paused') await this.#raw.request(NAME, { kind: 'resume' })
    const rest: PipelineSettings = died === 'remove' ? { ifExists: 'truncate' } : {}
    await this.#during({ follow: true, ...rest }, async () => {
      await this.#settled()
      await this.#toldToEnd()
    })
    await this.#sync({ until: 'caught-up' })
    return this.#outcome(NAME)
  }

  async #follow(): Promise<void> {
    await this.#phase('follow', () =>
      this.#during({ follow: true }, async () => {
        await this.#settled()
        await this.#sql.query(`ALTER TABLE orders ADD COLUMN added text; UPDATE orders SET added = 'a' WHERE id < 3000`)
        await this.#passed()
        await this.#ask({ kind: 'pause' })
        await until('the pause', async () => (await this.#reported()).state === 'paused')
        await this.#ask({ kind: 'resume' })
        await this.#ask({ kind: 'resnapshot', tables: [tableId('public', 'people')] })
        await this.#ask({ kind: 'add-tables', tables: ['extra'] })
        await this.#ask({ kind: 'remove-tables', tables: [tableId('public', 'spare')] })
        await this.#settled()
        await this.#ask({ kind: 'repair', table: tableId('public', 'orders'), parts: [{ from: '1000', to: '2000' }] })
        await this.#settled()
        await this.#store.noteVerified(NAME, { at: 1, tables: 1, rows: 1, differing: 1 })
        await this.#sql.query('TRUNCATE pairs')
        await this.#passed()
      }),
    )
  }

  async #anchor(): Promise<void> {
    await this.#phase('anchor', () => this.#followLater(async () => {}))
  }

  /** No row is there before the pipeline is: it must have all. */
  async #followLater(then: () => Promise<void>): Promise<void> {
    const settings: PipelineSettings = { name: LATER, tables: ['later'], snapshot: 'never' }
    await this.#during({ ...settings, follow: true }, async () => {
      await this.#settled(LATER)
      await this.#sql.query('INSERT INTO later SELECT i FROM generate_series(1, 10) i ON CONFLICT DO NOTHING')
      await then()
    })
    await this.#sync({ ...settings, until: 'caught-up' })
  }

  async #phase(phase: Phase, work: () => Promise<unknown>): Promise<void> {
    note('phase', phase)
    await work()
  }

  async #sync(settings: PipelineSettings, drain = new AbortController().signal): Promise<Report> {
    const ends = await this.#ends()
    const options = await pipelineOptions(
      { name: NAME, tables: TABLES, workers: 2, onError: 'dead-letter', transform: poisoned, ...settings },
      ends,
      this.#task.folder,
    )
    const report = await runPipeline(options, await this.#environment(drain))
    if (!report.ok) throw new Error(`the run failed: ${JSON.stringify(report.problems)}`)
    return report
  }

  /** A run that is interrupted when the work is done; fails when it ends by itself. */
  async #during(settings: PipelineSettings, work: () => Promise<void>): Promise<void> {
    const drain = new AbortController()
    const run = this.#sync(settings, drain.signal)
    const early = run.then((report) => {
      if (!drain.signal.aborted) throw new Error(`the run ended by itself: ${JSON.stringify(report)}`)
    })
    await Promise.race([work().finally(() => drain.abort()), early])
    await run
  }

  async #manage(work: typeof resetPipeline): Promise<void> {
    await work({ name: NAME, ...(await this.#ends()), environment: await this.#environment(new AbortController().signal) })
  }

  async #ends(): Promise<{ source: Endpoint; sink: Endpoint }> {
    const source = await endpointFrom(this.#task.source, 'source')
    const sink = await endpointFrom(this.#task.sink, 'sink')
    const [reads, writes] = [source.connector.source, sink.connector.sink]
    if (reads === undefined || writes === undefined) throw new Error('a connector lacks a side')
    return {
      source: {
        ...source,
        config: { ...source.config, chunkBytes: CHUNK_BYTES },
        connector: { ...source.connector, source: { ...reads, open: async (...given) => namedSource(await reads.open(...given)) } },
      },
      sink: {
        ...sink,
        connector: { ...sink.connector, sink: { ...writes, open: async (...given) => namedSink(await writes.open(...given)) } },
      },
    }
  }

  #environment(drain: AbortSignal): Promise<Environment> {
    const { folder } = this.#task
    const rest = { logger: silentLogger, clock: Date.now, random: Math.random, drain, abort: new AbortController().signal }
    return environmentOn(this.#store, { file: `${folder}/state.db` }, folder, rest)
  }

  async #ask(request: ControlRequest): Promise<void> {
    await this.#store.request(NAME, request)
  }

  async #reported(): Promise<{ readonly state?: string }> {
    return JSON.parse((await this.#raw.find(NAME))?.report ?? '{}') as { state?: string }
  }

  /** Every table streams and nothing is asked any more. */
  async #settled(name = NAME): Promise<void> {
    await until('every table streaming', async () => {
      const tables = (await this.#raw.tables(name)).filter(({ state }) => state !== 'removed')
      return tables.length > 0 && tables.every(({ state }) => state === 'streaming') && (await this.#raw.pending(name)).length === 0
    })
  }

  /** What was committed up to now is in the target. */
  async #passed(): Promise<void> {
    const { rows } = await this.#sql.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn')
    const end = lsnOf(rows[0]?.lsn ?? null)
    await until('the position', async () => lsnOf((await this.#raw.find(NAME))?.position ?? null) >= end)
  }

  async #toldToEnd(): Promise<void> {
    process.stdout.write('streaming\n')
    await once(process.stdin, 'data')
    process.stdin.destroy()
    await delay(0)
  }

  async #outcome(name: string): Promise<Outcome> {
    const tables = await this.#raw.tables(name)
    return {
      streaming: tables.filter(({ state }) => state === 'streaming').map(({ target }) => target.name),
      deadLetters: await this.#raw.countDeadLetters(name),
    }
  }
}

const poisoned: Transform = (change) => {
  if (change.table.endsWith('poison')) throw new Error('poison')
  return change
}

const task = JSON.parse(process.argv[2] ?? '') as Task
obeyOrders(task.orders)
const scenario = await Scenario.of(task)
if (task.died === null) await scenario.live()
else process.stdout.write(`${JSON.stringify(await scenario.recover(task.died))}\n`)
await scenario.close()
