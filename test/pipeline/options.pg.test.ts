import assert from 'node:assert/strict'
import type { TableId } from '../../src/model/schema.ts'
import { cases, MAJOR, pipelineCase, useBench, type Cells, type Settings, type SinkName, type World } from './kit.ts'

const bench = useBench()

const FEW: readonly SinkName[] = ['sqlite']
const SQL: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']
const SETUP = `CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t SELECT i, i * 10, 'row ' || i FROM generate_series(1, 6) i;
  ALTER TABLE t REPLICA IDENTITY FULL; CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)`
const T = 'public.t' as TableId

/** Texts of a column in the target, sorted; null: there is no such table. */
async function column({ target }: World, table: string, name: string): Promise<readonly string[] | null> {
  const rows = await target.rows('public', table)
  return rows === null ? null : rows.map((row) => bare(row, name)).sort()
}

/** Without what a target puts before its texts to show their types. */
function bare(row: Cells, name: string): string {
  return String(row[name] ?? 'null').replace(/^(integer|text|real|blob) /, '')
}

const numbers = (...wanted: readonly number[]): string[] => wanted.map(String).sort()

/** Started again with other options; waits until the tables were read anew, and says what the report says. */
async function again(world: World, more: Settings): Promise<readonly string[]> {
  const running = await world.follow(more)
  await running.caughtUp()
  const report = await running.stop()
  assert.equal(report.ok, true, JSON.stringify(report.problems))
  // What servers of tests are warned of is no matter here.
  return report.problems.filter((problem) => problem.code !== 'ENVIRONMENT').map((problem) => problem.message)
}

cases('options that change between two starts', () => {
  pipelineCase(
    bench,
    '--where changed: the table is read again and followed by the new condition',
    {
      setup: SETUP,
      settings: { tables: ['t'], where: { t: 'a > 30' } },
      sinks: SQL,
      skip: MAJOR < 15 ? 'publications filter from 15 on' : false,
    },
    async (world) => {
      await (await world.follow()).stop()
      await world.source.run("INSERT INTO t VALUES (7, 5, 'low'), (8, 80, 'high')")
      const running = await world.follow({ where: { t: 'a <= 30' } })
      await world.source.run(
        "INSERT INTO t VALUES (9, 6, 'low'), (10, 90, 'high'); UPDATE t SET a = 1 WHERE id = 6; UPDATE t SET a = 99 WHERE id = 1",
      )
      await running.caughtUp()
      assert.deepEqual(await column(world, 't', 'id'), numbers(2, 3, 6, 7, 9))
      const report = await running.stop()
      assert.match(report.problems.map((problem) => problem.message).join(), /public\.t .*--where changed from a > 30 to a <= 30/)
      const without = await world.follow({ where: {} })
      await world.source.run("INSERT INTO t VALUES (11, 1000, 'all')")
      await without.caughtUp()
      await world.same(['t'])
      assert.equal((await without.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    '--exclude and --columns changed: the table is read again with the columns that are asked for',
    { setup: SETUP, settings: { tables: ['t'], exclude: ['t.b'] }, sinks: SQL },
    async (world) => {
      await (await world.follow()).stop()
      assert.match((await again(world, { exclude: [] })).join(), /--exclude changed from b to none/)
      await world.same(['t'])
      assert.match((await again(world, { exclude: ['t.b'] })).join(), /--exclude changed from none to b/)
      assert.deepEqual(new Set(await column(world, 't', 'b')), new Set(['null']), 'what was left out is not left behind')
      assert.deepEqual(await again(world, { exclude: [], columns: { t: ['id', 'a'] } }), [], 'the same in other words')
      assert.match((await again(world, { exclude: [], columns: { t: ['id', 'b'] } })).join(), /--columns changed from a, id to b, id/)
      const quiet = await world.follow({ exclude: [], columns: { t: ['b', 'id'] } })
      await world.source.run("UPDATE t SET b = 'new', a = 0 WHERE id = 2")
      await quiet.caughtUp()
      assert.equal(quiet.probe.loads, 0, 'nothing has changed')
      assert.ok((await column(world, 't', 'b'))?.includes('new'))
      await quiet.stop()
    },
  )

  pipelineCase(
    bench,
    '--map changed: the table is copied to its new place, what stands at the old one stays',
    { setup: SETUP, settings: { tables: ['t'] }, sinks: SQL },
    async (world) => {
      await (await world.follow()).stop()
      await world.source.run('DELETE FROM t WHERE id = 1')
      assert.match((await again(world, { map: { t: 'moved' } })).join(), /its target changed from public\.t to public\.moved/)
      assert.deepEqual(await column(world, 'moved', 'id'), numbers(2, 3, 4, 5, 6))
      assert.deepEqual(await column(world, 't', 'id'), numbers(1, 2, 3, 4, 5, 6))
    },
  )

  pipelineCase(
    bench,
    '--key changed: the table is read again under its new key',
    { setup: `${SETUP}; CREATE UNIQUE INDEX ON t (a); ALTER TABLE t ALTER a SET NOT NULL`, settings: { tables: ['t'] }, sinks: SQL },
    async (world) => {
      await (await world.follow()).stop()
      const running = await world.follow({ key: { t: ['a'] } })
      await world.source.run('UPDATE t SET id = id + 100 WHERE a = 20; UPDATE t SET a = 33 WHERE a = 30; DELETE FROM t WHERE a = 40')
      await running.caughtUp()
      await world.same(['t'])
      const report = await running.stop()
      assert.match(report.problems.map((problem) => problem.message).join(), /--key changed from the table's own to a/)
    },
  )

  pipelineCase(
    bench,
    '--tables changed: what is left out stops and keeps its rows, and is copied anew when it comes back',
    { setup: SETUP, settings: { tables: ['t', 'other'] }, sinks: SQL },
    async (world) => {
      await (await world.follow()).stop()
      const typo = await (await world.pipeline.follow({ tables: ['t'], exclude: ['t.c'] })).done
      assert.equal(typo.problems.find((problem) => problem.severity !== 'warning')?.code, 'USAGE')
      const same = await world.follow()
      await same.caughtUp()
      assert.equal(same.probe.loads, 0, 'a start that failed has left nothing out')
      await same.stop()
      assert.match((await again(world, { tables: ['t'] })).join(), /public\.other is no longer selected/)
      await world.source.run('INSERT INTO other VALUES (2); INSERT INTO t VALUES (7)')
      assert.deepEqual(await again(world, { tables: ['t'] }), [])
      await world.same(['t'])
      assert.deepEqual(await column(world, 'other', 'id'), ['1'])
      assert.match((await again(world, { tables: ['t', 'other'] })).join(), /public\.other is read from the start/)
      await world.same(['t', 'other'])
    },
  )

  pipelineCase(
    bench,
    'one copy after another: changed options and new columns are in the second',
    { setup: SETUP, settings: { tables: ['t'], exclude: ['t.b'] }, sinks: SQL },
    async (world) => {
      assert.equal((await world.pipeline.run('copy')).ok, true)
      await world.source.run('ALTER TABLE t ADD c int; UPDATE t SET c = id')
      assert.equal((await world.pipeline.run('copy', { exclude: [] })).ok, true)
      await world.same(['t'])
      await world.source.run('ALTER TABLE t ADD d int DEFAULT 4')
      assert.equal((await world.pipeline.run('copy', { exclude: [] })).ok, true)
      await world.same(['t'])
    },
  )

  pipelineCase(
    bench,
    'what cannot be obeyed is refused before anything is touched: no snapshot, rows of somebody else',
    { setup: SETUP, settings: { tables: ['t'], snapshot: 'never' }, sinks: FEW },
    async (world) => {
      const first = await world.follow()
      await world.source.run('INSERT INTO t VALUES (7)')
      await first.caughtUp()
      await first.stop()
      const refused = await (await world.pipeline.follow({ exclude: ['t.a'] })).done
      assert.deepEqual(
        refused.problems.map((problem) => [problem.code, problem.path]),
        [['USAGE', 'public.t']],
      )
      assert.match(refused.problems[0]?.message ?? '', /of public\.t, --exclude changed from none to a; it is followed without a snapshot/)
      assert.deepEqual(await column(world, 't', 'id'), ['7'])
      assert.deepEqual(await again(world, {}), [])
    },
  )

  pipelineCase(
    bench,
    '`tables remove` lasts, `tables add` takes the table in again from the start',
    { setup: SETUP, settings: { tables: ['t', 'other'] }, sinks: FEW },
    async (world) => {
      const running = await world.follow()
      await running.ask({ kind: 'remove-tables', tables: [T] })
      await running.reaches(() => running.latest?.tables.every((table) => table.source !== T) === true, 't is out')
      await running.stop()
      await world.source.run("INSERT INTO t VALUES (7, 7, 'seven'); INSERT INTO other VALUES (2)")
      assert.match((await again(world, {})).join(), /public\.t stays left out/)
      await world.same(['other'])
      assert.equal((await column(world, 't', 'id'))?.length, 6)
      const back = await world.follow()
      await back.ask({ kind: 'add-tables', tables: ['t'] })
      await back.reaches(() => back.latest?.tables.some((table) => table.source === T && table.state === 'streaming') === true, 't is in')
      await world.source.run("INSERT INTO t VALUES (8, 8, 'eight')")
      await back.caughtUp()
      await world.same(['t', 'other'])
      await back.stop()
      await again(world, { tables: ['other'] })
      await world.source.run("INSERT INTO t VALUES (9, 9, 'nine')")
      await again(world, { tables: ['other'] })
      await world.same(['t', 'other'])
    },
  )

  pipelineCase(
    bench,
    'CASE 40: `tables add` of a name that is not there is answered, and the pipeline goes on',
    { setup: SETUP, settings: { tables: ['t'], where: {} }, sinks: FEW },
    async (world) => {
      const running = await world.follow()
      await running.ask({ kind: 'add-tables', tables: ['othr', 'other'] })
      await running.reaches(
        () => running.latest?.tables.some((table) => table.source === 'public.other' && table.state === 'streaming') === true,
        'other is in',
      )
      await world.source.run('INSERT INTO other VALUES (3); INSERT INTO t VALUES (10)')
      await running.caughtUp()
      await world.same(['t', 'other'])
      const report = await running.stop()
      assert.equal(report.ok, true)
      assert.match(report.problems.map((problem) => `${problem.message} ${problem.hint}`).join(), /othr.*did you mean other/)
    },
  )

  pipelineCase(
    bench,
    'CASE 31: a table that --tables names was renamed: followed by what it is, with the options that named it',
    { setup: SETUP, settings: { tables: ['t'], exclude: ['t.b'], map: { t: 'copy' } }, sinks: FEW },
    async (world) => {
      await (await world.follow()).stop()
      await world.source.run("ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (7, 70, 'seven')")
      const running = await world.follow()
      await world.source.run("INSERT INTO u VALUES (8, 80, 'eight')")
      await running.caughtUp()
      assert.deepEqual(await column(world, 'copy', 'id'), numbers(1, 2, 3, 4, 5, 6, 7, 8))
      assert.equal(running.probe.loads, 0)
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 31: a table that --tables names was dropped: its last rows come, it is said, the others go on',
    { setup: SETUP, settings: { tables: ['t', 'other'], where: {} }, sinks: FEW },
    async (world) => {
      await (await world.follow()).stop()
      await world.source.run("INSERT INTO t VALUES (7, 70, 'seven'); DROP TABLE t; INSERT INTO other VALUES (2)")
      for (const id of [3, 4]) {
        const running = await world.follow()
        await world.source.run(`INSERT INTO other VALUES (${id})`)
        await running.caughtUp()
        await running.reaches(() => running.latest?.problems.some((problem) => problem.path === T) === true, 'it is said')
        const report = await running.stop()
        assert.equal(report.ok, true)
        assert.match(
          report.problems.map((problem) => `${problem.message} ${problem.hint}`).join(),
          /public\.t was dropped .* remove public\.t/,
        )
      }
      await world.same(['other'])
      assert.deepEqual(await column(world, 't', 'id'), numbers(1, 2, 3, 4, 5, 6, 7))
      // What the hint says, while nobody runs.
      await world.pipeline.store.request((await world.pipeline.store.list())[0]!.name, { kind: 'remove-tables', tables: [T] })
      assert.doesNotMatch((await again(world, {})).join(), /dropped/)
    },
  )

  pipelineCase(
    bench,
    'CASE 31: a table was dropped while stopped, one copy after another',
    { setup: SETUP, settings: { tables: ['t', 'other'] }, sinks: FEW },
    async (world) => {
      assert.equal((await world.pipeline.run('copy')).ok, true)
      await world.source.run('DROP TABLE t; INSERT INTO other VALUES (2)')
      for (const round of [1, 2]) {
        const report = await world.pipeline.run('copy')
        assert.equal(report.ok, true, JSON.stringify(report.problems))
        assert.equal(report.problems.length, round === 1 ? 1 : 0)
        await world.same(['other'])
      }
      const stop = await world.pipeline.run('copy', { schemaChanges: 'stop', tables: ['other', 'typo'] }).catch((error: Error) => error)
      assert.match(JSON.stringify(stop instanceof Error ? stop.message : stop.problems), /no table of the source matches/)
    },
  )

  pipelineCase(
    bench,
    'a plain copy that is to be followed is read again; a followed one is not copied over',
    { setup: SETUP, settings: { tables: ['t'] }, sinks: FEW },
    async (world) => {
      assert.equal((await world.pipeline.run('copy')).ok, true)
      await world.source.run("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (7, 7, 'seven')")
      const report = await world.pipeline.run('caught-up')
      assert.equal(report.ok, true, JSON.stringify(report.problems))
      assert.match(
        report.problems.map((problem) => problem.message).join(),
        /public\.t is read from the start: it was copied without following/,
      )
      await world.same(['t'])
      const refused = await world.pipeline.run('copy')
      assert.deepEqual(
        refused.problems.map((problem) => problem.code),
        ['USAGE'],
      )
      assert.deepEqual(await again(world, {}), [])
    },
  )
})
