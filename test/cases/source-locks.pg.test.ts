import assert from 'node:assert/strict'
import { test } from 'node:test'
import type pg from 'pg'
import { onePipeline, targetValue, untilTarget, type OnePipeline } from '../kit/one-pipeline.ts'
import { runCli, type Cli } from '../kit/run-cli.ts'
import { slots } from '../kit/source-database.ts'

const SETUP = `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
  CREATE TABLE n (id int PRIMARY KEY); INSERT INTO n VALUES (1); CREATE TABLE other (id int)`

/** What a transaction that is waited for may go on to do to the table that is to be read: it needs the table for itself. */
const LAST_STEPS = [
  ['TRUNCATE', 'TRUNCATE n; INSERT INTO n VALUES (12)'],
  ['ALTER', 'ALTER TABLE n ADD v int DEFAULT 7; INSERT INTO n VALUES (12)'],
] as const

/** Somebody else's transaction, which has written. */
async function begin(p: OnePipeline, sql: string): Promise<{ session: pg.Client; xid: string }> {
  const session = await p.source.session()
  // A lock that is never given is an error, and not the end of the test.
  await session.query(`SET lock_timeout = '5s'; BEGIN; ${sql}`)
  const { rows } = await session.query('SELECT pg_current_xact_id()::xid::text AS xid')
  return { session, xid: String(rows[0]?.xid) }
}

async function untilSlotWaits(p: OnePipeline, cli: Cli, xid: string): Promise<void> {
  await cli.until(`the slot waiting for transaction ${xid}`, async () => {
    const waiting = await p.source.query(
      `SELECT FROM pg_locks l JOIN pg_replication_slots s ON s.active_pid = l.pid WHERE NOT l.granted AND l.transactionid::text = '${xid}'`,
    )
    return waiting.length > 0
  })
}

async function untilStreams(p: OnePipeline, cli: Cli, table: string): Promise<void> {
  await cli.until(`${table} streaming`, () => p.state().tables.get(table)?.state === 'streaming')
}

for (const [what, step] of LAST_STEPS) {
  test(`Invariant 9: a table is added while a transaction that wrote to it goes on to ${what}: neither waits for the other`, async () => {
    await using p = await onePipeline()
    await p.source.query(SETUP)
    await using cli = await p.follow(['--tables', 't'])
    const { session } = await begin(p, 'INSERT INTO n VALUES (11)')
    await using added = runCli(['tables', 'p', 'add', 'n'], { folder: p.folder.path })
    await cli.until('the pipeline waiting for the transaction', async () => {
      // A request is looked at when something comes from the source.
      await p.source.query('UPDATE t SET n = n + 1 WHERE id = 1')
      const waiting = await p.source.query(
        `SELECT FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE '%pg_snapshot_xmin(pg_current_snapshot())%'`,
      )
      return waiting.length > 0
    })
    await session.query(`${step}; COMMIT`)
    assert.equal((await added.ended()).code, 0, added.stderr)
    await untilStreams(p, cli, 'public.n')
    await p.source.query('INSERT INTO n VALUES (13)')
    await untilTarget(p.targetFile, 'SELECT count(*) FROM n WHERE id IN (12, 13)', 2)
    await p.equal('t', 'n')
  })

  test(`Invariant 9: a slot is made while a transaction that wrote to a table goes on to ${what}: neither waits for the other`, async () => {
    await using p = await onePipeline()
    await p.source.query(SETUP)
    const { session, xid } = await begin(p, 'INSERT INTO n VALUES (11)')
    await using cli = p.sync(['--follow', '--tables', 't,n'])
    await untilSlotWaits(p, cli, xid)
    await session.query(`${step}; COMMIT`)
    await untilTarget(p.targetFile, 'SELECT count(*) FROM n WHERE id = 12', 1)
    await untilStreams(p, cli, 'public.n')
    await untilStreams(p, cli, 'public.t')
    await p.equal('t', 'n')
  })
}

/**
 * Another transaction that has the table when the slot, which waits for the first, is made: the server waits for what runs when
 * it begins, then for what runs when that has ended; what comes later is not in the snapshot.
 */
async function holdBehindSlot(p: OnePipeline, cli: Cli, first: Awaited<ReturnType<typeof begin>>, sql: string): Promise<pg.Client> {
  await untilSlotWaits(p, cli, first.xid)
  const second = await begin(p, 'INSERT INTO other VALUES (2)')
  await first.session.query('COMMIT')
  await untilSlotWaits(p, cli, second.xid)
  const { session } = await begin(p, sql)
  await second.session.query('COMMIT')
  return session
}

test('TRAP 7: a table that is rewritten after the slot and before it is locked is not read as the slot sees it: the slot is made anew', async () => {
  await using p = await onePipeline()
  await p.source.query(SETUP)
  const first = await begin(p, 'INSERT INTO other VALUES (1)')
  await using cli = p.sync(['--follow', '--tables', 't'])
  const third = await holdBehindSlot(p, cli, first, 'ALTER TABLE t ALTER n TYPE bigint')
  await cli.until('the pipeline waiting for its lock', async () => {
    return (await p.source.query(`SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass`)).length > 0
  })
  await third.query('COMMIT')
  await p.source.query('INSERT INTO t VALUES (1000, 5000000000)')
  await cli.until('the row behind the ALTER', () => targetValue(p.targetFile, 'SELECT count(*) FROM t') === 101)
  await untilStreams(p, cli, 'public.t')
  await p.equal('t')
  assert.equal((await slots(p.source)).length, 1)
})

test('Invariant 3: a table that stays locked when the slot is made: it is said, and no slot is left to hold back the log', async () => {
  await using p = await onePipeline()
  await p.source.query(SETUP)
  const first = await begin(p, 'INSERT INTO other VALUES (1)')
  await using cli = p.sync(['--follow', '--tables', 't', '--source.lock-timeout', '0.3'])
  const third = await holdBehindSlot(p, cli, first, 'LOCK TABLE t')
  await cli.until('a table locked by someone else', () => cli.stderr.includes('a table of the source is locked by someone else'))
  await cli.until('no slot, or one that is made anew and waits', async () => {
    return (await slots(p.source)).every(({ confirmed_flush_lsn }) => confirmed_flush_lsn === null)
  })
  await third.query('COMMIT')
  await untilStreams(p, cli, 'public.t')
  await p.equal('t')
})
