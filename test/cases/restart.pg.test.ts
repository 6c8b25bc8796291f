import assert from 'node:assert/strict'
import { rmSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { lsnOf } from '../kit/lsn.ts'
import { HOLDING_TRANSFORM, logEnd, onePipeline, untilTarget, type OnePipeline } from '../kit/one-pipeline.ts'
import { copiedRanges, loggedUri, rangeText } from '../kit/copy-log.ts'
import { killInSnapshot } from '../kit/kill-in-snapshot.ts'
import { createHardTables, HARD_TABLES, slots } from '../kit/source-database.ts'
import { until } from '../kit/until.ts'

async function simpleTable(p: OnePipeline, rows = 100): Promise<void> {
  await p.source.query(
    `CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, ${rows}) i; ANALYZE t`,
  )
}

for (const how of ['stopped', 'killed'] as const) {
  test(`CASE 1: ${how}, rows written meanwhile, started again: nothing is lost and the slot is the same (dbmazz)`, async () => {
    await using p = await onePipeline()
    await simpleTable(p)
    {
      await using cli = await p.follow()
      await p.source.query(`INSERT INTO t VALUES (1001, 'while running')`)
      await untilTarget(p.targetFile, 'SELECT count(*) FROM t', 101)
      if (how === 'killed') await cli.kill()
      else {
        cli.interrupt()
        assert.equal((await cli.ended()).code, 0)
      }
    }
    const before = await until('a slot that nobody reads', async () => (await slots(p.source)).find((slot) => !slot.active))
    await p.source.query(`INSERT INTO t VALUES (1002, 'while down'); UPDATE t SET v = 'changed' WHERE id < 10; DELETE FROM t WHERE id = 50`)
    await p.catchUp()
    await p.equal('t')
    assert.equal((await p.slot()).slot_name, before.slot_name)
  })
}

test('CASE 2: kill -9 with a slow sink just after keepalives past its transaction: nothing of it is lost (dbmazz, DataFlow)', async () => {
  await using p = await onePipeline()
  await simpleTable(p)
  await p.source.query('CREATE TABLE elsewhere (i integer)')
  writeFileSync(p.folder.join('hold.ts'), HOLDING_TRANSFORM)
  const args = ['--tables', 't', '--transform', 'hold.ts']
  await using cli = await p.follow(args)
  writeFileSync(p.folder.join('hold'), '')
  const start = await logEnd(p.source)
  await p.source.query(`INSERT INTO t SELECT i, 'held' FROM generate_series(1001, 1100) i`)
  await cli.until('the sink held', () => existsSync(p.folder.join('held')))
  const end = await logEnd(p.source)
  for (let i = 0; i < 50; i++) await p.source.query('INSERT INTO elsewhere VALUES (1)')
  const sent = await logEnd(p.source)
  // The server has sent all, and keepalives with it; what it may forget stays before the held transaction.
  await cli.until('everything sent', async () => {
    const [row] = await p.source.query<{ lsn: string | null }>('SELECT sent_lsn::text AS lsn FROM pg_stat_replication')
    return row !== undefined && lsnOf(row.lsn) >= sent
  })
  const [replies] = await p.source.query<{ at: Date }>('SELECT reply_time AS at FROM pg_stat_replication')
  await cli.until('another status update', async () => {
    const [now] = await p.source.query<{ at: Date }>('SELECT reply_time AS at FROM pg_stat_replication')
    return now !== undefined && replies !== undefined && now.at > replies.at
  })
  await cli.kill()
  const confirmed = lsnOf((await p.slot()).confirmed_flush_lsn)
  assert.ok(confirmed < end, 'the slot was confirmed past a transaction that the sink did not have')
  assert.ok(lsnOf(p.checkpoint()) <= start + 8192n && lsnOf(p.checkpoint()) < end)
  rmSync(p.folder.join('hold'))
  await p.catchUp(args)
  await p.equal('t')
})

test('CASE 3: positions move past a transaction that is still open; killed; it commits; nothing is lost (Debezium dbz#76)', async () => {
  await using p = await onePipeline()
  await simpleTable(p)
  await using cli = await p.follow()
  const open = await p.source.session()
  await open.query(`BEGIN; INSERT INTO t SELECT i, 'in flight' FROM generate_series(2001, 2100) i`)
  const begun = await logEnd(p.source)
  await p.source.query(`INSERT INTO t VALUES (3001, 'later, but committed before')`)
  await cli.until('a confirmed position past the open transaction', async () => lsnOf((await p.slot()).confirmed_flush_lsn) >= begun)
  await cli.kill()
  await open.query('COMMIT')
  await p.catchUp()
  await p.equal('t')
})

/** Holds at the 1,500th row that it sees while the file `hold` is there. */
const HOLDING_HALFWAY = `let rows = 0\n${HOLDING_TRANSFORM.replaceAll("existsSync('hold')", "(rows >= 1500 && existsSync('hold'))").replace('{\n', '{\n  rows++\n')}`

test('CASE 4: rows of one COPY share an LSN, transactions hold logical messages; killed between: each row comes once (dbz#1554, dbz#2058)', async () => {
  await using p = await onePipeline()
  // No key: a row that comes twice is there twice.
  await p.source.query('CREATE TABLE log (n integer, v text); ALTER TABLE log REPLICA IDENTITY FULL')
  const file = `'${join(p.source.server.dataDir, 'rows')}'`
  await p.source.query(`COPY (SELECT i, 'bulk' FROM generate_series(1, 3000) i) TO ${file}`)
  writeFileSync(p.folder.join('hold.ts'), HOLDING_HALFWAY)
  const args = ['--tables', 'log', '--transform', 'hold.ts']
  for (const [round, held] of [false, true, false, true].entries()) {
    if (held) writeFileSync(p.folder.join('hold'), '')
    await using cli = round === 0 ? await p.follow(args) : p.sync(['--follow', ...args])
    const before = p.state().position
    await p.source.query(
      `BEGIN; SELECT pg_logical_emit_message(true, 'app', 'inside'); COPY log FROM ${file}; SELECT pg_logical_emit_message(false, 'app', 'not transactional'); INSERT INTO log VALUES (0, 'last'); COMMIT`,
    )
    await p.source.query(`SELECT pg_logical_emit_message(true, 'app', 'alone')`)
    if (held) await cli.until('half of the rows', () => existsSync(p.folder.join('held')))
    else await cli.until('a newer position', () => p.state().position !== before)
    await cli.kill()
    for (const name of ['hold', 'held']) rmSync(p.folder.join(name), { force: true })
  }
  await p.catchUp(args)
  await p.equal('log')
})

test('CASE 5: kill -9 at 99 % of a snapshot: only what was not done is read again (PeerDB #1750, Debezium, Zero)', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 30_000, bodyBytes: 10 })
  const sourceUri = await loggedUri(p.source)
  const args = ['--tables', 'orders', '--source.chunk-bytes', '65536', '--workers', '1']
  await killInSnapshot(p, 'last', ['--follow', ...args], { sourceUri })
  const ledger = p.state().chunks
  const left = ledger.filter((chunk) => !chunk.done).map(rangeText)
  assert.ok(left.length >= 1 && left.length <= 2, `${left.length} of ${ledger.length} chunks were left`)
  const before = (await copiedRanges(p.source, 'orders', 'id')).length
  {
    await using cli = p.sync(['--until', 'caught-up', ...args], { sourceUri })
    assert.equal((await cli.ended()).code, 0, cli.stderr)
  }
  const again = (await copiedRanges(p.source, 'orders', 'id')).slice(before).map(rangeText)
  assert.deepEqual(again.toSorted(), left.toSorted())
  await p.equal('orders')
})

test('kill -9 in a bounded copy, started again: it is copied anew and nothing is left upstream', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 20_000 })
  await killInSnapshot(p, 0.5, ['--source.chunk-bytes', '65536', '--workers', '1'])
  await p.source.query('UPDATE orders SET n = n + 1 WHERE id % 30 = 0; DELETE FROM orders WHERE id % 70 = 0')
  await using cli = p.sync([])
  assert.equal((await cli.ended()).code, 0, cli.stderr)
  await p.equal(...HARD_TABLES)
  assert.deepEqual(await slots(p.source), [])
})
