import assert from 'node:assert/strict'
import type { Report } from '../../src/engine/report.ts'
import { TailraceError } from '../../src/sdk/errors.ts'
import { cases, Pipeline, pipelineCase, useBench, type SinkName } from './kit.ts'

const bench = useBench()

const SETUP = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i;
  CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)`
const FILES: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']

function errorsOf(report: Report): [string, string | undefined, string][] {
  return report.problems.filter(({ severity }) => severity === 'error').map(({ code, path, message }) => [code, path, message])
}

function said(report: Report): string {
  return report.problems.map(({ message }) => message).join('\n')
}

cases('what was taken out of a target is not made again without its rows', () => {
  for (const deletes of ['hard', 'soft'] as const)
    pipelineCase(
      bench,
      `a target table that was dropped while nobody ran is read again, --deletes ${deletes}`,
      { setup: SETUP, sinks: FILES, settings: { deletes } },
      async ({ source, target, pipeline, same }) => {
        assert.equal((await pipeline.run('caught-up')).ok, true)
        await target.execute?.('DROP TABLE t')
        await source.run(`INSERT INTO t VALUES (101, 'later'); DELETE FROM t WHERE id = 1; UPDATE t SET v = 'new' WHERE id = 2`)
        await using running = await pipeline.until('caught-up')
        const report = await running.done
        assert.deepEqual([report.ok, errorsOf(report)], [true, []])
        assert.match(said(report), /public\.t is read from the start: the target table public\.t is gone/)
        assert.equal(running.probe.loads, 1, 'u is not read again')
        if (deletes === 'hard') await same(['t', 'u'])
        assert.equal((await target.rows('public', 't'))?.length, 100)
        await source.run(`INSERT INTO t VALUES (102, 'after')`)
        await using next = await pipeline.until('caught-up')
        assert.equal((await next.done).ok, true)
        assert.equal(next.probe.loads, 0, 'it is whole again')
        assert.equal((await target.rows('public', 't'))?.length, 101)
      },
    )

  pipelineCase(
    bench,
    'a target table that was dropped under a running pipeline stops it, and the next start reads the table again',
    { setup: SETUP, sinks: FILES },
    async ({ source, target, pipeline, follow, same }) => {
      const running = await follow()
      await target.execute?.('DROP TABLE t')
      await source.run(`INSERT INTO t VALUES (101, 'later'); INSERT INTO u VALUES (2)`)
      assert.equal((await running.done).ok, false)
      const report = await pipeline.run('caught-up')
      assert.deepEqual([report.ok, errorsOf(report)], [true, []])
      await same(['t', 'u'])
    },
  )

  pipelineCase(
    bench,
    'a target table that is dropped under a running pipeline is not made again empty when another table is added',
    { setup: SETUP, sinks: FILES, settings: { tables: ['t'] } },
    async ({ source, target, pipeline, follow, same }) => {
      const running = await follow()
      await target.execute?.('DROP TABLE t')
      await running.ask({ kind: 'add-tables', tables: ['public.u'] })
      await running.reaches(async () => (await target.rows('public', 'u'))?.length === 1, 'u copied')
      await source.run(`INSERT INTO t VALUES (101, 'later')`)
      assert.equal((await running.done).ok, false)
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await same(['t', 'u'])
    },
  )

  pipelineCase(
    bench,
    'a column that was dropped in the target while nobody ran is read again with its table',
    { setup: SETUP, sinks: FILES },
    async ({ source, target, pipeline, same }) => {
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await target.execute?.('ALTER TABLE t DROP COLUMN v')
      await source.run(`INSERT INTO t VALUES (101, 'later')`)
      const report = await pipeline.run('caught-up')
      assert.deepEqual([report.ok, errorsOf(report)], [true, []])
      assert.match(said(report), /public\.t is read from the start: the target table public\.t has lost column v/)
      await same(['t', 'u'])
    },
  )

  pipelineCase(
    bench,
    'a target table that was dropped while its copy was interrupted is read whole, its finished chunks too',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i; ANALYZE t`,
      settings: { sourceOptions: { chunkBytes: '65536' }, workers: 1 },
      sinks: FILES,
    },
    async ({ target, pipeline, same }) => {
      let chunks = 0
      const one = async (): Promise<void> => {
        if (chunks++ > 0) throw new TailraceError('ENVIRONMENT', 'the second chunk is not taken')
      }
      assert.equal((await pipeline.run('caught-up', { hooks: { load: one } })).ok, false)
      assert.notEqual((await target.rows('public', 't'))?.length, 0, 'a chunk was copied')
      await target.execute?.('DROP TABLE t')
      const report = await pipeline.run('caught-up')
      assert.deepEqual([report.ok, errorsOf(report)], [true, []])
      await same(['t'])
    },
  )

  pipelineCase(
    bench,
    'columns that the source got, lost and renamed while nobody ran come by the stream: nothing is read again',
    { setup: `${SETUP}; CREATE TABLE w (id int PRIMARY KEY, a int, b int); INSERT INTO w VALUES (1, 1, 1)`, sinks: FILES },
    async ({ source, target, pipeline, same }) => {
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await source.run(`ALTER TABLE t ADD COLUMN n int; INSERT INTO t VALUES (101, 'later', 7)`)
      await source.run('ALTER TABLE u RENAME COLUMN id TO number; INSERT INTO u VALUES (2)')
      await source.run('ALTER TABLE w DROP COLUMN b; INSERT INTO w VALUES (2, 2)')
      for (const run of ['the first', 'the second']) {
        await using running = await pipeline.until('caught-up')
        const report = await running.done
        assert.deepEqual([report.ok, errorsOf(report), running.probe.loads], [true, [], 0], run)
      }
      await same(['t', 'u'])
      assert.equal((await target.rows('public', 'w'))?.length, 2)
    },
  )

  pipelineCase(
    bench,
    'what was lost is refused where it cannot be read again, and nothing is touched',
    { setup: SETUP, sinks: FILES },
    async ({ source, target, pipeline, same }) => {
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await target.execute?.('DROP TABLE t')
      await target.execute?.('INSERT INTO u VALUES (100)')
      await source.run(`INSERT INTO t VALUES (101, 'later')`)
      const report = await pipeline.run('caught-up', { snapshot: 'never' })
      assert.deepEqual(
        [report.ok, errorsOf(report)],
        [
          false,
          [
            [
              'SCHEMA_CHANGED',
              'public.t',
              'the target table public.t is gone: public.t would have to be read again, and --snapshot never forbids it',
            ],
          ],
        ],
      )
      assert.equal(await target.rows('public', 't'), null)
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await same(['t'])
    },
  )

  pipelineCase(
    bench,
    '--if-exists append: a lost column is refused as long as rows of somebody else are in the table',
    { setup: SETUP, sinks: FILES, settings: { tables: ['t'], ifExists: 'append' } },
    async ({ target, pipeline, same }) => {
      await target.execute?.(`CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1000, 'theirs')`)
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await target.execute?.('ALTER TABLE t DROP COLUMN v')
      const report = await pipeline.run('caught-up')
      assert.deepEqual(
        errorsOf(report).map(([code, path]) => [code, path]),
        [['SCHEMA_CHANGED', 'public.t']],
      )
      assert.match(said(report), /has lost column v.*rows of somebody else/)
      assert.equal((await target.rows('public', 't'))?.length, 101)
      // Dropped as a whole it holds nothing of anybody any more.
      await target.execute?.('DROP TABLE t')
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await same(['t'])
    },
  )
})

cases('a start that is refused leaves the runner of the target alone', () => {
  pipelineCase(
    bench,
    'CASE 9, TRAP 58: another state file that is refused for the rows in the target takes no epoch, and the first runner goes on',
    { setup: SETUP, sinks: FILES },
    async ({ source, target, follow, same }) => {
      const running = await follow()
      const second = await new Pipeline(source, target).run('caught-up')
      assert.deepEqual(
        errorsOf(second).map(([code, path]) => [code, path]),
        [
          ['TARGET_NOT_EMPTY', 'public.t'],
          ['TARGET_NOT_EMPTY', 'public.u'],
        ],
      )
      await source.run(`INSERT INTO t VALUES (101, 'later')`)
      await running.caughtUp()
      assert.equal((await running.stop()).ok, true)
      await same(['t', 'u'])
    },
  )
})
