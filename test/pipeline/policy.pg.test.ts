import assert from 'node:assert/strict'
import { cases, pipelineCase, useBench, type SinkName } from './kit.ts'

const bench = useBench()

const SETUP = `CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t SELECT i, i * 10, 'row ' || i FROM generate_series(1, 3) i; CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)`
const SOME: readonly SinkName[] = ['sqlite', 'postgres']
const FEW: readonly SinkName[] = ['sqlite']

cases('CASE 31: what to do about schema changes', () => {
  for (const [what, ddl] of [
    ['a column is added', 'ALTER TABLE t ADD c int'],
    ['a column is dropped', 'ALTER TABLE t DROP a'],
    ['a column is renamed', 'ALTER TABLE t RENAME b TO bb'],
    ['a type changes', 'ALTER TABLE t ALTER a TYPE bigint'],
    ['rows are rewritten in place', 'ALTER TABLE t ALTER a TYPE int USING a + 1'],
    ['the table is renamed', 'ALTER TABLE t RENAME TO u'],
  ] as const) {
    pipelineCase(
      bench,
      `CASE 31: stop: ${what}`,
      { setup: SETUP, settings: { schemaChanges: 'stop', tables: ['*'] }, sinks: FEW },
      async (world) => {
        const running = await world.follow()
        await world.source.run("INSERT INTO t VALUES (4, 40, 'four')")
        await running.caughtUp()
        await world.source.run(ddl)
        const now = ddl.includes('TO u') ? 'u' : 't'
        await world.source.run(`INSERT INTO ${now} (id) VALUES (5)`)
        const report = await running.done
        assert.equal(report.ok, false)
        assert.deepEqual(
          report.problems.filter((problem) => problem.severity === 'error').map((problem) => [problem.code, problem.path]),
          [['SCHEMA_CHANGED', 'public.t']],
        )
        const rows = await world.target.rows('public', 't')
        assert.equal(rows?.length, 4, 'rows before the change are there, those after it are not')
        assert.ok(Object.keys(rows[0] ?? {}).includes('b'))
        // Told to follow it after all, nothing is missing.
        const again = await world.follow({ schemaChanges: 'evolve' })
        await again.caughtUp()
        await world.same([now], { as: 't', kept: ddl.includes('DROP a') ? ['a'] : [] })
        assert.equal((await again.stop()).ok, true)
      },
    )
  }

  pipelineCase(
    bench,
    'CASE 31: ignore: the target keeps its shape, columns that both have are followed',
    { setup: SETUP, settings: { schemaChanges: 'ignore' }, sinks: SOME },
    async (world) => {
      const running = await world.follow()
      await world.source.run('ALTER TABLE t ADD c int')
      await world.source.run("INSERT INTO t VALUES (4, 40, 'four', 400)")
      await running.caughtUp()
      await world.source.run('ALTER TABLE t RENAME b TO bb')
      await world.source.run("INSERT INTO t VALUES (5, 50, 'five', 500); UPDATE t SET bb = 'changed', a = 11 WHERE id = 1")
      await running.caughtUp()
      const rows = (await world.target.rows('public', 't')) ?? []
      const expected = (await world.source.run('SELECT id, a, bb AS b FROM t')).map((row) =>
        Object.fromEntries(
          Object.entries(row).map(([name, text]) => [
            name,
            text === null ? null : world.target.expect(name === 'b' ? 'text' : 'int4', text),
          ]),
        ),
      )
      assert.deepEqual(rows.map((row) => JSON.stringify(row)).sort(), expected.map((row) => JSON.stringify(row)).sort())
      const report = await running.stop()
      assert.equal(report.ok, true)
      assert.ok(
        report.problems.some((problem) => problem.code === 'SCHEMA_CHANGED' && problem.severity === 'warning'),
        'it is said that a change was ignored',
      )
      // The same after a restart.
      const again = await world.follow()
      await world.source.run("INSERT INTO t VALUES (6, 60, 'six', 600)")
      await again.caughtUp()
      assert.deepEqual(Object.keys((await world.target.rows('public', 't'))?.[0] ?? {}).sort(), ['a', 'b', 'id'])
      assert.equal((await world.target.rows('public', 't'))?.length, 6)
      assert.equal((await again.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 31: table renamed: it is followed under its new name into the old target, also after a restart',
    { setup: SETUP, sinks: SOME },
    async (world) => {
      const running = await world.follow()
      await world.source.run("ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (4, 40, 'four')")
      await running.caughtUp()
      await world.same(['u'], { as: 't' })
      await world.source.run('ALTER TABLE u ADD c int DEFAULT 7')
      await world.source.run("INSERT INTO u VALUES (5, 50, 'five', 1)")
      await running.caughtUp()
      await world.same(['u'], { as: 't' })
      await running.stop()
      await world.source.run("INSERT INTO u VALUES (6, 60, 'six')")
      const again = await world.follow()
      await again.caughtUp()
      await world.same(['u'], { as: 't' })
      await world.source.run('ALTER TABLE u ALTER a TYPE int USING a * 2')
      await again.reaches(() => again.probe.loads > 0, 'the renamed table is read again')
      await again.caughtUp()
      await world.same(['u'], { as: 't' })
      assert.equal((await again.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 31: table dropped: the target keeps its rows, other tables go on, and it is said',
    { setup: SETUP, sinks: SOME },
    async (world) => {
      const running = await world.follow()
      await world.source.run("INSERT INTO t VALUES (4, 40, 'four')")
      await world.source.run('DROP TABLE t')
      await world.source.run('INSERT INTO other VALUES (2)')
      await running.caughtUp()
      await running.reaches(
        () => running.latest?.problems.some((problem) => problem.code === 'SCHEMA_CHANGED' && problem.path === 'public.t') === true,
        'the report says that t was dropped',
      )
      assert.equal((await world.target.rows('public', 't'))?.length, 4, JSON.stringify(running.latest))
      await world.same(['other'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 31: table dropped, policy stop',
    { setup: SETUP, settings: { schemaChanges: 'stop' }, sinks: FEW },
    async (world) => {
      const running = await world.follow()
      await world.source.run('DROP TABLE t; INSERT INTO other VALUES (2)')
      const report = await running.done
      assert.deepEqual(
        report.problems.filter((problem) => problem.severity === 'error').map((problem) => [problem.code, problem.path]),
        [['SCHEMA_CHANGED', 'public.t']],
      )
    },
  )

  pipelineCase(
    bench,
    'TRAP 46: rows rewritten in place and no change of the table afterwards',
    { setup: SETUP, sinks: FEW },
    async (world) => {
      const running = await world.follow()
      await world.source.run('ALTER TABLE t ALTER a TYPE int USING a + 1')
      await running.reaches(() => running.probe.loads > 2, 'a new reading')
      await running.caughtUp()
      await world.same(['t', 'other'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 26: an enum gets a label, and a label is renamed',
    {
      setup:
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (id int PRIMARY KEY, a mood, b mood[]); INSERT INTO t VALUES (1, 'sad', '{sad,ok}')",
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run("ALTER TYPE mood ADD VALUE 'happy' BEFORE 'ok'")
      await running.reaches(() => running.probe.barriers.length > 0, 'the new label is seen')
      await world.source.run("INSERT INTO t VALUES (2, 'happy', '{happy,NULL}')")
      await running.caughtUp()
      await world.same(['t'])
      const { loads } = running.probe
      await world.source.run("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
      await running.reaches(() => running.probe.loads > loads, 'old rows say something else now: a new reading')
      await world.source.run("INSERT INTO t VALUES (3, 'blue', NULL)")
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 46: TRUNCATE, VACUUM FULL and defaults rewrite nothing: no new reading',
    { setup: SETUP, sinks: FEW },
    async (world) => {
      const running = await world.follow()
      const { loads } = running.probe
      await world.source.run('VACUUM FULL t')
      await world.source.run('INSERT INTO t (id) VALUES (8)')
      await running.caughtUp()
      await world.source.run('ALTER TABLE t ALTER a SET DEFAULT 5')
      await world.source.run('INSERT INTO t (id) VALUES (9)')
      await running.caughtUp()
      await world.source.run('TRUNCATE t')
      await world.source.run("INSERT INTO t VALUES (1, 1, 'new')")
      await running.caughtUp()
      await world.same(['t', 'other'])
      assert.equal(running.probe.loads, loads)
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(bench, 'TRAP 48: another table takes the name (online migration)', { setup: SETUP, sinks: SOME }, async (world) => {
    const running = await world.follow()
    await world.source.run(
      "CREATE TABLE t_new (id int PRIMARY KEY, b text, z int); INSERT INTO t_new SELECT id, b, 1 FROM t; BEGIN; ALTER TABLE t RENAME TO a_old; ALTER TABLE t_new RENAME TO t; COMMIT; INSERT INTO t VALUES (4, 'four', 2)",
    )
    await running.reaches(() => running.probe.loads > 2, 'a new reading')
    await world.source.run("INSERT INTO t VALUES (5, 'five', 3); INSERT INTO a_old VALUES (99, 99, 'stays out')")
    await running.caughtUp()
    await world.same(['t'], { mayKeep: ['a'] })
    assert.equal((await running.stop()).ok, true)
  })

  pipelineCase(bench, 'TRAP 48: another table takes the name while stopped', { setup: SETUP, sinks: FEW }, async (world) => {
    await (await world.follow()).stop()
    await world.source.run(
      'CREATE TABLE t_new (LIKE t INCLUDING ALL); INSERT INTO t_new SELECT id + 100, a, b FROM t; BEGIN; ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t; COMMIT',
    )
    const running = await world.follow({ tables: ['t', 'other'] })
    await running.reaches(() => running.probe.loads > 0, 'a new reading')
    await running.caughtUp()
    await world.same(['t'])
    assert.equal((await running.stop()).ok, true)
  })

  pipelineCase(bench, 'TRAP 48: taken out of our publication', { setup: SETUP, sinks: FEW }, async (world) => {
    const running = await world.follow()
    const publication = await world.source.value('SELECT pubname FROM pg_publication')
    await world.source.run(`ALTER PUBLICATION ${publication} DROP TABLE t`)
    await world.source.run("INSERT INTO t VALUES (4, 40, 'four')")
    await running.reaches(() => running.probe.loads > 2, 'a new reading')
    await world.source.run("INSERT INTO t VALUES (5, 50, 'five')")
    await running.caughtUp()
    await world.same(['t'])
    assert.equal((await running.stop()).ok, true)
  })

  pipelineCase(
    bench,
    'TRAP 48: taken out of a publication of somebody else’s: it stops and says what to type',
    { setup: `${SETUP}; CREATE PUBLICATION mine FOR TABLE t, other`, settings: { sourceOptions: { publication: 'mine' } }, sinks: FEW },
    async (world) => {
      const running = await world.follow()
      await world.source.run('ALTER PUBLICATION mine DROP TABLE t')
      const report = await running.done
      const [problem] = report.problems.filter((each) => each.severity === 'error' || each.severity === undefined)
      assert.equal(problem?.code, 'SCHEMA_CHANGED')
      assert.match(problem.hint ?? '', /ALTER PUBLICATION "?mine"? ADD TABLE/)
    },
  )

  pipelineCase(
    bench,
    'TRAP 54: a shared publication is left alone; our own goes with its pipeline only',
    { setup: `${SETUP}; CREATE PUBLICATION mine FOR TABLE t, other`, settings: { sourceOptions: { publication: 'mine' } }, sinks: FEW },
    async (world) => {
      const running = await world.follow()
      await world.source.run("INSERT INTO t VALUES (4, 40, 'four')")
      await running.caughtUp()
      await world.same(['t', 'other'])
      await running.stop()
      assert.deepEqual(await world.source.run('SELECT pubname FROM pg_publication'), [{ pubname: 'mine' }])
    },
  )
})
