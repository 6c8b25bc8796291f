import assert from 'node:assert/strict'
import { DELETED_COLUMN } from '../sdk/soft-delete.ts'
import { insert, remove, schemaOf, truncateOf, update } from './sink-batches.ts'
import { onlyTransactional, onlyTruncate, type SinkBench, type SinkCase } from './sink-bench.ts'

/** The table that most tests of a sink need: a key, a value, a value that may be large. */
export const people = schemaOf({
  name: 'people',
  columns: [
    { name: 'id', type: { kind: 'int64' } },
    { name: 'name', type: { kind: 'string' } },
    { name: 'body', type: { kind: 'string' } },
  ],
  key: ['id'],
})
/** Its key is not its first column, and has two. */
const lines = schemaOf({
  name: 'lines',
  columns: [
    { name: 'note', type: { kind: 'string' } },
    { name: 'order_id', type: { kind: 'int32' } },
    { name: 'sku', type: { kind: 'string' } },
  ],
  key: ['order_id', 'sku'],
})
const keyless = schemaOf({
  name: 'log',
  columns: [
    { name: 'a', type: { kind: 'int32' } },
    { name: 'b', type: { kind: 'string' } },
  ],
})

const person = (id: string, name: string | null, body: string | null = null): Record<string, string | null> => ({ id, name, body })
const line = (order_id: string, sku: string, note: string | null): Record<string, string | null> => ({ note, order_id, sku })

export const streamCases: readonly SinkCase[] = [
  {
    title: 'inserts, updates and deletes',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'Ann', 'x']), insert(people, ['2', 'Ben', null]), insert(people, ['3', '', 'z']))
      await bench.expect(people, [person('1', 'Ann', 'x'), person('2', 'Ben'), person('3', '', 'z')])
      await bench.commit(update(people, ['2', 'Bob', 'y']), remove(people, ['1', null, null]))
      await bench.expect(people, [person('2', 'Bob', 'y'), person('3', '', 'z')])
      await bench.commit(update(people, ['3', null, null]))
      await bench.expect(people, [person('2', 'Bob', 'y'), person('3', null)])
    },
  },
  {
    title: 'keys of several columns, none of them the first',
    async run(bench) {
      await bench.start(lines)
      await bench.commit(insert(lines, ['a', '1', 'x']), insert(lines, ['b', '1', 'y']), insert(lines, ['c', '2', 'x']))
      await bench.commit(
        update(lines, ['B', '1', 'y']),
        remove(lines, [null, '1', 'x']),
        update(lines, [undefined, '2', 'z'], [null, '2', 'x']),
      )
      await bench.expect(lines, [line('1', 'y', 'B'), line('2', 'z', 'c')])
    },
  },
  {
    title: 'several tables in one batch, changes interleaved',
    async run(bench) {
      await bench.start(people, lines)
      await bench.commit(
        insert(people, ['1', 'a', null]),
        insert(lines, ['n', '1', 's']),
        update(people, ['1', 'b', null]),
        remove(lines, [null, '1', 's']),
        insert(lines, ['m', '1', 't']),
      )
      await bench.expect(people, [person('1', 'b')])
      await bench.expect(lines, [line('1', 't', 'm')])
    },
  },
  {
    title: 'a key changes, its unchanged columns go with it (CASE 22)',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'Ann', 'big']))
      await bench.commit(update(people, ['5', 'Ann', undefined], ['1', null, null]))
      await bench.expect(people, [person('5', 'Ann', 'big')])
      await bench.commit(
        update(people, ['6', undefined, undefined], ['5', null, null]),
        update(people, ['6', 'Eve', undefined]),
        update(people, ['7', 'Eve', undefined], ['6', null, null]),
      )
      await bench.expect(people, [person('7', 'Eve', 'big')])
    },
  },
  {
    title: 'a large key column that did not change is not sent with the new row, only with the old one',
    async run(bench) {
      await bench.start(lines)
      await bench.commit(insert(lines, ['a', '1', 'x']), insert(lines, ['b', '1', 'y']))
      await bench.commit(update(lines, ['A', '1', undefined], [null, '1', 'x']), update(lines, ['B', '2', undefined], [null, '1', 'y']))
      await bench.expect(lines, [line('1', 'x', 'A'), line('2', 'y', 'B')])
    },
  },
  {
    title: 'two keys swapped in one transaction (CASE 22)',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'A', 'a']), insert(people, ['2', 'B', 'b']))
      await bench.commit(
        update(people, ['99', 'A', undefined], ['1', null, null]),
        update(people, ['1', 'B', undefined], ['2', null, null]),
        update(people, ['2', 'A', undefined], ['99', null, null]),
      )
      await bench.expect(people, [person('1', 'B', 'b'), person('2', 'A', 'a')])
    },
  },
  {
    title: 'a chain of key changes with unchanged columns keeps each row its own values (TRAPS 34)',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'A', 'A']), insert(people, ['2', 'B', 'B']))
      await bench.commit(
        update(people, ['3', 'B', undefined], ['2', null, null]),
        update(people, ['2', 'A', undefined], ['1', null, null]),
        update(people, ['2', 'A!', undefined]),
      )
      await bench.expect(people, [person('2', 'A!', 'A'), person('3', 'B', 'B')])
    },
  },
  {
    title: 'delete and insert of one key, in every order, in one batch (CASE 22)',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'old', 'old']), insert(people, ['2', 'old', 'old']), insert(people, ['3', 'old', 'old']))
      await bench.commitAll(
        [remove(people, ['1', null, null]), insert(people, ['1', 'new', null])],
        [remove(people, ['2', null, null]), insert(people, ['2', 'new', null]), remove(people, ['2', null, null])],
        [insert(people, ['4', 'x', null]), remove(people, ['4', null, null])],
        [insert(people, ['5', 'x', null]), remove(people, ['5', null, null]), insert(people, ['5', 'y', 'z'])],
        [remove(people, ['3', null, null])],
        [insert(people, ['3', 'again', null])],
      )
      await bench.expect(people, [person('1', 'new'), person('3', 'again'), person('5', 'y', 'z')])
    },
  },
  {
    title: 'a deleted key is taken by another row, and a moved row leaves its key to a new one',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'A', 'a']), insert(people, ['2', 'B', 'b']))
      await bench.commit(
        remove(people, ['1', null, null]),
        update(people, ['1', 'B', undefined], ['2', null, null]),
        insert(people, ['2', 'C', 'c']),
      )
      await bench.expect(people, [person('1', 'B', 'b'), person('2', 'C', 'c')])
    },
  },
  {
    title: 'several updates of one row with unchanged columns and nulls in one batch (CASE 27)',
    async run(bench) {
      await bench.start(people)
      await bench.commit(...['1', '2', '3', '4'].map((id) => insert(people, [id, 'n', 'big'])))
      await bench.commitAll(
        [update(people, ['1', 'a', undefined]), update(people, ['1', 'b', null]), update(people, ['1', 'c', undefined])],
        [update(people, ['2', 'a', 'new'])],
        [update(people, ['2', 'b', undefined]), update(people, ['3', 'a', undefined])],
        [update(people, ['3', undefined, undefined]), update(people, ['4', undefined, null]), update(people, ['4', null, undefined])],
        [insert(people, ['5', 'a', 'big']), update(people, ['5', 'b', undefined])],
      )
      await bench.expect(people, [
        person('1', 'c', null),
        person('2', 'b', 'new'),
        person('3', 'a', 'big'),
        person('4', null, null),
        person('5', 'b', 'big'),
      ])
    },
  },
  {
    title: 'an insert of a key that is there replaces the row',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'a', 'x']), insert(people, ['2', 'b', 'y']))
      await bench.commit(insert(people, ['1', 'c', null]), insert(people, ['3', 'd', null]))
      await bench.expect(people, [person('1', 'c'), person('2', 'b', 'y'), person('3', 'd')])
    },
  },
  {
    title: 'an insert replaces a row that a later change of its batch deletes or moves: nothing is left at its key',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'a', 'x']), insert(people, ['2', 'b', 'y']), insert(people, ['3', 'c', 'z']))
      await bench.commit(
        insert(people, ['1', 'a', 'new']),
        remove(people, ['1', 'a', 'new']),
        insert(people, ['2', 'b', 'new']),
        update(people, ['9', 'b', 'moved'], ['2', null, null]),
      )
      await bench.expect(people, [person('3', 'c', 'z'), person('9', 'b', 'moved')])
    },
  },
  {
    title: 'by key, a delete of a row that is not there is nothing, and the others of its batch are made',
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'a', 'x']), insert(people, ['2', 'b', 'y']))
      await bench.commit(remove(people, ['9', 'c', null]), remove(people, ['1', 'a', 'x']), insert(people, ['3', 'd', null]))
      await bench.commit(remove(people, ['1', 'a', 'x']))
      await bench.expect(people, [person('2', 'b', 'y'), person('3', 'd')])
    },
  },
  {
    title: 'without a key, a delete of a row that is not there is refused: its values differ from the source',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(keyless)
      await bench.commit(insert(keyless, ['1', null]), insert(keyless, ['2', 'x']))
      await assert.rejects(bench.commit(remove(keyless, ['1', null]), remove(keyless, ['2', 'y'])))
      await bench.checkpoints.recover(bench.signal)
      await bench.expect(keyless, [
        { a: '1', b: null },
        { a: '2', b: 'x' },
      ])
    },
  },
  {
    title: 'an update of a row that is not there, with unchanged columns, is refused and writes nothing (TRAPS 34)',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'a', 'x']))
      await assert.rejects(bench.commit(insert(people, ['2', 'b', 'y']), update(people, ['9', 'c', undefined])))
      await bench.checkpoints.recover(bench.signal)
      await bench.expect(people, [person('1', 'a', 'x')])
      await bench.commit(insert(people, ['2', 'b', 'y']))
      await bench.expect(people, [person('1', 'a', 'x'), person('2', 'b', 'y')])
    },
  },
  {
    title: 'a table without a key: each change is of one of the equal rows (TRAPS 40)',
    async run(bench) {
      await bench.start(keyless)
      await bench.commit(...['1', '1', '1', '2', '2'].map((a) => insert(keyless, [a, null])), insert(keyless, ['3', 'x']))
      await bench.commit(remove(keyless, ['1', null]))
      await bench.expect(keyless, [
        { a: '1', b: null },
        { a: '1', b: null },
        { a: '2', b: null },
        { a: '2', b: null },
        { a: '3', b: 'x' },
      ])
      await bench.commit(update(keyless, ['2', 'changed'], ['2', null]), remove(keyless, ['3', 'x']), insert(keyless, ['1', null]))
      await bench.expect(keyless, [
        { a: '1', b: null },
        { a: '1', b: null },
        { a: '1', b: null },
        { a: '2', b: null },
        { a: '2', b: 'changed' },
      ])
    },
  },
  {
    title: 'truncate, then insert in the same transaction (CASE 21)',
    unfit: onlyTruncate,
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'a', null]), insert(people, ['2', 'b', null]))
      const number = bench.next()
      await bench.part(number, insert(people, ['3', 'c', null]))
      if (bench.options.capabilities.commit === 'transactional') await bench.expect(people, [person('1', 'a'), person('2', 'b')])
      // From here on a reader may have to wait: a target's own TRUNCATE locks it out (TRAPS 37).
      await bench.barrier(truncateOf(people), number, true)
      await bench.part(number, insert(people, ['1', 'new', null]))
      await bench.idle(number)
      await bench.expect(people, [person('1', 'new')])
    },
  },
  {
    title: 'truncate of two tables at once leaves a third alone (CASE 21)',
    unfit: onlyTruncate,
    async run(bench) {
      await bench.start(people, lines, keyless)
      await bench.commit(insert(people, ['1', 'a', null]), insert(lines, ['n', '1', 's']), insert(keyless, ['1', null]))
      await bench.barrier(truncateOf(lines, people))
      await bench.expect(people, [])
      await bench.expect(lines, [])
      await bench.expect(keyless, [{ a: '1', b: null }])
    },
  },
  {
    title: 'a table that is named like a keyword, with columns of any name (CASE 30)',
    async run(bench) {
      const odd = schemaOf({
        name: 'Select "Ünï" 表',
        columns: [
          { name: 'Group', type: { kind: 'int32' } },
          { name: 'a "b" c', type: { kind: 'string' } },
          { name: 'naïve 列 🚲', type: { kind: 'string' } },
          { name: 'order', type: { kind: 'string' } },
        ],
        key: ['Group', 'a "b" c'],
      })
      await bench.start(odd)
      await bench.commit(insert(odd, ['1', 'x', 'y', 'z']), insert(odd, ['2', 'x', null, null]))
      await bench.commit(update(odd, ['1', 'moved', undefined, 'Z'], ['1', 'x', null, null]), remove(odd, ['2', 'x', null, null]))
      await bench.expect(odd, [{ Group: '1', 'a "b" c': 'moved', 'naïve 列 🚲': 'y', order: 'Z' }])
      assert.equal(await bench.sink.inspect(bench.table(odd), bench.signal), 'filled')
    },
  },
  {
    title: 'soft deletes: the row stays and is marked; what comes again is not marked',
    deletes: 'soft',
    unfit: ({ delete: ways }) => (ways.includes('soft') ? null : 'it has no soft deletes'),
    async run(bench) {
      await bench.start(people)
      await bench.commit(insert(people, ['1', 'a', 'x']), insert(people, ['2', 'b', 'y']), insert(people, ['3', 'c', 'z']))
      await bench.commit(
        remove(people, ['1', null, null]),
        update(people, ['7', 'b', undefined], ['2', null, null]),
        remove(people, ['3', null, null]),
        insert(people, ['3', 'new', null]),
      )
      assert.deepEqual(await softRows(bench), ['1,a,x,true', '2,b,y,true', '3,new,,false', '7,b,y,false'])
      await bench.commit(update(people, ['1', 'b', undefined], ['7', null, null]))
      assert.deepEqual(await softRows(bench), ['1,b,y,false', '2,b,y,true', '3,new,,false', '7,b,y,true'])
      await bench.commit(remove(people, ['1', null, null]))
      await bench.commit(insert(people, ['1', 'back', null]))
      assert.deepEqual(await softRows(bench), ['1,back,,false', '2,b,y,true', '3,new,,false', '7,b,y,true'])
      if (bench.options.capabilities.truncate) await bench.barrier(truncateOf(people))
      const left = (await softRows(bench)).filter((row) => row.endsWith('false'))
      assert.equal(left.length, bench.options.capabilities.truncate ? 0 : 2)
    },
  },
]

async function softRows(bench: SinkBench): Promise<string[]> {
  const rows = await bench.target.rows(bench.table(people))
  return rows.map((row) => [row['id'], row['name'], row['body'], isTrue(row[DELETED_COLUMN])].join()).sort()
}

function isTrue(text: string | null | undefined): boolean {
  return text === 't' || text === 'true' || text === '1'
}
