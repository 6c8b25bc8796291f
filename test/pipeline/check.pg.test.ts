import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { planPipeline } from '../../src/engine/plan.ts'
import type { Plan } from '../../src/engine/options.ts'
import { pipelineOptions, type PipelineSettings } from '../../src/library/settings.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import { Bench, endpoint, MAJOR, openTarget, Oracle, Pipeline, testEnvironment, useBench, type SourceDatabase, type Target } from './kit.ts'

const bench = useBench()

type Problem = Plan['problems'][number]

/** The errors that `plan` finds. */
async function problemsOf(source: SourceDatabase, uri: string, settings: PipelineSettings = {}): Promise<readonly Problem[]> {
  return (await findingsOf(source, uri, settings)).filter((problem) => problem.severity === 'error')
}

/** What `plan` finds; nothing may have been made on the source. */
async function findingsOf(source: SourceDatabase, uri: string, settings: PipelineSettings = {}): Promise<readonly Problem[]> {
  await using folder = await tempFolder('tr-check-')
  const options = await pipelineOptions(
    { follow: true, ...settings },
    { source: await endpoint('source', uri), sink: await endpoint('sink', `sqlite://${folder.join('x.db')}`) },
    process.cwd(),
  )
  const plan = await planPipeline(options, testEnvironment(folder.path))
  assert.equal(await source.value('SELECT count(*) FROM pg_replication_slots WHERE database = current_database()'), '0')
  assert.equal(await source.value("SELECT count(*) FROM pg_publication WHERE pubname LIKE 'tailrace\\_%'"), '0')
  return plan.problems
}

function only(problems: readonly Problem[], code: string, message: RegExp, hint: RegExp): void {
  assert.equal(problems.length, 1, JSON.stringify(problems))
  assert.equal(problems[0]?.code, code)
  assert.match(problems[0].message, message)
  assert.match(problems[0].hint ?? '', hint)
}

describe('CASE 28 and what else check says before anything is touched', { concurrency: 2 }, () => {
  test('CASE 28: replica identity default, full, index, nothing; no key', async () => {
    await using source = await bench().database(`
      CREATE TABLE with_key (id int PRIMARY KEY); CREATE TABLE full_row (v int); ALTER TABLE full_row REPLICA IDENTITY FULL;
      CREATE TABLE by_index (id int NOT NULL, v int); CREATE UNIQUE INDEX i ON by_index (id); ALTER TABLE by_index REPLICA IDENTITY USING INDEX i;
      CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING; CREATE TABLE no_key (v int); CREATE TABLE lost_index (id int NOT NULL, v int); CREATE UNIQUE INDEX lost ON lost_index (id); ALTER TABLE lost_index REPLICA IDENTITY USING INDEX lost; DROP INDEX lost;
      CREATE TABLE deferrable_key (id int PRIMARY KEY DEFERRABLE)`)
    const problems = await problemsOf(source, source.uri)
    assert.deepEqual(
      problems.map((problem) => [problem.path, problem.code]).sort(),
      ['deferrable_key', 'lost_index', 'no_key', 'nothing'].map((name) => [`public.${name}`, 'SCHEMA_UNSUPPORTED']),
    )
    for (const problem of problems) assert.match(problem.hint ?? '', /REPLICA IDENTITY FULL/)
    assert.deepEqual(await problemsOf(source, source.uri, { tables: ['with_key', 'full_row', 'by_index'] }), [])
    // A copy that does not follow needs no identity.
    assert.deepEqual(await problemsOf(source, source.uri, { follow: false }), [])
  })

  test('an UNLOGGED table', async () => {
    await using source = await bench().database('CREATE UNLOGGED TABLE t (id int PRIMARY KEY); CREATE TABLE ok (id int PRIMARY KEY)')
    only(await problemsOf(source, source.uri), 'SCHEMA_UNSUPPORTED', /UNLOGGED/, /SET LOGGED/)
  })

  test('no REPLICATION, no CREATE, not the owner, no SELECT: all at once, each with what to type, and typing it is enough', async () => {
    await using source = await bench().database(
      `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE SCHEMA "S x"; CREATE TABLE "S x"."T y" (id int PRIMARY KEY); CREATE ROLE "Reader x" LOGIN`,
    )
    const uri = bench().server.uri(source.name, { user: 'Reader x' })
    const problems = await problemsOf(source, uri)
    const text = problems.map((problem) => problem.hint ?? '').join('\n')
    assert.ok(
      problems.every((problem) => problem.code === 'NOT_ALLOWED'),
      JSON.stringify(problems),
    )
    assert.match(text, /ALTER ROLE "Reader x" REPLICATION/)
    assert.match(text, /GRANT SELECT ON "?public"?\."?t"? TO "Reader x"/)
    assert.match(text, /GRANT USAGE ON SCHEMA "S x" TO "Reader x"/)
    assert.match(text, /CREATE PUBLICATION tailrace FOR TABLE/)
    for (const problem of problems) {
      for (const statement of (problem.hint ?? '').match(
        /(ALTER ROLE|GRANT|CREATE PUBLICATION)[^;,]*?(?=;|, or|$)|CREATE PUBLICATION[^;]*/g,
      ) ?? [])
        await source.run(statement)
    }
    await using target = await openTarget('sqlite', bench())
    assert.deepEqual(await problemsOf(source, `${uri}?publication=tailrace`), [])
    await using reader = await Oracle.connect(uri)
    assert.equal(await reader.value('SELECT count(*) FROM t'), '1')
    assert.equal(target.name, 'sqlite')
  })

  test('a publication that does not exist, lacks a table, leaves out deletes', async () => {
    await using source = await bench().database(
      `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE PUBLICATION partly FOR TABLE t; CREATE PUBLICATION inserts FOR TABLE t, u WITH (publish = 'insert')`,
    )
    only(
      await problemsOf(source, `${source.uri}?publication=none`),
      'CONFIG',
      /publication none does not exist/,
      /CREATE PUBLICATION "?none"?/,
    )
    only(
      await problemsOf(source, `${source.uri}?publication=partly`),
      'CONFIG',
      /lacks public\.u/,
      /ALTER PUBLICATION "?partly"? ADD TABLE/,
    )
    only(await problemsOf(source, `${source.uri}?publication=inserts`), 'CONFIG', /leaves out/, /SET \(publish = /)
  })

  test(
    'TRAP 54: a publication with a row filter or a column list that takes something away',
    { skip: MAJOR < 15 ? 'filters and lists came with 15' : false },
    async () => {
      await using source = await bench().database(
        `CREATE TABLE t (id int PRIMARY KEY, v int); CREATE PUBLICATION some_rows FOR TABLE t WHERE (id > 5); CREATE PUBLICATION some_columns FOR TABLE t (id)`,
      )
      only(await problemsOf(source, `${source.uri}?publication=some_rows`), 'CONFIG', /some_rows/, /ALTER PUBLICATION/)
      only(await problemsOf(source, `${source.uri}?publication=some_columns`), 'CONFIG', /some_columns/, /ALTER PUBLICATION|--columns/)
    },
  )

  test('a slot of the name that is not ours', async () => {
    await using source = await bench().database(`CREATE TABLE t (id int PRIMARY KEY)`)
    await source.run("SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')")
    await using target = await openTarget('sqlite', bench())
    const report = await new Pipeline(source, target, { sourceOptions: { slot: 'theirs' } }).run('caught-up')
    assert.ok(
      report.problems.some((problem) => problem.code === 'HELD' && problem.hint?.includes('--source.slot')),
      JSON.stringify(report.problems),
    )
    assert.deepEqual(await source.slots(), ['theirs'])
  })

  test('TRAP 55: a sink in the same database whose tables the publication would send back', async () => {
    await using source = await bench().database(
      'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE PUBLICATION everything FOR ALL TABLES',
    )
    const target = sameDatabase(source)
    const into = new Pipeline(source, target, { tables: ['t'], map: { t: 'copy.t' }, sourceOptions: { publication: 'everything' } })
    const failure = await into.run('caught-up').then(
      (report) => report.problems,
      (error: unknown) => String(error),
    )
    assert.match(JSON.stringify(failure), /same database|everything|loop/, 'it is refused')
    assert.equal(await source.value("SELECT to_regclass('copy.t')"), null, 'before anything is made')
    if (MAJOR < 15) return
    // One of our own publishes the source table alone: no loop, allowed.
    const report = await new Pipeline(source, target, { tables: ['t'], map: { t: 'copy.t' } }).run('caught-up')
    assert.equal(report.ok, true, JSON.stringify(report.problems))
    assert.equal(await source.value('SELECT count(*) FROM copy.t'), '1')
  })

  test('a table copied onto itself is refused', async () => {
    await using source = await bench().database('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)')
    const run = new Pipeline(source, sameDatabase(source), { tables: ['t'], ifExists: 'truncate' }).run('copy')
    const failure = await run.then(
      (report) => report.problems,
      (error: unknown) => String(error),
    )
    assert.match(JSON.stringify(failure), /itself|same/, 'it is refused')
    assert.equal(await source.value('SELECT count(*) FROM t'), '1', 'and the rows are there still')
  })
})

function sameDatabase(source: SourceDatabase): Target {
  return {
    name: 'postgres',
    uri: source.uri,
    computes: true,
    rows: async () => null,
    expect: (_type, text) => text,
    [Symbol.asyncDispose]: async () => {},
  }
}

test('the server: wal_level replica, no free slot, no free walsender', async () => {
  await using small = await Bench.start({ settings: { wal_level: 'logical', max_replication_slots: 1, max_wal_senders: 2 } })
  await using source = await small.database('CREATE TABLE t (id int PRIMARY KEY)')
  await using other = await small.database('')
  await other.run("SELECT pg_create_logical_replication_slot('taken', 'pgoutput')")
  only(await problemsOf(source, source.uri), 'ENVIRONMENT', /all 1 replication slots/, /max_replication_slots/)
  assert.deepEqual(await problemsOf(source, source.uri, { follow: false }), [])
})

test('the server: wal_level replica', async () => {
  await using small = await Bench.start({ settings: { wal_level: 'replica' } })
  await using source = await small.database('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)')
  only(await problemsOf(source, source.uri), 'ENVIRONMENT', /wal_level is replica/, /ALTER SYSTEM SET wal_level = 'logical'/)
  await using target = await openTarget('sqlite', small)
  const report = await new Pipeline(source, target).run('copy')
  assert.equal(report.ok, true, 'a copy needs no logical log')
})

test('TRAP 25: a server that gives up slots of paused pipelines, by size or by time, is said', async () => {
  const settings = { wal_level: 'logical', max_slot_wal_keep_size: '64MB', ...(MAJOR < 18 ? {} : { idle_replication_slot_timeout: '2h' }) }
  await using server = await Bench.start({ settings })
  await using source = await server.database('CREATE TABLE t (id int PRIMARY KEY)')
  const warnings = (await findingsOf(source, source.uri)).map((problem) => problem.message).join('\n')
  assert.match(warnings, /more than 64 MB of log \(max_slot_wal_keep_size\)/)
  if (MAJOR >= 18) assert.match(warnings, /idle for 7200 s \(idle_replication_slot_timeout\)/)
  const copy = await findingsOf(source, source.uri, { follow: false })
  assert.doesNotMatch(JSON.stringify(copy), /slot/, 'a copy keeps no slot')
})

test('TRAP 26: a failover slot whose standbys are not waited for is said', async () => {
  await using source = await bench().database('CREATE TABLE t (id int PRIMARY KEY)')
  const about = async (uri: string): Promise<string[]> =>
    (await findingsOf(source, uri)).filter((problem) => problem.path === 'failover').map((problem) => problem.message)
  const [warning] = await about(`${source.uri}?failover=true`)
  assert.match(warning ?? '', MAJOR < 17 ? /came with PostgreSQL 17/ : /synchronized_standby_slots is empty/)
  assert.deepEqual(await about(source.uri), [])
})
