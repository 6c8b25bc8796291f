import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import type { PipelineStatus } from '../../src/library/status.ts'
import type { VerifyReport } from '../../src/library/verification.ts'
import { verify } from '../../src/library/verify.ts'
import type { WhyReport } from '../../src/library/why.ts'
import { onePipeline, targetValue, untilTarget, type OnePipeline } from '../kit/one-pipeline.ts'
import { runCli, type Ended } from '../kit/run-cli.ts'
import { MAJOR } from '../kit/source-database.ts'
import { openSqlite } from '../kit/sqlite-file.ts'

const SETUP = "CREATE TABLE t (id int PRIMARY KEY, n int, word text); INSERT INTO t SELECT i, i, 'row ' || i FROM generate_series(1, 20) i"

/** A command on the pipeline's state, to its end. */
async function command(p: OnePipeline, args: readonly string[], code = 0): Promise<Ended> {
  await using cli = runCli(args, { folder: p.folder.path })
  const ended = await cli.ended()
  assert.equal(ended.code, code, `tailrace ${args.join(' ')}: ${ended.stdout}${ended.stderr}`)
  return ended
}

async function object<T>(p: OnePipeline, args: readonly string[], code = 0): Promise<T> {
  return JSON.parse((await command(p, [...args, '--json'], code)).stdout) as T
}

const status = (p: OnePipeline): Promise<PipelineStatus> => object<PipelineStatus>(p, ['status', 'p'])

async function started(): Promise<OnePipeline> {
  const p = await onePipeline()
  await p.source.query(SETUP)
  return p
}

/** Changes the copy behind the pipeline's back. */
function damage(p: OnePipeline, sql: string): void {
  const database = openSqlite(p.targetFile, 'write')
  try {
    database.exec(`${sql}`)
  } finally {
    database.close()
  }
}

describe('commands on a pipeline from PostgreSQL to SQLite', { concurrency: 2 }, () => {
  test('status: before, while and after it runs', async () => {
    await using p = await started()
    assert.equal((await command(p, ['status'])).stdout, 'no pipelines\n')
    assert.deepEqual(await object(p, ['status']), { ok: true, pipelines: [] })
    const none = await object<{ ok: boolean; problems: { code: string }[] }>(p, ['status', 'p'], 2)
    assert.deepEqual([none.ok, none.problems[0]?.code], [false, 'USAGE'])

    await using cli = await p.follow()
    await cli.until('status streaming', async () => (await status(p)).state === 'streaming')
    const running = await status(p)
    assert.deepEqual([running.ok, running.runner?.pid, running.runner?.alive], [true, cli.pid, true])
    assert.deepEqual(
      running.tables.map(({ source, state, written }) => [source, state, written]),
      [['public.t', 'streaming', 20]],
    )
    const text = (await command(p, ['status', 'p'])).stdout
    for (const part of [/^pipeline +p$/m, /^state +streaming$/m, new RegExp(`^runner +${cli.pid} on `, 'm'), /public\.t/, /exactly-once/])
      assert.match(text, part)
    assert.match((await command(p, ['status'])).stdout, new RegExp(`^p +streaming +${cli.pid} on `, 'm'))

    cli.interrupt()
    assert.equal((await cli.ended()).code, 0)
    const stopped = await status(p)
    assert.deepEqual([stopped.state, stopped.runner], ['stopped', null])
    assert.equal(stopped.position, p.state().position)
    assert.match((await command(p, ['status', 'q'], 2)).stderr, /there is no pipeline `q`/)
  })

  test('pause and resume while it runs: nothing is read in between, nothing is lost', async () => {
    await using p = await started()
    await using cli = await p.follow()
    assert.match((await command(p, ['pause', 'p'])).stdout, /^p is paused$/m)
    assert.equal((await status(p)).state, 'paused')
    await cli.until('a slot that nobody reads', async () => !(await p.slot()).active)
    await p.source.query("INSERT INTO t VALUES (21, 21, 'while paused')")
    assert.equal(targetValue(p.targetFile, 'SELECT count(*) FROM t'), 20)
    assert.match((await command(p, ['resume', 'p'])).stdout, /^p goes on$/m)
    await untilTarget(p.targetFile, 'SELECT count(*) FROM t', 21)
    assert.equal((await object<PipelineStatus>(p, ['resume', 'p'])).desired, 'running')
    cli.interrupt()
    assert.equal((await cli.ended()).code, 0)
    await p.equal('t')
  })

  test('pause without a runner: the next one waits for resume; Ctrl-C ends it while it waits', async () => {
    await using p = await started()
    await p.catchUp()
    assert.match((await command(p, ['pause', 'p'])).stdout, /no runner now; the next one will wait/)
    await p.source.query("INSERT INTO t VALUES (21, 21, 'later')")
    await using waiting = p.sync(['--until', 'caught-up'])
    await waiting.until('status paused', async () => (await status(p)).state === 'paused')
    waiting.interrupt()
    assert.equal((await waiting.ended()).code, 0)
    assert.equal(targetValue(p.targetFile, 'SELECT count(*) FROM t'), 20)
    await using again = p.sync(['--until', 'caught-up'])
    await again.until('status paused', async () => (await status(p)).state === 'paused')
    await command(p, ['resume', 'p'])
    assert.equal((await again.ended()).code, 0)
    await p.equal('t')
  })

  test('verify: exit code 0 when equal, 4 when not, the keys and columns, values only when asked for', async () => {
    await using p = await started()
    await p.catchUp()
    const equal = await command(p, ['verify', 'p'])
    assert.match(equal.stdout, /^public\.t +20 +20 +0 +0 +0 +equal/m)
    assert.match(equal.stdout, /^equal: 20 rows in/m)
    assert.match((await command(p, ['status', 'p'])).stdout, /^verified {2}\d+:\d\d ago: equal, of 20$/m)
    const ends = [p.source.uri, `sqlite:${p.targetFile}`]
    assert.equal((await object<VerifyReport>(p, ['verify', ...ends])).ok, true)

    damage(p, `DELETE FROM t WHERE id = 3; UPDATE t SET word = 'a secret' WHERE id = 7; INSERT INTO t VALUES (99, 1, 'x')`)
    const found = await command(p, ['verify', 'p'], 4)
    assert.match(found.stdout, /^public\.t +20 +20 +1 +1 +1 +DIFFERENT/m)
    for (const line of ['missing    id=3', 'different  id=7: word', 'extra      id=99'])
      assert.ok(found.stdout.includes(line), found.stdout)
    assert.doesNotMatch(found.stdout + found.stderr, /secret/)
    assert.match(found.stderr, /error: public\.t differs: 1 missing, 1 extra, 1 different/)
    assert.match((await command(p, ['verify', 'p', '--show-values'], 4)).stdout, /word: "row 7" → "a secret"/)
    assert.match((await command(p, ['verify', 'p', '--limit', '1'], 4)).stdout, /and 2 more; --limit 3 names them/)
    const report = await object<VerifyReport>(p, ['verify', ...ends], 4)
    assert.equal((await status(p)).verified?.differing, 3)
    const called = await verify({ name: 'p', state: p.stateFile })
    assert.deepEqual([called.tables[0]?.keys, called.ok], [report.tables[0]?.keys, false])
    await assert.rejects(verify({ name: 'p', state: p.stateFile, where: { t: 'id > 3' } }), /where means nothing for p/)
    assert.deepEqual([report.ok, report.problems[0]?.code, report.tables[0]?.missing], [false, 'DIFFERENT', 1])
    assert.equal(
      (await object<VerifyReport>(p, ['verify', ...ends, '--exclude', 't.word', '--where', 't=id NOT IN (3, 99)'], 4)).tables[0]?.extra,
      1,
    )

    assert.match((await command(p, ['verify', 'p', '--live'], 4)).stdout, /DIFFERENT/, 'it has everything although it does not run')
    await p.source.query("INSERT INTO t VALUES (100, 1, 'later')")
    assert.match((await command(p, ['verify', 'p', '--live'], 2)).stderr, /p does not run/)
    const repaired = await command(p, ['verify', 'p', '--repair'])
    assert.match(repaired.stdout, /^public\.t was repaired: 2 missing, 1 extra, 1 different$/m)
    await p.equal('t')
    damage(p, 'DELETE FROM t')
    await assert.rejects(
      verify({ source: ends[0]!, sink: ends[1]!, repair: true, state: p.folder.join('other.db') }),
      /nothing tells how the copy was made/,
    )
    assert.equal((await command(p, ['verify', ...ends, '--name', 'p', '--repair'])).code, 0)
    assert.match((await command(p, ['verify', 'p', '--where', 't=id > 3'], 2)).stderr, /--where means nothing for p/)
    assert.match((await command(p, ['verify', 'p', '--tables', 'tt'], 2)).stderr, /did you mean/)
    assert.match((await command(p, ['verify', 'q'], 2)).stderr, /there is no pipeline `q`/)
    assert.match((await command(p, ['verify'], 2)).stderr, /no source is given/)
    assert.match((await command(p, ['verify', ends[0]!, 'sqlite:none.db'], 2)).stderr, /there is no file/)
    assert.match((await command(p, ['verify', ends[0]!, '/dev/null'], 2)).stderr, /cannot be compared/)
    await p.source.server.stop()
    assert.match((await command(p, ['verify', 'p'], 3)).stderr, /PostgreSQL/)
    await p.source.server.start()
  })

  test('why: the story of one row, with what to do about it', async () => {
    await using p = await started()
    await p.source.query(
      'CREATE TABLE w (a int, b text, n int, PRIMARY KEY (a, b)); INSERT INTO w VALUES (1, $$x$$, 5), (2, $$y$$, 5); ALTER TABLE t REPLICA IDENTITY FULL',
    )
    // Conditions are followed from 15 on.
    const where = MAJOR >= 15 ? ['--where', 't=id <> 4'] : []
    await p.catchUp(where)
    const why = async (table: string, key: string, code: number): Promise<WhyReport> => object<WhyReport>(p, ['why', 'p', table, key], code)
    assert.match((await why('t', '7', 0)).verdict, /^both sides have the row, and it is equal$/)
    assert.match((await why('public.w', '2,y', 0)).verdict, /equal/)
    if (where.length > 0) assert.match((await why('t', '4', 0)).verdict, /the condition of the pipeline leaves it out/)
    assert.match((await why('t', '4711', 0)).verdict, /^neither side has the row$/)
    damage(
      p,
      `DELETE FROM t WHERE id = 7; UPDATE t SET n = 99 WHERE id = 8; INSERT INTO t VALUES (50, 1, 'x'); UPDATE w SET n = 6 WHERE b = 'y'`,
    )
    assert.match((await why('t', '7', 4)).verdict, /^the target does not have the row, although .*: tailrace verify p --repair$/)
    assert.match((await why('t', '50', 4)).verdict, /^the target has the row, and the source does not/)
    assert.deepEqual((await why('t', '8', 4)).columns, ['n'])
    assert.deepEqual((await why('w', '2,y', 4)).columns, ['n'])
    await p.source.query('UPDATE t SET n = 0 WHERE id = 9')
    const late = await command(p, ['why', 'p', 't', '9'], 4)
    assert.match(late.stdout, /^the row differs in n: the pipeline does not run/m)
    assert.match(late.stdout, where.length > 0 ? /^source +present, where id <> 4$/m : /^source +present$/m)
    assert.match((await command(p, ['why', 'p', 't', '1,2'], 2)).stderr, /the key of public\.t is id: 1 values are needed, 2 given/)
    assert.match((await command(p, ['why', 'p', 'tt', '1'], 2)).stderr, /did you mean/)
    assert.match((await command(p, ['why', 'p', 't'], 2)).stderr, /needs a pipeline, a table and the key/)
  })

  test('resnapshot: the runner reads the table again, or the next one does', async () => {
    await using p = await started()
    await p.source.query('CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)')
    await using cli = await p.follow()
    damage(p, 'DELETE FROM t; DELETE FROM u')
    assert.match(
      (await command(p, ['resnapshot', 'p', '--tables', 't'])).stdout,
      new RegExp(`^asked of the runner, process ${cli.pid}: .*public\\.t`),
    )
    await untilTarget(p.targetFile, 'SELECT count(*) FROM t', 20)
    assert.equal(targetValue(p.targetFile, 'SELECT count(*) FROM u'), 0, 'only what was asked for')
    cli.interrupt()
    assert.equal((await cli.ended()).code, 0)

    assert.match((await command(p, ['resnapshot', 'p', '--tables', 'tt'], 2)).stderr, /did you mean `t`\?|public\.t/)
    assert.match((await command(p, ['resnapshot', 'p'])).stdout, /^no runner now; kept for the next one: .*public\.t, public\.u$/m)
    await p.catchUp()
    await p.equal('t', 'u')
    assert.deepEqual(
      (await status(p)).tables.map((table) => table.state),
      ['streaming', 'streaming'],
    )
  })

  test('dlq: each letter names its own row and reason; those that only follow say so', async () => {
    await using p = await started()
    damage(p, 'CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n < 100), word TEXT CHECK (length(word) < 40))')
    const options = ['--if-exists', 'append', '--on-error', 'dead-letter']
    await p.source.query("INSERT INTO t VALUES (101, 101, 'too much')")
    await p.catchUp(options)
    await p.source.query(`BEGIN; INSERT INTO t VALUES (21, 21, 'fine'); INSERT INTO t VALUES (102, 102, 'too much');
      INSERT INTO t VALUES (22, 22, repeat('x', 50)); INSERT INTO t VALUES (23, 23, 'fine'); UPDATE t SET n = 2 WHERE id = 102; COMMIT`)
    const report = JSON.parse((await p.catchUp(options)).stdout) as PipelineStatus
    assert.equal(report.tables[0]?.deadLettered, 4)
    assert.equal(targetValue(p.targetFile, 'SELECT count(*) FROM t'), 22)

    type Letter = Readonly<Record<'table' | 'op' | 'stage' | 'code' | 'reason', string>> & { readonly id: number }
    const { total, letters } = await object<{ total: number; letters: Letter[] }>(p, ['dlq', 'list', 'p'])
    assert.equal(total, 4)
    const records = await Promise.all(
      letters.map(({ id }) => object<Letter & { record: { after: Record<string, string> | null } }>(p, ['dlq', 'show', 'p', String(id)])),
    )
    const seen = records.map(({ op, record, reason }) => ({ op, id: record.after?.['id'], reason }))
    assert.deepEqual(seen.map(({ op, id }) => `${op} ${id}`).sort(), ['insert 102', 'insert 22', 'read 101', 'update 102'])
    for (const { op, id, reason } of seen) {
      if (op === 'update') assert.match(reason, /an earlier change of the same row of public\.t is a dead letter/)
      else assert.match(reason, id === '22' ? /length\(word\)/ : /n < 100/)
      assert.doesNotMatch(reason, /rows|too much|xxx/)
    }
    const first = letters[0]!
    const shown = (await command(p, ['dlq', 'show', 'p', String(first.id)])).stdout
    assert.match(shown, /"id":"101"/)
    assert.match(
      (await command(p, ['dlq', 'list', 'p', '--limit', '1'])).stdout,
      new RegExp(`4 in all; more after these: --after ${first.id}`),
    )
    assert.match((await command(p, ['dlq', 'show', 'p', '999'], 2)).stderr, /no dead letter 999/)
  })

  test('HISTORY_LOST names the pipeline in what is to be typed', async () => {
    await using p = await started()
    await p.catchUp()
    await p.source.query(`SELECT pg_drop_replication_slot('${(await p.slot()).slot_name}')`)
    await using cli = p.sync(['--until', 'caught-up', '--json'])
    const ended = await cli.ended()
    assert.equal(ended.code, 1)
    assert.match(ended.stderr, /hint: tailrace reset p starts over/)
    assert.doesNotMatch(ended.stdout + ended.stderr, /<pipeline>/)
    assert.doesNotMatch((await command(p, ['status', 'p'])).stdout, /<pipeline>/)
  })
})

describe('a transform on the command line', { concurrency: 2 }, () => {
  test('TRAP 45: a row that matches no more leaves the target; what the transform prints leaves stdout alone', async () => {
    await using p = await started()
    await writeFile(
      p.folder.join('few.mjs'),
      `export const transform = (change) => { console.log('saw', change.op); return change.after !== null && change.after.n > 10 ? null : change }`,
    )
    const options = ['--transform', 'few.mjs']
    await p.catchUp(options)
    assert.equal(targetValue(p.targetFile, 'SELECT count(*) FROM t'), 10)
    await p.source.query(
      'UPDATE t SET n = 99 WHERE id <= 2; UPDATE t SET n = 1 WHERE id = 20; UPDATE t SET id = 103, n = 98 WHERE id = 3; DELETE FROM t WHERE id = 4',
    )
    const ended = await p.catchUp(options)
    const { tables } = JSON.parse(ended.stdout) as PipelineStatus
    assert.deepEqual([tables[0]?.read, tables[0]?.written, tables[0]?.filtered], [25, 12, 13])
    assert.equal(targetValue(p.targetFile, "SELECT group_concat(id, ' ') FROM (SELECT id FROM t ORDER BY id)"), '5 6 7 8 9 10 20')
    assert.match(ended.stderr, /^saw update$/m)
  })

  test('one that throws ends the run, and its own words stand in the log but not in the report', async () => {
    await using p = await started()
    await writeFile(
      p.folder.join('bad.mjs'),
      `export const transform = (change) => { throw new Error('no word for ' + change.after.word) }`,
    )
    await using cli = p.sync(['--transform', 'bad.mjs', '--json'])
    const ended = await cli.ended()
    assert.equal(ended.code, 1)
    assert.match(ended.stderr, /the transform threw: no word for row \d+ at .*bad\.mjs:1:/)
    assert.match(ended.stderr, /^error: the transform threw Error for a row of public\.t$/m)
    assert.doesNotMatch(ended.stdout, /no word/)
  })
})
