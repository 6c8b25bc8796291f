import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { after, before, test } from 'node:test'
import { PgConnection } from '../../src/connectors/postgres/wire/connection.ts'
import { PgError } from '../../src/connectors/postgres/wire/pg-error.ts'
import { copyTextToSlice, stripFrames } from '../../src/connectors/postgres/source/copy-rows.ts'
import { StreamReader } from '../../src/connectors/postgres/source/stream-reader.ts'
import type { StreamBatch } from '../../src/model/batch.ts'
import { changesOf, changesOfSlice } from '../../src/model/row-view.ts'
import { tableId, type TableSchema } from '../../src/model/schema.ts'
import { TailraceError } from '../../src/sdk/errors.ts'
import { startPostgres, type PostgresServer } from '../../src/testing/postgres-server.ts'
import type { Random } from '../kit/random.ts'
import { MAJOR } from '../kit/source-database.ts'
import { fuzz, FUZZ_SECONDS, inPieces, mutated, pick, randomBytes } from './mutate.ts'
import { lyingServer, message, optionsFor, record, type LyingServer, type Recording } from './servers.ts'

const NEVER = new AbortController().signal
const COLUMNS = 5
const SETUP = `
  CREATE TABLE t (id int PRIMARY KEY, a text, b bytea, c numeric, d timestamptz);
  ALTER TABLE t ALTER a SET STORAGE EXTERNAL;
  INSERT INTO t SELECT i, CASE i % 4 WHEN 0 THEN NULL WHEN 1 THEN E'tab\\t, line\\n, \\\\ back' ELSE 'row ' || i END, decode(md5(i::text), 'hex'), i / 7.0, '2024-01-01' FROM generate_series(1, 200) i;
  CREATE TABLE k (n int, w text); ALTER TABLE k REPLICA IDENTITY FULL; INSERT INTO k VALUES (1, 'x'), (1, 'x')`
const CHANGES = [
  `INSERT INTO t VALUES (1000, repeat('long ', 2000), NULL, 1.5, now()); UPDATE t SET c = 2 WHERE id = 1000; UPDATE t SET id = 1001 WHERE id = 1000; DELETE FROM t WHERE id < 20`,
  `BEGIN; INSERT INTO k SELECT i, 'w' FROM generate_series(1, 20) i; UPDATE k SET w = 'y' WHERE n = 1; DELETE FROM k WHERE n = 2; TRUNCATE k; COMMIT`,
  `ALTER TABLE t ADD e int; INSERT INTO t VALUES (2000, 'x', '\\x00', 1, now(), 5); SELECT pg_logical_emit_message(true, 'p', 'message')`,
]

function schemaOf(name: string, columns: number): TableSchema {
  const named = Array.from({ length: columns }, (_, i) => ({ name: `c${i}`, type: { kind: 'string' } }))
  return { id: tableId('public', name), columns: named, key: [0] } as unknown as TableSchema
}

/** Reads a COPY to its end, in the form that is asked for. */
async function copyAll(connection: PgConnection, sql: string, text: boolean): Promise<number> {
  await using copy = await connection.copyOut(sql)
  let bytes = 0
  for (let stretch = await copy.next(); stretch !== null; stretch = await copy.next()) {
    if (text) changesOfSlice(copyTextToSlice(schemaOf('t', COLUMNS), stretch.data), null)
    else bytes += stripFrames(stretch.data).length
    stretch.release()
  }
  return bytes + copy.rows
}

/** Reads a change stream until it ends or has given so many batches; every value must lie in its batch. */
async function streamAll(connection: PgConnection, command: string, enough: (batch: StreamBatch) => boolean): Promise<void> {
  await using reader = new StreamReader(connection, {
    system: '1',
    timeline: 1,
    slot: 's',
    publication: 'p',
    from: 0n,
    maxBatch: { rows: 50, bytes: 1 << 20 },
    clock: Date.now,
    silenceMillis: 20_000,
  })
  await reader.start(command)
  for (;;) {
    const next = await reader.next()
    if (next === null) return
    if ('kind' in next) {
      reader.answer((assembler, _buffer, targets) => {
        if (next.kind === 'truncate') return
        const { relation } = next
        const target = assembler.target(schemaOf(relation.name, relation.columns.length), Int16Array.from(relation.columns.keys()))
        targets.set(relation.id, target)
      })
      continue
    }
    changesOf(next)
    for (const { starts, lengths, bytes } of next.slices)
      for (const [cell, length] of lengths.entries())
        assert.ok(length < 0 || starts[cell]! + length <= bytes.length, 'a value outside of its batch')
    if (enough(next)) return
  }
}

interface Scene {
  readonly title: string
  readonly replication?: boolean
  run(connection: PgConnection): Promise<unknown>
}

let commits = 0
const SCENES: readonly Scene[] = [
  {
    title: 'results of the simple protocol',
    run: (connection) => connection.query('SELECT * FROM t; SELECT 1 AS x; DO $$BEGIN RAISE NOTICE $x$hello$x$; END$$'),
  },
  { title: 'results of the extended protocol', run: (connection) => connection.execute('SELECT * FROM t WHERE id < $1::int', ['50']) },
  { title: 'an error of the server', run: (connection) => connection.query(`SELECT 1; SELECT 1 / 0`) },
  { title: 'COPY as text', run: (connection) => copyAll(connection, 'COPY (SELECT id, a, b, c, d FROM t WHERE id < 200) TO STDOUT', true) },
  { title: 'COPY in binary', run: (connection) => copyAll(connection, 'COPY t TO STDOUT (FORMAT binary)', false) },
  {
    title: 'COPY to the server',
    run: async (connection) => {
      await using copy = await connection.copyIn('COPY k FROM STDIN')
      await copy.writePayload(Buffer.from('5\tfive\n'))
      return copy.finish()
    },
  },
  {
    title: 'the change stream',
    replication: true,
    run: (connection) =>
      streamAll(connection, `START_REPLICATION SLOT s LOGICAL 0/0 (proto_version '1', publication_names 'p')`, (batch) => {
        commits += batch.transactions.filter(({ end }) => end !== null).length
        return commits >= CHANGES.length
      }),
  },
]

let postgres: PostgresServer
let liar: LyingServer
const recordings = new Map<string, Recording>()

before(async () => {
  postgres = await startPostgres({ major: MAJOR })
  liar = await lyingServer()
  await using admin = await PgConnection.connect(optionsFor(postgres.port), NEVER)
  await admin.query(SETUP)
  await admin.query('CREATE PUBLICATION p FOR ALL TABLES')
  await admin.query(`SELECT pg_create_logical_replication_slot('s', 'pgoutput')`)
  for (const sql of CHANGES) await admin.query(sql)
  await using recorder = await record(postgres)
  for (const scene of SCENES) {
    const connection = await PgConnection.connect(optionsFor(recorder.port, { replication: scene.replication === true }), NEVER)
    await scene.run(connection).catch((error: unknown) => assert.ok(error instanceof PgError, scene.title))
    connection.destroy()
    const recording = recorder.taken()
    assert.ok(recording.answers.length > 20, scene.title)
    recordings.set(scene.title, recording)
  }
})

after(async () => {
  await liar[Symbol.asyncDispose]()
  await postgres[Symbol.asyncDispose]()
})

const EXPECTED_CODES: ReadonlySet<string> = new Set(['PROTOCOL', 'UNREACHABLE', 'NOT_ALLOWED', 'SOURCE_FAILED', 'ABORTED'])
const MOST_SECONDS = 15

/** Whatever comes of it is a result, an error of the server, or one that says what is wrong; and it comes. */
async function settles(what: string, work: () => Promise<unknown>): Promise<boolean> {
  const late = new AbortController()
  const patience = sleep(MOST_SECONDS * 1000, null, { signal: late.signal }).then(
    () => assert.fail(`${what} hangs`),
    () => null,
  )
  try {
    await Promise.race([work(), patience])
    return true
  } catch (error) {
    if (error instanceof PgError) return false
    assert.ok(error instanceof TailraceError, `${what}: ${error instanceof Error ? error.stack : String(error)}`)
    // What the server says may mean anything of the catalogue; what we say of the server may not.
    const bySay = error.cause instanceof PgError
    assert.ok(
      bySay || EXPECTED_CODES.has(error.code),
      `${what}: ${error.code} ${error.message} ${error.cause instanceof Error ? error.cause.stack : ''}`,
    )
    return false
  } finally {
    late.abort()
  }
}

async function session(scene: Scene, more: Parameters<typeof optionsFor>[1] = {}): Promise<void> {
  const connection = await PgConnection.connect(optionsFor(liar.port, { replication: scene.replication === true, ...more }), NEVER)
  try {
    commits = -1000
    await scene.run(connection)
  } finally {
    connection.destroy()
  }
}

for (const scene of SCENES) {
  test(`${scene.title}: damaged, cut short, in any pieces`, async (t) => {
    const { login, answers } = recordings.get(scene.title)!
    let good = 0
    const rounds = await fuzz(async (random) => {
      const then = random.next() < 0.1 ? answers : mutated(random, answers)
      liar.say(inPieces(random, login), inPieces(random, then))
      if (await settles(scene.title, () => session(scene))) good++
    }, FUZZ_SECONDS / 2)
    t.diagnostic(`${rounds} answers, ${good} of them taken for good`)
  })
}

test('a log-in that is damaged, or no PostgreSQL at all', async () => {
  const { login } = recordings.get('an error of the server')!
  await fuzz(async (random) => {
    const said = random.next() < 0.3 ? randomBytes(random, random.between(0, 300)) : mutated(random, login)
    liar.say([...inPieces(random, said), message('Z', 'I')], [])
    await settles('a log-in', () => session(SCENES[0]!, { connectTimeoutMs: 3000 }))
  }, FUZZ_SECONDS / 2)
})

/** What a server may say in a log-in, in any order. */
function challenge(random: Random): Buffer {
  const text = pick(random, ['r=x,s=YQ==,i=4096', 'r=,s=,i=', 'i=1e3,r=abc,s=YQ==', 'r=abc,s=YQ==,i=4096.5', 'v=YQ==', 'e=other-error', ''])
  return pick(random, [
    message('R', 3),
    message('R', 5, randomBytes(random, random.between(0, 6))),
    message('R', 10, 'SCRAM-SHA-256\0\0'),
    message('R', 10, 'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0'),
    message('R', 10, randomBytes(random, random.between(0, 30))),
    message('R', 11, text),
    message('R', 12, text),
    message('R', random.between(1, 20)),
    message('R'),
    message('R', '\0\0'),
    message('S', 'server_version\u000018.0\0'),
    message('S', 'no end'),
    message('K', 1),
    message('K', 1, 2),
  ])
}

test('no order of messages passes for a log-in that the server has not proved', async () => {
  await fuzz(async (random) => {
    const said = Array.from({ length: random.between(0, 6) }, () => challenge(random))
    // SCRAM is begun, and never proved: nobody here knows the password.
    const begun = message('R', 10, 'SCRAM-SHA-256\0\0')
    liar.say([Buffer.concat([begun, ...said, message('R', 0), message('Z', 'I')])], [])
    const taken = await settles('a log-in', () => session(SCENES[0]!))
    assert.equal(taken, false)
  }, FUZZ_SECONDS / 2)
  for (const said of [[message('Z', 'I')], [message('S', 'a\0b\0'), message('Z', 'I')]]) {
    liar.say([Buffer.concat(said)], [])
    await assert.rejects(session(SCENES[0]!), {
      name: 'TailraceError',
      code: 'PROTOCOL',
      message: /ready for queries before anybody has logged in/,
    })
  }
  liar.say([Buffer.concat([message('R', 10, 'SCRAM-SHA-256\0\0'), message('R', 0), message('Z', 'I')])], [])
  await assert.rejects(session(SCENES[0]!), {
    name: 'TailraceError',
    code: 'PROTOCOL',
    message: /broke a SCRAM exchange off|before anybody has logged in/,
  })
})

test('a length that nobody sends costs no memory', async () => {
  const { login } = recordings.get('an error of the server')!
  const start = process.memoryUsage.rss()
  for (let i = 0; i < 20; i++) {
    const head = Buffer.from([0x44, 0x3f, 0xff, 0xff, 0xff])
    liar.say([login], [head, Buffer.alloc(1000)])
    await assert.rejects(session(SCENES[0]!), { code: 'UNREACHABLE' })
  }
  const grown = process.memoryUsage.rss() - start
  assert.ok(grown < 200 << 20, `${Math.round(grown / 2 ** 20)} MB`)
})
