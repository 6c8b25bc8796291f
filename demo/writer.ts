/**
 * Changes the source while it is being copied: a process of its own, so that it takes no time from anything else. Started
 * with a URI, seconds and a seed; ends its last transaction on the message `stop`, answers with what it did, and exits.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { TABLES, type DemoTable } from './tables.ts'
import { deletion, insertion, keyChange, move, update, type Keys, type Statement } from './writer-statements.ts'

/** Above the 2,000 that are promised, so that pauses of the machine do not matter. */
const CHANGES_PER_SECOND = 3000

export interface TableChanges {
  inserts: number
  updates: number
  deletes: number
  truncates: number
}

export interface WriterReport {
  readonly seconds: number
  readonly changes: number
  readonly transactions: number
  readonly rolledBack: number
  readonly savepointsRolledBack: number
  readonly largestTransaction: number
  readonly keySwaps: number
  readonly tables: Readonly<Record<string, TableChanges>>
}

/** A change of a whole table, that happens once. */
interface Event {
  readonly at: number
  readonly happen: () => Promise<void>
}

const RETRY_SECONDS = 0.5
const LOCK_NOT_AVAILABLE = '55P03'

type ChangeKind = keyof TableChanges

/** A small generator with a seed, so that a run can be had again. */
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const noChanges = (): TableChanges => ({ inserts: 0, updates: 0, deletes: 0, truncates: 0 })

class Writer {
  readonly #client: pg.Client
  readonly #random: () => number
  readonly #keys = new Map<string, string[][]>()
  readonly #updates = new Map(TABLES.map((table) => [table.name, [...table.updates]]))
  readonly #totalWeight = TABLES.reduce((sum, table) => sum + table.weight, 0)
  readonly #done = new Map(TABLES.map((table) => [table.name, noChanges()]))
  #open: [table: string, kind: ChangeKind, rows: number][] = []
  #newKeys: [table: string, key: string[]][] = []
  #counter = 0
  #changes = 0
  #transactions = 0
  #rolledBack = 0
  #savepoints = 0
  #largest = 0
  #swaps = 0

  constructor(client: pg.Client, seed: number) {
    this.#client = client
    this.#random = randomNumbers(seed)
  }

  async readKeys(): Promise<void> {
    for (const table of TABLES) {
      const columns = table.key.map((name) => `${name}::text`).join(', ')
      // Flights are many and numbered without gaps: a sample does for the rest of what is drawn.
      const sample = table.name === 'flights' ? 'WHERE id <= 1000' : ''
      const { rows } = await this.#client.query<string[]>({ text: `SELECT ${columns} FROM ${table.name} ${sample}`, rowMode: 'array' })
      this.#keys.set(table.name, rows)
    }
  }

  /** Changes things for so long, or until the signal; truncates a table and adds a column on the way. */
  async run(seconds: number, signal: AbortSignal): Promise<WriterReport> {
    const started = performance.now()
    const elapsed = (): number => (performance.now() - started) / 1000
    const events: Event[] = [
      { at: 0.4 * seconds, happen: () => this.#truncate() },
      { at: 0.6 * seconds, happen: () => this.#addColumn() },
    ]
    while (!signal.aborted) {
      if (events[0] !== undefined && elapsed() > events[0].at) await this.#tryFirst(events, elapsed() + RETRY_SECONDS)
      else await this.#transaction()
      const ahead = this.#changes / CHANGES_PER_SECOND - elapsed()
      if (ahead > 0.01) await sleep(ahead * 1000, undefined, { signal }).catch(() => undefined)
    }
    for (const event of events) await event.happen()
    return this.#report(elapsed())
  }

  /** As careful people change a table that is in use: rather later than make everybody wait behind the lock. */
  async #tryFirst(events: Event[], again: number): Promise<void> {
    await this.#client.query(`SET lock_timeout = '200ms'`)
    try {
      await events[0]?.happen()
      events.shift()
    } catch (error) {
      if (!(error instanceof pg.DatabaseError) || error.code !== LOCK_NOT_AVAILABLE) throw error
      await this.#client.query('ROLLBACK')
      this.#forget()
      if (events[0] !== undefined) events[0] = { ...events[0], at: again }
    }
    await this.#client.query('SET lock_timeout = 0')
  }

  #report(seconds: number): WriterReport {
    return {
      seconds,
      changes: this.#changes,
      transactions: this.#transactions,
      rolledBack: this.#rolledBack,
      savepointsRolledBack: this.#savepoints,
      largestTransaction: this.#largest,
      keySwaps: this.#swaps,
      tables: Object.fromEntries(this.#done),
    }
  }

  // ---- transactions ----

  async #transaction(): Promise<void> {
    await this.#client.query('BEGIN')
    const dice = this.#random()
    const size = dice < 0.7 ? this.#upTo(10) : dice < 0.95 ? this.#upTo(100) : this.#upTo(1000)
    const undone = this.#random() < 0.06 ? this.#upTo(size) : 0
    for (let rows = 0; rows < size;) {
      const part = Math.min(size - rows, size <= 10 ? 1 : this.#upTo(Math.ceil(size / 3)))
      await this.#changeSome(part)
      rows += part
      if (undone > 0 && rows >= undone && rows - part < undone) await this.#undoSome()
    }
    await (this.#random() < 0.03 ? this.#rollback() : this.#commit())
  }

  async #commit(): Promise<void> {
    await this.#client.query('COMMIT')
    let rows = 0
    for (const [table, kind, count] of this.#open) {
      const changes = this.#done.get(table)
      if (changes !== undefined) changes[kind] += count
      rows += count
    }
    for (const [table, key] of this.#newKeys) this.#keys.get(table)?.push(key)
    this.#changes += rows
    this.#largest = Math.max(this.#largest, rows)
    this.#transactions++
    this.#forget()
  }

  async #rollback(): Promise<void> {
    await this.#client.query('ROLLBACK')
    this.#rolledBack++
    this.#forget()
  }

  #forget(): void {
    this.#open = []
    this.#newKeys = []
  }

  /** Changes inside of a savepoint that is rolled back: they must never be seen. */
  async #undoSome(): Promise<void> {
    const open = this.#open.length
    const newKeys = this.#newKeys.length
    await this.#client.query('SAVEPOINT undone')
    for (let i = this.#upTo(3); i > 0; i--) await this.#changeSome(this.#upTo(20))
    await this.#client.query('ROLLBACK TO undone')
    this.#open.length = open
    this.#newKeys.length = newKeys
    this.#savepoints++
  }

  // ---- changes ----

  async #changeSome(rows: number): Promise<void> {
    const table = this.#anyTable()
    const keys = this.#someKeys(table, rows)
    const dice = this.#random()
    if (dice < 0.15) await this.#execute(table, 'inserts', insertion(table, keys, this.#numbers(rows)))
    else if (dice < 0.25) await this.#execute(table, 'deletes', deletion(table, keys))
    else if (dice < 0.32) await this.#execute(table, 'updates', keyChange(table, keys, this.#numbers(rows)))
    else if (dice < 0.35 && table.key.length === 1) await this.#swapKeys(table)
    else await this.#execute(table, 'updates', update(table, keys, this.#oneOf(this.#updates.get(table.name) ?? table.updates)))
  }

  async #execute(table: DemoTable, kind: ChangeKind, statement: Statement): Promise<string[][]> {
    const result = await this.#client.query<string[]>({ ...statement, rowMode: 'array' })
    this.#open.push([table.name, kind, result.rowCount ?? 0])
    for (const key of result.rows) this.#newKeys.push([table.name, key])
    return result.rows
  }

  /** a → free key, b → a, free key → b. */
  async #swapKeys(table: DemoTable): Promise<void> {
    const [a = [], b = []] = this.#someKeys(table, 2)
    const [free] = await this.#execute(table, 'updates', keyChange(table, [a], this.#numbers(1)))
    if (free === undefined || a[0] === b[0]) return
    await this.#execute(table, 'updates', move(table, b, a))
    await this.#execute(table, 'updates', move(table, free, b))
    this.#swaps++
  }

  async #truncate(): Promise<void> {
    const table = 'disasters'
    const { rows } = await this.#client.query<{ all: string }>(`SELECT json_agg(t) AS all FROM ${table} t`)
    await this.#client.query('BEGIN')
    await this.#client.query(`INSERT INTO ${table} SELECT 2900 + i, 'about to vanish', i FROM generate_series(1, 9) AS s(i)`)
    await this.#client.query(`TRUNCATE ${table}`)
    const text = `INSERT INTO ${table} SELECT * FROM json_populate_recordset(NULL::${table}, $1)`
    const again = await this.#client.query(text, [JSON.stringify(rows[0]?.all)])
    this.#open.push([table, 'inserts', 9], [table, 'truncates', 1], [table, 'inserts', again.rowCount ?? 0])
    await this.#commit()
  }

  async #addColumn(): Promise<void> {
    const table = TABLES.find(({ name }) => name === 'airports')
    if (table === undefined) return
    await this.#client.query('BEGIN')
    await this.#client.query('ALTER TABLE airports ADD COLUMN elevation integer')
    await this.#execute(table, 'updates', update(table, this.#someKeys(table, 50), 'elevation = 100'))
    await this.#commit()
    this.#updates.get('airports')?.push('elevation = coalesce(elevation, 0) + 1', 'elevation = NULL')
  }

  // ---- what is drawn ----

  #upTo(limit: number): number {
    return 1 + Math.floor(this.#random() * limit)
  }

  #oneOf<T>(list: readonly T[]): T {
    const item = list[Math.floor(this.#random() * list.length)]
    if (item === undefined) throw new Error('There is nothing to draw from.')
    return item
  }

  #anyTable(): DemoTable {
    let left = this.#random() * this.#totalWeight
    return TABLES.find((table) => (left -= table.weight) < 0) ?? this.#oneOf(TABLES)
  }

  #someKeys(table: DemoTable, count: number): Keys {
    const known = this.#keys.get(table.name) ?? []
    const isFlights = table.name === 'flights'
    return Array.from({ length: count }, () => (isFlights && this.#random() < 0.9 ? [String(this.#upTo(3_000_000))] : this.#oneOf(known)))
  }

  /** The first of so many numbers that were never used. */
  #numbers(count: number): number {
    this.#counter += count
    return this.#counter - count
  }
}

async function main([uri = '', seconds = '20', seed = '1']: readonly string[]): Promise<void> {
  const stop = new AbortController()
  process.on('message', () => stop.abort())
  // Whoever started us is gone: nobody wants the changes any more.
  process.on('disconnect', () => process.exit(1))
  process.on('SIGINT', () => undefined)
  const client = new pg.Client({ connectionString: uri, application_name: 'demo writer' })
  await client.connect()
  await client.query('SET enable_seqscan = off')
  const writer = new Writer(client, Number(seed))
  await writer.readKeys()
  const report = await writer.run(Number(seconds), stop.signal)
  await client.end()
  process.removeAllListeners('disconnect')
  process.send?.(report, () => process.disconnect())
}

await main(process.argv.slice(2))
