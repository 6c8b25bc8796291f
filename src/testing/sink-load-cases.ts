import assert from 'node:assert/strict'
import { Op, type SnapshotFrame } from '../model/batch.ts'
import type { TableSchema } from '../model/schema.ts'
import { textRowsToSlice } from '../model/slice-builder.ts'
import type { Loader } from '../sdk/sink.ts'
import type { Chunk } from '../sdk/source.ts'
import { at, insert, remove, schemaOf, update, type Image } from './sink-batches.ts'
import type { SinkBench, SinkCase } from './sink-bench.ts'

const items = schemaOf({
  name: 'items',
  columns: [
    { name: 'id', type: { kind: 'int64' } },
    { name: 'sku', type: { kind: 'string' } },
    { name: 'price', type: { kind: 'decimal', precision: 12, scale: 2 } },
  ],
  key: ['id'],
})
const keyless = schemaOf({
  name: 'heap',
  columns: [
    { name: 'a', type: { kind: 'int32' } },
    { name: 'b', type: { kind: 'string' } },
  ],
})
const item = (id: string, sku: string | null, price: string | null): Record<string, string | null> => ({ id, sku, price })

function keyRange(id: number, from: string | null, to: string | null): Chunk {
  return { id, range: { kind: 'key', column: 'id', from, to }, rows: -1, bytes: -1 }
}

const whole: Chunk = { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 }

export function framesOf(schema: TableSchema, ...frames: readonly (readonly Image[])[]): SnapshotFrame[] {
  return frames.map((rows) => {
    const slice = textRowsToSlice(
      schema,
      rows.map((after) => ({ op: Op.read, after })),
    )
    return { format: 'rows', slice, rows: slice.rows, bytes: slice.bytes.length }
  })
}

function begin(bench: SinkBench, schema: TableSchema, chunk: Chunk, replace = false): Promise<Loader> {
  return bench.sink.load({ table: bench.table(schema), chunk, format: 'rows', replace }, bench.signal)
}

/** Loads a chunk; each frame's bytes are wiped once its `write` has resolved, as a reader that reuses them would. */
export async function load(
  bench: SinkBench,
  schema: TableSchema,
  chunk: Chunk,
  frames: readonly SnapshotFrame[],
  replace = false,
): Promise<number> {
  await using loader = await begin(bench, schema, chunk, replace)
  for (const frame of frames) {
    await loader.write(frame)
    if (frame.format === 'rows') frame.slice.bytes.fill(0x23)
  }
  return (await loader.finish()).rows
}

export const loadCases: readonly SinkCase[] = [
  {
    title: 'a chunk is loaded in frames, counted, and changed by the stream',
    async run(bench) {
      await bench.start(items)
      const rows = await load(
        bench,
        items,
        whole,
        framesOf(
          items,
          [
            ['1', 'a', '1.50'],
            ['2', '', null],
          ],
          [],
          [['3', null, '-0.01']],
        ),
      )
      assert.equal(rows, 3)
      await bench.expect(items, [item('1', 'a', '1.50'), item('2', '', null), item('3', null, '-0.01')])
      if (bench.sink.checkpoints !== undefined) await bench.expectPosition(at(0))
      await bench.commit(
        update(items, ['1', undefined, '9.99']),
        remove(items, ['2', null, null]),
        update(items, ['4', undefined, undefined], ['3', null, null]),
        insert(items, ['5', 'e', null]),
      )
      await bench.expect(items, [item('1', 'a', '9.99'), item('4', null, '-0.01'), item('5', 'e', null)])
    },
  },
  {
    title: 'a chunk without rows is loaded too',
    async run(bench) {
      await bench.start(items)
      assert.equal(await load(bench, items, whole, []), 0)
      assert.equal(await load(bench, items, whole, framesOf(items, [])), 0)
      await bench.expect(items, [])
    },
  },
  {
    title: 'a chunk that is given up before finish leaves nothing',
    unfit: ({ commit }) => (commit === 'none' ? 'it promises nothing' : null),
    async run(bench) {
      await bench.start(items)
      await load(bench, items, keyRange(0, null, '10'), framesOf(items, [['1', 'a', null]]))
      {
        await using loader = await begin(bench, items, keyRange(1, '10', null))
        for (const frame of framesOf(items, [['11', 'b', null]], [['12', 'c', null]])) await loader.write(frame)
      }
      {
        await using loader = await begin(bench, items, keyRange(0, null, '10'), true)
        for (const frame of framesOf(items, [['2', 'b', null]])) await loader.write(frame)
      }
      await bench.expect(items, [item('1', 'a', null)])
    },
  },
  {
    title: 'replace empties the key range of the chunk and nothing else (TRAPS 4a)',
    async run(bench) {
      await bench.start(items)
      const before: Image[] = ['-5', '0', '9', '10', '11', '19', '20', '100', '9007199254740993'].map((id) => [id, 'old', null])
      await load(bench, items, whole, framesOf(items, before))
      await load(
        bench,
        items,
        keyRange(1, '10', '20'),
        framesOf(items, [
          ['10', 'new', null],
          ['15', 'new', null],
        ]),
        true,
      )
      await bench.expect(
        items,
        ['-5', '0', '9', '20', '100', '9007199254740993']
          .map((id) => item(id, 'old', null))
          .concat(['10', '15'].map((id) => item(id, 'new', null))),
      )
      await load(bench, items, keyRange(2, '20', null), framesOf(items, [['21', 'new', null]]), true)
      await load(bench, items, keyRange(0, null, '10'), [], true)
      await bench.expect(
        items,
        ['10', '15', '21'].map((id) => item(id, 'new', null)),
      )
    },
  },
  {
    title: 'replace of a whole table empties it (TRAPS 3)',
    async run(bench) {
      await bench.start(keyless)
      await load(
        bench,
        keyless,
        whole,
        framesOf(keyless, [
          ['1', 'x'],
          ['1', 'x'],
        ]),
      )
      await load(
        bench,
        keyless,
        whole,
        framesOf(keyless, [
          ['2', null],
          ['2', null],
          ['2', null],
        ]),
        true,
      )
      await bench.expect(keyless, [
        { a: '2', b: null },
        { a: '2', b: null },
        { a: '2', b: null },
      ])
    },
  },
  {
    title: 'chunks are loaded at the same time',
    unfit: ({ parallelLoads }) => (parallelLoads > 1 ? null : 'it loads one chunk at a time'),
    async run(bench) {
      await bench.start(items)
      await using low = await begin(bench, items, keyRange(0, null, '10'))
      await using high = await begin(bench, items, keyRange(1, '10', null))
      for (const frame of framesOf(items, [['11', 'b', null]])) await high.write(frame)
      for (const frame of framesOf(items, [['1', 'a', null]])) await low.write(frame)
      await Promise.all([low.finish(), high.finish()])
      await bench.expect(items, [item('1', 'a', null), item('11', 'b', null)])
    },
  },
  {
    title: 'chunks and stream batches take turns, and a chunk leaves the position alone',
    unfit: ({ commit }) => (commit === 'transactional' ? null : `commit is ${commit}`),
    async run(bench) {
      await bench.start(items, keyless)
      {
        await using loader = await begin(bench, items, whole)
        for (const frame of framesOf(items, [['1', 'a', null]])) await loader.write(frame)
        await loader.finish()
      }
      await bench.commit(insert(keyless, ['1', null]))
      await load(bench, items, keyRange(1, '10', null), framesOf(items, [['11', 'b', null]]))
      await bench.expect(items, [item('1', 'a', null), item('11', 'b', null)])
      await bench.expectPosition(at(1))
    },
  },
]
