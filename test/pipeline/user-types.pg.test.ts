import assert from 'node:assert/strict'
import { cases, pipelineCase, useBench, type SinkName } from './kit.ts'

const bench = useBench()

const POSTGRES: readonly SinkName[] = ['postgres']
/** So seldom that the watch sees nothing in time. */
const BLIND = { sourceOptions: { watchInterval: '3600' } }
const MOODS = `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, a mood, b mood[]); INSERT INTO t VALUES (1, 'sad', '{sad,ok}')`

cases('CASE 26: types that a person made', () => {
  pipelineCase(bench, 'CASE 26: a label that is used before anybody has seen it', { setup: MOODS, settings: BLIND }, async (world) => {
    const running = await world.follow()
    await world.source.run("INSERT INTO t VALUES (2, 'ok', NULL)")
    await running.caughtUp()
    await world.source.run("ALTER TYPE mood ADD VALUE 'happy' BEFORE 'ok'")
    await world.source.run("INSERT INTO t VALUES (3, 'happy', NULL)")
    await world.source.run('ALTER TYPE mood ADD VALUE \'a, "b"\'')
    await world.source.run(`INSERT INTO t VALUES (4, NULL, ARRAY['a, "b"', NULL, 'ok']::mood[]); UPDATE t SET a = 'happy' WHERE id = 1`)
    await running.caughtUp()
    await world.same(['t'])
    assert.equal((await running.stop()).ok, true)
  })

  pipelineCase(
    bench,
    'CASE 26: a label that is new in the middle of a large transaction, bad rows put aside',
    { setup: MOODS, settings: { ...BLIND, onError: 'dead-letter' }, sinks: POSTGRES },
    async (world) => {
      const running = await world.follow()
      await world.source.run("INSERT INTO t VALUES (2, 'ok', NULL)")
      await running.caughtUp()
      await world.source.run("ALTER TYPE mood ADD VALUE 'happy'")
      await world.source.run(
        "INSERT INTO t SELECT i, CASE i WHEN 25000 THEN 'happy' ELSE 'ok' END::mood, NULL FROM generate_series(3, 30000) i",
      )
      await running.caughtUp()
      await world.same(['t'])
      const report = await running.stop()
      assert.equal(report.ok, true)
      assert.equal(report.tables[0]?.deadLettered, 0)
    },
  )

  pipelineCase(
    bench,
    'CASE 26: a label that nobody can tell of any more is a refused row, not an endless repetition',
    { setup: MOODS, settings: BLIND, sinks: POSTGRES },
    async (world) => {
      const running = await world.follow()
      await world.source.run("INSERT INTO t VALUES (2, 'ok', NULL)")
      await running.caughtUp()
      await running.stop()
      await world.source.run("ALTER TYPE mood ADD VALUE 'happy'")
      await world.source.run("INSERT INTO t VALUES (3, 'happy', NULL)")
      await world.source.run("ALTER TYPE mood RENAME VALUE 'happy' TO 'glad'")
      const report = await world.pipeline.run('caught-up')
      assert.deepEqual(
        report.problems.filter((problem) => problem.severity === 'error').map((problem) => [problem.code, problem.path]),
        [['ROW_REJECTED', 'public.t']],
      )
    },
  )

  pipelineCase(
    bench,
    'CASE 26: types that the target lacks: plan says what becomes of them, and their values are exact',
    {
      setup: `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text); CREATE DOMAIN short AS varchar(3); CREATE DOMAIN mood_d AS mood;
        CREATE DOMAIN price AS numeric(12,4) CHECK (VALUE >= 0); CREATE TYPE span AS RANGE (subtype = float8);
        CREATE TABLE t (id int PRIMARY KEY, m mood NOT NULL DEFAULT 'ok', p pair, s short, d mood_d, n price, r span, l pair[]);
        INSERT INTO t VALUES (1, 'sad', '(1,"a ""b"" , c")', 'abc', 'ok', 1234567.8900, '[1.5,2)', '{"(1,x)",NULL}')`,
      sinks: POSTGRES,
    },
    async (world) => {
      const plan = await world.pipeline.plan()
      const said = plan.problems.filter((problem) => problem.code === 'SCHEMA_UNSUPPORTED').map((problem) => problem.message)
      assert.deepEqual(said, [
        'column p: the target has no type public.pair; its values are kept as text (other(public.pair))',
        'column s: the target has no type public.short; its values are kept as text (string)',
        'column d: the target has no type public.mood_d; its values are kept as text (enum(public.mood))',
        'column n: the target has no type public.price; its values are kept as numeric(12,4) (decimal(12,4))',
        'column r: the target has no type public.span; its values are kept as text (other(public.span))',
        'column l: the target has no type public.pair[]; its values are kept as text[] (array<other(public.pair)>)',
      ])
      assert.match(plan.tables[0]?.ddl.join('\n') ?? '', /"m" public.mood DEFAULT 'ok'::public.mood NOT NULL,\n {2}"p" text,\n {2}"s" text/)
      const running = await world.follow()
      await world.source.run(
        `INSERT INTO t SELECT 2, m, p, s, d, n, r, l FROM t; INSERT INTO t (id, p, r, d) VALUES (3, '(,)', 'empty', 'sad'); UPDATE t SET p = '(2,)', r = '(,1e300)', d = 'sad' WHERE id = 1`,
      )
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )
})
