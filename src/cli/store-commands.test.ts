import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tempFolder, type TempFolder } from '../testing/temp-folder.ts'
import { tableId, type TableSchema } from '../model/schema.ts'
import type { Position } from '../model/position.ts'
import { openSqliteStore } from '../state/sqlite.ts'
import { thisHolder } from '../state/lease.ts'
import type { PipelineState, TableRecord } from '../state/store.ts'
import { fakeEngine, fakeReport, fakeTable } from './testing/fake-engine.ts'
import { run, TestIo } from './testing/test-io.ts'

const IDENTITY = { name: 'shop', source: 'toy://h/b', sink: 'toy://g/', sourceLabel: 'toy://me@h/b', sinkLabel: 'toy://g' }

interface Runner extends AsyncDisposable {
  readonly state: PipelineState
}

/** A pipeline as a runner holds it; disposed, as it left it. */
async function seed(tmp: TempFolder): Promise<Runner> {
  const store = await openSqliteStore(tmp.join('.tailrace', 'state.db'))
  const state = await store.open(IDENTITY, thisHolder())
  for (const [namespace, name] of [
    ['public', 'orders'],
    ['public', 'My Items'],
    ['other', 'orders'],
  ] as const)
    await state.saveTable(table(namespace, name))
  await state.savePosition('0/1234' as Position)
  await state.saveReport(JSON.stringify(report('streaming')))
  return {
    state,
    [Symbol.asyncDispose]: async () => {
      await state[Symbol.asyncDispose]()
      await store[Symbol.asyncDispose]()
    },
  }
}

function report(state: 'streaming' | 'paused', rest: Parameters<typeof fakeReport>[0] = {}): ReturnType<typeof fakeReport> {
  return fakeReport({
    state,
    source: 'toy://me@h/b',
    sink: 'toy://g',
    position: '0/1234',
    lag: { seconds: 0.5, bytes: 1000, rows: 3 },
    tables: [fakeTable('public.orders', { state: 'streaming', read: 42, written: 42 })],
    ...rest,
  })
}

function table(namespace: string, name: string): TableRecord {
  const column = {
    name: 'id',
    type: { kind: 'int64' },
    nullable: false,
    sourceType: 'bigint',
    sourceTypeId: 20,
    ordinal: 1,
    generated: 'no',
    identity: 'no',
  } as const
  const schema: TableSchema = {
    id: tableId(namespace, name),
    namespace,
    name,
    columns: [column],
    key: [0],
    identity: 'key',
    indexes: [],
    foreignKeys: [],
    sequences: [],
    estimate: { rows: 10, bytes: 100 },
    relation: 1,
    dialect: 'toy',
  }
  return { id: schema.id, state: 'streaming', schema, target: { namespace: null, name }, rule: null, counters: null, terms: null }
}

test('status lists pipelines and shows one', async () => {
  await using tmp = await tempFolder()
  const io = new TestIo(tmp.path)
  assert.equal((await run(io, ['status'])).out, 'no pipelines\n')
  assert.deepEqual(JSON.parse((await run(io, ['status', '--json'])).out), { ok: true, pipelines: [] })
  await using _ = await seed(tmp)
  io.now = Date.now()
  assert.match(
    (await run(io, ['status'])).out,
    new RegExp(`shop +streaming +${process.pid} on .* 0\\.5 s 1\\.00 kB 3 rows +0:0\\d ago +toy://me@h/b +toy://g`),
  )
  const one = await run(io, ['status', 'shop'])
  assert.equal(one.code, 0)
  for (const part of ['pipeline  shop', 'position  0/1234', 'public.orders', '42']) assert.ok(one.out.includes(part), one.out)
  const json = JSON.parse((await run(io, ['status', 'shop', '--json'])).out) as {
    state: string
    runner: { alive: boolean }
    tables: unknown[]
  }
  assert.equal(json.state, 'streaming')
  assert.equal(json.runner.alive, true)
  const { code, err } = await run(io, ['status', 'shpo'])
  assert.equal(code, 2)
  assert.match(err, /did you mean `shop`/)
})

test('a runner that was killed is not shown as streaming', async () => {
  await using tmp = await tempFolder()
  await (await seed(tmp))[Symbol.asyncDispose]()
  const { out, code } = await run(new TestIo(tmp.path), ['status', 'shop', '--json'])
  assert.equal(code, 0)
  assert.equal((JSON.parse(out) as { state: string }).state, 'stopped')
})

test('pause waits until the runner says so', async () => {
  await using tmp = await tempFolder()
  await using seeded = await seed(tmp)
  const runner = seeded.state
  const io = new TestIo(tmp.path)
  let polls = 0
  io.onDelay = async () => {
    if (++polls === 3) await runner.saveReport(JSON.stringify(report((await runner.desired()) === 'paused' ? 'paused' : 'streaming')))
  }
  const paused = await run(io, ['pause', 'shop'])
  assert.equal(paused.code, 0, paused.err)
  assert.match(paused.out, /shop is paused/)
  assert.equal(polls, 3)
  polls = 0
  const resumed = await run(io, ['resume', 'shop', '--json'])
  assert.equal(resumed.code, 0)
  assert.equal((JSON.parse(resumed.out) as { state: string; desired: string }).desired, 'running')
})

test('a runner that does not answer is told, with exit code 3; the wish stays', async () => {
  await using tmp = await tempFolder()
  await using seeded = await seed(tmp)
  const runner = seeded.state
  const { code, err, out } = await run(new TestIo(tmp.path), ['pause', 'shop', '--wait', '5s', '--json'])
  assert.equal(code, 3)
  assert.match(err, new RegExp(`process ${process.pid} on .* has not answered within 0:05`))
  assert.equal((JSON.parse(out) as { ok: boolean }).ok, false)
  assert.equal(await runner.desired(), 'paused')
})

test('without a runner the wish waits for the next one', async () => {
  await using tmp = await tempFolder()
  await (await seed(tmp))[Symbol.asyncDispose]()
  const { code, out } = await run(new TestIo(tmp.path), ['pause', 'shop'])
  assert.equal(code, 0)
  assert.match(out, /no runner now/)
})

test('tables are listed, added, removed and read again', async () => {
  await using tmp = await tempFolder()
  await using seeded = await seed(tmp)
  const runner = seeded.state
  const io = new TestIo(tmp.path)
  assert.match((await run(io, ['tables', 'shop'])).out, /public\."My Items" +"?My Items"? +streaming +id +1/)
  const listed = JSON.parse((await run(io, ['tables', 'shop', '--json'])).out) as { tables: { source: string }[] }
  assert.deepEqual(listed.tables.map((one) => one.source).toSorted(), ['other.orders', 'public."My Items"', 'public.orders'])
  const added = await run(io, ['tables', 'shop', 'add', 'public.new,x.*', 'y'])
  assert.equal(added.code, 0)
  assert.match(added.out, /add public\.new, x\.\*, y\nnot checked yet/)
  assert.equal((await run(io, ['tables', 'shop', 'remove', '"My Items"', 'other.orders'])).code, 0)
  assert.equal((await run(io, ['resnapshot', 'shop', '--tables', 'public.orders'])).code, 0)
  assert.equal((await run(io, ['resnapshot', 'shop', 'other.orders,public.orders', '"My Items"'])).code, 0)
  assert.equal((await run(io, ['resnapshot', 'shop'])).code, 0)
  const asked = await runner.requests()
  assert.deepEqual(
    asked.map(({ request }) => request),
    [
      { kind: 'add-tables', tables: ['public.new', 'x.*', 'y'] },
      { kind: 'remove-tables', tables: ['public."My Items"', 'other.orders'] },
      { kind: 'resnapshot', tables: ['public.orders'] },
      { kind: 'resnapshot', tables: ['other.orders', 'public.orders', 'public."My Items"'] },
      { kind: 'resnapshot', tables: listed.tables.map((one) => one.source) },
    ],
  )
  for (const [args, message] of [
    [['tables', 'shop', 'remove', 'orders'], /name of several tables[^]*other\.orders or public\.orders|public\.orders or other\.orders/],
    [['tables', 'shop', 'remove', 'public.oders'], /did you mean `public\.orders`/],
    [['tables', 'shop', 'remove', 'oders'], /did you mean/],
    [['tables', 'shop', 'remove', 'a..b'], /no table/],
    [['tables', 'shop', 'add'], /needs the name of a table/],
    [['tables', 'shop', 'add', 'a..b'], /is no table name/],
    [['tables', 'shop', 'add', '!a'], /tables remove leaves a table out/],
    [['resnapshot', 'shop', 'public.zebra'], /no table/],
    [['resnapshot', 'shop', '--tables', 'public.zebra'], /no table/],
  ] as const) {
    const { code, err } = await run(io, args)
    assert.equal(code, 2, args.join(' '))
    assert.match(err, message)
  }
  assert.equal((await runner.requests()).length, asked.length)
})

const RECORD = '{"before":null,"after":{"id":"1","note":"password=abc postgres://u:p@h \\u0000"}}'

test('dead letters are listed without their rows and shown exactly as they were', async () => {
  await using tmp = await tempFolder()
  await using seeded = await seed(tmp)
  const runner = seeded.state
  const io = new TestIo(tmp.path)
  assert.match((await run(io, ['dlq', 'list', 'shop'])).out, /no dead letters/)
  const letter = {
    table: tableId('public', 'orders'),
    op: 'insert',
    stage: 'sink',
    code: 'ROW_REJECTED',
    reason: 'too long',
    record: RECORD,
    at: 0,
  } as const
  await runner.saveDeadLetters([
    { ...letter, place: 'a' },
    { ...letter, place: 'b' },
    { ...letter, place: 'c' },
  ])
  const list = await run(io, ['dlq', 'list', 'shop', '--limit', '2'])
  assert.match(list.out, /public\.orders +insert +sink +ROW_REJECTED +1970-01-01T00:00:00\.000Z +too long/)
  assert.match(list.out, /3 in all; more after these: --after (\d+)/)
  assert.doesNotMatch(list.out, /note/)
  const after = /--after (\d+)/.exec(list.out)![1]!
  const rest = JSON.parse((await run(io, ['dlq', 'list', 'shop', '--after', after, '--json'])).out) as {
    total: number
    letters: { id: number; record?: unknown }[]
  }
  assert.deepEqual([rest.total, rest.letters.length, rest.letters[0]!.record], [3, 1, undefined])
  const id = String(rest.letters[0]!.id)
  const shown = await run(io, ['dlq', 'show', 'shop', id])
  assert.equal(shown.out.trimEnd().split('\n').at(-1), RECORD)
  const json = JSON.parse((await run(io, ['dlq', 'show', 'shop', id, '--json'])).out) as { record: unknown }
  assert.deepEqual(json.record, JSON.parse(RECORD))
  assert.equal((await run(io, ['dlq', 'show', 'shop', '999'])).code, 2)
})

test('reset and remove reach the ends as they are remembered, or as they are given', async () => {
  await using tmp = await tempFolder()
  await (await seed(tmp))[Symbol.asyncDispose]()
  const engine = fakeEngine()
  const io = new TestIo(tmp.path)
  const reset = await run(io, ['reset', 'shop'], { engine })
  assert.equal(reset.code, 0, reset.err)
  assert.match(reset.out, /dropped slot of shop\nshop starts over/)
  const given = await run(io, ['remove', 'shop', '--source', 'toy://me:hunter2@h/b', '--sink.password', 'x', '--json'], { engine })
  assert.deepEqual(JSON.parse(given.out), { ok: true, pipeline: 'shop', dropped: ['dropped slot of shop'] })
  await run(io, ['remove', 'shop', '--source', 'none'], { engine })
  const env = new TestIo(tmp.path, { TAILRACE_SOURCE: 'toy://elsewhere', TAILRACE_SINK: 'toy://:pw@g' })
  await run(env, ['remove', 'shop'], { engine })
  const seen = engine.managed.map(({ name, source, sink }) => [
    name,
    source?.config['user'],
    source?.config['password'],
    sink?.config['host'],
    sink?.config['password'],
  ])
  assert.deepEqual(seen, [
    ['shop', 'me', undefined, 'g', undefined],
    ['shop', 'me', 'hunter2', 'g', 'x'],
    ['shop', undefined, undefined, 'g', undefined],
    ['shop', 'me', undefined, 'g', 'pw'],
  ])
  assert.equal(engine.managed[2]!.source, null)
})

test('another place than the pipeline has is refused', async () => {
  await using tmp = await tempFolder()
  await (await seed(tmp))[Symbol.asyncDispose]()
  const engine = fakeEngine()
  const { code, err } = await run(new TestIo(tmp.path), ['remove', 'shop', '--source', 'toy://other'], { engine })
  assert.equal(code, 2)
  assert.match(err, /the source of shop is toy:\/\/me@h\/b, not what is given/)
  assert.equal(engine.managed.length, 0)
})

test('a state of one folder is not seen from another, but by --state', async () => {
  await using tmp = await tempFolder()
  await (await seed(tmp))[Symbol.asyncDispose]()
  await using elsewhere = await tempFolder()
  const io = new TestIo(elsewhere.path)
  assert.match((await run(io, ['status', 'shop'])).err, /no state is kept here yet/)
  const file = tmp.join('.tailrace', 'state.db')
  for (const state of [file, `sqlite:${file}`, `sqlite://${file}`])
    assert.equal((await run(io, ['status', 'shop', '--state', state])).code, 0, state)
  assert.equal((await run(new TestIo(elsewhere.path, { TAILRACE_STATE: file }), ['status', 'shop'])).code, 0)
})
