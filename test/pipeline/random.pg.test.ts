import assert from 'node:assert/strict'
import { assertSame, cases, openTarget, Pipeline, pipelineCase, useBench, type SourceDatabase } from './kit.ts'

const bench = useBench()

const RUNS = 2
const STEPS = 24
const SEED = Number(process.env['TAILRACE_SEED'] ?? Date.now() % 1_000_000)

/** mulberry32: small, and the same everywhere. */
function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

type ColumnKind = 'int' | 'bigint' | 'text'

/** A table that is changed at random, and what its columns are by now. */
class Shaker {
  readonly columns = new Map<string, ColumnKind>([
    ['a', 'int'],
    ['b', 'text'],
  ])
  readonly done: string[] = []
  readonly #random: () => number
  readonly #source: SourceDatabase
  #names = 0
  #ids = 10

  constructor(source: SourceDatabase, next: () => number) {
    this.#source = source
    this.#random = next
  }

  below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  #column(): string | null {
    return [...this.columns.keys()][this.below(this.columns.size)] ?? null
  }

  async step(): Promise<void> {
    const count = 1 + this.below(4)
    const statements = Array.from({ length: count }, () => (this.#random() < 0.35 ? this.#change() : this.#row()))
    const text = this.#random() < 0.5 ? `BEGIN; ${statements.join('; ')}; COMMIT` : statements.join('; ')
    this.done.push(text)
    await this.#source.run(text)
  }

  #row(): string {
    const id = this.below(this.#ids)
    const column = this.#column()
    switch (this.below(5)) {
      case 0:
      case 1:
        return this.#insert()
      case 2:
        return column === null ? this.#insert() : `UPDATE t SET ${column} = ${this.#value(column)} WHERE id % 5 = ${id % 5}`
      case 3:
        return `UPDATE t SET id = ${this.#ids++} WHERE id = ${id}`
      default:
        return `DELETE FROM t WHERE id = ${id}`
    }
  }

  #insert(): string {
    const names = [...this.columns.keys()].filter(() => this.#random() < 0.7)
    return `INSERT INTO t (${['id', ...names].join(', ')}) VALUES (${[this.#ids++, ...names.map((name) => this.#value(name))].join(', ')})`
  }

  #value(column: string): string {
    if (this.#random() < 0.2) return 'NULL'
    const number = this.below(1000)
    return this.columns.get(column) === 'text' ? `'text ${number}'` : String(number)
  }

  #change(): string {
    const column = this.#column()
    const fresh = `c${this.#names++}`
    if (column === null) return this.#add(fresh, 'int', '')
    const kind = this.columns.get(column) ?? 'int'
    switch (this.below(8)) {
      case 0:
        return this.#add(fresh, 'int', '')
      case 1:
        return this.#add(fresh, 'text', ` DEFAULT 'd ${fresh}'`)
      case 2:
        return this.#add(fresh, 'text', ' DEFAULT gen_random_uuid()')
      case 3:
        this.columns.delete(column)
        return `ALTER TABLE t DROP ${column}`
      case 4:
        this.columns.delete(column)
        this.columns.set(fresh, kind)
        return `ALTER TABLE t RENAME ${column} TO ${fresh}`
      case 5:
        return `ALTER TABLE t RENAME ${column} TO ${fresh}; ALTER TABLE t ADD ${column} ${kind}${this.#remember(fresh, kind)}`
      case 6:
        return `ALTER TABLE t DROP ${column}; ALTER TABLE t ADD ${column} ${kind}`
      default:
        return this.#retype(column, kind)
    }
  }

  #add(name: string, kind: ColumnKind, rest: string): string {
    this.columns.set(name, kind)
    return `ALTER TABLE t ADD ${name} ${kind}${rest}`
  }

  #remember(name: string, kind: ColumnKind): string {
    this.columns.set(name, kind)
    return ''
  }

  #retype(column: string, kind: ColumnKind): string {
    if (kind === 'text') return `ALTER TABLE t ALTER ${column} TYPE text USING ${column} || '!'`
    const to = kind === 'int' ? 'bigint' : 'text'
    this.columns.set(column, to)
    return `ALTER TABLE t ALTER ${column} DROP DEFAULT, ALTER ${column} TYPE ${to}`
  }
}

const ANY: readonly string[] = ['a', 'b', ...Array.from({ length: 200 }, (_, i) => `c${i}`)]

cases('CASE 32', () => {
  for (let run = 0; run < RUNS; run++) {
    const seed = SEED + run
    pipelineCase(
      bench,
      `CASE 32: random schema changes and rows give what a fresh copy gives (TAILRACE_SEED=${seed})`,
      { setup: `CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(1, 9) i` },
      async (world) => {
        const shaker = new Shaker(world.source, random(seed))
        let running = await world.follow()
        try {
          for (let step = 0; step < STEPS; step++) {
            await shaker.step()
            const what = shaker.below(8)
            if (what === 0) await running.caughtUp()
            if (what === 1) {
              assert.equal((await running.stop()).ok, true)
              running = await world.follow()
            }
          }
          // A change of shape is told by the next row.
          await world.source.run('INSERT INTO t (id) VALUES (9999)')
          await running.caughtUp()
          // What is read again comes back a moment later: equal in the end is what counts.
          await running.reaches(() => running.latest?.state === 'streaming', 'streaming')
          await running.caughtUp()
          await world.same(['t'], { mayKeep: ANY })
          await using fresh = await openTarget(world.target.name, bench())
          const report = await new Pipeline(world.source, fresh).run('copy')
          assert.equal(report.ok, true)
          await assertSame(world.source, fresh, ['t'])
          assert.equal((await running.stop()).ok, true)
        } catch (error) {
          throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}\n${shaker.done.join('\n')}`, {
            cause: error,
          })
        }
      },
    )
  }
})
