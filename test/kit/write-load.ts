import type pg from 'pg'
import { Random } from './random.ts'
import type { SourceDatabase } from './source-database.ts'

export interface WriteLoad extends AsyncDisposable {
  readonly transactions: number
  readonly changes: number
  /** Ends after the transaction under way; rejects with what made the writer fail. */
  stop(): Promise<void>
}

export interface LoadOptions {
  readonly seed: number
  /** Rows that `orders` had at the start. */
  readonly rows: number
  /** Upper bound, so that a slow machine's copy can keep up. */
  readonly transactionsPerSecond?: number
  /** Connection failures are waited out, for tests that restart the server. */
  readonly survives?: boolean
}

/** Changes all hard tables from this process, over a session of its own, until stopped. */
export async function startWriteLoad(source: SourceDatabase, options: LoadOptions): Promise<WriteLoad> {
  const writer = new Writer(await source.session(), options)
  const state = { stopped: false }
  const rate = options.transactionsPerSecond ?? 150
  const run = async (): Promise<void> => {
    const started = performance.now()
    for (let i = 0; !state.stopped; i++) {
      try {
        await writer.transaction()
      } catch (error) {
        if (options.survives !== true) throw error
        await reconnect(source, writer, () => state.stopped)
      }
      const ahead = (i * 1000) / rate - (performance.now() - started)
      if (ahead > 0) await new Promise((resolve) => setTimeout(resolve, ahead))
    }
  }
  const done = run()
  done.catch(() => undefined)
  const stop = async (): Promise<void> => {
    state.stopped = true
    await done
    await writer.client.end()
  }
  return {
    get transactions() {
      return writer.transactions
    },
    get changes() {
      return writer.changes
    },
    stop,
    [Symbol.asyncDispose]: () => stop().catch(() => undefined),
  }
}

async function reconnect(source: SourceDatabase, writer: Writer, gaveUp: () => boolean): Promise<void> {
  while (!gaveUp()) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    try {
      writer.client = await source.session()
      return
    } catch {
      // The server is still down.
    }
  }
}

/** One writer: transactions of 1 to 200 rows over all hard tables. */
export class Writer {
  client: pg.Client
  transactions = 0
  changes = 0
  readonly #random: Random
  readonly #rows: number
  #fresh: number

  constructor(client: pg.Client, { seed, rows }: LoadOptions) {
    this.client = client
    this.#random = new Random(seed)
    this.#rows = rows
    // Keys that no other seed uses, odd so that they lie between those of the start, in every chunk.
    this.#fresh = seed * 1_000_000
  }

  async transaction(): Promise<void> {
    await this.client.query('BEGIN')
    const parts = this.#random.between(1, 5)
    for (let part = 0; part < parts; part++) {
      if (this.#random.next() < 0.1) await this.#undone()
      else await this.#some()
    }
    await this.client.query(this.#random.next() < 0.05 ? 'ROLLBACK' : 'COMMIT')
    this.transactions++
  }

  async #undone(): Promise<void> {
    await this.client.query('SAVEPOINT undone')
    await this.#some()
    await this.#some()
    await this.client.query('ROLLBACK TO undone')
  }

  async #run(sql: string, values: unknown[] = []): Promise<void> {
    const { rowCount } = await this.client.query(sql, values)
    this.changes += rowCount ?? 0
  }

  #ids(most: number): number[] {
    return this.#random.numbers(this.#random.between(1, most), 1, this.#rows).map((i) => i * 10)
  }

  async #some(): Promise<void> {
    const dice = this.#random.next()
    if (dice < 0.2) return this.#insert()
    if (dice < 0.5) return this.#run(`UPDATE orders SET n = n + 1, label = coalesce(label, '') || '.' WHERE id = ANY ($1)`, [this.#ids(40)])
    if (dice < 0.55)
      return this.#run(`UPDATE orders SET body = rpad(md5(n::text), 3000, md5(id::text)), amount = amount + 0.000001 WHERE id = ANY ($1)`, [
        this.#ids(3),
      ])
    if (dice < 0.65) return this.#run('DELETE FROM orders WHERE id = ANY ($1)', [this.#ids(5)])
    if (dice < 0.75) return this.#move()
    if (dice < 0.8) return this.#swap()
    if (dice < 0.9) return this.#others()
    return this.#notes()
  }

  async #insert(): Promise<void> {
    const from = (this.#fresh += 50)
    const count = this.#random.between(1, 40)
    // Spread over all chunks: the step is prime to the span.
    await this.#run(
      `INSERT INTO orders SELECT ((i::bigint * 7919) % $3) * 10 + 5, i % 1000, 'new ' || i, i * 0.5, to_timestamp(i), NULL, true, '{"a": 1}', CASE WHEN i % 10 = 0 THEN rpad('b', 2500, md5(i::text)) END
       FROM generate_series($1::int, $2::int) i ON CONFLICT DO NOTHING`,
      [from, from + count, this.#rows],
    )
  }

  /** Rows with and without a body move to keys far away; what stood there goes first. */
  async #move(): Promise<void> {
    for (let i = this.#random.between(1, 5); i > 0; i--) {
      const [from = 0, to = 0] = this.#random.numbers(2, 1, Math.max(1, Math.floor(this.#rows / 100))).map((k) => k * 1000)
      if (from === to) continue
      if (this.#random.next() < 0.5) await this.#run('DELETE FROM orders WHERE id = $1', [to])
      await this.#run('UPDATE orders SET id = $2, n = n + 1 WHERE id = $1 AND NOT EXISTS (SELECT FROM orders WHERE id = $2)', [from, to])
      if (this.#random.next() < 0.3) await this.#run('UPDATE orders SET n = n + 1 WHERE id = $1', [to])
      if (this.#random.next() < 0.2)
        await this.#run('UPDATE orders SET id = $2 WHERE id = $1 AND NOT EXISTS (SELECT FROM orders WHERE id = $2)', [to, to + 3])
    }
  }

  async #swap(): Promise<void> {
    const [a = 0, b = 0] = this.#ids(2).concat(this.#ids(2))
    if (a === b) return
    await this.#run('UPDATE orders SET id = -$2::bigint WHERE id = $1', [a, a])
    await this.#run('UPDATE orders SET id = $2 WHERE id = $1', [b, a])
    await this.#run('UPDATE orders SET id = $2 WHERE id = -$1::bigint', [a, b])
  }

  async #others(): Promise<void> {
    const people = this.#random.numbers(5, 1, Math.ceil(this.#rows / 20))
    await this.#run('UPDATE people SET n = n + 1 WHERE id = ANY (SELECT md5(i::text)::uuid FROM unnest($1::int[]) i)', [people])
    if (this.#random.next() < 0.3) await this.#run('DELETE FROM people WHERE id = md5($1::text)::uuid', [people[0]])
    if (this.#random.next() < 0.3)
      await this.#run(`UPDATE people SET id = md5('x' || id)::uuid WHERE id = md5($1::text)::uuid`, [people[1]])
    const b = this.#random.between(1, Math.ceil(this.#rows / 40))
    await this.#run(`UPDATE pairs SET a = a + 100, n = n + 1 WHERE b = 'b' || $1::int`, [b])
    await this.#run(`INSERT INTO pairs VALUES ($1, 'c' || $2::int, 1) ON CONFLICT (a, b) DO UPDATE SET n = pairs.n + 1`, [
      this.#random.between(1, 50),
      b,
    ])
  }

  async #notes(): Promise<void> {
    const n = this.#random.between(0, 99)
    const dice = this.#random.next()
    if (dice < 0.4) return this.#run(`INSERT INTO notes SELECT $1, 'word ' || i % 3 FROM generate_series(1, 4) i`, [n])
    if (dice < 0.7) return this.#run(`UPDATE notes SET word = 'changed ' || n WHERE n = $1`, [n])
    return this.#run('DELETE FROM notes WHERE ctid = (SELECT min(ctid) FROM notes WHERE n = $1)', [n])
  }
}
