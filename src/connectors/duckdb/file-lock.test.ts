import assert from 'node:assert/strict'
import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { describe, test } from 'node:test'
import type { TailraceError } from '../../sdk/errors.ts'
import { at, batchOf, insert, schemaOf, sinkTable } from '../../testing/sink-batches.ts'
import { isError } from '../../testing/sink-bench.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import { lockPath, takeLock } from './lock-file.ts'
import { id, people, started } from './test-bench.ts'
import { openTestTarget } from './test-target.ts'

const signal = new AbortController().signal

describe('TRAP 59: one process, one instance', () => {
  test('TRAP 59: two sinks of one process on one file share one instance and do not diverge', async () => {
    await using given = await started([people])
    const { bench, target, folder } = given
    const things = schemaOf({ name: 'things', columns: [id], key: ['id'] })
    const other = await openTestTarget(folder, { pipeline: 'other' })
    await other.sink.checkpoints?.claim(signal)
    await other.sink.applySchema(sinkTable(things), null, signal)
    await bench.commit(insert(people, ['1', 'a', null]))
    await other.sink.write(batchOf([{ number: 5, changes: [insert(things, ['1'])] }]), signal)
    await bench.commit(insert(people, ['2', 'b', null]))
    await other.close()
    assert.equal(await bench.sink.count?.(sinkTable(people), signal), 2n)
    assert.equal(await bench.sink.count?.(sinkTable(things), signal), 1n)
    await target.close()
    assert.equal(existsSync(lockPath(target.path)), false)
  })

  test('TRAP 59: a file held by another process is HELD, naming it; check says so', async () => {
    await using folder = await tempFolder()
    const holder = await spawnHolder(folder.join('target.duckdb'))
    try {
      const target = await openTestTarget(folder)
      await assert.rejects(target.sink.checkpoints!.claim(signal), (error: TailraceError) => {
        assert.equal(error.code, 'HELD')
        assert.match(error.message, new RegExp(`process ${holder.pid}\\b`))
        assert.match(error.hint ?? '', new RegExp(`kill ${holder.pid}`))
        return true
      })
      const problems = await target.sink.check([], signal)
      assert.deepEqual(
        problems.filter((problem) => problem.severity === 'error').map((problem) => problem.code),
        ['HELD'],
      )
      assert.ok(problems.some((problem) => problem.severity === 'warning' && /no other process can read/.test(problem.message)))
      await target.close()
    } finally {
      await end(holder)
    }
  })

  test('TRAP 59: the lock of a killed process is taken over; what it had committed is there', async () => {
    await using folder = await tempFolder()
    const holder = await spawnRunner(folder.path)
    await end(holder)
    assert.equal(existsSync(lockPath(folder.join('target.duckdb'))), true)
    const target = await openTestTarget(folder)
    const claimed = await target.sink.checkpoints?.claim(signal)
    assert.deepEqual(claimed, { epoch: 2, position: at(1) })
    assert.deepEqual(await target.rows(sinkTable(people)), [{ id: '1', name: 'a', born: null }])
    await target.close()
  })

  test('a lock file tells a living process from a dead one, a reused pid, and another host', async () => {
    await using folder = await tempFolder()
    const path = folder.join('x.duckdb')
    const own = takeLock(path)
    assert.throws(() => takeLock(path), isError('HELD'))
    own.release()
    assert.equal(existsSync(lockPath(path)), false)
    writeFileSync(lockPath(path), JSON.stringify({ host: hostname(), pid: process.pid, started: '1' }))
    takeLock(path).release()
    writeFileSync(lockPath(path), JSON.stringify({ host: 'elsewhere', pid: 1, started: '1' }))
    assert.throws(() => takeLock(path), /held by process 1 on host elsewhere/)
    assert.match(readFileSync(lockPath(path), 'utf8'), /elsewhere/)
  })

  test('after some idle time the file is let go of: another process can read it, and the next write takes it again', async () => {
    await using given = await started([people], { config: { releaseIdle: 0.02 } })
    const { bench, target } = given
    await bench.commit(insert(people, ['1', 'a', null]))
    const rows = await readElsewhere(target.path, 'SELECT name FROM main.people')
    assert.deepEqual(rows, [['a']])
    await bench.commit(insert(people, ['2', 'b', null]))
    await bench.expectPosition(at(2))
  })
})

/** Another process that has the file open in DuckDB, without our lock. */
async function spawnHolder(path: string): Promise<ChildProcess> {
  const script =
    "import('@duckdb/node-api').then(async ({ DuckDBInstance }) => { globalThis.held = await DuckDBInstance.create(process.argv[1]); process.send('ready'); setInterval(() => {}, 1e6) })"
  const child = spawn(process.execPath, ['-e', script, path], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  await once(child, 'message')
  return child
}

/** A runner of ours that commits one row and then lives on. */
async function spawnRunner(folder: string): Promise<ChildProcess> {
  const child = fork(new URL('test-runner.ts', import.meta.url), [folder])
  await once(child, 'message')
  return child
}

async function end(child: ChildProcess): Promise<void> {
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

/** Reads the file in another process as soon as that can open it. */
async function readElsewhere(path: string, sql: string): Promise<unknown> {
  const script = `import('@duckdb/node-api').then(async ({ DuckDBInstance }) => {
    for (;;) {
      const instance = await DuckDBInstance.create(process.argv[1], { access_mode: 'READ_ONLY' }).catch(() => null)
      if (instance === null) continue
      const connection = await instance.connect()
      const rows = (await connection.runAndReadAll(process.argv[2])).getRowsJson()
      connection.closeSync()
      instance.closeSync()
      process.send(rows, () => process.exit())
      return
    }
  })`
  const child = spawn(process.execPath, ['-e', script, path, sql], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const gone = once(child, 'exit')
  const [rows] = await once(child, 'message')
  await gone
  return rows
}
