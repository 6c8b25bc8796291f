import assert from 'node:assert/strict'
import type { Report } from '../../src/engine/report.ts'
import { cases, pipelineCase, useBench, type SinkName, type Target } from './kit.ts'

const bench = useBench()

const SETUP = 'CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2); CREATE TABLE u (id int PRIMARY KEY)'
const FILES: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']

async function count(target: Target, table = 't'): Promise<number | null> {
  return (await target.rows('public', table))?.length ?? null
}

function errorsOf(report: Report): Report['problems'] {
  return report.problems.filter(({ severity }) => severity === 'error')
}

cases('what a target holds already is safe until the copy is certain', () => {
  for (const ifExists of ['truncate', 'replace'] as const) {
    pipelineCase(
      bench,
      `--if-exists ${ifExists}: a condition that the source refuses is found before the target is touched`,
      { setup: SETUP, sinks: FILES },
      async ({ source, target, pipeline }) => {
        assert.equal((await pipeline.run('copy')).ok, true)
        await source.run('INSERT INTO t VALUES (3, 3)')
        for (const [where, said] of [
          ['n >', /syntax error/],
          ['m > 1', /column "m" does not exist/],
          ['n', /must be type boolean/],
          ['n > 1); DELETE FROM t; SELECT (1', /syntax error|multiple commands/],
          ['n > 1 -- no 1', /syntax error/],
        ] as const) {
          const report = await pipeline.run('copy', { name: 'other', ifExists, where: { t: where } })
          const [first, ...more] = errorsOf(report)
          assert.deepEqual([report.ok, first?.code, first?.path, more], [false, 'USAGE', 'public.t', []])
          assert.match(first?.message ?? '', said)
          assert.match(first?.message ?? '', /--where for public\.t/)
          assert.equal(await count(target), 2)
        }
        const report = await pipeline.run('copy', { name: 'other', ifExists, where: { t: 'n > 1' } })
        assert.deepEqual([report.ok, errorsOf(report)], [true, []])
        assert.equal(await count(target), 2)
        assert.equal(await source.value('SELECT count(*) FROM t'), '3')
      },
    )
  }

  pipelineCase(
    bench,
    '--if-exists truncate: as long as the source gives no snapshot, the target keeps its rows',
    { setup: SETUP, sinks: FILES },
    async ({ source, target, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      await using session = await source.session()
      // TRAPS 9: the slot that gives the snapshot waits for it.
      await session.run('BEGIN; INSERT INTO t VALUES (3, 3)')
      await using running = await pipeline.until('caught-up', { name: 'other', ifExists: 'truncate' })
      await running.reaches(async () => (await source.slots()).length > 0, 'a slot that is being made')
      assert.equal(await count(target), 2)
      await session.run('COMMIT')
      assert.equal((await running.done).ok, true)
      assert.equal(await count(target), 3)
    },
  )

  pipelineCase(
    bench,
    'all targets are looked at before the first is made, and every one in the way is named',
    { setup: SETUP, sinks: FILES },
    async ({ source, target, pipeline }) => {
      await source.run('CREATE TABLE v (id int PRIMARY KEY); INSERT INTO v VALUES (1)')
      assert.equal((await pipeline.run('copy', { tables: ['t', 'v'] })).ok, true)
      await target.execute?.('INSERT INTO t VALUES (100, 100)')
      // What was refused once is not ours the next time.
      for (let time = 1; time <= 2; time++) {
        const report = await pipeline.run('copy', { name: 'other' })
        assert.deepEqual(
          errorsOf(report).map(({ code, path }) => [code, path]),
          [
            ['TARGET_NOT_EMPTY', 'public.t'],
            ['TARGET_NOT_EMPTY', 'public.v'],
          ],
        )
        assert.equal(await count(target, 'u'), null, 'u was not made')
        assert.equal(await count(target), 3)
      }
    },
  )

  pipelineCase(
    bench,
    '--if-exists append: a column that does not hold every value of the source is refused before anything is touched',
    {
      setup: "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2)); INSERT INTO t VALUES (1, 'abc', 1.5), (2, '2', 2)",
      sinks: FILES,
    },
    async ({ target, pipeline }) => {
      await target.execute?.('CREATE TABLE t (id int PRIMARY KEY, v int, n int); INSERT INTO t VALUES (100, 100, 100)')
      const held = await target.rows('public', 't')
      for (const ifExists of ['append', 'truncate'] as const)
        for (const how of ['copy', 'caught-up'] as const) {
          const report = await pipeline.run(how, { ifExists })
          assert.deepEqual(
            [report.ok, errorsOf(report).map(({ code, path }) => [code, path])],
            [
              false,
              [
                ['CONFIG', 'public.t'],
                ['CONFIG', 'public.t'],
              ],
            ],
          )
          assert.match(
            errorsOf(report)[0]?.message ?? '',
            /^column v of the target table public\.t is INT\w*, which does not hold every \w+ of public\.t\.v as it is$/i,
          )
          assert.deepEqual(await target.rows('public', 't'), held)
        }
      const plan = await pipeline.plan()
      assert.deepEqual(plan.problems.filter(({ code, message }) => code === 'CONFIG' && /does not hold/.test(message)).length, 2)
      assert.equal((await pipeline.run('copy', { ifExists: 'replace' })).ok, true)
      assert.equal(await count(target), 2)
    },
  )

  pipelineCase(
    bench,
    '--if-exists append: a wider column takes the rows, in the copy and in the stream',
    { setup: 'CREATE TABLE t (id int PRIMARY KEY, n int, s smallint); INSERT INTO t VALUES (1, 2147483647, -32768)', sinks: FILES },
    async ({ source, target, pipeline }) => {
      await target.execute?.('CREATE TABLE t (id bigint PRIMARY KEY, n bigint, s int); INSERT INTO t VALUES (100, 100, 100)')
      await using running = await pipeline.follow({ ifExists: 'append' })
      await running.streaming()
      await source.run('UPDATE t SET n = -2147483648 WHERE id = 1; INSERT INTO t VALUES (2, 7, 7), (3, 8, 8); DELETE FROM t WHERE id = 3')
      await running.caughtUp()
      const rows = (await target.rows('public', 't')) ?? []
      const plain = rows
        .map((row) =>
          Object.values(row)
            .map((value) => String(value).replace(/^[a-z]+ /, ''))
            .join(),
        )
        .sort()
      assert.deepEqual(plain, ['1,-2147483648,-32768', '100,100,100', '2,7,7'])
      assert.equal((await running.stop()).ok, true)
    },
  )
})
