import assert from 'node:assert/strict'
import { Random } from '../kit/random.ts'
import { assertSame, cases, openTarget, Pipeline, pipelineCase, useBench, type SourceDatabase } from './kit.ts'

const bench = useBench()

const RUNS = Number(process.env['TAILRACE_RUNS'] ?? 2)
const STEPS = 24
const SEED = Number(process.env['TAILRACE_SEED'] ?? 1)

type ColumnKind = 'int' | 'bigint' | 'text' | 'varchar(20)' | 'varchar(40)' | 'numeric(8,2)' | 'numeric(12,2)'

/** What a column may become without a value of it changing. */
const WIDER: Partial<Record<ColumnKind, ColumnKind>> = {
  int: 'bigint',
  bigint: 'text',
  'varchar(20)': 'varchar(40)',
  'varchar(40)': 'text',
  'numeric(8,2)': 'numeric(12,2)',
}
const KINDS: readonly ColumnKind[] = ['int', 'bigint', 'text', 'varchar(20)', 'numeric(8,2)']
const KEYS: readonly string[] = ['id', 'u', 'id, u', 'u, id']

/** A table that is changed at random, and what its columns are by now. */
class Shaker {
  readonly columns = new Map<string, ColumnKind>([
    ['a', 'int'],
    ['b', 'text'],
  ])
  readonly done: string[] = []
  name = 't'
  readonly #random: Random
  readonly #source: SourceDatabase
  #names = 0
  #ids = 10

  constructor(source: SourceDatabase, random: Random) {
    this.#source = source
    this.#random = random
  }

  below(count: number): number {
    return Math.floor(this.#random.next() * count)
  }

  #column(): string | null {
    return [...this.columns.keys()][this.below(this.columns.size)] ?? null
  }

  async step(): Promise<void> {
    const count = 1 + this.below(4)
    const statements = Array.from({ length: count }, () => (this.#random.next() < 0.35 ? this.#change() : this.#row()))
    const text = this.#random.next() < 0.5 ? `BEGIN; ${statements.join('; ')}; COMMIT` : statements.join('; ')
    this.done.push(text)
    await this.#source.run(text)
  }

  #row(): string {
    const id = this.below(this.#ids)
    const column = this.#column()
    switch (this.below(6)) {
      case 0:
      case 1:
        return this.#insert()
      case 2:
        return column === null ? this.#insert() : `UPDATE ${this.name} SET ${column} = ${this.#value(column)} WHERE id % 5 = ${id % 5}`
      case 3:
        return `UPDATE ${this.name} SET id = ${this.#ids++} WHERE id = ${id}`
      case 4:
        return `UPDATE ${this.name} SET u = ${-this.#ids++} WHERE id = ${id}`
      default:
        return `DELETE FROM ${this.name} WHERE id = ${id}`
    }
  }

  #insert(): string {
    const names = [...this.columns.keys()].filter(() => this.#random.next() < 0.7)
    const id = this.#ids++
    return `INSERT INTO ${this.name} (${['id', 'u', ...names].join(', ')}) VALUES (${[id, -id, ...names.map((name) => this.#value(name))].join(', ')})`
  }

  #value(column: string): string {
    if (this.#random.next() < 0.2) return 'NULL'
    const number = this.below(1000)
    return /text|varchar/.test(this.columns.get(column) ?? '') ? `'text ${number}'` : String(number)
  }

  #change(): string {
    const column = this.#column()
    const fresh = `c${this.#names++}`
    if (column === null) return this.#add(fresh, 'int', '')
    const kind = this.columns.get(column) ?? 'int'
    switch (this.below(10)) {
      case 0:
        return this.#add(fresh, KINDS[this.below(KINDS.length)]!, '')
      case 1:
        return this.#add(fresh, 'text', ` DEFAULT 'd ${fresh}'`)
      case 2:
        return this.#add(fresh, 'text', ' DEFAULT gen_random_uuid()')
      case 3:
        this.columns.delete(column)
        return `ALTER TABLE ${this.name} DROP ${column}`
      case 4:
        this.columns.delete(column)
        this.columns.set(fresh, kind)
        return `ALTER TABLE ${this.name} RENAME ${column} TO ${fresh}`
      case 5:
        return `ALTER TABLE ${this.name} RENAME ${column} TO ${fresh}; ALTER TABLE ${this.name} ADD ${column} ${kind}${this.#remember(fresh, kind)}`
      case 6:
        return `ALTER TABLE ${this.name} DROP ${column}; ALTER TABLE ${this.name} ADD ${column} ${kind}`
      case 7:
        return this.#retype(column, kind)
      case 8:
        return `ALTER TABLE ${this.name} DROP CONSTRAINT pk, ADD CONSTRAINT pk PRIMARY KEY (${KEYS[this.below(KEYS.length)]})`
      default:
        return this.#rename(`t${this.#names++}`)
    }
  }

  #rename(name: string): string {
    const before = this.name
    this.name = name
    return `ALTER TABLE ${before} RENAME TO ${name}`
  }

  #add(name: string, kind: ColumnKind, rest: string): string {
    this.columns.set(name, kind)
    return `ALTER TABLE ${this.name} ADD ${name} ${kind}${rest}`
  }

  #remember(name: string, kind: ColumnKind): string {
    this.columns.set(name, kind)
    return ''
  }

  #retype(column: string, kind: ColumnKind): string {
    if (kind === 'text') return `ALTER TABLE ${this.name} ALTER ${column} TYPE text USING ${column} || '!'`
    const to = WIDER[kind]
    if (to === undefined) return `ALTER TABLE ${this.name} ALTER ${column} DROP DEFAULT`
    this.columns.set(column, to)
    return `ALTER TABLE ${this.name} ALTER ${column} DROP DEFAULT, ALTER ${column} TYPE ${to}`
  }
}

const ANY: readonly string[] = ['a', 'b', ...Array.from({ length: 200 }, (_, i) => `c${i}`)]

cases('CASE 32', () => {
  for (let run = 0; run < RUNS; run++) {
    const seed = SEED + run
    pipelineCase(
      bench,
      `CASE 32: random schema changes and rows give what a fresh copy gives (TAILRACE_SEED=${seed})`,
      {
        setup: `CREATE TABLE t (id int NOT NULL, u int NOT NULL, a int, b text, CONSTRAINT pk PRIMARY KEY (id)); INSERT INTO t SELECT i, -i, i, 'row ' || i FROM generate_series(1, 9) i`,
      },
      async (world) => {
        const shaker = new Shaker(world.source, new Random(seed))
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
          await world.source.run(`INSERT INTO ${shaker.name} (id, u) VALUES (9999, 9999)`)
          await running.caughtUp()
          // What is read again comes back a moment later: equal in the end is what counts.
          await running.reaches(() => running.latest?.state === 'streaming', 'streaming')
          await running.caughtUp()
          await world.same([shaker.name], { mayKeep: ANY, as: 't' })
          await using fresh = await openTarget(world.target.name, bench())
          const report = await new Pipeline(world.source, fresh).run('copy')
          assert.equal(report.ok, true)
          await assertSame(world.source, fresh, [shaker.name])
          const [followed, copied] = [await world.target.types?.('public', 't'), await fresh.types?.('public', shaker.name)]
          assert.deepEqual({ ...followed, ...copied }, followed ?? {}, 'columns are what they are in a fresh copy')
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
