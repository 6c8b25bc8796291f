import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { Bench, cases, pipelineCase, type SinkName } from './kit.ts'

let bench: Bench
before(async () => {
  bench = await Bench.start()
})
after(async () => {
  await bench[Symbol.asyncDispose]()
})

const DATABASES: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']

cases('keys that the user names', () => {
  for (const type of ['int', 'text']) {
    const setup = `CREATE TABLE t (a ${type} NOT NULL, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES ('1', 'x'), ('2', 'y'), ('1', 'z')`
    for (const mode of ['copy', 'caught-up'] as const)
      pipelineCase(
        () => bench,
        `CASE 16: --key names a column of type ${type} that is not unique: refused, ${mode}`,
        { setup, sinks: DATABASES, settings: { key: { t: ['a'] } } },
        async (world) => {
          const { ok, problems } = await world.pipeline.run(mode)
          assert.equal(ok, false)
          // SQLite's row number takes an integer key: it refuses the row itself.
          const expected = world.target.name === 'sqlite' && type === 'int' ? 'ROW_REJECTED' : 'NOT_ACCOUNTED'
          const errors = problems.filter(({ severity }) => severity === 'error')
          assert.deepEqual(
            errors.map(({ code, path }) => [code, path]),
            [[expected, 'public.t']],
          )
          const rows = await world.target.rows('public', 't')
          assert.equal(rows?.length, expected === 'ROW_REJECTED' ? 0 : 3)
        },
      )
  }

  pipelineCase(
    () => bench,
    'CASE 16: --key names columns that are unique, without an index: changes are followed',
    {
      setup: `CREATE TABLE t (a int NOT NULL, b text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 50) i`,
      sinks: DATABASES,
      settings: { key: { t: ['a'] } },
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run("UPDATE t SET b = 'changed' WHERE a < 10; UPDATE t SET a = 100 WHERE a = 20; DELETE FROM t WHERE a = 30")
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )
})
