import assert from 'node:assert/strict'
import { DELETED_COLUMN } from '../../src/sdk/soft-delete.ts'
import type { TableId } from '../../src/model/schema.ts'
import { cases, pipelineCase, useBench, type SinkName, type Target, type World } from './kit.ts'

const bench = useBench()

const FEW: readonly SinkName[] = ['sqlite']
const SQL: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']
const KEYED = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'source' FROM generate_series(1, 5) i`
const KEYLESS = `CREATE TABLE t (id int NOT NULL, v text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, 'source' FROM generate_series(1, 5) i`

/** Rows as `id value mark`, sorted; a living row of soft deletes has the mark `-`. */
async function rowsOf({ target }: World): Promise<readonly string[]> {
  const plain = (value: string | null | undefined): string => String(value ?? 'null').replace(/^(integer|text|boolean) /, '')
  const rows = (await target.rows('public', 't')) ?? []
  return rows
    .map((row) => {
      const mark = row[DELETED_COLUMN]
      const dead = mark === undefined ? '' : /^(1|t|true)$/.test(plain(mark)) ? ' deleted' : ' -'
      return `${plain(row['id'])} ${plain(row['v'])}${dead}`
    })
    .sort()
}

/** A person's own rows, where the copy will go. */
async function ownRows(target: Target, sql: string): Promise<void> {
  if (target.execute === undefined) throw new Error(`${target.name} takes no rows of a person's own here`)
  await target.execute(sql)
}

const OWN = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (100, 'own'), (101, 'own')`
const OWN_KEYLESS = `CREATE TABLE t (id int, v text); INSERT INTO t VALUES (100, 'own'), (101, 'own')`

cases('rows that a new reading must not take away', () => {
  pipelineCase(
    bench,
    '--if-exists append: a second copy leaves the rows of others and brings its own up to date by key',
    { setup: KEYED, settings: { ifExists: 'append' }, sinks: SQL },
    async (world) => {
      await ownRows(world.target, OWN)
      assert.equal((await world.pipeline.run('copy')).ok, true)
      await world.source.run("UPDATE t SET v = 'changed' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (6, 'source')")
      for (const ifExists of ['append', 'stop'] as const) {
        const report = await world.pipeline.run('copy', { ifExists })
        assert.equal(report.ok, true, JSON.stringify(report.problems))
        assert.equal(report.tables[0]?.written, 5)
        const gone = '2 source'
        assert.deepEqual(await rowsOf(world), ['1 changed', '100 own', '101 own', gone, '3 source', '4 source', '5 source', '6 source'])
      }
      assert.equal((await world.pipeline.run('copy', { ifExists: 'truncate' })).ok, true)
      await world.same(['t'])
    },
  )

  pipelineCase(
    bench,
    '--if-exists append: without a key a second copy is refused, and nothing is touched',
    { setup: KEYLESS, settings: { ifExists: 'append' }, sinks: SQL },
    async (world) => {
      await ownRows(world.target, OWN_KEYLESS)
      assert.equal((await world.pipeline.run('copy')).ok, true)
      const first = await rowsOf(world)
      assert.equal(first.length, 7)
      const report = await world.pipeline.run('copy')
      assert.deepEqual(
        report.problems.filter((problem) => problem.severity !== 'warning').map((problem) => [problem.code, problem.path]),
        [['TARGET_NOT_EMPTY', 'public.t']],
      )
      assert.match(
        report.problems.map((problem) => problem.message).join(),
        /has appended public\.t to public\.t before, and without a key/,
      )
      assert.deepEqual(await rowsOf(world), first)
      const keyed = await world.pipeline.run('copy', { key: { t: ['id'] } })
      assert.equal(keyed.ok, true, JSON.stringify(keyed.problems))
      assert.deepEqual(await rowsOf(world), first)
    },
  )

  pipelineCase(
    bench,
    '--if-exists append: a table that has to be read again while it is followed stops the pipeline',
    { setup: KEYED, settings: { ifExists: 'append' }, sinks: FEW },
    async (world) => {
      await ownRows(world.target, OWN)
      const running = await world.follow()
      await running.ask({ kind: 'resnapshot', tables: ['public.t' as TableId] })
      const report = await running.done
      assert.match(
        report.problems.map((problem) => `${problem.code} ${problem.message}`).join(),
        /TARGET_NOT_EMPTY public\.t would have to be read again/,
      )
      assert.deepEqual((await rowsOf(world)).slice(1, 3), ['100 own', '101 own'])
      const refused = await (await world.pipeline.follow({ exclude: ['t.v'] })).done
      assert.deepEqual(
        refused.problems.map((problem) => problem.code),
        ['USAGE'],
      )
      const again = await world.follow()
      await world.source.run("INSERT INTO t VALUES (7, 'streamed')")
      await again.caughtUp()
      assert.equal((await rowsOf(world)).length, 8)
      assert.equal((await again.stop()).ok, true)
    },
  )

  for (const deletes of ['hard', 'soft'] as const)
    pipelineCase(
      bench,
      `--if-exists append: a TRUNCATE in the source does not take away the rows of others (--deletes ${deletes})`,
      { setup: KEYED, settings: { ifExists: 'append', deletes }, sinks: SQL },
      async (world) => {
        await ownRows(world.target, OWN)
        const running = await world.follow()
        await world.source.run("INSERT INTO t VALUES (7, 'streamed')")
        await running.caughtUp()
        const held = await rowsOf(world)
        assert.equal(held.length, 8)
        await world.source.run("BEGIN; INSERT INTO t VALUES (8, 'with it'); TRUNCATE t; INSERT INTO t VALUES (9, 'after'); COMMIT")
        await running.reaches(() => running.ended, 'its end')
        const { ok, problems } = await running.done
        assert.equal(ok, false)
        const [problem] = problems.filter(({ severity }) => severity === 'error')
        assert.deepEqual([problem?.code, problem?.path], ['TARGET_NOT_EMPTY', 'public.t'])
        assert.match(problem?.message ?? '', /public\.t was truncated in the source, and its target .* also holds rows of somebody else/)
        assert.deepEqual(await rowsOf(world), held)
        const obeyed = await world.follow({ ifExists: 'truncate' })
        await obeyed.caughtUp()
        assert.deepEqual((await rowsOf(world)).filter((row) => !row.endsWith('deleted')).length, 1)
        assert.equal((await obeyed.stop()).ok, true)
      },
    )

  pipelineCase(
    bench,
    '--deletes soft: a table that is read again keeps its deleted rows, and marks those that went meanwhile',
    { setup: `${KEYED}; ALTER TABLE t ADD u int UNIQUE; UPDATE t SET u = id`, settings: { deletes: 'soft' }, sinks: SQL },
    async (world) => {
      const running = await world.follow()
      await world.source.run('DELETE FROM t WHERE id = 1; UPDATE t SET id = 20 WHERE id = 2')
      await running.caughtUp()
      await running.ask({ kind: 'resnapshot', tables: ['public.t' as TableId] })
      const { loads } = running.probe
      await running.reaches(() => running.probe.loads > loads, 'a new reading')
      await world.source.run("DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (1, 'back', 1), (6, 'new', 6)")
      await running.caughtUp()
      assert.deepEqual(await rowsOf(world), [
        '1 back -',
        '2 source deleted',
        '20 source -',
        '3 source deleted',
        '4 source -',
        '5 source -',
        '6 new -',
      ])
      await running.stop()
      // Rows written anew, which nobody could follow.
      await world.source.run("ALTER TABLE t ALTER v TYPE text USING v || '!'; DELETE FROM t WHERE id = 4")
      const again = await world.follow()
      await again.reaches(() => again.probe.loads > 0, 'another reading')
      await again.caughtUp()
      assert.deepEqual(await rowsOf(world), [
        '1 back! -',
        '2 source deleted',
        '20 source! -',
        '3 source deleted',
        '4 source deleted',
        '5 source! -',
        '6 new! -',
      ])
      assert.equal((await again.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    '--deletes soft: a column that changes its type keeps the deleted rows too',
    {
      setup: 'CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 7), (2, 8), (3, 9)',
      settings: { deletes: 'soft' },
      sinks: SQL,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run('DELETE FROM t WHERE id = 1')
      await running.caughtUp()
      const { loads } = running.probe
      await world.source.run('ALTER TABLE t ALTER v TYPE int USING v::int + 1; INSERT INTO t VALUES (4, 11)')
      await running.reaches(() => running.probe.loads > loads, 'a new reading')
      await running.caughtUp()
      assert.deepEqual(await rowsOf(world), ['1 7 deleted', '2 9 -', '3 10 -', '4 11 -'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    '--deletes soft without a key: deleted rows survive a new reading, the living are as they are in the source',
    { setup: KEYLESS, settings: { deletes: 'soft' }, sinks: SQL },
    async (world) => {
      const running = await world.follow()
      await world.source.run('DELETE FROM t WHERE id = 1')
      await running.caughtUp()
      const { loads } = running.probe
      await running.ask({ kind: 'resnapshot', tables: ['public.t' as TableId] })
      await running.reaches(() => running.probe.loads > loads, 'a new reading')
      await world.source.run("INSERT INTO t VALUES (6, 'new')")
      await running.caughtUp()
      assert.deepEqual(await rowsOf(world), ['1 source deleted', '2 source -', '3 source -', '4 source -', '5 source -', '6 new -'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 3: --deletes soft, a copy that is cut short is resumed without losing deleted rows',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 200) i; ANALYZE t`,
      settings: { deletes: 'soft', workers: 1, sourceOptions: { chunkBytes: '8192' } },
      sinks: SQL,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run('DELETE FROM t WHERE id IN (1, 150)')
      await running.caughtUp()
      await running.stop()
      let chunks = 0
      const cut = await world.pipeline.follow({
        hooks: {
          load: async () => {
            if (++chunks === 6) void cut.stop()
          },
        },
      })
      await cut.ask({ kind: 'resnapshot', tables: ['public.t' as TableId] })
      await cut.done
      assert.ok(chunks >= 6, 'it was cut short in the middle')
      await world.source.run('DELETE FROM t WHERE id IN (2, 190)')
      const again = await world.follow()
      await again.caughtUp()
      const dead = (await rowsOf(world)).filter((row) => row.endsWith('deleted')).map((row) => row.split(' ')[0])
      assert.deepEqual(dead, ['1', '150', '190', '2'])
      assert.equal((await rowsOf(world)).length, 200)
      assert.equal((await again.stop()).ok, true)
    },
  )
})
