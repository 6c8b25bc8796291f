import assert from 'node:assert/strict'
import { join } from 'node:path'
import type { StreamBatch } from '../../src/model/batch.ts'
import { changesOf } from '../../src/model/row-view.ts'
import { TailraceError } from '../../src/sdk/errors.ts'
import { lsnOf } from '../kit/lsn.ts'
import { cases, pipelineCase, SINKS, useBench, type SinkName, type World } from './kit.ts'

const bench = useBench()

const NAME = 'durable'
/** Sinks that commit rows and position together: a row that came twice would be there twice. */
const EXACT: readonly SinkName[] = ['memory', 'sqlite', 'duckdb', 'postgres']
/** No key, so that a row that comes twice is there twice; and one with a key. */
const SETUP = `CREATE TABLE log (n int, v text); ALTER TABLE log REPLICA IDENTITY FULL; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 9) i`

async function savedOf(world: World): Promise<bigint> {
  return lsnOf((await world.pipeline.store.find(NAME))?.position ?? null)
}

async function writeSome(world: World, from: number, count: number): Promise<void> {
  for (let i = from; i < from + count; i++)
    await world.source.run(
      `BEGIN; INSERT INTO log VALUES (${i}, 'a'), (${i}, 'a'); UPDATE t SET v = 'u${i}' WHERE id = ${1 + (i % 9)}; DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log WHERE n = ${i - 3}); COMMIT`,
    )
}

cases('CASE 6: durable, saved, confirmed', () => {
  pipelineCase(
    bench,
    'CASE 6: a position is saved when the sink has the rows, and confirmed when it is saved, also while writes fail (Conduit)',
    { setup: SETUP, settings: { name: NAME }, sinks: SINKS },
    async (world) => {
      const wrong: string[] = []
      let durable = 0n
      let confirms = 0
      let writes = 0
      const lost = (what: string): TailraceError => new TailraceError('UNREACHABLE', `the target is away ${what}`)
      const running = await world.follow({
        hooks: {
          write: async (batch) => {
            if (batch.rows === 0) return
            if (++writes % 4 === 1) throw lost('before it has the rows')
          },
          wrote: async (batch) => {
            if (batch.position === null) return
            durable = lsnOf(batch.position)
            if (batch.rows > 0 && writes % 4 === 3) throw lost('after it has the rows')
          },
          confirm: async (position) => {
            confirms++
            const at = lsnOf(position)
            const saved = await savedOf(world)
            if (saved < at) wrong.push(`confirmed ${at} and saved ${saved}`)
            // Before the first write that is the stream's origin, up to which the snapshot has everything.
            if (durable !== 0n && durable < at) wrong.push(`confirmed ${at} and the sink had ${durable}`)
          },
        },
      })
      for (let round = 0; round < 6; round++) {
        await writeSome(world, round * 5, 5)
        // In this order: each may only be ahead of the one that was asked before it.
        const confirmed = (await world.source.confirmed()) ?? 0n
        const saved = await savedOf(world)
        assert.ok(confirmed <= saved, `the slot is at ${confirmed}, the store at ${saved}`)
        assert.ok(durable === 0n || saved <= durable, `the store is at ${saved}, the sink at ${durable}`)
        // All that was written so far is one batch or a few: the next round is another one.
        await running.caughtUp()
      }
      await running.reaches(() => confirms > 1, 'positions confirmed')
      assert.ok(writes > 6, 'writes failed, before and after')
      assert.deepEqual(wrong, [])
      await world.same(['log', 't'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 6: a source whose confirm never comes back is not waited for (Conduit 2)',
    { setup: SETUP, settings: { name: NAME }, sinks: EXACT },
    async (world) => {
      let asked = 0
      const never = new Promise<void>(() => {})
      const running = await world.follow({
        hooks: {
          confirm: () => {
            asked++
            return never
          },
        },
      })
      const start = await world.source.confirmed()
      for (let round = 0; round < 3; round++) {
        const reached = asked
        await writeSome(world, round * 5, 5)
        await running.caughtUp()
        await world.same(['log', 't'])
        await running.reaches(() => asked > reached, 'a position to confirm')
      }
      assert.equal(await world.source.confirmed(), start, 'nothing was confirmed')
      assert.equal((await running.stop()).ok, true)
      await writeSome(world, 20, 5)
      const again = await world.follow()
      await again.caughtUp()
      await world.same(['log', 't'])
      assert.equal((await again.stop()).ok, true)
    },
  )
})

cases('what comes again', () => {
  pipelineCase(
    bench,
    'TRAP 41: the answer to a write is lost: the sink is asked what it has, and nothing is there twice',
    { setup: SETUP, sinks: EXACT },
    async (world) => {
      let answers = 0
      const running = await world.follow({
        hooks: {
          wrote: async (batch) => {
            if (batch.rows > 0 && ++answers <= 3) throw new TailraceError('UNREACHABLE', 'the answer is lost')
          },
        },
      })
      for (let round = 0; round < 4; round++) {
        await writeSome(world, round * 5, 5)
        await running.reaches(() => answers > Math.min(round, 2), 'an answer lost')
      }
      await running.caughtUp()
      await world.same(['log', 't'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 24: rows of one COPY share an LSN; the sequence of each is its own, and the same when they come again in other batches',
    {
      setup: `CREATE TABLE log (n int, v text); ALTER TABLE log REPLICA IDENTITY FULL; CREATE TABLE t (id int PRIMARY KEY, v text)`,
      sinks: ['memory'],
    },
    async (world) => {
      const heard: (readonly [sequence: string, row: string])[][] = [[]]
      let failures = 0
      const note = (batch: StreamBatch): void => {
        for (const change of changesOf(batch))
          heard.at(-1)?.push([change.sequence, `${change.op} ${change.table} ${JSON.stringify(change.after ?? change.before)}`])
      }
      const hold = Promise.withResolvers<void>()
      const running = await world.follow({
        hooks: {
          write: async (batch) => {
            if (batch.rows === 0) return
            await hold.promise
            note(batch)
            if (batch.position === null || failures++ > 2) return
            heard.push([])
            throw new TailraceError('UNREACHABLE', 'the target is away')
          },
        },
      })
      // One COPY is one record of many rows: they have one LSN.
      await world.source.run(`INSERT INTO log SELECT i, 'first' FROM generate_series(1, 3) i`)
      const file = `'${join(world.source.server.dataDir, `${world.source.name}.rows`)}'`
      await world.source.run(`COPY (SELECT i, 'copied' FROM generate_series(1, 500) i) TO ${file}; COPY log FROM ${file}`)
      await world.source.run(
        `BEGIN; SAVEPOINT s; INSERT INTO t SELECT i, 'undone' FROM generate_series(1, 50) i; ROLLBACK TO s; INSERT INTO t VALUES (1, 'x'); INSERT INTO log VALUES (9, 'y'); UPDATE t SET v = 'z'; COMMIT`,
      )
      hold.resolve()
      await running.caughtUp()
      assert.ok(failures > 2, 'the rows came several times')
      const bySequence = new Map<string, string>()
      for (const [sequence, row] of heard.flat()) {
        assert.equal(bySequence.get(sequence) ?? row, row, `the sequence ${sequence} names two rows`)
        bySequence.set(sequence, row)
      }
      assert.equal(bySequence.size, 3 + 500 + 3)
      const places = new Set([...bySequence.keys()].map((sequence) => sequence.replace(/\/\d+$/, '')))
      assert.ok(places.size < bySequence.size, 'rows shared a place')
      await world.same(['log', 't'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 45: later changes of a dead-lettered row follow it, and a letter that comes again is kept once',
    { setup: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 9) i`, sinks: EXACT },
    async (world) => {
      let lost = false
      const settings = {
        name: NAME,
        onError: 'dead-letter' as const,
        transform: (change: { readonly after: Readonly<Record<string, unknown>> | null }) => {
          if (change.after?.['v'] === 'poison') throw new Error('not this one')
          return change as never
        },
      }
      const running = await world.follow({
        ...settings,
        hooks: {
          write: async (batch) => {
            if (batch.rows === 0 || lost) return
            lost = true
            throw new TailraceError('UNREACHABLE', 'the target is away')
          },
        },
      })
      await world.source.run("BEGIN; UPDATE t SET v = 'poison' WHERE id = 3; UPDATE t SET v = 'fine' WHERE id = 4; COMMIT")
      await running.caughtUp()
      await world.source.run(
        "UPDATE t SET v = 'newer' WHERE id = 3; UPDATE t SET id = 30 WHERE id = 3; UPDATE t SET v = 'moved' WHERE id = 30",
      )
      await running.caughtUp()
      assert.ok(lost)
      const report = await running.stop()
      // Known again after a start.
      const again = await world.follow(settings)
      await world.source.run("DELETE FROM t WHERE id = 30; INSERT INTO t VALUES (31, 'fine')")
      await again.caughtUp()
      const last = await again.stop()
      const letters = await world.pipeline.store.deadLetters(NAME, { limit: 100, after: 0 })
      assert.equal(letters.length, 5, 'the poison and the four changes of the row after it')
      assert.equal(new Set(letters.map((letter) => letter.place)).size, 5)
      assert.equal(report.tables[0]?.deadLettered, 4)
      assert.equal(last.tables[0]?.deadLettered, 5)
      const rows = (await world.target.rows('public', 't')) ?? []
      const value = (id: string): string | null | undefined => rows.find((row) => row['id'] === world.target.expect('int4', id))?.['v']
      assert.equal(value('3'), world.target.expect('text', 'v'), 'the row is as it was before the poison')
      assert.equal(value('30'), undefined)
      assert.equal(value('31'), world.target.expect('text', 'fine'))
    },
  )
})
