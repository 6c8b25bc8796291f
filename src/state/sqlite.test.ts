import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
  closeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, test } from 'node:test'
import type { Position } from '../model/position.ts'
import { tableId } from '../model/schema.ts'
import { schemaOf } from '../testing/sink-batches.ts'
import { seeded } from '../testing/sink-random-cases.ts'
import { storeSuite } from '../testing/store-suite.ts'
import { systemProcesses, thisHolder } from './lease.ts'
import { openStateFile, STATE_SCHEMA, translated, type StateSchema } from './sqlite-file.ts'
import { memoryStore } from './memory.ts'
import { openSqliteStore } from './sqlite.ts'
import type { ControlRequest, PipelineState, StateStore } from './store.ts'

const root = mkdtempSync(join(tmpdir(), 'tailrace-state-'))
after(() => rmSync(root, { recursive: true, force: true }))

let folders = 0
function freshFile(): string {
  return join(root, String(folders++), 'deeper', 'state.db')
}

const pair = { name: 'p', source: 'a', sink: 'b', sourceLabel: 'a', sinkLabel: 'b' }
const fixture = join(import.meta.dirname, '..', '..', 'test-data', 'state', 'v1', 'state.db')

storeSuite('sqlite', (options) => openSqliteStore(freshFile(), options))

function isDamaged(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    const { code, message, hint } = error as { code?: string; message: string; hint?: string }
    assert.equal(code, 'STATE_DAMAGED', message)
    assert.match(message, pattern)
    assert.ok(hint)
    return true
  }
}

async function filledFile(): Promise<string> {
  const file = freshFile()
  await using store = await openSqliteStore(file)
  await using state = await store.open(pair, thisHolder())
  const all = { kind: 'all' } as const
  const chunks = Array.from({ length: 3000 }, (_, id) => ({
    chunk: { id, range: all, rows: 1, bytes: 1 },
    view: null,
    done: false,
    rows: 0,
    bytes: 0,
  }))
  await state.saveChunks(tableId('public', 't'), chunks)
  return file
}

describe('the state file', () => {
  test('folder and file are for their owner only', async () => {
    const file = freshFile()
    await using store = await openSqliteStore(file)
    await using _state = await store.open(pair, thisHolder())
    assert.equal(statSync(join(file, '..')).mode & 0o777, 0o700)
    for (const name of readdirSync(join(file, '..'))) assert.equal(statSync(join(file, '..', name)).mode & 0o777, 0o600, name)
  })

  test('is durable by its settings: WAL and synchronous=FULL', () => {
    const database = openStateFile(freshFile())
    assert.equal(database.prepare('PRAGMA journal_mode').get()?.['journal_mode'], 'wal')
    assert.equal(database.prepare('PRAGMA synchronous').get()?.['synchronous'], 2)
    database.close()
  })

  test('two that make it at once agree on one file', async () => {
    const file = freshFile()
    const stores = await Promise.all([openSqliteStore(file), openSqliteStore(file), openSqliteStore(file)])
    await (await stores[0]!.open(pair, thisHolder()))[Symbol.asyncDispose]()
    for (const store of stores) assert.equal((await store.list()).length, 1)
    for (const store of stores) await store[Symbol.asyncDispose]()
    assert.deepEqual(readdirSync(join(file, '..')), ['state.db'])
  })

  test('a damaged file is refused and left as it is', async () => {
    const spoil: Record<string, (file: string) => void> = {
      garbage: (file) => writeFileSync(file, Buffer.alloc(5000, 'x')),
      empty: (file) => truncateSync(file, 0),
      cut: (file) => truncateSync(file, 8192),
      overwritten: (file) => {
        const handle = openSync(file, 'r+')
        for (let page = 2; page * 4096 < statSync(file).size; page++) writeSync(handle, Buffer.alloc(4096, page), 0, 4096, page * 4096)
        closeSync(handle)
      },
      foreign: (file) => {
        rmSync(file)
        const database = new DatabaseSync(file)
        database.exec('CREATE TABLE t (a)')
        database.close()
      },
    }
    for (const [how, damage] of Object.entries(spoil)) {
      const file = await filledFile()
      damage(file)
      const before = readFileSync(file)
      await assert.rejects(openSqliteStore(file), isDamaged(/cannot be used/), how)
      assert.ok(before.equals(readFileSync(file)), how)
    }
  })

  test('a file that is gone but left its write-ahead log is not made anew', async () => {
    const file = await filledFile()
    writeFileSync(`${file}-wal`, 'left')
    rmSync(file)
    await assert.rejects(openSqliteStore(file), isDamaged(/write-ahead log is there/))
    assert.equal(existsSync(file), false)
  })

  test('one that may not be written says so', { skip: process.getuid?.() === 0 ? 'root may write everything' : false }, async () => {
    const file = await filledFile()
    chmodSync(file, 0o400)
    await assert.rejects(openSqliteStore(file), { code: 'ENVIRONMENT' })
  })

  test('a full disk is said to be full', () => {
    const file = freshFile()
    const database = openStateFile(file)
    database.exec('PRAGMA max_page_count = 1')
    const fill = (): void => database.exec(`INSERT INTO meta VALUES ('big', hex(randomblob(100000)))`)
    assert.throws(() => translated(file, fill), { code: 'ENVIRONMENT', message: /no space is left/ })
    database.close()
  })
})

describe('versions of the state file', () => {
  const version = STATE_SCHEMA.version + 1
  const next: StateSchema = {
    version,
    create: `${STATE_SCHEMA.create}; ALTER TABLE pipelines ADD COLUMN colour TEXT`,
    migrations: [...STATE_SCHEMA.migrations, { to: version, sql: 'ALTER TABLE pipelines ADD COLUMN colour TEXT' }],
  }

  function copyOfFixture(): string {
    const file = join(mkdtempSync(join(root, 'v')), 'state.db')
    cpSync(fixture, file)
    return file
  }

  test('the file that release 1 wrote is read by this one', async () => {
    await using store = await openSqliteStore(copyOfFixture())
    const [record] = await store.list()
    assert.deepEqual([record?.name, record?.position, record?.epoch, record?.holder], ['fixture', '0/16B3748', 1, null])
    await using state = await store.open({ ...record!, sourceLabel: 'x', sinkLabel: 'y' }, thisHolder())
    const [table] = await state.tables()
    assert.equal(table?.schema.columns[0]?.name, 'id')
    assert.equal(table?.terms, null)
    assert.equal((await state.chunks(table!.id))[0]?.done, true)
    assert.equal((await state.views()).length, 1)
    assert.equal(await state.memory.get('slot'), 'tailrace_fixture')
    assert.equal((await store.deadLetters('fixture', { limit: 9 })).length, 1)
    assert.equal((await state.requests()).length, 1)
  })

  test('the file that release 2 wrote is read by this one', async () => {
    const file = join(mkdtempSync(join(root, 'v')), 'state.db')
    cpSync(join(import.meta.dirname, '..', '..', 'test-data', 'state', 'v2', 'state.db'), file)
    await using store = await openSqliteStore(file)
    const [table] = await store.tables('fixture')
    assert.deepEqual(table?.terms, { where: 'total > 0', columns: null, excluded: ['note'], key: null, asked: 'in', strangers: 'none' })
  })

  test('an older file is migrated, a copy of it is kept and can be read by the older release', async () => {
    const file = copyOfFixture()
    const database = openStateFile(file, next)
    assert.equal(database.prepare('SELECT colour FROM pipelines').get()?.['colour'], null)
    database.close()
    assert.equal(statSync(`${file}.v1`).mode & 0o777, 0o600)
    await using store = await openSqliteStore(`${file}.v1`)
    assert.equal((await store.list()).length, 1)
    openStateFile(file, next).close()
  })

  test('a migration that fails leaves the older file', () => {
    const file = copyOfFixture()
    const broken = { ...next, migrations: [...next.migrations, { to: version, sql: 'CREATE TABLE meta (a)' }] }
    assert.throws(() => openStateFile(file, broken))
    openStateFile(file, next).close()
  })

  test('a newer file is refused and left as it is', async () => {
    const file = copyOfFixture()
    openStateFile(file, next).close()
    const before = readFileSync(file)
    await assert.rejects(
      openSqliteStore(file),
      isDamaged(new RegExp(`newer release: schema ${version}, this one knows ${STATE_SCHEMA.version}`)),
    )
    assert.ok(before.equals(readFileSync(file)))
  })
})

/** A process that holds pipeline p and counts up positions and dead letters, saying each once it is stored. */
const writer = `
  const { openSqliteStore } = await import(process.argv[1])
  const { thisHolder } = await import(process.argv[2])
  const store = await openSqliteStore(process.argv[3])
  const pair = { name: process.argv[4], source: 'a', sink: 'b', sourceLabel: 'a', sinkLabel: 'b' }
  const state = await store.open(pair, thisHolder())
  const most = Number(process.argv[5])
  for (let n = 1; n <= most; n++) {
    await state.saveDeadLetters([{ table: 't', place: String(n), op: 'insert', stage: 'sink', code: 'c', reason: 'r', record: '{}', at: 1 }])
    await state.savePosition(String(n))
    process.stdout.write(n + '\\n')
  }
  await state[Symbol.asyncDispose]()
`

function startWriter(file: string, name: string, most: number): ReturnType<typeof spawn> {
  const modules = ['./sqlite.ts', './lease.ts'].map((path) => new URL(path, import.meta.url).href)
  return spawn(process.execPath, ['--input-type=module', '-e', writer, ...modules, file, name, String(most)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
}

describe('several processes', () => {
  test('kill -9 loses nothing that was acknowledged, and the lease is free at once', async () => {
    const file = freshFile()
    for (let round = 1; round <= 2; round++) {
      const child = startWriter(file, 'p', 1_000_000)
      const exited = once(child, 'exit')
      let last = 0
      for await (const line of createInterface(child.stdout!)) {
        last = Number(line)
        if (last >= 50 * round) child.kill('SIGKILL')
      }
      await exited
      await using store = await openSqliteStore(file)
      await using state = await store.open(pair, thisHolder())
      assert.equal(state.epoch, round * 2)
      const position = Number((await state.record()).position)
      assert.ok(position >= last && position <= last + 1, `${position} stored, ${last} said`)
      assert.ok((await store.countDeadLetters('p')) >= position)
    }
  })

  test('a living holder in another process is named, and keeps its pipeline', async () => {
    const file = freshFile()
    const child = startWriter(file, 'p', 1_000_000)
    await once(child.stdout!, 'data')
    await using store = await openSqliteStore(file)
    await assert.rejects(store.open(pair, thisHolder()), {
      code: 'HELD',
      message: new RegExp(`process ${child.pid} on host ${systemProcesses().host} since 20`),
    })
    child.kill('SIGKILL')
    await once(child, 'exit')
    await using state = await store.open(pair, thisHolder())
    assert.equal(state.epoch, 2)
  })

  test('a take-over by one connection fences the other', async () => {
    const file = freshFile()
    const living = new Map([
      [1, 'a'],
      [2, 'b'],
    ])
    const processes = { host: 'here', started: (pid: number) => living.get(pid) ?? null }
    await using one = await openSqliteStore(file, { processes })
    await using two = await openSqliteStore(file, { processes })
    await using older = await one.open(pair, { host: 'here', pid: 1, started: 'a' })
    await older.savePosition('1' as Position)
    await assert.rejects(two.open(pair, { host: 'here', pid: 2, started: 'b' }), { code: 'HELD' })
    living.delete(1)
    await using newer = await two.open(pair, { host: 'here', pid: 2, started: 'b' })
    await assert.rejects(older.savePosition('2' as Position), { code: 'FENCED' })
    await assert.rejects(older.saveDeadLetters([]), { code: 'FENCED' })
    assert.deepEqual([(await newer.record()).position, newer.epoch], ['1', 2])
  })

  test('write to one file at once without losing or refusing anything', async () => {
    const file = freshFile()
    const children = ['p', 'q', 'r'].map((name) => startWriter(file, name, 200))
    for (const child of children) child.stdout!.resume()
    const codes = await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0] as number))
    assert.deepEqual(codes, [0, 0, 0])
    await using store = await openSqliteStore(file)
    for (const record of await store.list()) {
      assert.deepEqual([record.position, record.holder, await store.countDeadLetters(record.name)], ['200', null, 200])
    }
  })
})

test('does what the memory store does, whatever is asked (seeded)', async () => {
  const random = seeded(11)
  const clock = (): number => 5
  await using sqlite = await openSqliteStore(freshFile(), { clock })
  await using memory = memoryStore({ clock })
  for (let run = 0; run < 6; run++) {
    const name = run % 2 === 0 ? 'p' : 'q'
    await using a = await sqlite.open({ ...pair, name }, thisHolder())
    await using b = await memory.open({ ...pair, name }, thisHolder())
    for (let n = 0; n < 60; n++) {
      const step = randomStep(random)
      assert.deepEqual(await step(a, sqlite), await step(b, memory))
      assert.deepEqual(await everything(a, sqlite), await everything(b, memory))
    }
  }
})

type Step = (state: PipelineState, store: StateStore) => Promise<unknown>

function randomStep(random: () => number): Step {
  const pick = <T>(...from: readonly T[]): T => from[Math.floor(random() * from.length)]!
  const id = tableId('public', pick('a', 'b', 'c'))
  const number = Math.floor(random() * 5)
  const chunk = {
    chunk: { id: number, range: { kind: 'all' }, rows: -1, bytes: -1 },
    view: pick(null, 1),
    done: pick(true, false),
    rows: 3,
    bytes: 4,
  } as const
  const letter = {
    table: id,
    place: String(number),
    op: 'insert',
    stage: 'sink',
    code: 'C',
    reason: 'r',
    record: String(random()),
    at: 1,
  } as const
  const schema = schemaOf({ name: String(number), columns: [{ name: 'id', type: { kind: 'int32' } }] })
  // Drawn here: a step runs twice.
  const position = pick(null, String(number) as Position)
  const table = {
    id,
    state: pick('copying', 'streaming'),
    schema,
    target: { namespace: pick(null, 'x'), name: 't' },
    rule: pick(null, 'chunk', 'table'),
    counters: pick(null, '{}'),
    terms: pick(null, { where: null, columns: null, excluded: [], key: ['a'], asked: 'out', strangers: 'none' } as const),
  } as const
  const chunks = pick([], [chunk])
  const remembered = pick(null, 'v', '')
  const request = pick<ControlRequest>(
    { kind: 'pause' },
    { kind: 'resume' },
    { kind: 'resnapshot', tables: [id] },
    { kind: 'add-tables', tables: ['x'] },
  )
  const startsOver = random() < 0.2
  return pick<Step>(
    (state) => state.savePosition(position),
    (state) => state.saveReport(String(number)),
    (state) => state.saveTable(table),
    (state) => state.saveChunks(id, chunks),
    (state) => state.saveChunk(id, chunk),
    async (state) => void (await state.saveView({ view: null, viewEnd: null })),
    (state) => state.saveDeadLetters([letter, letter]),
    (state) => state.memory.set(String(number), remembered),
    (_, store) => store.request('p', request),
    async (state) => {
      for (const pending of (await state.requests()).slice(0, number)) await state.forgetRequest(pending.id)
    },
    (state) => (startsOver ? state.reset() : state.heartbeat()),
  )
}

/** All that can be read; ids of views and letters differ between stores, their order does not. */
async function everything(state: PipelineState, store: StateStore): Promise<unknown> {
  const letters = await store.deadLetters(state.name, { limit: 100 })
  const chunks = await Promise.all(['a', 'b', 'c'].map((name) => state.chunks(tableId('public', name))))
  const memory = await Promise.all(['0', '1', '2', '3', '4'].map((key) => state.memory.get(key)))
  return [
    await state.record(),
    await store.list(),
    await state.tables(),
    chunks,
    (await state.views()).length,
    memory,
    letters.map((letter) => ({ ...letter, id: 0 })),
    await state.desired(),
  ]
}

test('a position is stored in constant time, however much the store holds', async () => {
  const file = await filledFile()
  await using store = await openSqliteStore(file)
  await using state = await store.open(pair, thisHolder())
  const plan = new DatabaseSync(file, { readOnly: true })
  for (const sql of [
    'UPDATE pipelines SET position = 1 WHERE id = 1 AND epoch = 2',
    `INSERT OR REPLACE INTO chunks SELECT * FROM chunks WHERE pipeline = 'p' AND table_id = 't' AND id = 5`,
    `SELECT id, request FROM requests WHERE pipeline = 'p' ORDER BY id`,
    `SELECT * FROM dead_letters WHERE pipeline = 'p' AND id > 5 ORDER BY id LIMIT 3`,
  ]) {
    const steps = plan
      .prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map((row) => String(row['detail']))
    assert.ok(
      steps.every((step) => step.startsWith('SEARCH')),
      `${sql}: ${steps.join('; ')}`,
    )
  }
  plan.close()
  await state.savePosition('1' as Position)
})
