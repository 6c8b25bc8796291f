import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { insert, remove, schemaOf, update } from '../../testing/sink-batches.ts'
import { isError, sorted } from '../../testing/sink-bench.ts'
import { id, people, started } from './test-bench.ts'

const signal = new AbortController().signal

describe('CASE 26: values', () => {
  const odd = schemaOf({
    name: 'odd',
    columns: [
      id,
      { name: 'd', type: { kind: 'date' } },
      { name: 't', type: { kind: 'timestamptz' } },
      { name: 'f', type: { kind: 'float64' } },
      { name: 'i', type: { kind: 'interval' } },
      { name: 'b', type: { kind: 'bytes' } },
    ],
    key: ['id'],
  })

  test('CASE 26: a year before Christ is that year in DuckDB, not the one after; infinity, -0, mixed signs and bytes', async () => {
    await using given = await started([odd])
    await given.bench.commit(
      insert(odd, ['1', '0044-03-15 BC', '0044-03-15 12:00:00.5+00 BC', '-0', '-1 years -2 mons +3 days -04:05:06.7', '\\x00ff']),
      insert(odd, ['2', 'infinity', '-infinity', 'NaN', '-1 days +02:03:00', '\\x']),
    )
    const rows = await given.target.read((connection) =>
      connection.rows(
        "SELECT d::VARCHAR, year(d)::VARCHAR, t::VARCHAR, f::VARCHAR, (i = INTERVAL '-14 months' + INTERVAL '3 days' - INTERVAL '14706.7 seconds')::VARCHAR, hex(b), octet_length(b)::VARCHAR FROM target.main.odd ORDER BY id",
      ),
    )
    assert.deepEqual(rows, [
      ['0044-03-15 (BC)', '-43', '0044-03-15 (BC) 12:00:00.5+00', '-0.0', 'true', '00FF', '2'],
      ['infinity', null, '-infinity', 'nan', 'false', '', '0'],
    ])
  })
})

describe('CASE 27: columns that the source did not send', () => {
  const docs = schemaOf({
    name: 'docs',
    columns: [
      id,
      { name: 'title', type: { kind: 'string' } },
      { name: 'body', type: { kind: 'string' } },
      { name: 'more', type: { kind: 'bytes' } },
    ],
    key: ['id'],
  })

  test('CASE 27: each row keeps what was not sent, whichever columns those are, and takes the nulls that were', async () => {
    await using given = await started([docs])
    const { bench } = given
    await bench.commit(...['1', '2', '3', '4'].map((key) => insert(docs, [key, 't', `body ${key}`, '\\x01'])))
    await bench.commit(
      update(docs, ['1', 'T1', undefined, undefined]),
      update(docs, ['2', 'T2', 'new', undefined]),
      update(docs, ['3', null, undefined, null]),
      update(docs, ['4', undefined, undefined, undefined]),
    )
    await bench.expect(docs, [
      { id: '1', title: 'T1', body: 'body 1', more: '\\x01' },
      { id: '2', title: 'T2', body: 'new', more: '\\x01' },
      { id: '3', title: null, body: 'body 3', more: null },
      { id: '4', title: 't', body: 'body 4', more: '\\x01' },
    ])
    await assert.rejects(bench.commit(update(docs, ['9', undefined, undefined, undefined])), isError('NOT_ACCOUNTED'))
  })

  test('CASE 27: big values that are not sent are not read (DuckDB would scan the whole column)', async () => {
    await using given = await started([docs], { config: { memoryLimit: 60e6 } })
    const { bench, target } = given
    await target.read((connection) =>
      connection.run(`INSERT INTO target.main.docs SELECT i, 't', repeat(md5(i::VARCHAR), 300), NULL FROM range(8000) r(i)`),
    )
    await target.read((connection) => connection.run('CHECKPOINT target'))
    await bench.commit(...Array.from({ length: 500 }, (_, n) => update(docs, [String(n * 16), 'changed', undefined, undefined])))
    const [row] = await target.read((connection) =>
      connection.rows(
        "SELECT count(*)::VARCHAR, (count(*) FILTER (title = 'changed'))::VARCHAR FROM target.main.docs WHERE strlen(body) = 9600",
      ),
    )
    assert.deepEqual(row, ['8000', '500'])
  })

  test('CASE 27: a big value of the stream gets the memory that it needs', async () => {
    await using given = await started([docs])
    const big = 'x'.repeat(12 << 20)
    await given.bench.commit(
      insert(docs, ['1', 't', 'small', null]),
      update(docs, ['1', undefined, big, undefined]),
      insert(docs, ['2', 't', big, null]),
    )
    const rows = await given.target.read((connection) => connection.rows('SELECT strlen(body)::VARCHAR FROM target.main.docs'))
    assert.deepEqual(rows, [[String(12 << 20)], [String(12 << 20)]])
  })
})

describe('soft deletes', () => {
  test('a row is left as it was last, also when it was changed, born or moved in the same batch', async () => {
    await using given = await started([people], { deletes: 'soft' })
    const { bench } = given
    await bench.commit(insert(people, ['1', 'a', null]))
    await bench.commit(
      update(people, ['1', 'changed', '2000-01-01']),
      remove(people, ['1', null, null]),
      insert(people, ['2', 'short', null]),
      remove(people, ['2', null, null]),
      insert(people, ['3', 'moves', null]),
      update(people, ['4', undefined, undefined], ['3', null, null]),
      update(people, ['5', 'twice', undefined], ['4', null, null]),
    )
    const state = (await bench.target.rows(bench.table(people))).map((row) => [row['id'], row['name'], row['born'], row['_deleted']].join())
    assert.deepEqual(state.sort(), ['1,changed,2000-01-01,true', '2,short,,true', '3,moves,,true', '4,moves,,true', '5,twice,,false'])
    assert.equal(await bench.sink.count?.(bench.table(people), signal), 1n)
  })

  test('a table without a key: one of the equal rows is marked, and marked rows are no longer found', async () => {
    const heap = schemaOf({ name: 'heap', columns: [{ name: 'a', type: { kind: 'int32' } }] })
    await using given = await started([heap], { deletes: 'soft' })
    const { bench } = given
    await bench.commit(insert(heap, ['1']), insert(heap, ['1']))
    await bench.commit(remove(heap, ['1']))
    await bench.commit(update(heap, ['2'], ['1']))
    await assert.rejects(bench.commit(remove(heap, ['1'])), isError('NOT_ACCOUNTED'))
    await bench.checkpoints.recover(signal)
    assert.deepEqual(
      sorted(await bench.target.rows(bench.table(heap))),
      sorted([
        { a: '1', _deleted: 'true' },
        { a: '1', _deleted: 'true' },
        { a: '2', _deleted: 'false' },
      ]),
    )
  })
})
