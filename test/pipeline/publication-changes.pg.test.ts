import assert from 'node:assert/strict'
import type { TableId } from '../../src/model/schema.ts'
import { until } from '../kit/until.ts'
import { cases, MAJOR, pipelineCase, useBench, type SinkName, type World } from './kit.ts'

const bench = useBench()

const FEW: readonly SinkName[] = ['sqlite']
const OLD = MAJOR < 15 ? 'conditions and column lists in publications came with 15' : false
const SETUP = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c');
  CREATE TABLE t2 (id int PRIMARY KEY, v text); INSERT INTO t2 VALUES (1, 'a')`
const LOST = "UPDATE t SET v = 'w'; UPDATE t2 SET v = 'w'"
const ALL = "publish = 'insert, update, delete, truncate'"

interface Change {
  readonly what: string
  readonly sql: readonly string[]
  /** Tables that it concerns: no other is read again. */
  readonly tables: number
  readonly skip?: string | false
}

const CHANGES: readonly Change[] = [
  { what: 'sends inserts only', sql: ["ALTER PUBLICATION $ SET (publish = 'insert')", LOST], tables: 2 },
  {
    what: 'sends inserts only for a while',
    sql: ["ALTER PUBLICATION $ SET (publish = 'insert')", LOST, `ALTER PUBLICATION $ SET (${ALL})`],
    tables: 2,
  },
  { what: 'lacks a table for a while', sql: ['ALTER PUBLICATION $ DROP TABLE t', LOST, 'ALTER PUBLICATION $ ADD TABLE t'], tables: 1 },
  { what: 'gets a condition', sql: ['ALTER PUBLICATION $ SET TABLE t WHERE (id < 3), t2', LOST], tables: 1, skip: OLD },
  {
    what: 'gets a condition for a while',
    sql: ['ALTER PUBLICATION $ SET TABLE t WHERE (id < 3), t2', LOST, 'ALTER PUBLICATION $ SET TABLE t, t2'],
    tables: 1,
    skip: OLD,
  },
  { what: 'gets a column list', sql: ['ALTER PUBLICATION $ SET TABLE t (id), t2', LOST], tables: 1, skip: OLD },
]

const nameOf = async (world: World): Promise<string> => (await world.source.value('SELECT pubname FROM pg_publication')) ?? ''

async function run(world: World, statements: readonly string[], publication: string): Promise<void> {
  for (const statement of statements) await world.source.run(statement.replaceAll('$', publication))
}

cases('a publication that is changed', () => {
  for (const { what, sql, tables, skip } of CHANGES) {
    for (const when of ['while running', 'while stopped'] as const)
      pipelineCase(
        bench,
        `TRAP 50: our publication ${what}, ${when}: it is put right, and what may lack changes is read again, once`,
        { setup: SETUP, sinks: FEW, skip: skip ?? false },
        async (world) => {
          let running = await world.follow()
          const publication = await nameOf(world)
          if (when === 'while stopped') await running.stop()
          const { loads } = when === 'while running' ? running.probe : { loads: 0 }
          await run(world, sql, publication)
          if (when === 'while stopped') running = await world.follow()
          await running.reaches(() => running.probe.loads >= loads + tables, 'it is read again')
          await running.caughtUp()
          await world.same(['t', 't2'])
          await world.source.run("UPDATE t SET v = 'x'; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (4, 'd'); UPDATE t2 SET v = 'x'")
          await running.caughtUp()
          await world.same(['t', 't2'])
          assert.equal(running.probe.loads, loads + tables)
          assert.equal((await running.stop()).ok, true)
          const last = await world.follow()
          await world.source.run("INSERT INTO t VALUES (5, 'e')")
          await last.caughtUp()
          assert.equal(last.probe.loads, 0)
          assert.equal((await last.stop()).ok, true)
        },
      )
  }

  pipelineCase(
    bench,
    'TRAP 51: what a transaction wrote before the publication was put right is not missed when it commits later',
    { setup: SETUP, sinks: FEW },
    async (world) => {
      await (await world.follow()).stop()
      const publication = await nameOf(world)
      await using writer = await world.source.session()
      await run(world, ["ALTER PUBLICATION $ SET (publish = 'insert')"], publication)
      await writer.run("BEGIN; UPDATE t SET v = 'late' WHERE id = 1")
      await run(world, [`ALTER PUBLICATION $ SET (${ALL})`], publication)
      const running = await world.pipeline.follow()
      await until(
        'the pipeline to wait for the transaction',
        async () =>
          (await world.source.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_snapshot_xmin(pg_current_snapshot())%' AND pid <> pg_backend_pid()",
          )) !== '0' || running.probe.loads > 0,
        { detail: () => JSON.stringify(running.latest) },
      )
      await writer.run('COMMIT')
      await running.reaches(() => running.probe.loads >= 2, 'it is read again')
      await running.caughtUp()
      await world.same(['t', 't2'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'with --schema-changes ignore nothing is ignored that loses changes',
    { setup: SETUP, sinks: FEW, settings: { schemaChanges: 'ignore' } },
    async (world) => {
      const running = await world.follow()
      await run(world, ["ALTER PUBLICATION $ SET (publish = 'insert')", LOST], await nameOf(world))
      const report = await running.done
      assert.equal(report.ok, false)
      assert.match(report.problems.find(({ code }) => code === 'SCHEMA_CHANGED')?.message ?? '', /does not send update, delete, truncate/)
      await world.pipeline.store.request(report.pipeline, { kind: 'resnapshot', tables: ['public.t', 'public.t2'] as TableId[] })
      const again = await world.follow()
      await again.caughtUp()
      await world.same(['t', 't2'])
      assert.equal((await again.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'what the pipeline itself changes of it costs no reading',
    {
      setup: `CREATE TABLE p (id int, r text, PRIMARY KEY (id, r)) PARTITION BY LIST (r); CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a'); CREATE TABLE more (id int PRIMARY KEY);
        INSERT INTO p VALUES (1, 'a'); INSERT INTO more VALUES (1)`,
      settings: { tables: ['p'] },
      sinks: FEW,
      skip: MAJOR < 15 ? 'on 14 a new partition is read' : false,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run("CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b')")
      await running.reaches(() => running.probe.barriers.some((barrier) => barrier.kind === 'schema'), 'the partition has joined')
      await running.ask({ kind: 'add-tables', tables: ['more'] })
      await running.reaches(() => running.latest?.tables.some(({ source }) => source === 'public.more') === true, 'the table has joined')
      await world.source.run("INSERT INTO p VALUES (2, 'b'); INSERT INTO more VALUES (2)")
      await running.caughtUp()
      const { loads } = running.probe
      assert.equal(loads, 2)
      await running.stop()
      const again = await world.follow()
      await world.source.run("UPDATE p SET id = 3 WHERE id = 2; INSERT INTO more VALUES (3); INSERT INTO p VALUES (4, 'a')")
      await again.caughtUp()
      await world.same(['p', 'more'])
      assert.equal(again.probe.loads, 0)
      assert.equal((await again.stop()).ok, true)
    },
  )

  for (const { what, sql, skip } of CHANGES.filter((change) => change.sql.length === 3)) {
    for (const when of ['while running', 'while stopped'] as const)
      pipelineCase(
        bench,
        `TRAP 50: a person's publication ${what}, ${when}: HISTORY_LOST until the tables are read again`,
        {
          setup: `${SETUP}; CREATE PUBLICATION mine FOR TABLE t, t2`,
          settings: { sourceOptions: { publication: 'mine' } },
          sinks: FEW,
          skip: skip ?? false,
        },
        (world) => theirs(world, sql, when === 'while running'),
      )
  }
})

/** The last statement is the correction: until then the start check, or the watch, says what is wrong. */
async function theirs(world: World, sql: readonly string[], live: boolean): Promise<void> {
  const running = await world.follow()
  if (!live) await running.stop()
  await run(world, sql.slice(0, -1), 'mine')
  if (live) {
    const report = await running.done
    assert.equal(report.ok, false)
    assert.ok(
      report.problems.some(({ code }) => code === 'HISTORY_LOST' || code === 'SCHEMA_CHANGED'),
      JSON.stringify(report.problems),
    )
  }
  const refused = await world.pipeline.run('caught-up')
  assert.deepEqual(
    refused.problems.filter(({ severity }) => severity === 'error').map(({ code }) => code),
    ['CONFIG'],
  )
  await run(world, sql.slice(-1), 'mine')
  for (let n = 0; n < 2; n++) {
    const report = await world.pipeline.run('caught-up')
    assert.equal(report.ok, false)
    const [problem] = report.problems.filter(({ code }) => code === 'HISTORY_LOST')
    assert.match(problem?.hint ?? '', /tailrace resnapshot \S+ --tables public\.t/)
  }
  await world.pipeline.store.request(refused.pipeline, { kind: 'resnapshot', tables: ['public.t', 'public.t2'] as TableId[] })
  const again = await world.follow()
  await world.source.run("UPDATE t SET v = 'x' WHERE id = 1; DELETE FROM t WHERE id = 3")
  await again.caughtUp()
  await world.same(['t', 't2'])
  assert.equal((await again.stop()).ok, true)
}
