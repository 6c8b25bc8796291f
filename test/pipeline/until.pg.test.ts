import assert from 'node:assert/strict'
import type { Report } from '../../src/engine/report.ts'
import { tableId } from '../../src/model/schema.ts'
import { until } from '../kit/until.ts'
import { cases, pipelineCase, useBench, type SinkName, type SourceDatabase, type World } from './kit.ts'

const bench = useBench()

const SETUP = 'CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (0, 0)'
const FEW: readonly SinkName[] = ['sqlite']

async function ids({ target }: World): Promise<readonly string[]> {
  return ((await target.rows('public', 't')) ?? []).map((row) => row['id'] ?? '').sort()
}

function idsTo(last: number): readonly string[] {
  return Array.from({ length: last + 1 }, (_, id) => `integer ${id}`).sort()
}

/** The server's clock in whole milliseconds, rounded up, once it shows more: what is committed next is later. */
async function timeBetween(source: SourceDatabase): Promise<Date> {
  const millis = async (): Promise<number> => Number(await source.value('SELECT extract(epoch FROM clock_timestamp()) * 1000'))
  const time = Math.ceil(await millis())
  await until('a later time', async () => (await millis()) > time + 1)
  return new Date(time)
}

function good(report: Report): void {
  assert.deepEqual([report.ok, report.problems.filter((problem) => problem.severity === 'error')], [true, []])
}

async function lsn(source: SourceDatabase): Promise<string> {
  return (await source.value('SELECT pg_current_wal_insert_lsn()')) ?? ''
}

cases('--until ends where it says', () => {
  pipelineCase(bench, 'a time on a source that falls silent', { setup: SETUP, sinks: FEW }, async (world) => {
    const began = Date.now()
    good(await world.pipeline.run('caught-up'))
    // Far enough for another start, as slow as the machine is now.
    const time = new Date(Date.now() + 3000 + 3 * (Date.now() - began))
    await using running = await world.pipeline.until(time)
    await running.streaming()
    await world.source.run('INSERT INTO t VALUES (1, 1)')
    // On a machine that becomes slow beyond measure the time is over before the row came.
    const inTime = Date.now() < time.getTime()
    good(await running.done)
    assert.ok(Date.now() > time.getTime(), 'not before its time')
    if (inTime) assert.deepEqual(await ids(world), idsTo(1))
  })

  pipelineCase(bench, 'a time that has passed long ago', { setup: SETUP, sinks: FEW }, async (world) => {
    await using running = await world.pipeline.until(new Date('2020-01-31T12:00:00Z'))
    good(await running.done)
    assert.deepEqual(await ids(world), idsTo(0))
  })

  pipelineCase(bench, 'a time between transactions that wait in the log', { setup: SETUP, sinks: FEW }, async (world) => {
    good(await world.pipeline.run('caught-up'))
    await world.source.run('INSERT INTO t VALUES (1, 1)')
    await world.source.run('INSERT INTO t VALUES (2, 2)')
    const time = await timeBetween(world.source)
    for (let id = 3; id < 30; id++) await world.source.run(`INSERT INTO t VALUES (${id}, ${id})`)
    await using running = await world.pipeline.until(time)
    good(await running.done)
    assert.deepEqual(await ids(world), idsTo(2))
    good(await world.pipeline.run('caught-up'))
    assert.deepEqual(await ids(world), idsTo(29))
  })

  pipelineCase(bench, 'a position: what was committed up to there, nothing else', { setup: SETUP, sinks: FEW }, async (world) => {
    good(await world.pipeline.run('caught-up'))
    await world.source.run('INSERT INTO t VALUES (1, 1)')
    const between = await lsn(world.source)
    await world.source.run('INSERT INTO t VALUES (2, 2)')
    await using session = await world.source.session()
    await session.run('BEGIN; INSERT INTO t VALUES (3, 3)')
    const within = await lsn(world.source)
    await session.run('INSERT INTO t VALUES (4, 4); COMMIT')
    for (let id = 5; id < 30; id++) await world.source.run(`INSERT INTO t VALUES (${id}, ${id})`)
    for (const [position, last] of [
      [between, 1],
      [within, 2],
    ] as const) {
      await using running = await world.pipeline.until({ position })
      good(await running.done)
      assert.deepEqual(await ids(world), idsTo(last))
    }
    good(await world.pipeline.run('caught-up'))
    assert.deepEqual(await ids(world), idsTo(29))
  })

  for (const [what, position] of [
    ['that is none', 'yesterday'],
    ['of another cluster', 'pg1:1:1:0/16B3748'],
  ] as const) {
    pipelineCase(bench, `a position ${what} is refused before anything is touched`, { setup: SETUP, sinks: FEW }, async (world) => {
      await using running = await world.pipeline.until({ position })
      const report = await running.done
      assert.deepEqual([report.ok, report.problems.map((problem) => problem.code)], [false, ['USAGE']])
      assert.equal(await world.target.rows('public', 't'), null, 'nothing was made')
      assert.deepEqual(await world.source.slots(), [])
    })
  }

  pipelineCase(
    bench,
    'TRAP 5: caught-up does what was asked of the pipeline before, and leaves no table converging',
    { setup: SETUP, sinks: FEW },
    async (world) => {
      const first = await world.pipeline.run('caught-up')
      good(first)
      await world.pipeline.store.request(first.pipeline, { kind: 'resnapshot', tables: [tableId('public', 't')] })
      await using running = await world.pipeline.until('caught-up')
      const report = await running.done
      good(report)
      assert.equal(running.probe.loads, 1, 'the table is read again')
      assert.deepEqual(
        report.tables.map((table) => table.state),
        ['streaming'],
      )
      await world.same(['t'])
    },
  )
})
