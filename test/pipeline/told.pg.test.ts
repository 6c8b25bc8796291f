import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { pipelineIdentity } from '../../src/engine/name.ts'
import { endpointFrom } from '../../src/library/endpoints.ts'
import { openSqliteStore } from '../../src/state/sqlite.ts'
import { onePipeline } from '../kit/one-pipeline.ts'
import { runCli } from '../kit/run-cli.ts'
import { slots } from '../kit/source-database.ts'

const SETUP = 'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE v (id int PRIMARY KEY)'

describe('what people are told, and where', { concurrency: 2 }, () => {
  test('CASE 40: a run that fails on usage leaves no pipeline behind, nor one that an earlier run was killed over', async () => {
    await using p = await onePipeline()
    await p.source.query(SETUP)
    const left = async (): Promise<readonly string[]> => {
      await using store = await openSqliteStore(p.stateFile)
      return (await store.list()).map(({ name }) => name)
    }
    const misuses = [
      ['--tables', 'nope'],
      ['--tables', '!nope'],
      ['--until', 'yesterday'],
    ]
    for (const args of misuses) {
      assert.equal((await p.sync(args).ended()).code, 2)
      assert.deepEqual(await left(), [], args.join(' '))
    }
    {
      await using store = await openSqliteStore(p.stateFile)
      const ends = { source: await endpointFrom(p.source.uri, 'source'), sink: await endpointFrom(p.target.uri, 'sink') }
      await using _ = await store.open(pipelineIdentity({ name: 'p', ...ends }), { host: 'h', pid: 1, started: 'x' })
    }
    assert.deepEqual(await left(), ['p'])
    assert.equal((await p.sync(['--tables', 'nope']).ended()).code, 2)
    assert.deepEqual(await left(), [])
  })

  test('Invariant 9: what a lost state left upstream is named with what drops it, and not taken for the next one', async () => {
    await using p = await onePipeline()
    await p.source.query(SETUP)
    await p.catchUp()
    const [slot] = await slots(p.source)
    assert.ok(slot !== undefined)
    const planned = runCli(['plan', p.source.uri, p.target.uri, '--name', 'p', '--follow'], { folder: p.folder.path })
    assert.doesNotMatch((await planned.ended()).stderr, /its state does not know/)
    for (const suffix of ['', '-wal', '-shm']) await rm(`${p.stateFile}${suffix}`, { force: true })
    const { stderr } = await p.catchUp([], 1)
    assert.match(stderr, /holds rows that this pipeline did not write/)
    assert.match(stderr, new RegExp(`replication slot ${slot.slot_name} .*and publication ${slot.slot_name} are named as if`))
    const drop = /SELECT pg_drop_replication_slot\('.*'\); DROP PUBLICATION ".*";/.exec(stderr)?.[0] ?? ''
    await p.source.query(drop)
    assert.deepEqual(await slots(p.source), [])
    assert.doesNotMatch((await p.catchUp([], 1)).stderr, /its state does not know/)
  })

  test('a dropped table is told while the pipeline runs, once', async () => {
    await using p = await onePipeline()
    await p.source.query(SETUP)
    await using cli = await p.follow(['--source.watch-interval', '1'])
    await p.source.query('DROP TABLE v')
    await cli.until('the line', () => cli.stderr.includes('warning: public.v was dropped in the source'))
    cli.interrupt()
    const { code, stderr } = await cli.ended()
    assert.equal(code, 0)
    assert.equal(stderr.split('public.v was dropped').length, 2)
  })

  test('a table that cannot be followed is left out as the hint says', async () => {
    await using p = await onePipeline()
    await p.source.query(`${SETUP}; CREATE UNLOGGED TABLE u (id int PRIMARY KEY)`)
    const { stderr } = await p.catchUp([], 1)
    const pattern = /--tables '(!public\.u)'/.exec(stderr)?.[1] ?? ''
    await p.catchUp(['--tables', pattern])
    assert.deepEqual([...p.state().tables.keys()], ['public.t', 'public.v'])
    await p.catchUp(['--tables', `${pattern},!v`])
    assert.equal(p.state().tables.get('public.v')?.state, 'removed')
  })

  test('what a target cannot keep is told once', async () => {
    await using p = await onePipeline()
    await p.source.query('CREATE TYPE pair AS (a int); CREATE TABLE t (id int PRIMARY KEY, p pair)')
    await p.source.query('CREATE DATABASE other')
    const uri = p.source.server.uri('other')
    const { stderr, code } = await runCli(['sync', p.source.uri, uri, '--name', 'p'], { folder: p.folder.path }).ended()
    assert.equal(code, 0, stderr)
    assert.equal(stderr.split('the target has no type public.pair').length, 2, stderr)
  })
})
