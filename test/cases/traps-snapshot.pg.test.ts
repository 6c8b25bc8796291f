import assert from 'node:assert/strict'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { HOLDING_TRANSFORM, onePipeline, targetValue, type OnePipeline } from '../kit/one-pipeline.ts'
import { killInSnapshot } from '../kit/kill-in-snapshot.ts'
import { Random } from '../kit/random.ts'
import type { LedgerChunk } from '../kit/run-cli.ts'
import { createHardTables, HARD_TABLES, slots, type SlotRow } from '../kit/source-database.ts'
import { Writer } from '../kit/write-load.ts'
import { openSqlite } from '../kit/sqlite-file.ts'

const SMALL_CHUNKS = ['--source.chunk-bytes', '65536', '--workers', '1']

const killAt = (p: OnePipeline, part: number, args: readonly string[] = SMALL_CHUNKS): Promise<void> =>
  killInSnapshot(p, part, ['--follow', ...args])

test('TRAP 1, 3: rows that move between pages between the views of a table without usable key ranges: read again whole', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 40_000, bodyBytes: 2500 })
  const args = ['--tables', 'people', ...SMALL_CHUNKS]
  await killAt(p, 0.5, args)
  await p.source.query('DELETE FROM people WHERE n % 3 = 0')
  await p.source.query('VACUUM people')
  // Into the room at the front of the table: unread rows move to pages that were read, with an unchanged TOAST value.
  await p.source.query('UPDATE people SET n = n + 1')
  await p.source.query('CLUSTER people USING people_pkey')
  await p.catchUp(args)
  await p.equal('people')
})

test('TRAP 2: 1 → 2 with unchanged columns and a new row 1 between two views: the value of 2 is its own', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 20_000 })
  await killAt(p, 0.5)
  await p.source.query(`UPDATE orders SET id = 1001 WHERE id = 1000; INSERT INTO orders (id, n, body) VALUES (1000, 1, 'C')`)
  await p.source.query(`UPDATE orders SET id = 199001 WHERE id = 2000; INSERT INTO orders (id, n, body) VALUES (2000, 1, 'C')`)
  await p.source.query(`UPDATE orders SET id = 1501 WHERE id = 199000; INSERT INTO orders (id, n, body) VALUES (199000, 1, 'C')`)
  await p.catchUp(SMALL_CHUNKS)
  await p.equal('orders')
})

for (const seed of [1, 2, 3]) {
  test(`TRAP 4: killed in the snapshot, keys move across chunks with UNCHANGED values, killed again while converging: equal (seed ${seed})`, async () => {
    const rows = 20_000
    await using p = await onePipeline()
    await createHardTables(p.source, { rows })
    const random = new Random(seed)
    await killAt(p, 0.3 + random.next() * 0.4)
    assert.equal(p.state().tables.get('public.orders')?.rule, 'chunk')
    const writer = new Writer(await p.source.session(), { seed, rows })
    for (let i = 0; i < 60; i++) await writer.transaction()
    // Chains within one transaction: a hole that moves on, one that is deleted, one that another row follows.
    const session = await p.source.session()
    for (const [a, b] of [
      [100, 1900],
      [1900, 100],
    ]) {
      for (let i = 1; i <= 5; i++) {
        const [from, to] = [(a ?? 0) * 100 + i * 1000, (b ?? 0) * 100 + i * 1000 + 7]
        await session.query(
          `BEGIN; UPDATE orders SET id = ${to} WHERE id = ${from}; UPDATE orders SET n = n + 1 WHERE id = ${to}; UPDATE orders SET id = ${to + 1} WHERE id = ${to}; COMMIT`,
        )
        if (i % 2 === 0) await session.query(`DELETE FROM orders WHERE id = ${to + 1}`)
        if (i % 3 === 0) await session.query(`INSERT INTO orders (id, n) VALUES (${to}, 3)`)
      }
    }
    await killAt(p, 0.85)
    for (let i = 0; i < 30; i++) await writer.transaction()
    for (let i = 0; i < 3; i++) {
      // Converging: the stream runs to the newest view; it is killed on its way.
      await using cli = p.sync(['--follow', ...SMALL_CHUNKS])
      const before = p.state().position
      await cli.until('a newer position', () => p.state().position !== before)
      await cli.kill()
      for (let j = 0; j < 10; j++) await writer.transaction()
    }
    await p.catchUp(SMALL_CHUNKS)
    await p.equal(...HARD_TABLES)
  })
}

/** Holds what the stream brings while the file `hold` is there, and lets the rows of the snapshot through. */
const HOLDING_STREAM = HOLDING_TRANSFORM.replaceAll("existsSync('hold')", "(change.op !== 'read' && existsSync('hold'))")

test('TRAP 5: until the stream has passed the newest view a table is converging, and streaming after', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 20_000 })
  await killAt(p, 0.5)
  // Of a range that was read in the first view: no fence keeps it from the transform.
  const [first] = p.state().chunks.filter((chunk) => chunk.table === 'public.orders' && chunk.done)
  assert.ok(first !== undefined)
  await p.source.query(`UPDATE orders SET n = n + 1 WHERE id <= ${Number(first.to) - 1}`)
  writeFileSync(p.folder.join('hold.ts'), HOLDING_STREAM)
  writeFileSync(p.folder.join('hold'), '')
  await using cli = p.sync(['--until', 'caught-up', ...SMALL_CHUNKS, '--transform', 'hold.ts'])
  await cli.until('a change held', () => existsSync(p.folder.join('held')))
  const { tables, chunks } = p.state()
  assert.ok(chunks.every((chunk) => chunk.done))
  assert.equal(tables.get('public.orders')?.state, 'converging')
  assert.ok(cli.running, '--until waits for it')
  rmSync(p.folder.join('hold'))
  assert.equal((await cli.ended()).code, 0, cli.stderr)
  assert.deepEqual(new Set([...p.state().tables.values()].map((table) => table.state)), new Set(['streaming']))
  await p.equal(...HARD_TABLES)
})

test('TRAP 4c: a row that must be fetched when its table has got a column meanwhile: the table is read again, with its values', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 20_000 })
  await killAt(p, 0.5)
  const [first] = p.state().chunks.filter((chunk) => chunk.table === 'public.orders' && chunk.done)
  assert.ok(first !== undefined)
  // First a batch that is held, and something that travels alone; then a row comes from a range of the later view to a key of the
  // first, without its large value.
  await p.source.query(`UPDATE orders SET n = n + 1 WHERE id <= ${Number(first.to) - 1}`)
  const [moved] = await p.source.query<{ id: string }>(
    `SELECT id FROM orders WHERE id > 150000 AND body IS NOT NULL ORDER BY id DESC LIMIT 1`,
  )
  await p.source.query('TRUNCATE notes')
  await p.source.query(`UPDATE orders SET id = 15 WHERE id = ${moved?.id}`)
  writeFileSync(p.folder.join('hold.ts'), HOLDING_STREAM)
  writeFileSync(p.folder.join('hold'), '')
  await using cli = p.sync(['--until', 'caught-up', ...SMALL_CHUNKS, '--transform', 'hold.ts'])
  await cli.until('a change held', () => existsSync(p.folder.join('held')))
  await p.source.query(`ALTER TABLE orders ADD COLUMN extra text; UPDATE orders SET extra = 'more' WHERE id IN (15, 20)`)
  rmSync(p.folder.join('hold'))
  assert.equal((await cli.ended()).code, 0, cli.stderr)
  await p.catchUp(SMALL_CHUNKS)
  await p.equal(...HARD_TABLES)
})

test('TRAP 6: a table that was never vacuumed or analysed is cut all the same, and its first and last range are open', async () => {
  await using p = await onePipeline({ autovacuum: 'off' })
  await p.source.query(`CREATE TABLE fresh (id integer PRIMARY KEY, v text)`)
  await p.source.query(`INSERT INTO fresh SELECT i, repeat('v', 500) FROM generate_series(1, 2000) i`)
  const [statistics] = await p.source.query<{ relpages: number }>(`SELECT relpages FROM pg_class WHERE relname = 'fresh'`)
  assert.equal(statistics?.relpages, 0)
  await createHardTables(p.source, { rows: 10_000 })
  await killAt(p, 0.5)
  const ranges = (table: string): readonly LedgerChunk[] => p.state().chunks.filter((chunk) => chunk.table === table)
  assert.ok(ranges('public.fresh').length > 3, 'its size is asked of its file')
  assert.equal(ranges('public.fresh').at(-1)?.to, null)
  assert.equal(ranges('public.orders')[0]?.kind, 'key')
  assert.deepEqual([ranges('public.orders')[0]?.from, ranges('public.orders').at(-1)?.to], [null, null])
  // Before and behind all that was there when the ranges were cut; the next view shows these rows.
  await p.source.query(`INSERT INTO orders (id, n) VALUES (-1000000, 1), (1000000000, 2); INSERT INTO fresh VALUES (-1, 'a'), (3000, 'b')`)
  await p.catchUp(SMALL_CHUNKS)
  await p.equal('fresh', ...HARD_TABLES)
})

test('TRAP 7: a table may be rewritten while the slot waits for others, and no row is lost by it', async () => {
  await using p = await onePipeline()
  await p.source.query(
    `CREATE TABLE t (id integer PRIMARY KEY, n integer); INSERT INTO t SELECT i, i FROM generate_series(1, 1000) i; CREATE TABLE other (i integer)`,
  )
  const blocker = await p.source.session()
  await blocker.query('BEGIN; INSERT INTO other VALUES (1)')
  await using cli = p.sync(['--follow', '--tables', 't'])
  await cli.until('the slot being made', async () => (await slots(p.source)).length === 1)
  const ddl = await p.source.session()
  // Nothing is locked while others are waited for (Invariant 9).
  await ddl.query(`SET lock_timeout = '5s'`)
  await ddl.query('ALTER TABLE t ALTER n TYPE bigint')
  await blocker.query('COMMIT')
  await p.source.query('INSERT INTO t VALUES (5000000, 5000000000)')
  await cli.until('the row behind the ALTER', () => targetValue(p.targetFile, 'SELECT count(*) FROM t') === 1001)
  await p.equal('t')
})

test('TRAP 9: an open transaction elsewhere makes the slot wait; Ctrl-C ends the run soon all the same', async () => {
  await using p = await onePipeline()
  await p.source.query('CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1)')
  await p.source.query('CREATE DATABASE other')
  const blocker = await p.source.session(p.source.server.uri('other'))
  await blocker.query('BEGIN; SELECT pg_current_xact_id()')
  {
    await using cli = p.sync(['--follow'])
    await cli.until('the slot waiting', async () => (await slots(p.source)).length === 1)
    cli.interrupt()
    // The transaction elsewhere is open still.
    await cli.ended()
  }
  await blocker.query('COMMIT')
  await p.catchUp()
  await p.equal('t')
  assert.equal((await slots(p.source)).length, 1)
})

test('TRAP 9: it is said whom the slot waits for, with what to type', async () => {
  await using p = await onePipeline({ max_prepared_transactions: 5 })
  await p.source.query('CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1)')
  const blocker = await p.source.session()
  await blocker.query(`SET application_name = 'night batch'; BEGIN; SELECT pg_current_xact_id()`)
  const pid = String((await blocker.query('SELECT pg_backend_pid() AS pid')).rows[0]?.['pid'])
  const second = await p.source.session()
  await second.query(`BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'forgotten'`)
  await using cli = p.sync(['--follow'])
  await cli.until('word of the blockers', () => cli.stderr.includes('forgotten'))
  assert.match(
    cli.stderr,
    new RegExp(
      `making the replication slot \\S+ waits for the transaction of the server process ${pid} \\(user \\S+, database \\S+, application night batch, idle in transaction, open for \\d+ s\\); let it end, or: SELECT pg_terminate_backend\\(${pid}\\)`,
    ),
  )
  assert.match(cli.stderr, /waits for the prepared transaction 'forgotten' .*ROLLBACK PREPARED 'forgotten'/)
  await second.query(`ROLLBACK PREPARED 'forgotten'`)
  await blocker.query('COMMIT')
  await cli.until(
    'streaming',
    async () => (await slots(p.source)).some((slot) => slot.active) && p.state().tables.get('public.t')?.state === 'streaming',
  )
  await p.equal('t')
})

test('TRAP 10: the role’s own timeouts do not kill the snapshot', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 10_000 })
  await p.source.query(
    `CREATE ROLE hasty SUPERUSER LOGIN; ALTER ROLE hasty SET idle_in_transaction_session_timeout = '2s'; ALTER ROLE hasty SET statement_timeout = '2s'; ALTER ROLE hasty SET idle_session_timeout = '2s'; ALTER ROLE hasty SET lock_timeout = '1ms'`,
  )
  writeFileSync(p.folder.join('hold.ts'), HOLDING_TRANSFORM)
  writeFileSync(p.folder.join('hold'), '')
  await using cli = p.sync(['--follow', '--transform', 'hold.ts', ...SMALL_CHUNKS], {
    sourceUri: p.source.server.uri('postgres', { user: 'hasty' }),
  })
  await cli.until('the snapshot held', () => existsSync(p.folder.join('held')))
  // By the server's own clock, which its timeouts go by.
  await cli.until('longer than every timeout', async () => {
    const [session] = await p.source.query<{ over: boolean }>(
      `SELECT bool_or(now() - state_change > interval '4 s') AS over FROM pg_stat_activity WHERE usename = 'hasty' AND state = 'idle in transaction'`,
    )
    return session?.over === true
  })
  rmSync(p.folder.join('hold'))
  await cli.until('the stream', async () => (await slots(p.source)).some((slot) => slot.active))
  await p.equal('orders')
})

test('TRAP 11: killed while the slot is being made, started again while the server still waits: one slot, all rows', async () => {
  await using p = await onePipeline()
  await p.source.query('CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE other (i integer)')
  const blocker = await p.source.session()
  await blocker.query('BEGIN; INSERT INTO other VALUES (1)')
  let first: SlotRow
  {
    await using cli = p.sync(['--follow', '--tables', 't'])
    first = await cli.until('the slot waiting', async () => (await slots(p.source))[0])
    await cli.kill()
  }
  // The server has not noticed that its client is dead: it waits for the blocker still, and the slot stands.
  assert.deepEqual(
    (await slots(p.source)).map((slot) => [slot.slot_name, slot.confirmed_flush_lsn]),
    [[first.slot_name, null]],
  )
  await using again = p.sync(['--until', 'caught-up', '--tables', 't'])
  const second = await again.until('the slot waiting again, for another client', async () =>
    (await slots(p.source)).find((slot) => slot.active_pid !== null && slot.active_pid !== first.active_pid),
  )
  assert.equal(second.slot_name, first.slot_name, 'the name that was written down before the slot was made')
  await p.source.query('INSERT INTO t VALUES (2)')
  await blocker.query('COMMIT')
  assert.equal((await again.ended()).code, 0, again.stderr)
  await p.equal('t')
  assert.deepEqual(
    (await slots(p.source)).map((slot) => slot.slot_name),
    [first.slot_name],
  )
})

test('TRAP 11: a crash between the making of the slot and the saving of its position: the unread slot is made anew', async () => {
  await using p = await onePipeline()
  await p.source.query('CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1)')
  await p.catchUp()
  // What such a crash leaves: the slot and its names, no position, no table copied.
  const state = openSqlite(p.stateFile, 'write')
  state.exec('UPDATE pipelines SET position = NULL; DELETE FROM tables; DELETE FROM chunks; DELETE FROM views')
  state.close()
  const target = openSqlite(p.targetFile, 'write')
  target.exec('DROP TABLE t; UPDATE tailrace_checkpoints SET position = NULL')
  target.close()
  await p.source.query('INSERT INTO t VALUES (2)')
  await p.catchUp()
  await p.equal('t')
  assert.equal((await slots(p.source)).length, 1)
})

test('TRAP 12, 13: a commit that is in the log but not yet visible when the view is taken is not lost', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 20_000 })
  await killAt(p, 0.5)
  await p.source.query(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`)
  await p.source.query('SELECT pg_reload_conf()')
  const waiting = await p.source.session()
  await waiting.query('BEGIN; UPDATE orders SET n = -1 WHERE id IN (10, 199990); UPDATE people SET n = -1 WHERE n = 5')
  const committed = waiting.query('COMMIT')
  const later = await p.source.session()
  await later.query(`SET synchronous_commit = local`)
  await later.query('UPDATE orders SET n = -2 WHERE id IN (20, 199980); UPDATE people SET n = -2 WHERE n = 6')
  await using cli = p.sync(['--follow', ...SMALL_CHUNKS])
  await cli.until('the stream', async () => (await slots(p.source)).some((slot) => slot.active))
  await later.query(`ALTER SYSTEM RESET synchronous_standby_names`)
  await later.query('SELECT pg_reload_conf()')
  await committed
  cli.interrupt()
  await cli.ended()
  await p.catchUp(SMALL_CHUNKS)
  await p.equal(...HARD_TABLES)
})

test('TRAP 14: subtransactions are under way when the second view is taken: what they wrote comes by the stream', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 20_000 })
  await killAt(p, 0.5)
  const views = (): number => Number(targetValue(p.stateFile, 'SELECT count(*) FROM views'))
  const before = views()
  const open = await p.source.session()
  await open.query(`BEGIN; SAVEPOINT a; UPDATE orders SET n = -1 WHERE id IN (10, 199990); UPDATE people SET n = -1 WHERE n = 5; RELEASE a`)
  await open.query(`SAVEPOINT b; UPDATE orders SET n = -2 WHERE id IN (20, 199980); DELETE FROM orders WHERE id IN (30, 199970)`)
  // Later transactions, so that the view's xmax lies past the subtransactions' own ids.
  for (let i = 0; i < 5; i++) await p.source.query(`UPDATE orders SET n = -3 WHERE id IN (${100 + i * 10}, ${199_000 + i * 10})`)
  await using cli = p.sync(['--follow', ...SMALL_CHUNKS])
  await cli.until('the second view', () => views() > before)
  await open.query(
    `SAVEPOINT c; UPDATE orders SET n = -4 WHERE id IN (40, 199960); ROLLBACK TO c; INSERT INTO orders (id, n) VALUES (45, 1), (199965, 1); COMMIT`,
  )
  cli.interrupt()
  await cli.ended()
  await p.catchUp(SMALL_CHUNKS)
  await p.equal(...HARD_TABLES)
})
