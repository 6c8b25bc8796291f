import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cases, MAJOR, pipelineCase, useBench, type SinkName } from './kit.ts'

const bench = useBench()

const SOME: readonly SinkName[] = ['sqlite', 'postgres']
const FEW: readonly SinkName[] = ['sqlite']
const OLD = MAJOR < 15 ? 'conditions, column lists and schemas in publications came with 15' : false
const T = `CREATE TABLE t (id int PRIMARY KEY, n int, secret text); INSERT INTO t SELECT i, i, 's' || i FROM generate_series(1, 9) i`
const theirs = { sourceOptions: { publication: 'mine' } }

cases('a publication that a person made', () => {
  pipelineCase(
    bench,
    'TRAP 53: its condition holds for the snapshot and the stream alike',
    {
      setup: `${T}; ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION mine FOR TABLE t WHERE (n > 3 AND secret <> 'S (1)')`,
      settings: theirs,
      sinks: SOME,
      skip: OLD,
    },
    async (world) => {
      const [problem] = (await world.pipeline.plan()).problems.filter((each) => each.severity === 'error')
      assert.equal(problem?.message, "the publication mine sends only the rows of public.t with ((n > 3) AND (secret <> 'S (1)'::text))")
      const [, given = ''] = /--where (.*)$/.exec(problem.hint ?? '') ?? []
      const [, condition = ''] = /^public\.t=(.*)$/.exec(execFileSync('sh', ['-c', `printf %s ${given}`], { encoding: 'utf8' })) ?? []
      assert.equal(condition, "((n > 3) AND (secret <> 'S (1)'::text))")
      const other = await world.pipeline.run('caught-up', { where: { t: "(n > 3) AND (secret <> 's (1)'::text)" } })
      assert.deepEqual(
        other.problems.filter((each) => each.severity === 'error').map(({ code, path }) => [code, path]),
        [['CONFIG', 'public.t']],
      )
      const running = await world.follow({ where: { t: condition } })
      await world.source.run(
        "UPDATE t SET n = n + 1 WHERE id IN (3, 5); UPDATE t SET n = 0 WHERE id = 6; INSERT INTO t VALUES (20, 1, ''), (21, 20, '')",
      )
      await running.caughtUp()
      await world.same(['t'], { where: condition })
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 54: its column list, with the other columns left out, also when one is added',
    {
      setup: `${T}; CREATE PUBLICATION mine FOR TABLE t (id, n)`,
      settings: { ...theirs, exclude: ['t.secret'] },
      sinks: SOME,
      skip: OLD,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run("INSERT INTO t VALUES (20, 20, 'x'); UPDATE t SET n = 0, secret = 'y' WHERE id = 1")
      await running.caughtUp()
      await world.same(['t'], { without: ['secret'] })
      await world.source.run("ALTER TABLE t ADD more int; INSERT INTO t VALUES (21, 21, 'x', 21)")
      await running.caughtUp()
      await world.same(['t'], { without: ['secret', 'more'] })
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 28: tables by schema, with every kind of replica identity',
    {
      setup: `CREATE SCHEMA app; CREATE TABLE app.k (id int PRIMARY KEY, v text); CREATE TABLE app.f (v text, w int); ALTER TABLE app.f REPLICA IDENTITY FULL;
        CREATE TABLE app.i (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL, v text); CREATE UNIQUE INDEX i_ab ON app.i (b, a); ALTER TABLE app.i REPLICA IDENTITY USING INDEX i_ab;
        INSERT INTO app.k VALUES (1, 'a'), (2, 'b'); INSERT INTO app.f VALUES ('a', 1), ('a', 1), (NULL, 2); INSERT INTO app.i VALUES (1, 1, 'x', 'v'), (2, 1, 'y', 'v');
        CREATE PUBLICATION mine FOR TABLES IN SCHEMA app`,
      settings: { ...theirs, tables: ['app.*'] },
      sinks: SOME,
      skip: OLD,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run(
        `UPDATE app.k SET id = 3 WHERE id = 1; DELETE FROM app.k WHERE id = 2; UPDATE app.f SET w = 9 WHERE v IS NULL; DELETE FROM app.f WHERE ctid = (SELECT min(ctid) FROM app.f WHERE v = 'a');
         UPDATE app.i SET v = 'w', id = 7 WHERE a = 1 AND b = 'x'; UPDATE app.i SET b = 'z' WHERE id = 2; INSERT INTO app.i VALUES (8, 8, 'x', NULL); DELETE FROM app.i WHERE id = 8`,
      )
      await running.caughtUp()
      await world.same(['app.k', 'app.f', 'app.i'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 52: by the root of the partitions: what is not sent is said',
    {
      setup: `CREATE TABLE p (id int, r text, PRIMARY KEY (id, r)) PARTITION BY LIST (r); CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a'); CREATE PUBLICATION mine FOR TABLE p WITH (publish_via_partition_root = true)`,
      settings: theirs,
      sinks: FEW,
    },
    async (world) => {
      const { problems } = await world.pipeline.plan()
      const [warning] = problems.filter((problem) => problem.path === 'publication')
      assert.match(warning?.message ?? '', /TRUNCATE of a single partition of public\.p is not sent/)
      assert.match(warning?.hint ?? '', /publish_via_partition_root = false/)
    },
  )
})
