import assert from 'node:assert/strict'
import type { Report } from '../../src/engine/report.ts'
import { cases, Pipeline, pipelineCase, SINKS, useBench, type SinkName } from './kit.ts'

const bench = useBench()

const SETUP = 'CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)'
const FILES: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']

function errorsOf(report: Report): [string, string | undefined][] {
  return report.problems.filter(({ severity }) => severity === 'error').map(({ code, path }) => [code, path])
}

function errorOf(report: Report): Report['problems'][number] | undefined {
  return report.problems.find(({ severity }) => severity === 'error')
}

cases('one target table is one pipeline’s', () => {
  pipelineCase(
    bench,
    'a table that is still empty is not shared unsaid',
    { setup: SETUP, settings: { tables: ['t'] } },
    async ({ source, target, pipeline }) => {
      await using other = await bench().database(SETUP)
      const second = new Pipeline(other, target, { tables: ['t'] })
      const first = await pipeline.run('caught-up')
      assert.equal(first.ok, true)
      for (const ifExists of ['stop', 'truncate', 'replace'] as const) {
        const report = await second.run('caught-up', { ifExists })
        assert.deepEqual(errorsOf(report), [['TARGET_NOT_EMPTY', 'public.t']], ifExists)
        const problem = errorOf(report)
        assert.match(problem?.message ?? '', new RegExp(`is written by another pipeline, ${first.pipeline}, which follows its source`))
        assert.match(problem?.hint ?? '', new RegExp(`--map 'public.t=…' .*--if-exists append .*tailrace remove ${first.pipeline}`))
        assert.deepEqual(report.upstream, [])
      }
      assert.match(JSON.stringify((await second.plan()).problems), /is written by another pipeline/)
      await source.run(`INSERT INTO t VALUES (1, 'first')`)
      await other.run(`INSERT INTO t VALUES (2, 'second')`)
      assert.equal((await pipeline.run('caught-up')).ok, true)
      assert.equal((await target.rows('public', 't'))?.length, 1)
      // Asked for, it is shared, and neither empties out the rows of the other.
      assert.equal((await second.run('caught-up', { ifExists: 'append' })).ok, true)
      assert.equal((await pipeline.run('caught-up')).ok, true)
      assert.equal((await target.rows('public', 't'))?.length, 2)
      const again = await pipeline.follow()
      await again.ask({ kind: 'resnapshot', tables: first.tables.map((table) => table.source as never) })
      assert.deepEqual(errorsOf(await again.done), [['TARGET_NOT_EMPTY', 'public.t']])
      assert.equal((await target.rows('public', 't'))?.length, 2)
    },
  )

  pipelineCase(
    bench,
    'a copy that is done gives way to who empties its table, and does not come back unsaid',
    { setup: `${SETUP}; INSERT INTO u VALUES (1)`, settings: { tables: ['t'] } },
    async ({ target, pipeline }) => {
      await using other = await bench().database(`${SETUP}; INSERT INTO t VALUES (2, 'second')`)
      const second = new Pipeline(other, target, { tables: ['t'] })
      assert.equal((await pipeline.run('copy')).ok, true)
      assert.deepEqual(errorsOf(await second.run('copy')), [['TARGET_NOT_EMPTY', 'public.t']])
      assert.equal((await second.run('copy', { ifExists: 'truncate' })).ok, true)
      assert.equal((await second.run('copy')).ok, true)
      assert.deepEqual(errorsOf(await pipeline.run('copy')), [['TARGET_NOT_EMPTY', 'public.t']])
      assert.equal((await target.rows('public', 't'))?.length, 1)
    },
  )

  pipelineCase(
    bench,
    'a table that is left out, or goes elsewhere, is free again',
    { setup: SETUP, sinks: FILES },
    async ({ target, pipeline, follow }) => {
      await using other = await bench().database(SETUP)
      const running = await follow()
      await running.ask({ kind: 'remove-tables', tables: ['public.u' as never] })
      await running.reaches(() => running.latest?.tables.length === 1, 'u left out')
      assert.equal((await running.stop()).ok, true)
      assert.equal((await new Pipeline(other, target, { tables: ['u'] }).run('caught-up')).ok, true)
      await using third = await bench().database(SETUP)
      const free = new Pipeline(third, target, { tables: ['t'] })
      assert.deepEqual(errorsOf(await free.run('caught-up')), [['TARGET_NOT_EMPTY', 'public.t']])
      assert.equal((await pipeline.run('caught-up', { map: { t: 't2' } })).ok, true)
      assert.equal((await free.run('caught-up')).ok, true)
    },
  )
})

cases('one name, two state stores', () => {
  pipelineCase(
    bench,
    'CASE 9, TRAP 58: rows are not added under the name of a pipeline that another state store knows, and its runner goes on',
    { setup: SETUP, settings: { ifExists: 'append' }, sinks: SINKS },
    async ({ source, target, follow, same }) => {
      const running = await follow()
      for (const mode of ['caught-up', 'copy'] as const) {
        const second = await new Pipeline(source, target, { ifExists: 'append' }).run(mode)
        assert.deepEqual(errorsOf(second), [['TARGET_NOT_EMPTY', 'state']])
        assert.match(errorOf(second)?.hint ?? '', /--state .*--name .*--if-exists truncate/)
        assert.deepEqual(second.upstream, [])
      }
      await source.run(`INSERT INTO t VALUES (1, 'later')`)
      await running.caughtUp()
      assert.equal((await running.stop()).ok, true)
      await same(['t', 'u'])
    },
  )

  pipelineCase(
    bench,
    'who lost the state starts over by giving up what the target holds',
    { setup: `${SETUP}; INSERT INTO t VALUES (1, 'x')`, sinks: SINKS },
    async ({ source, target, pipeline, same }) => {
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await source.run(`DELETE FROM t; INSERT INTO t VALUES (2, 'y')`)
      const second = new Pipeline(source, target)
      assert.equal((await second.run('caught-up')).ok, false)
      const report = await second.run('caught-up', { ifExists: 'truncate' })
      assert.deepEqual([report.ok, errorsOf(report)], [true, []])
      await same(['t', 'u'])
      await source.run(`INSERT INTO t VALUES (3, 'z')`)
      assert.equal((await second.run('caught-up')).ok, true)
      await same(['t', 'u'])
    },
  )
})

cases('rows of somebody else under the same keys', () => {
  pipelineCase(
    bench,
    '--if-exists append: it is said what to do, and what is kept upstream',
    {
      setup: 'CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, $$ours$$)',
      sinks: FILES,
      settings: { ifExists: 'append' },
    },
    async ({ target, pipeline, same }) => {
      await target.execute?.(`CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'theirs')`)
      const refused = await pipeline.run('caught-up')
      assert.deepEqual(errorsOf(refused), [['ROW_REJECTED', 'public.t']])
      const { message, hint } = errorOf(refused) ?? {}
      assert.match(message ?? '', /; .*t also holds rows of somebody else \(--if-exists append\), which keep their keys$/)
      assert.match(hint ?? '', new RegExp(`^start ${refused.pipeline} again with --if-exists truncate .*--map 'public.t=…'$`))
      assert.equal(refused.upstream.length, 2)
      assert.equal((await target.rows('public', 't'))?.length, 1)
      const report = await pipeline.run('caught-up', { ifExists: 'truncate' })
      assert.deepEqual([report.ok, errorsOf(report)], [true, []])
      await same(['t'])
    },
  )
})
