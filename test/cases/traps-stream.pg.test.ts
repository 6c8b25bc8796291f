import assert from 'node:assert/strict'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import pg from 'pg'
import { lsnOf } from '../kit/lsn.ts'
import { HOLDING_TRANSFORM, logEnd, onePipeline, targetValue, untilTarget, type OnePipeline } from '../kit/one-pipeline.ts'
import { assertHistoryLost, setPositions } from '../kit/positions.ts'
import { until } from '../kit/until.ts'

/** No key: a row that comes twice is there twice. */
async function keylessTable(p: OnePipeline): Promise<void> {
  await p.source.query(
    `CREATE TABLE log (n integer, v text); ALTER TABLE log REPLICA IDENTITY FULL; INSERT INTO log SELECT i, 'v' FROM generate_series(1, 50) i`,
  )
}

test('TRAP 18: stopped at the end of the first of two adjacent commits: the second comes, the first does not come again', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  for (let round = 1; round <= 2; round++) {
    await using cli = await p.follow()
    const [one, two] = [await p.source.session(), await p.source.session()]
    await two.query(`BEGIN; INSERT INTO log VALUES (${round}002, 'second')`)
    await one.query(`BEGIN; INSERT INTO log VALUES (${round}001, 'first')`)
    await one.query('COMMIT')
    await untilTarget(p.targetFile, `SELECT count(*) FROM log WHERE n = ${round}001`, 1)
    if (round === 1) cli.interrupt()
    else await cli.kill()
    await cli.ended()
    await two.query('COMMIT')
  }
  await p.catchUp()
  await p.equal('log')
})

test('TRAP 19: a slot that was moved past the saved position is lost history', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await p.catchUp()
  await p.source.query(`INSERT INTO log VALUES (1001, 'given away')`)
  await until('the slot idle', async () => !(await p.slot()).active)
  await p.source.query('SELECT pg_replication_slot_advance(slot_name, pg_current_wal_flush_lsn()) FROM pg_replication_slots')
  await assertHistoryLost(p)
})

test('TRAP 19: a saved position past the end of the log is lost history', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await p.catchUp()
  setPositions(p, (position) => position.replace(/[^:]+$/, '7F/0'))
  await assertHistoryLost(p)
})

test('TRAP 19: a saved position of another cluster is lost history', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await p.catchUp()
  setPositions(p, (position) => position.replace(/^pg1:\d+/, 'pg1:7000000000000000001'))
  await assertHistoryLost(p)
})

test('TRAP 20: while a large transaction is half received and half applied, no keepalive confirms what is past it', async () => {
  await using p = await onePipeline()
  await p.source.query('CREATE TABLE t (id integer PRIMARY KEY, v text); CREATE TABLE elsewhere (i integer); INSERT INTO t VALUES (0)')
  writeFileSync(p.folder.join('hold.ts'), HOLDING_TRANSFORM)
  const args = ['--tables', 't', '--transform', 'hold.ts']
  await using cli = await p.follow(args)
  writeFileSync(p.folder.join('hold'), '')
  await p.source.query(`INSERT INTO t SELECT i, rpad('x', 200, 'y') FROM generate_series(1, 30000) i`)
  const end = await logEnd(p.source)
  await cli.until('a part of it held', () => existsSync(p.folder.join('held')))
  for (let i = 0; i < 100; i++) await p.source.query('INSERT INTO elsewhere VALUES (1)')
  const [before] = await p.source.query<{ at: string }>('SELECT reply_time::text AS at FROM pg_stat_replication')
  const seen = new Set([before?.at])
  await cli.until('three more status updates', async () => {
    const [now] = await p.source.query<{ at: string }>('SELECT reply_time::text AS at FROM pg_stat_replication')
    assert.ok(lsnOf((await p.slot()).confirmed_flush_lsn) < end)
    return seen.add(now?.at).size > 3
  })
  await cli.kill()
  await untilTarget(p.targetFile, 'SELECT count(*) FROM t', 1)
  rmSync(p.folder.join('hold'))
  await p.catchUp(args)
  await p.equal('t')
})

test('TRAP 21: traffic of other tables moves the position, but not with a save per message', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await p.source.query('CREATE TABLE elsewhere (i integer)')
  await using cli = await p.follow(['--tables', 'log'])
  const positions = new Set<string | null>()
  const started = performance.now()
  for (let i = 0; i < 400; i++) {
    await p.source.query('INSERT INTO elsewhere VALUES (1)')
    positions.add(p.state().position)
  }
  const seconds = (performance.now() - started) / 1000
  assert.ok(positions.size <= 3 + seconds * 6, `${positions.size} saves in ${seconds.toFixed(1)} s`)
  const end = await logEnd(p.source)
  await cli.until('the position past the traffic', () => lsnOf(p.state().position) >= end)
  await cli.until('the slot past the traffic', async () => lsnOf((await p.slot()).confirmed_flush_lsn) >= end)
})

test('TRAP 23: after a crash of the server its slot stands earlier: what the target has does not come again', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await using cli = await p.follow()
  for (let i = 0; i < 30; i++) await p.source.query(`INSERT INTO log VALUES (${2000 + i}, 'before the crash')`)
  await untilTarget(p.targetFile, 'SELECT count(*) FROM log', 80)
  await p.source.server.kill()
  await p.source.server.start()
  await until('the server back', () =>
    p.source.query(`INSERT INTO log VALUES (3000, 'after')`).then(
      () => true,
      () => false,
    ),
  )
  await cli.until('the row after', () => targetValue(p.targetFile, 'SELECT count(*) FROM log WHERE n = 3000') === 1)
  await p.equal('log')
})

test('TRAP 25: a slot that somebody still reads is waited for, and the run goes on when it is free', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await p.catchUp()
  const { slot_name, confirmed_flush_lsn } = await p.slot()
  const other = new pg.Client({ connectionString: p.source.uri, replication: 'database' } as pg.ClientConfig)
  other.on('error', () => undefined)
  await other.connect()
  const [publication] = await p.source.query<{ pubname: string }>('SELECT pubname FROM pg_publication')
  other
    .query(
      `START_REPLICATION SLOT "${slot_name}" LOGICAL ${confirmed_flush_lsn} (proto_version '1', publication_names '${publication?.pubname}')`,
    )
    .catch(() => undefined)
  await until('the slot taken', async () => (await p.slot()).active)
  await p.source.query(`INSERT INTO log VALUES (1001, 'waits')`)
  await using cli = p.sync(['--until', 'caught-up'])
  await cli.until('an attempt refused', async () => /is active for PID/.test(await p.source.server.log(200)))
  assert.ok(cli.running)
  await p.source.query('SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active')
  assert.equal((await cli.ended()).code, 0, cli.stderr)
  await other.end().catch(() => undefined)
  await p.equal('log')
})
