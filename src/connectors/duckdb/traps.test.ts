import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { TailraceError } from '../../sdk/errors.ts'
import {
  at,
  batchOf,
  insert,
  remove,
  schemaChange,
  schemaOf,
  sinkTable,
  truncateOf,
  update,
  type ColumnSpec,
} from '../../testing/sink-batches.ts'
import { isError } from '../../testing/sink-bench.ts'
import { id, name, people, started, type Bench } from './test-bench.ts'

const signal = new AbortController().signal

describe('TRAP 41: a failed transaction', () => {
  test('TRAP 41: nothing of it is stored, nothing more is taken before recover, and the position is the last good one', async () => {
    await using given = await started([people])
    const { bench } = given
    await bench.commit(insert(people, ['1', 'a', '2000-01-01']))
    await assert.rejects(
      bench.write(batchOf([{ number: 2, changes: [insert(people, ['2', 'b', null]), insert(people, ['3', 'c', 'no date'])] }])),
      isError('ROW_REJECTED'),
    )
    await assert.rejects(bench.write(batchOf([{ number: 2, changes: [insert(people, ['2', 'b', null])] }])), isError('SINK_FAILED'))
    await bench.expectPosition(at(1))
    await bench.expect(people, [{ id: '1', name: 'a', born: '2000-01-01' }])
    await bench.write(batchOf([{ number: 2, changes: [insert(people, ['2', 'b', null])] }]))
    await bench.expectPosition(at(2))
    await bench.expect(people, [
      { id: '1', name: 'a', born: '2000-01-01' },
      { id: '2', name: 'b', born: null },
    ])
  })

  test('TRAP 41: a refusal in a later part undoes the earlier parts', async () => {
    await using given = await started([people])
    const { bench } = given
    await bench.part(1, insert(people, ['1', 'a', null]))
    await assert.rejects(bench.part(1, update(people, ['1', 'a', 'never'])), /1 value does not fit column born \(date as DATE\)/)
    await bench.expectPosition(at(0))
    await bench.expect(people, [])
  })

  test('a file that DuckDB gave up (a checkpoint failed) is opened anew by recover, with everything that was committed', async () => {
    await using given = await started([people])
    const { bench, target } = given
    await bench.commit(insert(people, ['1', 'a', null]))
    await target.read((connection) => connection.run("SET GLOBAL debug_checkpoint_abort = 'before_header'"))
    await target.read((connection) => connection.run('CHECKPOINT target').catch(() => 0))
    await assert.rejects(bench.commit(insert(people, ['2', 'b', null])))
    await target.read((connection) => connection.run("SET GLOBAL debug_checkpoint_abort = 'none'")).catch(() => 0)
    await bench.expectPosition(at(1))
    await bench.write(batchOf([{ number: 2, changes: [insert(people, ['2', 'b', null])] }]))
    await bench.expect(people, [
      { id: '1', name: 'a', born: null },
      { id: '2', name: 'b', born: null },
    ])
  })
})

describe('TRAP 42: what one transaction may hold', () => {
  const added = schemaOf({
    name: 'people',
    columns: [...people.columns, { name: 'c', type: { kind: 'string' }, ordinal: 4, missing: 'old' }],
    key: ['id'],
  })
  const wide = schemaOf({
    name: 'people',
    columns: [id, { ...name, ordinal: 2 }, { name: 'born', type: { kind: 'string' }, sourceType: 'text', ordinal: 3 }],
    key: ['id'],
  })

  for (const primaryKeys of [false, true]) {
    test(`TRAP 42: a key is deleted and comes again, and the parts swap keys (primary keys: ${primaryKeys})`, async () => {
      await using given = await started([people], { config: { primaryKeys } })
      const { bench } = given
      await bench.commit(insert(people, ['1', 'a', null]), insert(people, ['2', 'b', null]))
      await bench.part(2, remove(people, ['1', null, null]))
      await bench.part(2, insert(people, ['1', 'again', null]))
      await bench.part(2, update(people, ['9', 'b', null], ['2', null, null]))
      await bench.part(2, update(people, ['2', 'again', null], ['1', null, null]))
      await bench.part(2, update(people, ['1', 'b', null], ['9', null, null]))
      await bench.idle(2)
      await bench.expect(people, [
        { id: '1', name: 'b', born: null },
        { id: '2', name: 'again', born: null },
      ])
    })

    test(`TRAP 42: rows are deleted, then a column is added or changes its type (COMMIT refuses ALTER then; primary keys: ${primaryKeys})`, async () => {
      for (const [to, change, third] of [
        [added, { kind: 'column-added', before: null, after: 'c' }, { c: 'old' }],
        [wide, { kind: 'type-changed', before: 'born', after: 'born' }, {}],
      ] as const) {
        await using given = await started([people], { config: { primaryKeys } })
        const { bench } = given
        await bench.commit(
          insert(people, ['1', 'a', '2000-01-01']),
          insert(people, ['2', 'b', '2000-01-02']),
          insert(people, ['3', 'c', null]),
        )
        await bench.part(2, remove(people, ['1', null, null]), update(people, ['2', 'B', undefined]))
        await bench.barrier(schemaChange(people, to, change), 2, true)
        await bench.part(2, update(to, ['3', 'C', undefined, undefined]), insert(to, ['4', 'd', null, 'new']))
        await bench.idle(2)
        const rows = (await bench.target.rows(bench.table(to))).map((row) => [row['id'], row['name'], row['born']])
        assert.deepEqual(
          rows.sort(),
          [
            ['2', 'B', '2000-01-02'],
            ['3', 'C', null],
            ['4', 'd', null],
          ].sort(),
        )
        if (to === added)
          assert.deepEqual((await bench.target.rows(bench.table(to))).map((row) => row['c']).sort(), [third.c, third.c, 'new'].sort())
        await bench.commit(remove(to, ['4', null, null, null]))
        assert.equal(await bench.sink.count?.(bench.table(to), signal), 2n)
      }
    })
  }

  test('TRAP 42: several columns are added whose old rows show values of every kind (a DEFAULT that is no literal is an UPDATE)', async () => {
    const kinds: readonly ColumnSpec[] = [
      { name: 'c1', type: { kind: 'string' }, missing: `it's "x" {y} \\ NULL` },
      { name: 'c2', type: { kind: 'timestamptz' }, missing: '0044-03-15 12:00:00+00 BC' },
      { name: 'c3', type: { kind: 'boolean' }, missing: 't' },
      { name: 'c4', type: { kind: 'decimal', precision: 10, scale: 2 }, missing: '1.50' },
      { name: 'c5', type: { kind: 'bytes' }, missing: '\\x00ff' },
      { name: 'c6', type: { kind: 'string' } },
    ]
    const more = schemaOf({ name: 'people', columns: [...people.columns, ...kinds], key: ['id'] })
    for (const deletedFrom of [false, true]) {
      await using given = await started([people])
      const { bench } = given
      await bench.commit(insert(people, ['1', 'a', null]), insert(people, ['2', 'b', null]))
      if (deletedFrom) await bench.part(2, remove(people, ['2', null, null]))
      await bench.barrier(
        schemaChange(people, more, ...kinds.map(({ name: after }) => ({ kind: 'column-added', before: null, after }) as const)),
        2,
        true,
      )
      await bench.part(
        2,
        insert(more, ['3', 'c', null, null, null, null, null, null, null]),
        ...(deletedFrom ? [] : [remove(more, ['2', ...Array<null>(8).fill(null)])]),
      )
      await bench.idle(2)
      const old = { c1: `it's "x" {y} \\ NULL`, c2: '0044-03-15 (BC) 12:00:00+00', c3: 'true', c4: '1.50', c5: '\\x00\\xFF', c6: null }
      const none = { c1: null, c2: null, c3: null, c4: null, c5: null, c6: null }
      await bench.expect(more, [
        { id: '1', name: 'a', born: null, ...old },
        { id: '3', name: 'c', born: null, ...none },
      ])
    }
  })

  test('truncate, a schema change and rows in one transaction: others see none of it before COMMIT', async () => {
    await using given = await started([people])
    const { bench } = given
    await bench.commit(insert(people, ['1', 'a', null]))
    await bench.barrier(truncateOf(people), 2, true)
    await bench.barrier(schemaChange(people, added, { kind: 'column-added', before: null, after: 'c' }), 2, true)
    await bench.part(2, insert(added, ['1', 'b', null, 'c']))
    await bench.expect(people, [{ id: '1', name: 'a', born: null }])
    await bench.idle(2)
    await bench.expect(added, [{ id: '1', name: 'b', born: null, c: 'c' }])
  })

  test('a column that comes again under its old name takes another place: old values are set aside (TRAP 47)', async () => {
    const without = schemaOf({ name: 'people', columns: [id, name], key: ['id'] })
    const again = schemaOf({ name: 'people', columns: [id, name, { name: 'born', type: { kind: 'int32' }, ordinal: 4 }], key: ['id'] })
    await using given = await started([people])
    const { bench } = given
    await bench.commit(insert(people, ['1', 'a', '2000-01-01']))
    await bench.barrier(schemaChange(people, without, { kind: 'column-dropped', before: 'born', after: null }))
    await bench.barrier(schemaChange(without, again, { kind: 'column-added', before: null, after: 'born' }))
    await bench.commit(update(again, ['1', 'b', '7']))
    await bench.expect(again, [{ id: '1', name: 'b', born: '7', born_dropped: '2000-01-01' }])
    await bench.restart(await bench.target.reopen(), again)
    await bench.expect(again, [{ id: '1', name: 'b', born: '7', born_dropped: '2000-01-01' }])
  })

  test('a table without a key keeps what the source dropped through its updates', async () => {
    const heap = schemaOf({
      name: 'heap',
      columns: [
        { name: 'a', type: { kind: 'int32' } },
        { name: 'b', type: { kind: 'float64' } },
        { name: 'c', type: { kind: 'string' } },
      ],
    })
    const less = schemaOf({ name: 'heap', columns: [heap.columns[0]!, heap.columns[1]!] })
    await using given = await started([heap])
    const { bench } = given
    await bench.commit(insert(heap, ['1', '-0', 'x']), insert(heap, ['1', '0', 'y']), insert(heap, ['2', 'NaN', 'z']))
    await bench.barrier(schemaChange(heap, less, { kind: 'column-dropped', before: 'c', after: null }))
    await bench.commit(update(less, ['3', '-0'], ['1', '-0']), update(less, ['2', '5'], ['2', 'NaN']))
    await bench.expect(less, [
      { a: '3', b: '-0.0', c: 'x' },
      { a: '1', b: '0.0', c: 'y' },
      { a: '2', b: '5.0', c: 'z' },
    ])
    await assert.rejects(bench.commit(remove(less, ['9', '9'])), isError('NOT_ACCOUNTED'))
  })
})

describe('memory', () => {
  const wide = schemaOf({
    name: 'wide',
    columns: [id, ...Array.from({ length: 300 }, (_, n): ColumnSpec => ({ name: `c${n}`, type: { kind: 'string' } }))],
    key: ['id'],
  })
  const rows = Array.from({ length: 4000 }, (_, n) => `${n}${`,${'v'.repeat(20)}${n}`.repeat(300)}\n`)

  async function loadWide(given: Bench): Promise<number> {
    await using loader = await given.target.sink.load(
      { table: sinkTable(wide), chunk: { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 }, format: 'csv', replace: false },
      signal,
    )
    for (let n = 0; n < rows.length; n += 100) {
      const data = Buffer.from(rows.slice(n, n + 100).join(''))
      await loader.write({ format: 'csv', data, rows: 100, bytes: data.length })
    }
    return (await loader.finish()).rows
  }

  test('a wide table gets more memory by itself', async () => {
    await using given = await started([wide])
    assert.equal(await loadWide(given), rows.length)
  })

  test('TRAP 43: limit and threads are always set, and a transaction that changes every row of a large table stays within 80 MB', async () => {
    const count = 200_000
    await using given = await started([people], { config: { memoryLimit: 80e6 } })
    const { bench, target } = given
    const settings = `SELECT current_setting('memory_limit'), current_setting('threads')::VARCHAR`
    const limit = (await target.read((connection) => connection.rows(settings)))[0]
    assert.match(String(limit?.[0]), /^76\.\d MiB$/)
    await using other = await started([people])
    const unasked = (await other.target.read((connection) => connection.rows(settings)))[0]
    assert.match(String(unasked?.[0]), /^\d{2,3}\.\d MiB$/, 'not a part of the machine, as DuckDB would have it')
    assert.ok(Number(limit?.[1]) >= 1 && unasked?.[1] === limit?.[1])
    await target.read((connection) => connection.run(`INSERT INTO target.main.people SELECT i, 'old', NULL FROM range(${count}) r(i)`))
    const part = 25_000
    for (let from = 0; from < count; from += part)
      await bench.part(1, ...Array.from({ length: part }, (_, n) => update(people, [String(from + n), 'changed', null])))
    await bench.commit(insert(people, ['-1', 'last', null]))
    const [row] = await target.read((connection) =>
      connection.rows("SELECT count(*)::VARCHAR, (count(*) FILTER (name = 'changed'))::VARCHAR FROM target.main.people"),
    )
    assert.deepEqual(row, [String(count + 1), String(count)])
  })

  test('a limit of the user is kept; running out of it names the option, and recover goes on', async () => {
    await using given = await started([wide, people], { config: { memoryLimit: 40e6 } })
    await assert.rejects(loadWide(given), (error: TailraceError) => {
      assert.equal(error.code, 'ENVIRONMENT')
      assert.match(error.hint ?? '', /--sink\.memory-limit/)
      return true
    })
    await given.bench.expectPosition(at(0))
    await given.bench.commit(insert(people, ['1', 'a', null]))
    await given.bench.expect(people, [{ id: '1', name: 'a', born: null }])
  })
})
