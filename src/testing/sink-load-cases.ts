import assert from 'node:assert/strict'
import { Op, type SnapshotFrame } from '../model/batch.ts'
import type { TableSchema } from '../model/schema.ts'
import { textRowsToSlice } from '../model/slice-builder.ts'
import type { Loader, LoadRequest, SinkCapabilities } from '../sdk/sink.ts'
import { DELETED_COLUMN } from '../sdk/soft-delete.ts'
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

/** Rows of the table without a key, in one frame. */
function heap(...rows: readonly Image[]): SnapshotFrame[] {
  return framesOf(keyless, rows)
}

/** What becomes of rows that stand in the target already. */
type Existing = Partial<Pick<LoadRequest, 'replace' | 'merge'>>

function begin(bench: SinkBench, schema: TableSchema, chunk: Chunk, { replace = false, merge = false }: Existing = {}): Promise<Loader> {
  return bench.sink.load({ table: bench.table(schema), chunk, format: 'rows', replace, merge }, bench.signal)
}

/** Loads a chunk; each frame's bytes are wiped once its `write` has resolved, as a reader that reuses them would. */
export async function load(
  bench: SinkBench,
  schema: TableSchema,
  chunk: Chunk,
  frames: readonly SnapshotFrame[],
  existing: Existing = {},
): Promise<number> {
  await using loader = await begin(bench, schema, chunk, existing)
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
        await using loader = await begin(bench, items, keyRange(0, null, '10'), { replace: true })
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
        { replace: true },
      )
      await bench.expect(
        items,
        ['-5', '0', '9', '20', '100', '9007199254740993']
          .map((id) => item(id, 'old', null))
          .concat(['10', '15'].map((id) => item(id, 'new', null))),
      )
      await load(bench, items, keyRange(2, '20', null), framesOf(items, [['21', 'new', null]]), { replace: true })
      await load(bench, items, keyRange(0, null, '10'), [], { replace: true })
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
      await load(bench, keyless, whole, heap(['1', 'x'], ['1', 'x']))
      await load(bench, keyless, whole, heap(['2', null], ['2', null], ['2', null]), { replace: true })
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
  {
    title: 'merge: a row that comes takes the place of the one at its key, all others stay',
    async run(bench) {
      await bench.start(items)
      const before: Image[] = ['1', '2', '3', '11'].map((id) => [id, 'old', '1.00'])
      await load(bench, items, whole, framesOf(items, before))
      const rows = await load(bench, items, keyRange(0, null, '10'), framesOf(items, [['2', 'new', null]], [['4', 'new', '2.00']]), {
        merge: true,
      })
      assert.equal(rows, 2)
      assert.equal(await load(bench, items, keyRange(1, '10', null), [], { merge: true }), 0)
      await bench.expect(items, [
        item('1', 'old', '1.00'),
        item('2', 'new', null),
        item('3', 'old', '1.00'),
        item('4', 'new', '2.00'),
        item('11', 'old', '1.00'),
      ])
    },
  },
  {
    title: 'soft deletes: emptied softly, rows stay marked until they come again',
    deletes: 'soft',
    unfit: onlySoft,
    async run(bench) {
      await bench.start(items, keyless)
      await load(
        bench,
        items,
        whole,
        framesOf(
          items,
          ['1', '2', '3', '11', '12'].map((id): Image => [id, 'old', null]),
        ),
      )
      await bench.commit(remove(items, ['1', null, null]))
      await bench.sink.clear(bench.table(items), bench.signal, { softly: true })
      assert.deepEqual(await marks(bench, items), ['1,old,true', '11,old,true', '12,old,true', '2,old,true', '3,old,true'])
      const again = [
        keyRange(0, null, '10'),
        framesOf(items, [
          ['2', 'new', null],
          ['3', 'new', null],
        ]),
      ] as const
      await load(bench, items, ...again, { merge: true })
      await load(bench, items, keyRange(1, '10', null), framesOf(items, [['12', 'new', null]]), { merge: true })
      assert.deepEqual(await marks(bench, items), ['1,old,true', '11,old,true', '12,new,false', '2,new,false', '3,new,false'])
      await load(bench, items, keyRange(0, null, '10'), framesOf(items, [['3', 'newer', null]]), { merge: true, replace: true })
      assert.deepEqual(await marks(bench, items), ['1,old,true', '11,old,true', '12,new,false', '2,new,true', '3,newer,false'])
      await bench.commit(insert(items, ['1', 'back', null]), remove(items, ['3', null, null]))
      assert.deepEqual(await marks(bench, items), ['1,back,false', '11,old,true', '12,new,false', '2,new,true', '3,newer,true'])
    },
  },
  {
    title: 'soft deletes without a key: emptied softly, only what was marked stays',
    deletes: 'soft',
    unfit: onlySoft,
    async run(bench) {
      await bench.start(keyless)
      await load(bench, keyless, whole, heap(['1', 'x'], ['2', 'x']))
      await bench.commit(remove(keyless, ['1', 'x']))
      await bench.sink.clear(bench.table(keyless), bench.signal, { softly: true })
      await load(bench, keyless, whole, heap(['2', 'x'], ['3', 'x']), { merge: true })
      assert.deepEqual(await marks(bench, keyless), ['1,x,true', '2,x,false', '3,x,false'])
    },
  },
]

function onlySoft({ delete: ways }: SinkCapabilities): string | null {
  return ways.includes('soft') ? null : 'it has no soft deletes'
}

/** Rows as their first two columns and whether they are marked as deleted, sorted. */
async function marks(bench: SinkBench, schema: TableSchema): Promise<string[]> {
  const [first = '', second = ''] = schema.columns.map((column) => column.name)
  const rows = await bench.target.rows(bench.table(schema))
  return rows.map((row) => [row[first], row[second], /^(t|true|1)$/.test(row[DELETED_COLUMN] ?? '')].join()).sort()
}
