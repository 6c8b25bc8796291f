import assert from 'node:assert/strict'
import { until } from '../kit/until.ts'
import { cases, pipelineCase, useBench, type SinkName } from './kit.ts'

// Asynchronous commits stay in memory until somebody flushes the log.
const bench = useBench({ settings: { wal_writer_delay: '10s', wal_writer_flush_after: '1GB' } })

const SOME: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']

cases('what a view shows', () => {
  pipelineCase(
    bench,
    'CASE 15: sessions of the snapshot die and are opened again while rows change: all rows are of one view (dbz#2330)',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, n int, pad text); INSERT INTO t SELECT i, 0, repeat('x', 500) FROM generate_series(1, 200) i; ANALYZE t`,
      settings: { workers: 3, sourceOptions: { chunkBytes: '8192' } },
      sinks: SOME,
    },
    async (world) => {
      let loads = 0
      let ended = 0
      const report = await world.pipeline.run('copy', {
        hooks: {
          load: async () => {
            // Not for ever: the table grows by its dead rows, and a session that dies as it is taken has the copy begin anew.
            const load = ++loads
            if (load > 24) return
            // Each transaction changes every row: rows of two views would differ.
            await using session = await world.source.session()
            await session.run('BEGIN; LOCK TABLE t IN EXCLUSIVE MODE; UPDATE t SET n = n + 1; COMMIT')
            if (load < 4 || ended >= 4) return
            // First the keeper of the snapshot, the oldest of the sessions, and a worker that waits for its next chunk; then workers.
            const died = await session.run(
              `SELECT pg_terminate_backend(pid) FROM (SELECT pid, row_number() OVER (ORDER BY backend_start) AS n FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'tailrace' AND state = 'idle in transaction') s WHERE n > ${ended === 0 ? 0 : 1} LIMIT ${ended === 0 ? 2 : 1}`,
            )
            ended += died.length
          },
        },
      })
      assert.equal(report.ok, true, JSON.stringify(report.problems))
      assert.ok(ended > 0, `no session was ended in ${loads} loads`)
      const rows = (await world.target.rows('public', 't')) ?? []
      assert.equal(rows.length, 200)
      assert.equal(new Set(rows.map((row) => row['n'])).size, 1, 'rows of several views')
    },
  )

  for (const mode of ['copy', 'caught-up'] as const)
    pipelineCase(
      bench,
      `TRAP 8: columns change between their discovery and the lock (${mode}): the new shape is copied, never a mixture`,
      {
        setup: `CREATE TABLE t (id int PRIMARY KEY, v text, x text); INSERT INTO t SELECT i, 'v' || i, 'x' || i FROM generate_series(1, 100) i`,
        sinks: SOME,
      },
      async (world) => {
        let changed = false
        const report = await world.pipeline.run(mode, {
          hooks: {
            applySchema: async () => {
              if (changed) return
              changed = true
              // What an old view would show of it: `{id, w: 5}`, and the values of x under another name.
              await world.source.run('ALTER TABLE t ADD w int DEFAULT 5, DROP v; ALTER TABLE t RENAME x TO v')
            },
          },
        })
        assert.equal(report.ok, true, JSON.stringify(report.problems))
        assert.ok(changed)
        await world.same(['t'], { mayKeep: ['v', 'x'] })
      },
    )

  pipelineCase(
    bench,
    'TRAP 15: writers commit while the slot is made: its own snapshot and the stream meet without a gap and without an overlap',
    {
      setup: `CREATE TABLE log (n int, v int); ALTER TABLE log REPLICA IDENTITY FULL; CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 4) i`,
    },
    async (world) => {
      const stop = new AbortController()
      const counts = [0, 0, 0, 0, 0, 0]
      const writers = counts.map(async (_, writer) => {
        await using session = await world.source.session()
        while (!stop.signal.aborted) {
          await session.run(
            `BEGIN; INSERT INTO log VALUES (${writer}, ${counts[writer]}), (${writer}, ${counts[writer]}); UPDATE t SET n = n + 1 WHERE id = ${1 + (writer % 4)}; COMMIT`,
          )
          counts[writer]!++
        }
      })
      await until('all of them writing', () => counts.every((count) => count > 0))
      const running = await world.follow()
      const during = [...counts]
      await until('more written by all of them', () => counts.every((count, writer) => count > during[writer]!))
      stop.abort()
      await Promise.all(writers)
      await running.caughtUp()
      assert.equal(running.latest?.state, 'streaming', 'this view needs no fence')
      await world.same(['log', 't'])
      assert.equal((await running.stop()).ok, true)
    },
  )
})

cases('what a view shows before it is durable', () => {
  pipelineCase(
    bench,
    'TRAP 17: a row that was committed asynchronously is not copied before its log is flushed',
    { setup: 'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)', sinks: ['sqlite'] },
    async (world) => {
      const committed = Promise.withResolvers<string | null>()
      let looked = 0
      let watching = false
      const running = await world.follow({
        hooks: {
          load: async () => {
            if (!watching) return
            const end = await committed.promise
            looked++
            assert.equal(
              await world.source.value(`SELECT pg_current_wal_flush_lsn() > '${end}'`),
              't',
              'a server crash would take the row back, and the copy would keep it',
            )
          },
        },
      })
      await using writer = await world.source.session()
      await writer.run('BEGIN; SET LOCAL synchronous_commit = off; LOCK TABLE t IN ACCESS EXCLUSIVE MODE')
      watching = true
      await running.ask({ kind: 'resnapshot', tables: ['public.t' as never] })
      // The next thing that the snapshot does, once it has its lock, is to take its view.
      await running.reaches(
        async () =>
          (await world.source.value(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessShareLock' AND relation = 't'::regclass",
          )) !== '0',
        'the snapshot waits for its lock',
      )
      await writer.run('INSERT INTO t VALUES (2)')
      // Asked before the commit record is written: afterwards somebody else's may stand behind it.
      const end = await writer.value('SELECT pg_current_wal_insert_lsn()')
      await writer.run('COMMIT')
      committed.resolve(end)
      await running.reaches(() => looked > 0, 'the table read again')
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )
})
