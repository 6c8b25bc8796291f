import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Position, View } from '../model/position.ts'
import { tableId, type TableId, type TableSchema } from '../model/schema.ts'
import type { StoreOptions } from '../state/lease.ts'
import {
  LEASE_SECONDS,
  type ChunkRecord,
  type DeadLetter,
  type Holder,
  type PipelineIdentity,
  type PipelineState,
  type StateStore,
  type TableRecord,
} from '../state/store.ts'

/** What every state store must do. `makeStore` gives an empty one. */
export function storeSuite(name: string, makeStore: (options?: StoreOptions) => Promise<StateStore>): void {
  describe(`${name} as a state store`, () => {
    leaseTests(makeStore)
    fenceTests(makeStore)
    ledgerTests(makeStore)
    peopleTests(makeStore)
  })
}

type MakeStore = (options?: StoreOptions) => Promise<StateStore>

/** A machine whose processes and clock the test owns. */
class Machine {
  now = 1_700_000_000_000
  readonly living = new Map<number, string>([
    [10, '100'],
    [11, '110'],
  ])
  readonly options: StoreOptions = {
    clock: () => this.now,
    processes: { host: 'here', started: (pid) => this.living.get(pid) ?? null },
  }
}

const first: Holder = { host: 'here', pid: 10, started: '100' }
const second: Holder = { host: 'here', pid: 11, started: '110' }
const elsewhere: Holder = { host: 'there', pid: 10, started: '100' }
const orders = tableId('public', 'orders')
const lines = tableId('public', 'lines')

function identity(name = 'p'): PipelineIdentity {
  return { name, source: 'postgres://a/db', sink: 'duckdb:///b', sourceLabel: 'postgres://u@a/db', sinkLabel: 'duckdb:///b' }
}

function schemaOf(id: TableId): TableSchema {
  return {
    id,
    namespace: 'public',
    name: id.slice('public.'.length),
    columns: [
      {
        name: 'id',
        type: { kind: 'int64' },
        nullable: false,
        sourceType: 'bigint',
        sourceTypeId: 20,
        ordinal: 1,
        generated: 'no',
        identity: 'no',
        missing: '1',
      },
    ],
    key: [0],
    identity: 'key',
    indexes: [],
    foreignKeys: [],
    sequences: [],
    estimate: { rows: 3, bytes: -1 },
    relation: 16384,
    dialect: 'postgres',
  }
}

function table(id: TableId, state: TableRecord['state'] = 'copying'): TableRecord {
  const terms = { where: 'n > 1', columns: ['id'], excluded: ['é'], key: null, asked: 'in', strangers: 'kept' } as const
  return { id, state, schema: schemaOf(id), target: { namespace: null, name: 'o' }, rule: 'chunk', counters: '{"read":1}', terms }
}

function chunk(id: number, done = false, view: number | null = null): ChunkRecord {
  const range = { kind: 'key', column: 'id', from: String(id), to: null } as const
  return { chunk: { id, range, rows: 5, bytes: -1 }, view, done, rows: done ? 5 : 0, bytes: done ? 2 ** 40 : 0 }
}

function letter(place: string, id: TableId = orders): Omit<DeadLetter, 'id'> {
  return {
    table: id,
    place,
    op: 'insert',
    stage: 'sink',
    code: 'ROW_REJECTED',
    reason: 'too long',
    record: '{"before":null,"after":{"id":"1"}}',
    at: 5,
  }
}

function fails(code: string, message?: RegExp): (error: unknown) => boolean {
  return (error) => {
    const { code: found, message: text } = error as { code?: string; message: string }
    assert.equal(found, code, text)
    if (message !== undefined) assert.match(text, message)
    return true
  }
}

/** Every write of the handle, by name. */
function writesOf(state: PipelineState): Record<string, () => Promise<unknown>> {
  return {
    heartbeat: () => state.heartbeat(),
    savePosition: () => state.savePosition('9' as Position),
    saveReport: () => state.saveReport('{}'),
    saveTable: () => state.saveTable(table(lines)),
    saveChunks: () => state.saveChunks(lines, [chunk(9)]),
    saveChunk: () => state.saveChunk(lines, chunk(8)),
    saveView: () => state.saveView({ view: null, viewEnd: null }),
    saveDeadLetters: () => state.saveDeadLetters([letter('late')]),
    setMemory: () => state.memory.set('late', 'x'),
    reset: () => state.reset(),
  }
}

function leaseTests(makeStore: MakeStore): void {
  test('the first open makes the pipeline with epoch 1, each later one adds 1', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    assert.equal(await store.find('p'), null)
    for (const epoch of [1, 2, 3]) {
      await using state = await store.open(identity(), first)
      assert.equal(state.epoch, epoch)
      const record = await state.record()
      assert.deepEqual(record, {
        ...identity(),
        epoch,
        holder: first,
        alive: true,
        desired: 'running',
        position: null,
        report: null,
        verified: null,
        createdAt: machine.now,
        updatedAt: machine.now,
      })
    }
    const left = await store.find('p')
    assert.deepEqual([left?.holder, left?.alive], [null, false])
  })

  test('a second runner is refused while the first lives, and told host, pid and since when', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    await using state = await store.open(identity(), first)
    machine.now += 3_600_000
    await assert.rejects(store.open(identity(), second), fails('HELD', /process 10 on host here since 2023-11-14T22:13:20.000Z/))
    await assert.rejects(store.open(identity(), first), fails('HELD'))
    await state.savePosition('1' as Position)
  })

  test('a name that belongs to another pair is refused, held or not', async () => {
    await using store = await makeStore()
    await (await store.open(identity(), first))[Symbol.asyncDispose]()
    await assert.rejects(store.open({ ...identity(), sink: 'other' }, first), fails('USAGE', /from postgres:\/\/u@a\/db to duckdb/))
    await assert.rejects(store.open({ ...identity(), source: 'other' }, first), fails('USAGE'))
  })

  test('a lease whose process is gone, or whose pid is another process now, is taken over', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    await using one = await store.open(identity(), first)
    machine.living.delete(10)
    assert.equal((await store.find('p'))?.alive, false)
    await using two = await store.open(identity(), second)
    machine.living.set(11, '999')
    machine.living.set(10, '100')
    await using three = await store.open(identity(), first)
    assert.deepEqual([one.epoch, two.epoch, three.epoch], [1, 2, 3])
  })

  test('on the same host a clock that jumps makes no living lease dead and no dead one alive', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    await using one = await store.open(identity(), first)
    for (const jump of [-86_400_000, +2 * 86_400_000, -10 * 86_400_000]) {
      machine.now += jump
      await assert.rejects(store.open(identity(), second), fails('HELD'))
      await one.heartbeat()
    }
    machine.living.delete(10)
    machine.now -= 86_400_000
    await using two = await store.open(identity(), second)
    assert.equal(two.epoch, 2)
  })

  test('of another host only the heartbeat is known', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    await using there = await store.open(identity(), elsewhere)
    machine.living.delete(10)
    machine.now += LEASE_SECONDS * 1000
    await assert.rejects(store.open(identity(), second), fails('HELD', /host there/))
    await there.heartbeat()
    machine.now += LEASE_SECONDS * 1000
    await assert.rejects(store.open(identity(), second), fails('HELD'))
    machine.now += 1
    await using here = await store.open(identity(), second)
    assert.equal(here.epoch, 2)
  })

  test('dispose gives the lease back, once, and only its own', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    const one = await store.open(identity(), first)
    await one[Symbol.asyncDispose]()
    await using two = await store.open(identity(), second)
    await one[Symbol.asyncDispose]()
    assert.deepEqual((await two.record()).holder, second)
    for (const write of Object.values(writesOf(one))) await assert.rejects(write, fails('CLOSED'))
  })
}

function fenceTests(makeStore: MakeStore): void {
  test('after a take-over every write of the earlier runner fails and changes nothing', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    await using one = await store.open(identity(), first)
    await one.savePosition('1' as Position)
    await one.saveTable(table(orders))
    machine.living.delete(10)
    await using two = await store.open(identity(), second)
    for (const [write, attempt] of Object.entries(writesOf(one))) await assert.rejects(attempt, fails('FENCED', /p was taken over/), write)
    assert.equal((await two.record()).position, '1')
    assert.deepEqual(await two.tables(), [table(orders)])
    assert.deepEqual([await two.chunks(lines), await two.views(), await two.memory.get('late')], [[], [], null])
    assert.equal(await store.countDeadLetters('p'), 0)
  })

  test('the earlier runner gives no lease back that it has no more', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    const one = await store.open(identity(), first)
    machine.living.delete(10)
    await using two = await store.open(identity(), second)
    await one[Symbol.asyncDispose]()
    assert.deepEqual((await store.find('p'))?.holder, second)
    await two.heartbeat()
  })

  test('the earlier runner takes no requests away', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    await using one = await store.open(identity(), first)
    machine.living.delete(10)
    await using two = await store.open(identity(), second)
    await store.request('p', { kind: 'resnapshot', tables: [orders] })
    const [pending] = await two.requests()
    assert.ok(pending)
    await assert.rejects(one.requests(), fails('FENCED'))
    await assert.rejects(one.forgetRequest(pending.id), fails('FENCED'))
    assert.equal((await two.requests()).length, 1)
  })

  test('a pipeline is not removed under its runner; removed and made again it fences the old handle', async () => {
    const machine = new Machine()
    await using store = await makeStore(machine.options)
    await using one = await store.open(identity(), first)
    await assert.rejects(store.remove('p'), fails('HELD'))
    machine.living.delete(10)
    await store.remove('p')
    await assert.rejects(one.savePosition('2' as Position), fails('FENCED'))
    await assert.rejects(one.record(), fails('FENCED'))
    await using namesake = await store.open(identity(), second)
    assert.equal(namesake.epoch, one.epoch)
    await assert.rejects(one.savePosition('3' as Position), fails('FENCED'))
    assert.equal((await namesake.record()).position, null)
  })
}

function ledgerTests(makeStore: MakeStore): void {
  test('position and report are kept as they are, for the next runner too', async () => {
    await using store = await makeStore()
    const one = await store.open(identity(), first)
    await one.savePosition('0/16B3748' as Position)
    await one.saveReport('{"é":"\\u0000"}')
    await one[Symbol.asyncDispose]()
    await using two = await store.open(identity(), first)
    const record = await two.record()
    assert.deepEqual([record.position, record.report], ['0/16B3748', '{"é":"\\u0000"}'])
    await two.savePosition(null)
    assert.equal((await two.record()).position, null)
  })

  test('tables are kept whole and replaced one by one', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    await state.saveTable(table(orders))
    await state.saveTable(table(lines))
    await state.saveTable({ ...table(orders, 'streaming'), rule: null, counters: null, terms: null })
    const expected = [table(lines), { ...table(orders, 'streaming'), rule: null, counters: null, terms: null }]
    assert.deepEqual(await state.tables(), expected)
    assert.deepEqual(await store.tables('p'), expected)
    assert.deepEqual(await store.tables('unknown'), [])
  })

  test('chunks: the ledger of one table is replaced, one row is begun and done', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    await state.saveChunks(orders, [chunk(2), chunk(0), chunk(11), chunk(1)])
    await state.saveChunks(lines, [chunk(7)])
    await state.saveChunk(orders, chunk(1, false, 4))
    await state.saveChunk(orders, chunk(2, true, 4))
    await state.saveChunk(orders, chunk(12, true, 4))
    assert.deepEqual(await state.chunks(orders), [chunk(0), chunk(1, false, 4), chunk(2, true, 4), chunk(11), chunk(12, true, 4)])
    await state.saveChunks(orders, [])
    assert.deepEqual([await state.chunks(orders), await state.chunks(lines)], [[], [chunk(7)]])
  })

  test('views get ids that are never used twice, not even after a reset', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    const a = await state.saveView({ view: '10:20:12' as View, viewEnd: '0/1' as Position })
    const b = await state.saveView({ view: null, viewEnd: null })
    assert.ok(b > a)
    assert.deepEqual(await state.views(), [
      { id: a, view: '10:20:12', viewEnd: '0/1' },
      { id: b, view: null, viewEnd: null },
    ])
    await state.reset()
    assert.ok((await state.saveView({ view: null, viewEnd: null })) > b)
  })

  test('what a comparison found is kept without a lease, until a reset; of a pipeline that is not there, nothing is', async () => {
    await using store = await makeStore()
    const found = { at: 17, tables: 2, rows: 3_000_000, differing: 7 }
    await store.noteVerified('p', found)
    assert.equal(await store.find('p'), null)
    await using state = await store.open(identity(), first)
    assert.equal((await state.record()).verified, null)
    await store.noteVerified('p', { ...found, differing: 1 })
    await store.noteVerified('p', found)
    assert.deepEqual([(await store.find('p'))?.verified, (await store.list())[0]?.verified], [found, found])
    await state.reset()
    assert.equal((await state.record()).verified, null)
  })

  test('memory is one small map per pipeline', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    await using other = await store.open({ ...identity('q'), source: 'x' }, first)
    await state.memory.set('slot', 'a')
    await state.memory.set('slot', 'b')
    await state.memory.set('gone', '')
    assert.equal(await state.memory.get('gone'), '')
    await state.memory.set('gone', null)
    assert.deepEqual([await state.memory.get('slot'), await state.memory.get('gone'), await other.memory.get('slot')], ['b', null, null])
  })

  test('a dead letter is stored once by table and place, however often it comes', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    assert.equal(await state.saveDeadLetters([letter('1/1'), letter('1/2'), letter('1/1'), letter('1/1', lines)]), 3)
    assert.equal(await state.saveDeadLetters([letter('1/2'), letter('1/3')]), 1)
    assert.equal(await state.saveDeadLetters([]), 0)
    assert.equal(await store.countDeadLetters('p'), 4)
    const all = await store.deadLetters('p', { limit: 10 })
    assert.deepEqual(
      all.map((found) => [found.table, found.place]),
      [
        [orders, '1/1'],
        [orders, '1/2'],
        [lines, '1/1'],
        [orders, '1/3'],
      ],
    )
    assert.deepEqual({ ...all[0], id: 0 }, { ...letter('1/1'), id: 0 })
    const page = await store.deadLetters('p', { limit: 2, after: all[0]!.id })
    assert.deepEqual(page, all.slice(1, 3))
    assert.deepEqual([await store.deadLetters('q', { limit: 10 }), await store.countDeadLetters('q')], [[], 0])
  })

  test('what is given can be changed afterwards without changing what is stored', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    const given = { ...chunk(1) }
    await state.saveChunks(orders, [given])
    Object.assign(given, { done: true })
    assert.deepEqual(await state.chunks(orders), [chunk(1)])
  })
}

function peopleTests(makeStore: MakeStore): void {
  test('pause and resume are wishes that stay; other requests stay until they are forgotten, oldest first', async () => {
    await using store = await makeStore()
    await assert.rejects(store.request('p', { kind: 'pause' }), fails('USAGE', /no pipeline named p/))
    await using state = await store.open(identity(), first)
    await store.request('p', { kind: 'resnapshot', tables: [orders] })
    await store.request('p', { kind: 'pause' })
    await store.request('p', { kind: 'remove-tables', tables: [lines] })
    assert.equal(await state.desired(), 'paused')
    assert.equal((await store.find('p'))?.desired, 'paused')
    const again = { kind: 'resnapshot', tables: [orders] }
    const remove = { kind: 'remove-tables', tables: [lines] }
    const pending = await state.requests()
    assert.deepEqual(
      pending.map(({ request }) => request),
      [again, remove],
    )
    for (const _time of [1, 2]) await state.forgetRequest(pending[0]?.id ?? 0)
    assert.deepEqual(
      (await state.requests()).map(({ request }) => request),
      [remove],
    )
    await state.forgetRequest(pending[1]?.id ?? 0)
    assert.deepEqual(await state.requests(), [])
    await store.request('p', { kind: 'resume' })
    assert.equal(await state.desired(), 'running')
  })

  test('reset forgets what was copied, keeps lease, dead letters and requests, and only of this pipeline', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    await using other = await store.open(identity('q'), first)
    for (const each of [state, other]) {
      await each.savePosition('5' as Position)
      await each.saveTable(table(orders))
      await each.saveChunks(orders, [chunk(1)])
      await each.saveView({ view: null, viewEnd: null })
      await each.memory.set('k', 'v')
      await each.saveDeadLetters([letter('1')])
    }
    await state.reset()
    const left = [
      (await state.record()).position,
      await state.tables(),
      await state.chunks(orders),
      await state.views(),
      await state.memory.get('k'),
    ]
    assert.deepEqual(left, [null, [], [], [], null])
    assert.deepEqual([(await state.record()).holder, await store.countDeadLetters('p')], [first, 1])
    assert.deepEqual([(await other.record()).position, (await other.tables()).length, (await other.chunks(orders)).length], ['5', 1, 1])
    await state.savePosition('6' as Position)
  })

  test('reset keeps what is given, in one step', async () => {
    await using store = await makeStore()
    await using state = await store.open(identity(), first)
    for (const id of [orders, lines]) {
      await state.saveTable(table(id))
      await state.saveChunks(id, [chunk(1), chunk(2)])
    }
    await state.memory.set('k', 'v')
    const kept = { ...table(lines), state: 'pending' as const }
    await state.reset([{ table: kept, chunks: [chunk(2)] }])
    assert.deepEqual([await state.tables(), await state.chunks(orders), await state.chunks(lines)], [[kept], [], [chunk(2)]])
    assert.equal(await state.memory.get('k'), null)
  })

  test('remove forgets everything; the list is ordered by name', async () => {
    await using store = await makeStore()
    for (const name of ['b', 'c', 'a']) {
      await using state = await store.open(identity(name), first)
      await state.saveDeadLetters([letter('1')])
      await state.memory.set('k', 'v')
    }
    assert.deepEqual(
      (await store.list()).map((record) => record.name),
      ['a', 'b', 'c'],
    )
    await store.remove('b')
    await store.remove('unknown')
    assert.deepEqual(
      (await store.list()).map((record) => record.name),
      ['a', 'c'],
    )
    assert.equal(await store.countDeadLetters('b'), 0)
    await using again = await store.open(identity('b'), first)
    assert.deepEqual([again.epoch, await again.memory.get('k')], [1, null])
  })
}
