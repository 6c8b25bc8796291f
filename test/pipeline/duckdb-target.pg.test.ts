import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { describe, test, type TestContext } from 'node:test'
import { tempFolder, type TempFolder } from '../../src/testing/temp-folder.ts'
import { runCli } from '../kit/run-cli.ts'
import { useBench } from './kit.ts'

const bench = useBench()

interface Told {
  readonly code: number | null
  readonly problems: readonly { readonly severity: string; readonly code: string; readonly message: string; readonly hint?: string }[]
  readonly stderr: string
}

async function sync(folder: TempFolder, ...args: readonly string[]): Promise<Told> {
  await using cli = runCli(['sync', ...args, '--json'], { folder: folder.path })
  const { code, stdout, stderr } = await cli.ended()
  const { problems } = JSON.parse(stdout) as Pick<Told, 'problems'>
  return { code, problems: problems.filter(({ severity }) => severity === 'error'), stderr }
}

/** What a hint says to type, cut as a shell cuts it. */
function typed(hint: string | undefined): readonly string[] {
  const option = /--[\w.-]+ (?:'[^']*'|\S+)/.exec(hint ?? '')?.[0]
  assert.ok(option !== undefined, `an option is named: ${hint}`)
  const { stdout } = spawnSync('sh', ['-c', `printf '%s\\n' ${option}`], { encoding: 'utf8' })
  return stdout.trimEnd().split('\n')
}

describe('a DuckDB file as target: what a hint says to type works', { concurrency: 2 }, () => {
  const SETUP = `CREATE TABLE t (id int PRIMARY KEY, v timestamptz, n numeric(10,2), w timestamp);
    INSERT INTO t VALUES (1, '294276-12-31 23:59:59.999999+00', 'NaN', '294276-12-31 23:59:59'), (2, '2024-01-01 00:00:00+00', 1, NULL)`

  for (const first of [['--until', 'caught-up'], []] as const) {
    test(`CASE 40: values that do not fit are all named, and kept as text with --if-exists replace [${first[1] ?? 'copy'}]`, async () => {
      await using source = await bench().database(SETUP)
      await using folder = await tempFolder('tr-duckdb-')
      const args = [source.uri, `duckdb:${folder.join('m.duckdb')}`, '--name', 'a', ...first]
      const refused = await sync(folder, ...args)
      const [problem] = refused.problems
      assert.deepEqual([refused.code, problem?.code], [1, 'ROW_REJECTED'], refused.stderr)
      assert.match(problem?.message ?? '', /column v .*column n .*column w /)
      assert.match(problem?.hint ?? '', /--sink\.text-columns public\.t\.v,public\.t\.n,public\.t\.w keeps them as text/)
      const option = /--sink\.text-columns \S+/.exec(problem?.hint ?? '')?.[0].split(' ') ?? []
      const without = await sync(folder, ...args, ...option)
      assert.equal(without.code, 1, without.stderr)
      assert.match(without.problems[0]?.hint ?? '', /--if-exists replace/)
      const mended = await sync(folder, ...args, ...option, '--if-exists', 'replace')
      assert.deepEqual([mended.code, mended.problems], [0, []], mended.stderr)
      // Asked again, nothing is left to be made anew.
      const again = await sync(folder, ...args, ...option, '--if-exists', 'replace')
      assert.equal(again.code, 0, again.stderr)
      assert.doesNotMatch(again.stderr, /is to be VARCHAR/)
    })
  }

  test('CASE 40: of columns that DuckDB does not tell apart, one is left out', async () => {
    await using source = await bench().database(
      `CREATE SCHEMA "We ird.Sch""ema"; CREATE TABLE "We ird.Sch""ema"."Tä.bl""e ☃" (id int PRIMARY KEY, "UPPER" text, upper text, "it's" int)`,
    )
    for (const kind of ['duckdb', 'sqlite']) {
      await using folder = await tempFolder('tr-duckdb-')
      const args = [source.uri, `${kind}:${folder.join('m')}`]
      const refused = await sync(folder, ...args)
      assert.equal(refused.code, 1, refused.stderr)
      const mended = await sync(folder, ...args, ...typed(refused.problems[0]?.hint))
      assert.deepEqual([mended.code, mended.problems], [0, []], `${kind}: ${mended.stderr}`)
    }
  })
})

/** A disk of so many MB of its own, or why there is none. */
function mountSmall(folder: TempFolder, megabytes: number): (AsyncDisposable & { readonly path: string }) | string {
  const path = folder.join('small')
  mkdirSync(path)
  const { status, error } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', path])
  if (error !== undefined || status !== 0) return 'this user may mount no disk'
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      assert.equal(spawnSync('umount', [path]).status, 0)
    },
  }
}

describe('a disk that is full', () => {
  const FULL = { code: 3, problem: 'ENVIRONMENT', hint: 'the disk is full: make room and start again' }

  async function meets(t: TestContext, sink: string, megabytes: number, mode: readonly string[], late: boolean): Promise<void> {
    await using folder = await tempFolder('tr-full-')
    const small = mountSmall(folder, megabytes)
    if (typeof small === 'string') return t.skip(small)
    await using disk = small
    const rows = (from: number, to: number): string =>
      `INSERT INTO t SELECT i, md5(i::text) || md5((i + 1)::text) || md5((i + 2)::text) || md5((i + 3)::text) FROM generate_series(${from}, ${to}) i`
    await using source = await bench().database(`CREATE TABLE t (id int PRIMARY KEY, v text); ${rows(1, late ? 10 : 200_000)}`)
    const args = [source.uri, `${sink}:${disk.path}/h`, ...mode]
    if (late) {
      const first = await sync(folder, ...args)
      assert.equal(first.code, 0, first.stderr)
      for (let part = 0; part < 20; part++) await source.run(rows(part * 10_000 + 11, part * 10_000 + 10_010))
    }
    const ended = await sync(folder, ...args)
    const [problem] = ended.problems
    assert.deepEqual({ code: ended.code, problem: problem?.code, hint: problem?.hint }, FULL, ended.stderr)
    assert.match(problem?.message ?? '', /no space|full/)
  }

  for (const sink of ['duckdb', 'sqlite'] as const) {
    test(`CASE 40: ends a copy soon [${sink}]`, (t) => meets(t, sink, 12, [], false))
    test(`CASE 40: ends a snapshot that is followed soon [${sink}]`, (t) => meets(t, sink, 12, ['--until', 'caught-up'], false))
    test(`CASE 40: ends the stream soon [${sink}]`, (t) => meets(t, sink, 6, ['--until', 'caught-up'], true))
  }
})
