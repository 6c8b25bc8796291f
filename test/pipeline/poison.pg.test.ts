import assert from 'node:assert/strict'
import type { StreamBatch } from '../../src/model/batch.ts'
import { changesOf } from '../../src/model/row-view.ts'
import { TailraceError } from '../../src/sdk/errors.ts'
import { cases, Oracle, pipelineCase, useBench } from './kit.ts'

const bench = useBench()

const NAME = 'poisoned'
const SETUP = `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'fine'), (2, 'fine'); CREATE TABLE log (v text); ALTER TABLE log REPLICA IDENTITY FULL`

/** A sink that takes no row with `poison` in it. */
async function refuse(batch: StreamBatch): Promise<void> {
  if (changesOf(batch).some((change) => change.after?.['v'] === 'poison'))
    throw new TailraceError('ROW_REJECTED', 'the target refused a row', { path: 'public.t' })
}

cases('CASE 33: rows that the target refuses', () => {
  pipelineCase(
    bench,
    'CASE 33: in a transaction of many batches, some of them: those rows alone are dead letters',
    { setup: SETUP, settings: { name: NAME, onError: 'dead-letter', hooks: { write: refuse } } },
    async (world) => {
      const running = await world.follow()
      await world.source.run(
        `BEGIN; INSERT INTO t SELECT i, CASE WHEN i = 11500 THEN 'poison' ELSE 'v' || i END FROM generate_series(3, 12000) i;
         INSERT INTO log SELECT CASE i WHEN 70 THEN 'poison' ELSE 'line ' || i % 10 END FROM generate_series(1, 100) i;
         UPDATE t SET v = 'later' WHERE id IN (2, 11500); UPDATE t SET id = 90000 WHERE id = 4; COMMIT; INSERT INTO t VALUES (100000, 'after')`,
      )
      await running.caughtUp()
      await world.same(['t'], { where: 'id <> 11500' })
      await world.same(['log'], { where: "v <> 'poison'" })
      const report = await running.stop()
      assert.equal(report.ok, true, JSON.stringify(report.problems))
      const letters = await world.pipeline.store.deadLetters(NAME, { limit: 100, after: 0 })
      assert.deepEqual(
        letters.map(({ table, op, record }) => [table, op, (JSON.parse(record) as { after: unknown }).after]).sort(),
        [
          ['public.log', 'insert', { v: 'poison' }],
          ['public.t', 'insert', { id: '11500', v: 'poison' }],
          ['public.t', 'update', { id: '11500', v: 'later' }],
        ].sort(),
      )
      assert.equal(new Set(letters.map((letter) => letter.place)).size, 3)
      assert.deepEqual(
        report.tables.map(({ source, read, written, deadLettered }) => [source, read, written, deadLettered]),
        [
          ['public.log', 100, 99, 1],
          ['public.t', 2 + 11_998 + 3 + 1, 2 + 11_998 + 3 + 1 - 2, 2],
        ],
      )
    },
  )

  pipelineCase(
    bench,
    'CASE 33: in a transaction of many batches, by a limit of the target',
    { setup: SETUP, settings: { name: NAME, onError: 'dead-letter', ifExists: 'append' }, sinks: ['postgres'] },
    async (world) => {
      await using target = await Oracle.connect(world.target.uri)
      await target.run('CREATE TABLE t (id int PRIMARY KEY, v text CHECK (length(v) <= 8))')
      const running = await world.follow()
      await world.source.run(
        "INSERT INTO t SELECT i, CASE i WHEN 11001 THEN 'much too long' ELSE 'v' || i END FROM generate_series(3, 12000) i",
      )
      await running.caughtUp()
      await world.same(['t'], { where: 'id <> 11001' })
      const report = await running.stop()
      assert.equal(report.ok, true, JSON.stringify(report.problems))
      assert.equal(report.tables.find((table) => table.source === 'public.t')?.deadLettered, 1)
    },
  )

  pipelineCase(
    bench,
    'CASE 33: a commit that is refused stops the pipeline: no row is to blame',
    { setup: SETUP, settings: { name: NAME, onError: 'dead-letter' }, sinks: ['memory'] },
    async (world) => {
      let goesOn = false
      const running = await world.follow({
        hooks: {
          write: async ({ position }) => {
            if (position !== null && goesOn) throw new TailraceError('ROW_REJECTED', 'a deferred constraint does not hold')
            goesOn = position === null
          },
        },
      })
      await world.source.run("INSERT INTO t SELECT i, 'v' || i FROM generate_series(3, 12000) i")
      await running.reaches(() => running.ended, 'the end of the pipeline')
      const report = await running.done
      assert.deepEqual(
        report.problems.filter((problem) => problem.severity === 'error').map((problem) => problem.code),
        ['ROW_REJECTED'],
      )
      assert.deepEqual(await world.pipeline.store.deadLetters(NAME, { limit: 100, after: 0 }), [])
    },
  )
})
