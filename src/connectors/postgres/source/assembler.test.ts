import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Op, type StreamBatch } from '../../../model/batch.ts'
import type { Position } from '../../../model/position.ts'
import type { TableId, TableSchema } from '../../../model/schema.ts'
import { seeded } from '../../../testing/sink-random-cases.ts'
import { Assembler } from './assembler.ts'

const EMPTY = Buffer.alloc(0)
const schemas = ['a', 'b', 'c'].map((id) => ({ id: id as TableId, columns: [], key: [] }) as unknown as TableSchema)

/** Rows as `table transaction number`, the number in the place of the row; the transaction by what the batch says of it. */
function rowsOf({ slices, transactions }: StreamBatch): { readonly text: string; readonly order: number }[] {
  return slices
    .flatMap((slice) =>
      Array.from({ length: slice.rows }, (_, row) => ({
        text: `${slice.schema.id} ${transactions[slice.transactions[row]!]?.id} ${slice.places[row * 2 + 1]}`,
        order: slice.order[row]!,
      })),
    )
    .toSorted((x, y) => x.order - y.order)
}

test('every row names its own transaction and comes in its place, wherever batches are cut (seeded)', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const next = seeded(seed)
    const below = (limit: number): number => Math.floor(next() * limit)
    const assembler = new Assembler()
    const given: string[] = []
    const taken: string[] = []
    const take = (full: boolean): void => {
      for (let batch = assembler.take(EMPTY, full); batch !== null; batch = assembler.take(EMPTY, full)) {
        const rows = rowsOf(batch)
        taken.push(...rows.map(({ text }) => text))
        assert.equal(new Set(rows.map(({ order }) => order)).size, rows.length)
        assert.ok(batch.position === null || batch.transactions.every(({ end }) => end !== null))
      }
    }
    for (let id = 1; id <= 20; id++) {
      assembler.begin({ id: String(id), position: `p${id}` as Position, committedAt: id })
      for (let n = below(6); n > 0; n--) {
        const schema = schemas[below(schemas.length)]!
        const { builder } = assembler.target(schema, new Int16Array(0))
        builder.begin(Op.insert, assembler.nextOrder(), assembler.transactionIndex, 0, given.length)
        given.push(`${schema.id} ${id} ${given.length}`)
        if (below(4) === 0) take(below(3) === 0)
        if (below(20) === 0) assembler.flush(EMPTY)
      }
      assembler.commit(`e${id}` as Position)
      if (below(3) === 0) take(false)
    }
    take(true)
    assert.deepEqual(taken, given, `seed ${seed}`)
  }
})
