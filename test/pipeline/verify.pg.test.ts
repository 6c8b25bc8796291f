import assert from 'node:assert/strict'
import type { VerifyReport } from '../../src/library/verification.ts'
import { Random } from '../kit/random.ts'
import { cases, pipelineCase, Probe, useBench, type SinkName, type SourceDatabase, type Target } from './kit.ts'

const bench = useBench()

const SINKS: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']

/** Tables whose keys are found again in every way: ranges of one and of two columns, buckets of texts, of whole rows. */
const SETUP = `
  CREATE TABLE number (id int PRIMARY KEY, v text); INSERT INTO number SELECT i, 'v' || i FROM generate_series(1, 60000) i;
  CREATE TABLE uuids (id uuid PRIMARY KEY, v text); INSERT INTO uuids SELECT md5(i::text)::uuid, 'v' || i FROM generate_series(1, 30000) i;
  CREATE TABLE pair (a int, b int, v text, PRIMARY KEY (a, b)); INSERT INTO pair SELECT i % 3, i, 'v' || i FROM generate_series(1, 30000) i;
  CREATE TABLE word (id text PRIMARY KEY, v text); INSERT INTO word SELECT 'é' || i, 'v' || i FROM generate_series(1, 20000) i;
  CREATE TABLE mixed (a int, b text, v text, PRIMARY KEY (a, b)); INSERT INTO mixed SELECT 7, 'k' || i, 'v' || i FROM generate_series(1, 20000) i;
  CREATE TABLE keyless (n int, v text); INSERT INTO keyless SELECT i % 1000, 'v' FROM generate_series(1, 5000) i; ALTER TABLE keyless REPLICA IDENTITY FULL;
  CREATE TABLE empty (id int PRIMARY KEY, v text); ANALYZE`

const KEYS: Readonly<Record<string, (i: number) => string>> = {
  number: (i) => `id = ${i}`,
  uuids: (i) => `v = 'v${i}'`,
  pair: (i) => `v = 'v${i}'`,
  word: (i) => `v = 'v${i}'`,
  mixed: (i) => `v = 'v${i}'`,
}

function counts({ tables }: VerifyReport): Record<string, readonly number[]> {
  return Object.fromEntries(
    tables.map(({ source, rows, missing, extra, different }) => [
      source.slice('public.'.length),
      [rows.source, rows.sink, missing, extra, different],
    ]),
  )
}

/** Changes rows from 101 on until it is disposed. */
function startWriter(source: SourceDatabase): AsyncDisposable {
  const random = new Random(7)
  const stop = new AbortController()
  const write = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      const ids = Array.from({ length: 5 }, () => random.between(101, 4900))
      await source.run(
        `BEGIN; UPDATE t SET n = n + 1 WHERE id IN (${ids.join(', ')}); DELETE FROM t WHERE id = ${ids[0]}; INSERT INTO t VALUES (${ids[0]}, 1, 'again'); COMMIT`,
      )
    }
  }
  const writing = write()
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await writing
    },
  }
}

cases('verify says which keys differ', () => {
  pipelineCase(
    bench,
    'two rows missing, two too many, three changed are found exactly, whatever the key',
    { setup: SETUP, sinks: SINKS },
    async ({ source, target, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      const before = await pipeline.verify()
      assert.deepEqual([before.ok, before.problems], [true, []])
      for (const [table, at] of Object.entries(KEYS)) {
        for (const i of [1, 17_000]) await target.execute?.(`DELETE FROM ${table} WHERE ${at(i)}`)
        for (const i of [3, 9000]) await source.run(`DELETE FROM ${table} WHERE ${at(i)}`)
        for (const i of [2, 9001, 19_999]) await target.execute?.(`UPDATE ${table} SET v = v || '!' WHERE ${at(i)}`)
      }
      await target.execute?.(`DELETE FROM keyless WHERE n = 5; UPDATE keyless SET v = 'w' WHERE n = 6; INSERT INTO empty VALUES (1, 'x')`)
      const after = await pipeline.verify()
      const seven = (rows: number): readonly number[] => [rows - 2, rows - 2, 2, 2, 3]
      assert.deepEqual(counts(after), {
        number: seven(60_000),
        uuids: seven(30_000),
        pair: seven(30_000),
        word: seven(20_000),
        mixed: seven(20_000),
        // Without a key a changed row is one that is missing and one too many.
        keyless: [5000, 4995, 10, 5, 0],
        empty: [0, 1, 0, 1, 0],
      })
      assert.equal(after.ok, false)
      assert.deepEqual([...new Set(after.problems.map(({ code }) => code))], ['DIFFERENT'])
      assert.deepEqual(after.tables.find((table) => table.source === 'public.number')?.keys, [
        { kind: 'missing', key: { id: '1' } },
        { kind: 'different', key: { id: '2' }, columns: ['v'] },
        { kind: 'extra', key: { id: '3' } },
        { kind: 'extra', key: { id: '9000' } },
        { kind: 'different', key: { id: '9001' }, columns: ['v'] },
        { kind: 'missing', key: { id: '17000' } },
        { kind: 'different', key: { id: '19999' }, columns: ['v'] },
      ])
      const few = (await pipeline.verify({ limit: 1, showValues: true })).tables.find((table) => table.source === 'public.word')
      assert.equal(few?.keys.length, 1)
    },
  )

  pipelineCase(
    bench,
    'everything else in the target, and a row without a key',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 30000) i`,
      sinks: SINKS,
    },
    async ({ target, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      // PostgreSQL has a primary key there.
      if (target.name !== 'postgres') await target.execute?.(`INSERT INTO t VALUES (NULL, 'no key')`)
      const extra = target.name === 'postgres' || target.name === 'sqlite' ? 0 : 1
      if (target.name === 'sqlite') await target.execute?.(`DELETE FROM t WHERE v = 'no key'`)
      assert.deepEqual(counts(await pipeline.verify()), { t: [30_000, 30_000 + extra, 0, extra, 0] })
      await target.execute?.(`UPDATE t SET v = 'other'`)
      assert.deepEqual(counts(await pipeline.verify())['t']?.at(-1), 30_000)
      await target.execute?.('DELETE FROM t')
      assert.deepEqual(counts(await pipeline.verify()), { t: [30_000, 0, 30_000, 0, 0] })
    },
  )

  pipelineCase(
    bench,
    'the terms of the pipeline count: conditions, columns, keys, other names, soft deletes',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, v text, secret text, day date); INSERT INTO t SELECT i, 'v' || i, 's', '2024-01-01' FROM generate_series(1, 1000) i`,
      sinks: SINKS,
      settings: { where: { t: 'id % 2 = 0' }, exclude: ['t.secret'], map: { t: 'public.copy' }, deletes: 'soft' },
    },
    async ({ source, target, pipeline, follow }) => {
      const running = await follow({ where: {} })
      await source.run('DELETE FROM t WHERE id <= 10')
      await running.caughtUp()
      assert.equal((await running.stop()).ok, true)
      assert.deepEqual(counts(await pipeline.verify()), { t: [990, 990, 0, 0, 0] })
      await target.execute?.(`UPDATE copy SET v = 'x' WHERE id = 500`)
      assert.deepEqual(counts(await pipeline.verify()), { t: [990, 990, 0, 0, 1] })
    },
  )

  pipelineCase(
    bench,
    'what cannot be compared is a problem: a table or a column that is not there, a type that means something else',
    {
      setup:
        'CREATE TABLE gone (id int PRIMARY KEY); CREATE TABLE fewer (id int PRIMARY KEY, v text); CREATE TABLE fine (id int PRIMARY KEY)',
      sinks: SINKS,
    },
    async ({ target, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      await target.execute?.('DROP TABLE gone; ALTER TABLE fewer DROP COLUMN v')
      const { ok, problems, tables } = await pipeline.verify()
      assert.equal(ok, false)
      assert.deepEqual(
        problems.map(({ code, message }) => [code, message]),
        [
          ['DIFFERENT', 'public.fewer: the target has no column v'],
          ['DIFFERENT', 'the target has no table public.gone'],
        ],
      )
      assert.deepEqual(
        tables.map(({ source, equal }) => [source, equal]),
        [['public.fine', true]],
      )
    },
  )

  pipelineCase(
    bench,
    '--live: under write load only what really differs is found, and only once it stays so',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, v text); INSERT INTO t SELECT i, 0, 'v' || i FROM generate_series(1, 20000) i; ANALYZE`,
      sinks: ['sqlite', 'postgres'],
    },
    async ({ source, target, pipeline, follow }) => {
      const running = await follow()
      {
        await using _ = startWriter(source)
        assert.deepEqual(counts(await pipeline.verify({ live: true }))['t']?.slice(2), [0, 0, 0])
        await target.execute?.(`DELETE FROM t WHERE id = 5; UPDATE t SET v = 'x' WHERE id = 77; INSERT INTO t VALUES (50000, 1, 'extra')`)
        const found = await pipeline.verify({ live: true })
        assert.deepEqual(counts(found)['t']?.slice(2), [1, 1, 1])
        assert.deepEqual(
          found.tables[0]?.keys.map(({ kind, key }) => [kind, key['id']]),
          [
            ['missing', '5'],
            ['different', '77'],
            ['extra', '50000'],
          ],
        )
      }
      await running.stop()
      await assert.rejects(async () => {
        await source.run('INSERT INTO t VALUES (60000, 1, NULL)')
        const report = await pipeline.verify({ live: true })
        const [first] = report.problems
        throw new Error(first?.message)
      }, /does not run/)
    },
  )
})

/** One row too few, one too many, one changed. */
async function plant(target: Target, table: string, at: (i: number) => string, extra: string): Promise<void> {
  await target.execute?.(
    `DELETE FROM ${table} WHERE ${at(11)}; UPDATE ${table} SET v = 'x' WHERE ${at(500)}; INSERT INTO ${table} VALUES (${extra})`,
  )
}

cases('verify --repair', () => {
  for (const mode of ['copy', 'caught-up'] as const)
    pipelineCase(
      bench,
      `what differs is read again, and nothing else, after a run ${mode === 'copy' ? 'that copied' : 'that followed'}`,
      { setup: SETUP, sinks: SINKS },
      async ({ source, target, pipeline, same }) => {
        assert.equal((await pipeline.run(mode)).ok, true)
        await plant(target, 'number', KEYS['number']!, `70000, 'extra'`)
        await plant(target, 'uuids', KEYS['uuids']!, `'ffffffff-ffff-ffff-ffff-ffffffffffff', 'extra'`)
        await plant(target, 'pair', KEYS['pair']!, `9, 1, 'extra'`)
        await plant(target, 'word', KEYS['word']!, `'zzz', 'extra'`)
        await target.execute?.(`DELETE FROM keyless WHERE n = 5; INSERT INTO keyless VALUES (7000, 'w')`)
        if (mode === 'caught-up')
          await source.run(`INSERT INTO number VALUES (80000, 'later'); UPDATE number SET v = 'later' WHERE id = 500`)
        const probe = new Probe()
        const report = await pipeline.verify({ repair: true, probe })
        assert.deepEqual([report.ok, report.problems], [true, []])
        assert.deepEqual(
          report.repaired?.map(({ source: table, missing, extra, different }) => [table.slice(7), missing, extra, different]),
          [
            ['keyless', 5, 1, 0],
            ['number', mode === 'copy' ? 1 : 2, 1, 1],
            ['pair', 1, 1, 1],
            ['uuids', 1, 1, 1],
            ['word', 1, 1, 1],
          ],
        )
        // Three parts of each; a text has no order that both sides share, so that all of its table is read, as of one without a key.
        const rows = (table: string): number => probe.loaded.get(`public.${table}`) ?? 0
        assert.ok(rows('number') <= 3 && rows('uuids') <= 3, JSON.stringify([...probe.loaded]))
        assert.deepEqual([rows('word'), rows('keyless'), rows('mixed')], [20_000, 5000, 0])
        await same(['number', 'uuids', 'pair', 'word', 'mixed', 'keyless'])
        if (mode === 'copy') return
        await source.run(
          `UPDATE number SET v = 'again' WHERE id IN (11, 500, 12); DELETE FROM word WHERE v = 'v11'; INSERT INTO keyless VALUES (1, 'z')`,
        )
        assert.equal((await pipeline.run('caught-up')).ok, true)
        await same(['number', 'word', 'keyless'])
      },
    )

  pipelineCase(
    bench,
    'a running pipeline repairs by itself, under write load, exactly once',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, v text); INSERT INTO t SELECT i, 0, 'v' || i FROM generate_series(1, 5000) i; ANALYZE`,
      sinks: ['sqlite', 'postgres'],
    },
    async ({ source, target, pipeline, follow, same }) => {
      const running = await follow()
      await using _ = startWriter(source)
      await target.execute?.(
        `DELETE FROM t WHERE id BETWEEN 5 AND 9; UPDATE t SET v = 'x' WHERE id = 77; INSERT INTO t VALUES (50000, 1, 'extra')`,
      )
      const report = await pipeline.verify({ live: true, repair: true })
      assert.deepEqual([report.ok, report.problems], [true, []])
      assert.deepEqual(
        report.repaired?.map(({ missing, extra, different }) => [missing, extra, different]),
        [[5, 1, 1]],
      )
      await _[Symbol.asyncDispose]()
      await running.caughtUp()
      assert.equal((await running.stop()).ok, true)
      await same(['t'])
    },
  )

  pipelineCase(
    bench,
    'a pipeline that changes its rows is repaired with its transform, or refused',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i`,
      sinks: ['sqlite'],
      settings: { transform: (change) => change },
    },
    async ({ source, target, pipeline, same }) => {
      assert.equal((await pipeline.run('caught-up')).ok, true)
      await target.execute?.('DELETE FROM t WHERE id = 5')
      await assert.rejects(pipeline.verify({ repair: true, transform: null }), /changes its rows by a transform/)
      assert.equal((await pipeline.verify({ repair: true })).ok, true)
      await same(['t'])
      void source
    },
  )
})
