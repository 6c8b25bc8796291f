import { batchOf, insert, remove, schemaOf, update, type Image, type RowChange } from './sink-batches.ts'
import type { SinkBench, SinkCase, TargetRow } from './sink-bench.ts'
import type { TableSchema } from '../model/schema.ts'

/** Random transactions against a plain map: what the target must hold is what a person would expect (seeded). */

const CHANGES = 5_000
const CHECKS = 8
const KEYS = 60

const people = schemaOf({
  name: 'people',
  columns: [
    { name: 'id', type: { kind: 'int64' } },
    { name: 'name', type: { kind: 'string' } },
    { name: 'big', type: { kind: 'string' } },
  ],
  key: ['id'],
})
/** Full old images, a key of two columns, one of them text. */
const places = schemaOf({
  name: 'places',
  columns: [
    { name: 'big', type: { kind: 'string' } },
    { name: 'zip', type: { kind: 'string' } },
    { name: 'no', type: { kind: 'int32' } },
  ],
  key: ['zip', 'no'],
  identity: 'full',
})
const heap = schemaOf({
  name: 'heap',
  columns: [
    { name: 'a', type: { kind: 'int32' } },
    { name: 'b', type: { kind: 'string' } },
  ],
})

type Random = () => number

/** mulberry32: small, fast, the same everywhere. */
export function seeded(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

type Row = readonly (string | null)[]

/** The truth of one table. */
class Model {
  readonly schema: TableSchema
  readonly rows: Row[] = []
  readonly #random: Random
  readonly #key: (random: Random) => string[]

  constructor(schema: TableSchema, random: Random, key: (random: Random) => string[]) {
    this.schema = schema
    this.#random = random
    this.#key = key
  }

  target(): TargetRow[] {
    return this.rows.map((row) => Object.fromEntries(this.schema.columns.map((column, index) => [column.name, row[index] ?? null])))
  }

  /** One random change, done to the truth and given as the source would send it. */
  change(): RowChange {
    const choice = this.#random()
    const at = Math.floor(this.#random() * this.rows.length)
    const old = this.rows[at]
    if (old === undefined || choice < 0.3) return this.#insert()
    if (choice < 0.5) {
      this.rows.splice(at, 1)
      return remove(this.schema, old)
    }
    return this.#update(old, at, choice > 0.8)
  }

  #insert(): RowChange {
    const row = this.schema.columns.map((): string | null => this.#value())
    this.#setKey(row)
    const there = this.#indexOf(row)
    if (there >= 0) {
      const [old] = this.rows.splice(there, 1)
      return remove(this.schema, old!)
    }
    this.rows.push(row)
    return insert(this.schema, row)
  }

  #update(old: Row, at: number, move: boolean): RowChange {
    const changed = old.map((value, index) => (this.schema.key.includes(index) || this.#random() < 0.4 ? value : this.#value()))
    const sent: Image = changed.map((value, index) => (value === old[index] && this.#mayBeUnchanged(index) ? undefined : value))
    if (!move) return this.#put(old, at, changed, sent)
    const moved = [...changed]
    this.#setKey(moved)
    if (this.#indexOf(moved) >= 0) return this.#put(old, at, changed, sent)
    return this.#put(
      old,
      at,
      moved,
      moved.map((value, index) => (this.schema.key.includes(index) ? value : sent[index])),
    )
  }

  #put(old: Row, at: number, row: Row, sent: Image): RowChange {
    this.rows[at] = row
    const moved = this.schema.key.some((index) => old[index] !== row[index])
    return update(this.schema, sent, moved || this.schema.identity === 'full' ? old : undefined)
  }

  /** Key columns are always sent, and so is all of a table that is matched by its whole rows. */
  #mayBeUnchanged(index: number): boolean {
    return this.schema.key.length > 0 && !this.schema.key.includes(index) && this.#random() < 0.7
  }

  #setKey(row: (string | null)[]): void {
    const key = this.#key(this.#random)
    this.schema.key.forEach((index, n) => {
      row[index] = key[n] ?? ''
    })
  }

  #indexOf(row: Row): number {
    const { key } = this.schema
    return key.length === 0 ? -1 : this.rows.findIndex((other) => key.every((index) => other[index] === row[index]))
  }

  #value(): string | null {
    const choice = Math.floor(this.#random() * 50)
    return choice < 5 ? null : String(choice)
  }
}

async function runRandom(bench: SinkBench, seed: number): Promise<void> {
  const random = seeded(seed)
  const models = [
    new Model(people, random, (next) => [String(Math.floor(next() * KEYS))]),
    new Model(places, random, (next) => [['', 'a', 'B', "o'"][Math.floor(next() * 4)]!, String(Math.floor(next() * 15))]),
    new Model(heap, random, () => []),
  ]
  await bench.start(people, places, heap)
  for (let check = 1; check <= CHECKS; check++) {
    await writeSome(bench, models, random, CHANGES / CHECKS)
    for (const model of models)
      await bench.expect(model.schema, model.target(), `seed ${seed}, ${model.schema.name}, check ${check} of ${CHECKS}`)
  }
}

/** Transactions of 1 to 40 changes, several in a batch; sometimes the last one is cut by the end of the batch. */
async function writeSome(bench: SinkBench, models: readonly Model[], random: Random, count: number): Promise<void> {
  for (let written = 0; written < count;) {
    const transactions = Array.from({ length: 1 + Math.floor(random() * 8) }, () => {
      const changes = Array.from({ length: 1 + Math.floor(random() ** 3 * 40) }, () =>
        models[Math.floor(random() * models.length)]!.change(),
      )
      return { number: bench.next(), changes }
    })
    written += transactions.reduce((sum, { changes }) => sum + changes.length, 0)
    if (random() < 0.7) await bench.write(batchOf(transactions))
    else await writeCut(bench, transactions, random)
  }
}

async function writeCut(
  bench: SinkBench,
  transactions: readonly { number: number; changes: RowChange[] }[],
  random: Random,
): Promise<void> {
  const last = transactions.at(-1)!
  const cut = Math.floor(random() * (last.changes.length + 1))
  const head = [...transactions.slice(0, -1), { number: last.number, changes: last.changes.slice(0, cut) }]
  await bench.write(batchOf(head, true))
  if (cut === last.changes.length) await bench.idle(last.number)
  else await bench.write(batchOf([{ number: last.number, changes: last.changes.slice(cut) }]))
}

export const randomCases: readonly SinkCase[] = [1, 2].map((seed) => ({
  title: `${CHANGES} random changes give what a plain map gives (seed ${seed})`,
  run: (bench) => runRandom(bench, seed),
}))
