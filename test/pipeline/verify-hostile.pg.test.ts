import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import type { VerifyReport } from '../../src/library/verification.ts'
import { verify } from '../../src/library/verify.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import { runCli } from '../kit/run-cli.ts'
import { until } from '../kit/until.ts'
import { cases, openTarget, Pipeline, pipelineCase, useBench, type SinkName } from './kit.ts'

const bench = useBench()
const SINKS: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']

function counts({ tables }: VerifyReport): Record<string, readonly number[]> {
  return Object.fromEntries(
    tables.map(({ source, rows, missing, extra, different }) => [
      source.slice('public.'.length),
      [rows.source, rows.sink, missing, extra, different],
    ]),
  )
}

const WIDE = Array.from({ length: 100 }, (_, i) => `c${i} ${['int', 'text', 'boolean', 'float8'][i % 4]}`)
const DOMAINS = `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN feeling AS mood; CREATE DOMAIN feelings AS feeling CHECK (VALUE::text <> 'sad'); CREATE DOMAIN small AS int CHECK (VALUE > 0);`

cases('verify looks at tables that are made to trouble it', () => {
  pipelineCase(
    bench,
    'more rows than a piece takes share the first column of the key: it comes to an end',
    {
      setup: `CREATE TABLE t (a int, b text, v text, PRIMARY KEY (a, b)); INSERT INTO t SELECT 7, 'k' || i, repeat('v', 300) FROM generate_series(1, 40000) i; INSERT INTO t VALUES (8, 'x', 'y'); ANALYZE`,
      sinks: SINKS,
    },
    async ({ target, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      assert.deepEqual(counts(await pipeline.verify()), { t: [40_001, 40_001, 0, 0, 0] })
      await target.execute?.(`DELETE FROM t WHERE b = 'k17'; UPDATE t SET v = 'x' WHERE b = 'k18'`)
      assert.deepEqual(counts(await pipeline.verify()), { t: [40_001, 40_000, 1, 0, 1] })
    },
  )

  pipelineCase(
    bench,
    'a table without a key that was never counted: buckets that are too large are cut again',
    {
      setup: `CREATE TABLE t (n int, v text) WITH (autovacuum_enabled = false); ANALYZE t; INSERT INTO t SELECT i, 'v' FROM generate_series(1, 140000) i; INSERT INTO t SELECT 1, 'many' FROM generate_series(1, 10000) i`,
      sinks: ['sqlite'],
    },
    async ({ target, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      await target.execute?.(
        `DELETE FROM t WHERE n = 77; UPDATE t SET v = 'x' WHERE n BETWEEN 100 AND 101; INSERT INTO t VALUES (1, 'many')`,
      )
      assert.deepEqual(counts(await pipeline.verify()), { t: [150_000, 150_000, 3, 3, 0] })
    },
  )

  pipelineCase(
    bench,
    'a hundred columns that may be NULL: one that is, and is not, is seen in each',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, ${WIDE.join(', ')}); INSERT INTO t (id) SELECT i FROM generate_series(1, 101) i`,
      sinks: SINKS,
    },
    async ({ source, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      assert.deepEqual(counts(await pipeline.verify()), { t: [101, 101, 0, 0, 0] })
      const nothing = ['0', `''`, 'false', '0']
      for (let i = 0; i < 100; i++) await source.run(`UPDATE t SET c${i} = ${nothing[i % 4]} WHERE id = ${i + 1}`)
      const report = await pipeline.verify({ limit: 200 })
      assert.deepEqual(counts(report), { t: [101, 101, 0, 0, 100] })
      const found = report.tables[0]?.keys.map(({ key, columns }) => `${key['id']} ${columns?.join()}`)
      assert.deepEqual(
        found,
        Array.from({ length: 100 }, (_, i) => `${i + 1} c${i}`),
      )
    },
  )

  pipelineCase(
    bench,
    'rows of a megabyte: the one byte that differs is found, with its values, and no more than these are fetched',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, v text, b bytea); INSERT INTO t SELECT i, repeat(md5(i::text), 32000), decode(repeat(md5(i::text), 1000), 'hex') FROM generate_series(1, 20) i`,
      sinks: SINKS,
    },
    async ({ source, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      await source.run(
        `UPDATE t SET v = overlay(v placing 'x' from 500000 for 1) WHERE id = 7; UPDATE t SET b = set_bit(b, 12345, 1 - get_bit(b, 12345)) WHERE id = 8`,
      )
      const report = await pipeline.verify({ showValues: true })
      assert.deepEqual(counts(report), { t: [20, 20, 0, 0, 2] })
      assert.deepEqual(
        report.tables[0]?.keys.map(({ key, columns }) => [key['id'], columns]),
        [
          ['7', ['v']],
          ['8', ['b']],
        ],
      )
      assert.equal(report.tables[0].keys[0]?.values?.['v']?.source?.length, 1_024_000)
    },
  )

  pipelineCase(
    bench,
    'quoted names, partitions, generated columns, domains over types that people made',
    {
      setup: `${DOMAINS}
        CREATE TABLE "select ""x"" ü" ("a b" int PRIMARY KEY, "from" text, "k0" text, "x" text, "b0" int); INSERT INTO "select ""x"" ü" SELECT i, 'a', 'b', 'c', i FROM generate_series(1, 3000) i;
        CREATE TABLE parts (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2024-02-01'); CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
        INSERT INTO parts SELECT i, date '2024-01-01' + i % 60, 'v' FROM generate_series(1, 3000) i;
        CREATE TABLE computed (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED); INSERT INTO computed SELECT i, i FROM generate_series(1, 100) i;
        CREATE TABLE domains (id small PRIMARY KEY, f feeling, g feelings, h small[]); INSERT INTO domains SELECT i, 'sad', 'ok', '{1,2}' FROM generate_series(1, 100) i`,
      sinks: SINKS,
    },
    async ({ source, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      const before = await pipeline.verify()
      assert.deepEqual([before.ok, before.problems, before.tables.length], [true, [], 4])
      await source.run(
        `UPDATE "select ""x"" ü" SET "from" = "k0", "k0" = "from" WHERE "a b" = 5; UPDATE parts SET day = '2025-01-01' WHERE id = 9; UPDATE parts_2 SET v = '' WHERE id = 40; UPDATE computed SET a = 0 WHERE id = 1; UPDATE domains SET f = 'ok' WHERE id = 2; UPDATE domains SET g = NULL WHERE id = 3`,
      )
      assert.deepEqual(counts(await pipeline.verify()), {
        '"select ""x"" ü"': [3000, 3000, 0, 0, 1],
        computed: [100, 100, 0, 0, 1],
        domains: [100, 100, 0, 0, 2],
        parts: [3000, 3000, 1, 1, 1],
      })
    },
  )

  pipelineCase(
    bench,
    'what somebody put into a file by hand is not taken for what it looks like',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, n bigint, f float8, at timestamp, v text); INSERT INTO t SELECT i, i, i, NULL, '' FROM generate_series(1, 20) i; UPDATE t SET f = NULL WHERE id = 4`,
      sinks: ['sqlite'],
    },
    async ({ target, pipeline }) => {
      assert.equal((await pipeline.run('copy')).ok, true)
      await target.execute?.(
        `UPDATE t SET at = '~' WHERE id = 1; UPDATE t SET f = '2' WHERE id = 2; UPDATE t SET f = 9223372036854775807 WHERE id = 3; UPDATE t SET f = '' WHERE id = 4; UPDATE t SET v = char(0) WHERE id = 5; UPDATE t SET v = '~' WHERE id = 6; UPDATE t SET v = NULL WHERE id = 7; UPDATE t SET v = CAST(x'ff' AS TEXT) WHERE id = 8`,
      )
      const report = await pipeline.verify({ limit: 20 })
      assert.deepEqual(
        report.problems.map(({ code }) => code),
        ['DIFFERENT'],
      )
      assert.deepEqual(
        report.tables[0]?.keys.map(({ key, columns }) => `${key['id']} ${columns?.join()}`),
        ['1 at', '2 f', '3 f', '4 f', '5 v', '6 v', '7 v', '8 v'],
      )
    },
  )
})

/** Everything in a folder, byte by byte, and when it was written; but for what SQLite puts beside a file that is read. */
function folderAsItIs(folder: string): readonly string[] {
  return readdirSync(folder)
    .sort()
    .filter((name) => !/-(shm|wal)$/.test(name))
    .map((name) => {
      const path = join(folder, name)
      const bytes = statSync(path).isFile() ? createHash('md5').update(readFileSync(path)).digest('hex') : 'folder'
      return `${name} ${bytes} ${statSync(path).mtimeMs}`
    })
}

cases('verify only reads', () => {
  for (const sink of SINKS)
    test(`SELECT is all that it needs, and nothing is written or made [${sink}]`, async () => {
      await using source = await bench().database(
        `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 3000) i; CREATE TABLE k (n int); INSERT INTO k VALUES (1)`,
      )
      await using target = await openTarget(sink, bench())
      await using folder = await tempFolder('tr-readonly-')
      assert.equal((await new Pipeline(source, target).run('copy')).ok, true)
      const role = `reader_${sink}`
      const grant = `GRANT USAGE ON SCHEMA public TO ${role}; GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${role}`
      await source.run(
        `CREATE ROLE ${role} LOGIN; REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE TEMPORARY ON DATABASE ${source.name} FROM PUBLIC; ${grant}`,
      )
      const asReader = (uri: string): string => Object.assign(new URL(uri), { username: role }).href
      if (sink === 'postgres') await target.execute?.(grant)
      const sinkUri = sink === 'postgres' ? asReader(target.uri) : target.uri
      const place = dirname(new URL(target.uri).pathname)
      const before = sink === 'postgres' ? [] : folderAsItIs(place)
      const report = await verify({ source: asReader(source.uri), sink: sinkUri, state: folder.join('state.db') })
      assert.deepEqual([report.ok, report.problems, report.tables.length], [true, [], 2])
      if (sink !== 'postgres') assert.deepEqual(folderAsItIs(place), before)
      await source.run(`DROP OWNED BY ${role}`)
      if (sink === 'postgres') await target.execute?.(`DROP OWNED BY ${role}`)
    })

  test('Ctrl-C: it ends at once with exit code 1, and no session stays', async () => {
    await using source = await bench().database(
      `CREATE TABLE t (n int, v text); INSERT INTO t SELECT i, repeat('v', 400) FROM generate_series(1, 300000) i`,
    )
    await using target = await openTarget('sqlite', bench())
    await using folder = await tempFolder('tr-interrupted-')
    assert.equal((await new Pipeline(source, target).run('copy')).ok, true)
    await using blocker = await source.session()
    await blocker.run('BEGIN; LOCK TABLE t')
    await using command = runCli(['verify', source.uri, target.uri], { folder: folder.path })
    const waiting = (): Promise<string | null> =>
      source.value(
        `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tailrace' AND wait_event_type = 'Lock'`,
      )
    await command.until('a query that waits', async () => (await waiting()) !== '0')
    command.interrupt()
    const { code, signal, stderr } = await command.ended(20)
    assert.deepEqual([code, signal], [1, null], stderr)
    assert.doesNotMatch(stderr, /draining|BUG|^\s+at /m)
    await until(
      'no session of it',
      async () =>
        (await source.value(
          `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'tailrace%'`,
        )) === '0',
    )
  })
})
