import assert from 'node:assert/strict'
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { startFaultProxy } from '../../src/testing/fault-proxy.ts'
import { lsnOf } from '../kit/lsn.ts'
import { HOLDING_TRANSFORM, logEnd, onePipeline, targetValue, type OnePipeline } from '../kit/one-pipeline.ts'
import { createHardTables, HARD_TABLES, slots } from '../kit/source-database.ts'
import { startWriteLoad } from '../kit/write-load.ts'
import type { Cli } from '../kit/run-cli.ts'
import { until } from '../kit/until.ts'

const ROWS = 2000

async function untilCaughtUp(p: OnePipeline, cli: Cli): Promise<void> {
  const end = await logEnd(p.source)
  await cli.until('the end of the log reached', () => lsnOf(p.state().position) >= end)
}

/** Seconds by the clock that the server's timeouts go by. */
async function serverTime(p: OnePipeline): Promise<number> {
  const [row] = await p.source.query<{ now: string }>('SELECT extract(epoch FROM clock_timestamp()) AS now')
  return Number(row?.now)
}

for (const how of ['fast', 'immediate'] as const) {
  test(`CASE 7: PostgreSQL restarted (${how}) during the stream while writes go on`, async () => {
    await using p = await onePipeline()
    await createHardTables(p.source, { rows: ROWS })
    await using cli = await p.follow()
    await using load = await startWriteLoad(p.source, { seed: 3, rows: ROWS, transactionsPerSecond: 100, survives: true })
    for (let restart = 0; restart < 2; restart++) {
      const goal = load.transactions + 20
      await until('more transactions', () => load.transactions >= goal)
      await p.source.server.restart(how)
    }
    const goal = load.transactions + 20
    await until('more transactions', () => load.transactions >= goal)
    await load.stop()
    await untilCaughtUp(p, cli)
    cli.interrupt()
    assert.equal((await cli.ended()).code, 0, cli.stderr)
    await p.catchUp()
    await p.equal(...HARD_TABLES)
  })
}

test('CASE 7: connections reset in the middle of a message, again and again', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: ROWS })
  await using proxy = await startFaultProxy({ host: '127.0.0.1', port: p.source.server.port })
  const sourceUri = `postgres://postgres@127.0.0.1:${proxy.port}/postgres?sslmode=disable`
  await using cli = await p.follow([], { sourceUri })
  await using load = await startWriteLoad(p.source, { seed: 4, rows: ROWS, transactionsPerSecond: 100 })
  for (const bytes of [20_001, 7, 90_003, 1, 30_011]) await proxy.resetAfter(bytes)
  await load.stop()
  await untilCaughtUp(p, cli)
  cli.interrupt()
  assert.equal((await cli.ended()).code, 0, cli.stderr)
  await using last = p.sync(['--until', 'caught-up'], { sourceUri })
  assert.equal((await last.ended()).code, 0, last.stderr)
  await p.equal(...HARD_TABLES)
})

test('CASE 7: a connection that is half open is noticed and made anew', async () => {
  await using p = await onePipeline({ wal_sender_timeout: '6s' })
  await p.source.query(`CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')`)
  await using proxy = await startFaultProxy({ host: '127.0.0.1', port: p.source.server.port })
  const sourceUri = `postgres://postgres@127.0.0.1:${proxy.port}/postgres?sslmode=disable`
  await using cli = await p.follow(['--source.silence-timeout', '4'], { sourceUri })
  proxy.halfOpen()
  await p.source.query(`INSERT INTO t VALUES (2, 'b')`)
  await cli.until('the row over a new connection', () => targetValue(p.targetFile, 'SELECT count(*) FROM t') === 2)
  cli.interrupt()
  assert.equal((await cli.ended()).code, 0, cli.stderr)
  await p.equal('t')
})

test('Ctrl-C at any moment of a new connection to the source ends well', async () => {
  await using p = await onePipeline()
  await p.source.query(`CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')`)
  await using proxy = await startFaultProxy({ host: '127.0.0.1', port: p.source.server.port })
  const sourceUri = `postgres://postgres@127.0.0.1:${proxy.port}/postgres?sslmode=disable`
  for (const bytes of [0, 300, 700, 1500, 3000]) {
    await using cli = await p.follow([], { sourceUri })
    proxy.resetAll()
    const goal = proxy.delivered + bytes
    await cli.until('a new connection', () => proxy.connections > 0 && proxy.delivered >= goal)
    proxy.faults.stalled = true
    cli.interrupt()
    await cli.until('the interrupt heard', () => cli.stderr.includes('draining'))
    proxy.faults.stalled = false
    assert.equal((await cli.ended()).code, 0, cli.stderr)
  }
  await p.equal('t')
})

test('CASE 7: a sink blocked for longer than wal_sender_timeout: keepalives go on and the connection stays (Spice #11653)', async () => {
  await using p = await onePipeline({ wal_sender_timeout: '5s' })
  await p.source.query(`CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')`)
  writeFileSync(p.folder.join('hold.ts'), HOLDING_TRANSFORM)
  await using cli = await p.follow(['--transform', 'hold.ts'])
  const { active_pid: walsender } = await p.slot()
  writeFileSync(p.folder.join('hold'), '')
  await p.source.query(`INSERT INTO t SELECT i, rpad('x', 1000, 'y') FROM generate_series(2, 40000) i`)
  await cli.until('the sink held', () => existsSync(p.folder.join('held')))
  const since = await serverTime(p)
  await cli.until('twice the timeout', async () => {
    assert.equal((await p.slot()).active_pid, walsender, 'the walsender gave up on us')
    return (await serverTime(p)) - since > 10
  })
  rmSync(p.folder.join('hold'))
  await untilCaughtUp(p, cli)
  assert.equal((await p.slot()).active_pid, walsender)
  await p.equal('t')
})

test('a source that is slow and stalls for a while is waited for', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: ROWS })
  await using proxy = await startFaultProxy({ host: '127.0.0.1', port: p.source.server.port })
  const sourceUri = `postgres://postgres@127.0.0.1:${proxy.port}/postgres?sslmode=disable`
  await using cli = await p.follow([], { sourceUri })
  proxy.faults.latencyMillis = 5
  await using load = await startWriteLoad(p.source, { seed: 5, rows: ROWS, transactionsPerSecond: 100 })
  await until('some transactions', () => load.transactions > 20)
  proxy.faults.stalled = true
  // What had passed the gate before it was shut may still be on its way.
  let delivered = -1
  await until('nothing delivered any more', async () => {
    const quiet = proxy.delivered === delivered
    delivered = proxy.delivered
    const goal = load.transactions + 20
    await until('more transactions', () => load.transactions >= goal)
    return quiet
  })
  proxy.faults.stalled = false
  await load.stop()
  await untilCaughtUp(p, cli)
  await p.equal(...HARD_TABLES)
})

test('CASE 8: replication connections die during a long snapshot: it goes on (go-pq-cdc#54)', async () => {
  await using p = await onePipeline()
  await createHardTables(p.source, { rows: 20_000 })
  writeFileSync(p.folder.join('hold.ts'), HOLDING_TRANSFORM)
  writeFileSync(p.folder.join('hold'), '')
  await using cli = p.sync(['--follow', '--transform', 'hold.ts', '--source.chunk-bytes', '65536'])
  await cli.until('the snapshot held', () => existsSync(p.folder.join('held')))
  await p.source.query(`INSERT INTO pairs VALUES (9999, 'during', 1)`)
  const since = await serverTime(p)
  await cli.until('a while', async () => {
    await p.source.query('SELECT pg_terminate_backend(pid) FROM pg_stat_replication')
    return (await serverTime(p)) - since > 2
  })
  rmSync(p.folder.join('hold'), { force: true })
  await cli.until('the stream', async () => (await slots(p.source)).some((slot) => slot.active))
  await untilCaughtUp(p, cli)
  await p.equal(...HARD_TABLES)
})
