import assert from 'node:assert/strict'
import { copyFileSync, rmSync } from 'node:fs'
import { test } from 'node:test'
import { killInSnapshot } from '../kit/kill-in-snapshot.ts'
import { onePipeline, targetValue, type OnePipeline } from '../kit/one-pipeline.ts'
import { runCli, type Ended } from '../kit/run-cli.ts'
import { slots } from '../kit/source-database.ts'
import { openSqlite } from '../kit/sqlite-file.ts'

const SETUP = `CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5000) i`

/** The target as SQL of a person changes it. */
function change(file: string, sql: string): void {
  const database = openSqlite(file, 'write')
  database.exec(sql)
  database.close()
}

function rowsIn(p: OnePipeline, table: string): unknown {
  return targetValue(p.targetFile, `SELECT count(*) FROM ${table}`)
}

test('a table that was renamed while its copy was interrupted is copied to the end, under the name that it had', async () => {
  await using p = await onePipeline()
  await p.source.query(SETUP)
  await killInSnapshot(p, 0.5, ['--follow', '--source.chunk-bytes', '16384', '--workers', '1'])
  await p.source.query('ALTER TABLE t RENAME TO t2')
  await p.source.query(`UPDATE t2 SET v = 'new' WHERE id = 1; INSERT INTO t2 VALUES (5001, 'later')`)
  await p.catchUp()
  assert.equal(rowsIn(p, 't'), 5001)
  assert.equal(targetValue(p.targetFile, 'SELECT v FROM t WHERE id = 1'), 'new')
  await p.source.query('DELETE FROM t2 WHERE id = 2')
  await p.catchUp()
  assert.equal(rowsIn(p, 't'), 5000)
})

test('a table that was renamed and whose target was dropped is read again, into the target that it had', async () => {
  await using p = await onePipeline()
  await p.source.query(SETUP)
  await p.catchUp()
  change(p.targetFile, 'DROP TABLE t')
  await p.source.query(`ALTER TABLE t RENAME TO t2; INSERT INTO t2 VALUES (5001, 'later')`)
  await p.catchUp()
  assert.equal(rowsIn(p, 't'), 5001)
  await p.source.query('DELETE FROM t2 WHERE id = 2')
  await p.catchUp()
  assert.equal(rowsIn(p, 't'), 5000)
})

/** As the target was at some time, whole. */
function backUp(p: OnePipeline): () => void {
  const copy = p.folder.join('backup.db')
  change(p.targetFile, 'PRAGMA wal_checkpoint(TRUNCATE)')
  copyFileSync(p.targetFile, copy)
  return () => {
    for (const suffix of ['-wal', '-shm']) rmSync(`${p.targetFile}${suffix}`, { force: true })
    copyFileSync(copy, p.targetFile)
  }
}

function problemsOf({ stdout }: Ended): { code: string; hint?: string; severity: string }[] {
  const { problems } = JSON.parse(stdout) as { problems: { code: string; hint?: string; severity: string }[] }
  return problems.filter(({ severity }) => severity === 'error')
}

test('TRAP 58, CASE 10: an older target that was restored is refused before anything in it changes; reset helps', async () => {
  await using p = await onePipeline()
  await p.source.query(`${SETUP}; CREATE TABLE u (id integer PRIMARY KEY); INSERT INTO u VALUES (1)`)
  await p.catchUp(['--tables', 't'])
  const restore = backUp(p)
  await p.source.query(`INSERT INTO t VALUES (6001, 'later')`)
  await p.catchUp(['--tables', 't,u'])
  await p.source.query(`INSERT INTO t VALUES (6002, 'later'); INSERT INTO u VALUES (2)`)
  await p.catchUp(['--tables', 't,u'])
  restore()
  const [epoch, position] = ['epoch', 'position'].map((name) => targetValue(p.targetFile, `SELECT ${name} FROM tailrace_checkpoints`))
  const saved = p.state().position
  for (let attempt = 0; attempt < 2; attempt++) {
    const [problem, ...rest] = problemsOf(await p.catchUp(['--tables', 't,u'], 1))
    assert.deepEqual([problem?.code, rest], ['HISTORY_LOST', []])
    assert.match(problem?.hint ?? '', /^tailrace reset p /)
    assert.equal(targetValue(p.targetFile, `SELECT count(*) FROM sqlite_schema WHERE name = 'u'`), 0, 'u is not made')
    assert.equal(targetValue(p.targetFile, 'SELECT epoch FROM tailrace_checkpoints'), epoch, 'the epoch is not taken')
    assert.equal(targetValue(p.targetFile, 'SELECT position FROM tailrace_checkpoints'), position)
    assert.equal(p.state().position, saved, 'the saved position is not rewound')
  }
  assert.equal((await runCli(['reset', 'p'], { folder: p.folder.path }).ended()).code, 0)
  await p.catchUp(['--tables', 't,u'])
  await p.equal('t', 'u')
  assert.equal((await slots(p.source)).length, 1)
})
