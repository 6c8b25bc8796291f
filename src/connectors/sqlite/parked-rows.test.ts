import assert from 'node:assert/strict'
import { it } from 'node:test'
import { batchOf, insert, remove, schemaOf, sinkTable, update, type RowChange } from '../../testing/sink-batches.ts'
import { seeded } from '../../testing/sink-random-cases.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import { openSink, readRows } from './test-data/open-sink.ts'

const signal = new AbortController().signal
const TRANSACTIONS = 300
const KEYS = 8

const deferrable = schemaOf({
  name: 't',
  columns: [
    { name: 'a', type: { kind: 'int32' } },
    { name: 'b', type: { kind: 'string' } },
    { name: 'v', type: { kind: 'string' } },
  ],
  key: ['a', 'b'],
  identity: 'full',
})

type Row = [string, string, string | null]

/** A source whose key is checked at commit only: rows take new keys in any order, meeting each other on the way. */
class Source {
  rows: Row[] = []
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  #below(count: number): number {
    return Math.floor(this.#random() * count)
  }

  transaction(): RowChange[] {
    const changes: RowChange[] = []
    const free = Array.from({ length: KEYS }, (_, i) => i).sort(() => this.#random() - 0.5)
    if (this.rows.length > 2 && this.#random() < 0.5) changes.push(this.#remove(this.#below(this.rows.length)))
    if (this.rows.length < KEYS - 1) changes.push(this.#insert(free.pop() ?? 0))
    // Every row gets a key of its own by the end, whatever it meets before.
    for (const index of this.rows.keys()) if (this.#random() < 0.3) changes.push(this.#change(index))
    const order = [...this.rows.keys()].sort(() => this.#random() - 0.5)
    const keys = Array.from({ length: KEYS }, (_, i) => i).sort(() => this.#random() - 0.5)
    for (const index of order) changes.push(this.#move(index, keys[index]!))
    return changes
  }

  #key(n: number): [string, string] {
    return [String(n >> 1), n % 2 === 0 ? 'x' : '']
  }

  #insert(n: number): RowChange {
    const row: Row = [...this.#key(n), String(this.#below(1000))]
    this.rows.push(row)
    return insert(deferrable, [...row])
  }

  #remove(index: number): RowChange {
    const [row] = this.rows.splice(index, 1)
    return remove(deferrable, [...row!])
  }

  #change(index: number): RowChange {
    const old = this.rows[index]!
    this.rows[index] = [old[0], old[1], this.#random() < 0.2 ? null : String(this.#below(1000))]
    return update(deferrable, [...this.rows[index]], [...old])
  }

  #move(index: number, n: number): RowChange {
    const old = this.rows[index]!
    this.rows[index] = [...this.#key(n), old[2]]
    return update(deferrable, [...this.#key(n), undefined], [...old])
  }
}

for (const seed of [1, 2, 3]) {
  it(`TRAP 35: rows that meet at keys within transactions end where the source has them (seed ${seed})`, async () => {
    await using folder = await tempFolder()
    const path = folder.join('t.db')
    const random = seeded(seed)
    const source = new Source(random)
    await using sink = openSink(path)
    await sink.checkpoints.claim(signal)
    await sink.applySchema(sinkTable(deferrable), null, signal)
    for (let number = 1; number <= TRANSACTIONS; number++) {
      const changes = source.transaction()
      if (random() < 0.4)
        await sink.write(batchOf([{ number, changes: changes.splice(0, Math.floor(random() * changes.length)) }], true), signal)
      await sink.write(batchOf([{ number, changes }]), signal)
      const found = readRows(path, sinkTable(deferrable))
        .map((row) => JSON.stringify([row['a'], row['b'], row['v']]))
        .sort()
      assert.deepEqual(found, source.rows.map((row) => JSON.stringify(row)).sort(), `transaction ${number}`)
    }
  })
}
