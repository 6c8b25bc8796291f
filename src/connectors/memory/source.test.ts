import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { StreamBatch } from '../../model/batch.ts'
import type { Position, View } from '../../model/position.ts'
import { changesOf, changesOfSlice } from '../../model/row-view.ts'
import { tableId } from '../../model/schema.ts'
import { textAt } from '../../model/slice-builder.ts'
import type { Selection, SourceTable, StreamRequest } from '../../sdk/source.ts'
import { schemaOf, sinkTable } from '../../testing/sink-batches.ts'
import { seeded } from '../../testing/sink-random-cases.ts'
import { people } from '../../testing/sink-stream-cases.ts'
import { testContext } from '../../testing/test-context.ts'
import { MemoryDatabase, type Cells } from './database.ts'
import { memory } from './index.ts'
import { MemorySink } from './sink.ts'
import { MemorySource } from './source.ts'

const log = schemaOf({ name: 'log', columns: [{ name: 'a', type: { kind: 'string' } }] })
const everything: Selection = { tables: [], columns: new Map(), exclude: [], where: new Map(), keys: new Map() }
const never = new AbortController().signal
const maxBatch = { rows: 3, bytes: 1 << 20 }

function setUp(chunkRows = 2): { database: MemoryDatabase; source: MemorySource } {
  const database = new MemoryDatabase('test')
  database.createTable(people, { toast: ['body'] })
  database.createTable(log)
  return { database, source: new MemorySource(database, { database: 'test', chunkRows }, testContext()) }
}

const person = (id: number, name = `n${id}`, body: string | null = null): Cells => ({ id: String(id), name, body })

/** Batches up to and with the one that brings the position. */
async function readUpTo(
  source: MemorySource,
  from: Position,
  to: Position,
  tables: readonly SourceTable[],
  views: StreamRequest['views'] = new Map(),
): Promise<StreamBatch[]> {
  const batches: StreamBatch[] = []
  const stop = new AbortController()
  for await (const batch of source.stream({ from, tables, views, maxBatch }, stop.signal)) {
    batches.push(batch)
    if (batch.position === to) stop.abort()
  }
  return batches
}

describe('the memory source', () => {
  test('a column that is added gives the rows that are there its constant, once: a null that is written later stays', () => {
    const { database } = setUp()
    database.transaction((transaction) => transaction.insert(people.id, person(1)))
    const column = (name: string, ordinal: number, missing: string) => ({ ...people.columns[1]!, name, ordinal, missing })
    const first = { ...people, columns: [...people.columns, column('a', 101, 'x')] }
    const second = { ...first, columns: [...first.columns, column('b', 102, 'y')] }
    database.transaction((transaction) => transaction.alter(people.id, first, []))
    database.transaction((transaction) => transaction.insert(people.id, { ...person(2), a: null }))
    database.transaction((transaction) => transaction.alter(people.id, second, []))
    assert.deepEqual(
      database.rows(people.id).map(({ a, b }) => [a, b]),
      [
        ['x', 'y'],
        [null, 'y'],
      ],
    )
  })

  test('a transaction begins its commit before it ends it, and a view covers what is in it by number', async () => {
    const { database, source } = setUp()
    const [table] = await source.discover(everything)
    const from = await source.anchor()
    database.transaction((transaction) => transaction.insert(people.id, person(1)))
    const to = await source.head()
    const [batch] = await readUpTo(source, from, to, [table!])
    const [transaction] = batch!.transactions
    assert.equal(source.comparePositions(transaction!.position, transaction!.end!), -1)
    assert.equal(source.covers(to as string as View, transaction!), true)
    assert.equal(source.covers(from as string as View, transaction!), false)
  })

  test('rows of a table that has other columns by now are not fetched', async () => {
    const { database, source } = setUp()
    const table = (await source.discover(everything)).find(({ id }) => id === people.id)!
    database.transaction((transaction) => transaction.insert(people.id, person(1)))
    assert.equal((await source.fetch(table, [['1']]))?.slice.rows, 1)
    const added = { ...people.columns[1]!, name: 'a', ordinal: 101 }
    database.transaction((transaction) => transaction.alter(people.id, { ...people, columns: [...people.columns, added] }, []))
    assert.equal(await source.fetch(table, [['1']]), null)
    assert.equal((await source.fetch({ ...table, columnsFixed: true }, [['1']]))?.slice.rows, 1)
  })

  test('finds tables and counts rows', async () => {
    const { database, source } = setUp()
    database.transaction((tx) => tx.insert(people.id, person(1)))
    const tables = await source.discover(everything)
    assert.deepEqual(
      tables.map((table) => [table.id, table.schema.estimate.rows]),
      [
        [log.id, 0],
        [people.id, 1],
      ],
    )
    assert.deepEqual(await source.count(tables[1]!), { rows: 1n, exact: true })
  })

  test('a snapshot is cut into key ranges that hold each row once, as it was when opened', async () => {
    const { database, source } = setUp()
    const ids = [5, -3, 9, 10, 100, 11, 1]
    database.transaction((tx) => ids.forEach((id) => tx.insert(people.id, person(id))))
    const tables = await source.discover(everything)
    await using snapshot = await source.openSnapshot({ tables, mode: 'bounded', workers: 1 })
    database.transaction((tx) => {
      tx.delete(people.id, { id: '5' })
      tx.insert(people.id, person(6))
    })
    const plan = await snapshot.plan(tables[1]!, never)
    assert.deepEqual(
      plan.chunks.map((chunk) => chunk.range),
      [
        [null, '5'],
        ['5', '10'],
        ['10', '100'],
        ['100', null],
      ].map(([from, to]) => ({ kind: 'key', column: 'id', from, to })),
    )
    const found: unknown[] = []
    for (const chunk of plan.chunks) {
      for await (const frame of snapshot.read(tables[1]!, chunk, 'rows', never))
        if (frame.format === 'rows') found.push(...changesOfSlice(frame.slice, null).map(({ after }) => Number(after?.['id'])))
    }
    assert.deepEqual(found.sort(), ids.sort())
    assert.deepEqual([(await snapshot.plan(tables[0]!, never)).rule, snapshot.position, snapshot.view], ['table', null, null])
  })

  test('the stream gives transactions after the position, old images and unchanged columns as PostgreSQL would', async () => {
    const { database, source } = setUp()
    const from = database.transaction((tx) => tx.insert(people.id, person(1, 'a', 'big')))
    const to = database.transaction((tx) => {
      tx.update(people.id, { id: '1' }, { name: 'b' })
      tx.update(people.id, { id: '1' }, { id: '2', body: 'new' })
      tx.delete(people.id, { id: '2' })
    })
    const [batch] = await readUpTo(source, from, to, await source.discover(everything))
    const [slice] = batch!.slices
    assert.deepEqual(
      [0, 1].map((row) => [0, 1, 2].map((column) => textAt(slice!, row, column))),
      [
        ['1', 'b', undefined],
        ['2', 'b', 'new'],
      ],
    )
    assert.deepEqual(
      changesOf(batch!).map(({ op, before }) => [op, before]),
      [
        ['update', null],
        ['update', { id: 1n }],
        ['delete', { id: 2n }],
      ],
    )
    assert.equal(new Set(changesOf(batch!).map(({ sequence }) => sequence)).size, 3)
  })

  test('a transaction larger than a batch comes in parts, barriers alone, only the last with the position', async () => {
    const { database, source } = setUp()
    const from = await source.anchor()
    const to = database.transaction((tx) => {
      for (let id = 0; id < 7; id++) tx.insert(people.id, person(id))
      tx.truncate(people.id, log.id)
      tx.insert(people.id, person(1))
    })
    const batches = await readUpTo(source, from, to, await source.discover(everything))
    assert.deepEqual(
      batches.map((batch) => [batch.rows, batch.barrier?.kind ?? null, batch.position]),
      [
        [3, null, null],
        [3, null, null],
        [1, null, null],
        [0, 'truncate', null],
        [1, null, to],
      ],
    )
  })

  test('a transaction of other tables is idle time', async () => {
    const { database, source } = setUp()
    const from = await source.anchor()
    const to = database.transaction((tx) => tx.insert(log.id, { a: 'x' }))
    const tables = await source.discover({ ...everything, tables: ['people'] })
    assert.deepEqual(
      (await readUpTo(source, from, to, tables)).map((batch) => [batch.rows, batch.position]),
      [[0, to]],
    )
  })

  test('waits for the next transaction and ends quietly', async () => {
    const { database, source } = setUp()
    const stop = new AbortController()
    const request = { from: await source.anchor(), tables: await source.discover(everything), views: new Map(), maxBatch }
    const stream = source.stream(request, stop.signal)[Symbol.asyncIterator]()
    const waiting = stream.next()
    database.transaction((tx) => tx.insert(log.id, { a: 'x' }))
    assert.equal(((await waiting).value as StreamBatch).rows, 1)
    const last = stream.next()
    stop.abort()
    assert.equal((await last).done, true)
  })

  test('follows added, renamed and dropped columns, but not beyond what was selected', async () => {
    const { database, source } = setUp()
    const [id, name, body] = people.columns
    const changed = { ...people, columns: [id!, { ...name!, name: 'title' }, { ...body!, name: 'new', ordinal: 9, missing: 'old' }] }
    const [from, all] = [await source.anchor(), await source.discover(everything)]
    const some = await source.discover({ ...everything, columns: new Map([['people', ['id', 'name']]]) })
    database.transaction((tx) => tx.insert(people.id, person(1)))
    const to = database.transaction((tx) => {
      tx.alter(people.id, changed, [
        { kind: 'column-renamed', before: 'name', after: 'title' },
        { kind: 'column-dropped', before: 'body', after: null },
        { kind: 'column-added', before: null, after: 'new' },
      ])
      tx.insert(people.id, { id: '2', title: 't', new: 'n' })
    })
    assert.deepEqual(database.rows(people.id), [
      { id: '1', title: 'n1', new: 'old' },
      { id: '2', title: 't', new: 'n' },
    ])
    for (const [tables, expected] of [
      [all, ['id', 'title', 'new']],
      [some, ['id', 'title']],
    ] as const) {
      const [, barrier, rows] = await readUpTo(source, from, to, tables)
      const later = new Map([[people.id, to as string as View]])
      assert.ok((await readUpTo(source, from, to, await source.discover(everything), later)).every((batch) => batch.barrier === null))
      assert.deepEqual([barrier?.barrier?.kind, rows?.slices[0]?.schema.columns.map((column) => column.name)], ['schema', expected])
    }
  })

  test('the log is kept until every pipeline has confirmed it, and what is gone is said to be gone', async () => {
    const { database, source } = setUp()
    const other = new MemorySource(database, { database: 'test', chunkRows: 1 }, testContext('hard', 'other'))
    const [from] = [await source.anchor(), await other.anchor()]
    const positions = [1, 2, 3].map((id) => database.transaction((tx) => tx.insert(people.id, person(id))))
    await source.confirm(positions[2]!)
    assert.equal(database.pruned, 0)
    await other.confirm(positions[1]!)
    await other.confirm(positions[0]!)
    assert.equal(database.pruned, 2)
    const tables = await source.discover(everything)
    assert.equal((await readUpTo(source, positions[1]!, positions[2]!, tables)).length, 1)
    for (const lost of [from, positions[0]!, 'memory/1:99' as Position, '0/16B3748' as Position]) {
      await assert.rejects(readUpTo(source, lost, positions[2]!, tables), { code: 'HISTORY_LOST' }, lost)
    }
    assert.deepEqual(
      source.upstream().map(({ what }) => what),
      ['slot test'],
    )
    assert.deepEqual([await source.remove(), await source.remove(), [...database.slots.keys()]], [['slot test'], [], ['other']])
  })

  test('positions are compared, measured and read from a person', async () => {
    const { database, source } = setUp()
    const [a, b] = [1, 2].map(() => database.transaction(() => {})) as [Position, Position]
    assert.deepEqual(
      [source.comparePositions(a, b), source.comparePositions(b, a), source.comparePositions(a, a), source.distance(a, b)],
      [-1, 1, 0, 1],
    )
    assert.deepEqual(
      [await source.head(), await source.parsePosition('2'), await source.parsePosition(a), await source.parsePosition('x')],
      [b, b, a, null],
    )
  })

  test('a later snapshot covers what it saw', async () => {
    const { database, source } = setUp()
    const from = await source.anchor()
    database.transaction((tx) => tx.insert(people.id, person(1)))
    const tables = await source.discover(everything)
    await using snapshot = await source.openSnapshot({ tables, mode: 'again', workers: 1 })
    const to = database.transaction((tx) => tx.insert(people.id, person(2)))
    const batches = await readUpTo(source, from, to, tables)
    assert.deepEqual(
      batches.map((batch) => source.covers(snapshot.view!, batch.transactions[0]!)),
      [true, false],
    )
    const { slice, view } = (await source.fetch(tables[1]!, [['2'], ['77']]))!
    assert.deepEqual([slice.rows, source.covers(view, batches[1]!.transactions[0]!)], [1, true])
  })

  test('a transaction that throws changes nothing', () => {
    const { database } = setUp()
    database.transaction((tx) => tx.insert(people.id, person(1)))
    assert.throws(
      () =>
        database.transaction((tx) => {
          tx.insert(people.id, person(2))
          tx.insert(people.id, person(1))
        }),
      { code: 'USAGE' },
    )
    assert.throws(() => database.transaction((tx) => tx.insert(people.id, { ...person(3), nmae: 'x' })), { code: 'USAGE' })
    assert.throws(() => database.transaction((tx) => tx.update(tableId('public', 'nothing'), {}, {})), { code: 'USAGE' })
    assert.deepEqual([database.rows(people.id), database.last], [[person(1)], 1])
  })

  test('its URI names a database and nothing else', () => {
    const uri = { text: '', scheme: 'memory', user: null, password: null, host: '', path: 'x', parameters: new Map<string, string>() }
    assert.deepEqual(memory.fromUri(uri), { database: 'x' })
    assert.throws(() => memory.fromUri({ ...uri, host: 'h', path: '/x' }), { code: 'USAGE' })
  })
})

test('snapshot and stream together give the source, whatever is written meanwhile (seeded)', async () => {
  const random = seeded(7)
  const { database, source } = setUp(10)
  const write = (): Position =>
    database.transaction((tx) => {
      for (let n = 0; n < 1 + random() * 6; n++) change(database, tx, random)
    })
  for (let n = 0; n < 40; n++) write()
  const tables = await source.discover(everything)
  const target = new MemoryDatabase('target')
  const sink = new MemorySink(target, testContext())
  await sink.checkpoints.claim(never)
  await using snapshot = await source.openSnapshot({ tables, mode: 'origin', workers: 1 })
  for (const table of tables) {
    write()
    await sink.applySchema(sinkTable(table.schema, 'public'), null, never)
    for (const chunk of (await snapshot.plan(table, never)).chunks) {
      write()
      await using loader = await sink.load({ table: sinkTable(table.schema, 'public'), chunk, format: 'rows', replace: false })
      for await (const frame of snapshot.read(table, chunk, 'rows', never)) await loader.write(frame)
      await loader.finish()
    }
  }
  const to = write()
  for (const batch of await readUpTo(source, snapshot.position!, to, tables)) await sink.write(batch)
  for (const { id } of tables) assert.deepEqual(ordered(target.rows(id)), ordered(database.rows(id)))
  assert.equal((await sink.checkpoints.recover(never)).position, to)
})

function change(database: MemoryDatabase, tx: Parameters<Parameters<MemoryDatabase['transaction']>[0]>[0], random: () => number): void {
  const id = Math.floor(random() * 50)
  // Through the transaction itself: it may have moved the row already.
  const exists = tx.has(people.id, { id: String(id) })
  if (random() < 0.02) tx.truncate(people.id)
  else if (!exists) tx.insert(people.id, person(id, 'n', `body ${random()}`))
  else if (random() < 0.4) tx.delete(people.id, { id: String(id) })
  else if (random() < 0.5) tx.update(people.id, { id: String(id) }, { name: `n${random()}` })
  else tx.update(people.id, { id: String(id) }, freeKey(tx, random) ?? { body: null })
  tx.insert(log.id, { a: String(database.last % 3) })
}

function freeKey(tx: Parameters<typeof change>[1], random: () => number): Cells | null {
  const id = String(Math.floor(random() * 50))
  return tx.has(people.id, { id }) ? null : { id }
}

function ordered(rows: readonly Cells[]): string[] {
  return rows.map((row) => JSON.stringify(Object.entries(row).sort())).sort()
}
