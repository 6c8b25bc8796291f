import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { tempFolder } from '../testing/temp-folder.ts'
import type { Report } from '../engine/report.ts'
import { TailraceError } from '../sdk/errors.ts'
import { COMMAND_SPECS } from './commands.ts'
import { fakeEngine, fakePlan, fakeReport } from './testing/fake-engine.ts'
import { run, TestIo } from './testing/test-io.ts'

test('--json prints exactly one object on stdout, also when it fails', async () => {
  await using tmp = await tempFolder()
  const io = new TestIo(tmp.path)
  const done = await run(io, ['--json', 'sync', 'toy://h', '/dev/well'])
  assert.equal(done.code, 0)
  assert.deepEqual(JSON.parse(done.out).state, 'done')
  assert.equal(done.out.trimEnd().split('\n').length, 1)
  assert.match(done.err, /1,234/)
  const wrong = await run(io, ['sync', 'toy://h', '--json', '/dev/well', '--folow'])
  assert.deepEqual(JSON.parse(wrong.out), {
    ok: false,
    problems: [{ severity: 'error', code: 'USAGE', message: 'there is no option `--folow` for sync', hint: 'did you mean `--follow`?' }],
  })
  const byVariable = await run(new TestIo(tmp.path, { TAILRACE_JSON: 'true' }), ['sync'])
  assert.equal(JSON.parse(byVariable.out).ok, false)
})

test('a warning is shown once: when it is found, or at the end', async () => {
  await using tmp = await tempFolder()
  const warning = (message: string, path: string): Report['problems'][number] => ({ severity: 'warning', code: 'CONFIG', message, path })
  const early = [warning('column x is text', 'public.a'), warning('column x is text', 'public.b')]
  const engine = fakeEngine({
    run: async (_options, environment) => {
      for (const state of ['starting', 'streaming', 'streaming'] as const) environment.onProgress?.(fakeReport({ state, problems: early }))
      environment.onProgress?.(fakeReport({ state: 'retrying', problems: [...early, warning('connection lost', 'p')] }))
      assert.equal(io.stderr.text.match(/warning: column x is text/g)?.length, 2)
      return fakeReport({ state: 'stopped', problems: [...early, warning('late', 'p')] })
    },
  })
  const io = new TestIo(tmp.path)
  const { err, code } = await run(io, ['sync', 'toy://h', '/dev/well', '--follow'], { engine })
  assert.equal(code, 0)
  assert.deepEqual(err.match(/warning: .*/g), [
    'warning: column x is text (public.a)',
    'warning: column x is text (public.b)',
    'warning: late (p)',
  ])
})

test('a signal that comes when the work is over leaves the exit code as it is', async () => {
  await using tmp = await tempFolder()
  const io = new TestIo(tmp.path)
  const engine = fakeEngine({
    run: async () => fakeReport({ ok: false, state: 'failed', problems: [{ code: 'HISTORY_LOST', message: 'gone' }] }),
  })
  assert.equal((await run(io, ['sync', 'toy://h', '/dev/well', '--follow'], { engine })).code, 1)
  // Without a listener the process would end by the signal.
  assert.ok(io.signals.emit('signal', 'SIGINT'))
  assert.deepEqual(io.exits, [])
  io.signals.emit('signal', 'SIGINT')
  assert.deepEqual(io.exits, [1], 'what hangs afterwards can be ended')
})

test('exit codes follow the catalogue', async () => {
  await using tmp = await tempFolder()
  const codes = { SINK_FAILED: 1, CONFIG: 2, HELD: 3, DIFFERENT: 4, BUG: 1 } as const
  for (const [code, exit] of Object.entries(codes) as ['HELD', 1 | 2 | 3 | 4][]) {
    const thrown = fakeEngine({ run: () => Promise.reject(new TailraceError(code, 'it is so', { hint: 'do this' })) })
    const told = fakeEngine({
      run: async () =>
        fakeReport({
          ok: false,
          state: 'failed',
          problems: [
            { severity: 'warning', code: 'CONFIG', message: 'w' },
            { code, message: 'it is so' },
          ],
        }),
    })
    for (const engine of [thrown, told])
      assert.equal((await run(new TestIo(tmp.path), ['sync', 'toy://h', '/dev/well'], { engine })).code, exit, code)
  }
  const silent = fakeEngine({ run: async () => fakeReport({ ok: false, state: 'failed' }) })
  assert.equal((await run(new TestIo(tmp.path), ['sync', 'toy://h', '/dev/well'], { engine: silent })).code, 1)
})

test('a bug shows its stack only when asked', async () => {
  await using tmp = await tempFolder()
  const engine = fakeEngine({ run: () => Promise.reject(new RangeError('oops')) })
  const plain = await run(new TestIo(tmp.path), ['sync', 'toy://h', '/dev/well'], { engine })
  assert.match(plain.err, /error: unexpected: oops\n {2}hint: .*--log-level debug/)
  assert.doesNotMatch(plain.err, /at .*\.ts:\d/)
  const debug = await run(new TestIo(tmp.path), ['sync', 'toy://h', '/dev/well', '--log-level', 'debug'], { engine })
  assert.match(debug.err, /RangeError: oops\n\s+at .*main\.test\.ts/)
})

test('help and version go to stdout and touch nothing', async () => {
  await using tmp = await tempFolder()
  const io = new TestIo(tmp.path, { TAILRACE_IF_EXISTS: 'nonsense' })
  const overview = await run(io, ['--help'])
  for (const name of COMMAND_SPECS.keys()) assert.match(overview.out, new RegExp(`^  ${name} `, 'm'))
  for (const args of [
    ['sync', '--help'],
    ['help', 'sync'],
    ['sync', 'nonsense://', '-h'],
  ]) {
    const page = await run(io, args)
    assert.equal(page.code, 0)
    assert.match(page.out, /^Usage: tailrace sync/)
    for (const option of COMMAND_SPECS.get('sync')!.options) assert.match(page.out, new RegExp(`--${option}\\b`))
  }
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  for (const flag of ['--version', '-v', '-V']) assert.equal((await run(io, [flag])).out, `${version}\n`)
  for (const args of [
    ['--version', '--json'],
    ['--json', '-v'],
  ])
    assert.deepEqual(JSON.parse((await run(io, args)).out), { ok: true, version })
  const page = JSON.parse((await run(io, ['help', 'sync', '--json'])).out) as { ok: boolean; name: string; options: { name: string }[] }
  assert.deepEqual([page.ok, page.name], [true, 'sync'])
  for (const name of ['follow', 'state'])
    assert.ok(
      page.options.some((option) => option.name === name),
      name,
    )
  const all = JSON.parse((await run(io, ['--help', '--json'])).out) as { commands: { name: string }[] }
  assert.deepEqual(
    all.commands.map((command) => command.name),
    [...COMMAND_SPECS.keys()],
  )
  const nothing = await run(io, [])
  assert.equal(nothing.code, 2)
  assert.equal(nothing.out, '')
  assert.equal((await run(io, ['sync', '--', '--help'])).code, 2)
})

test('the connectors and their options', async () => {
  await using tmp = await tempFolder()
  const io = new TestIo(tmp.path)
  const list = await run(io, ['connectors'])
  assert.match(list.out, /toy, toys +source, sink +Toy/)
  assert.match(list.out, /\/dev\/well +sink/)
  const page = await run(io, ['connectors', 'toys'])
  assert.match(page.out, /--ssl-mode +disable\|require\|verify-full +disable +TAILRACE_<SIDE>_SSL_MODE +TLS\./)
  assert.match(page.out, /--buffer-size +size +64MB/)
  assert.match(page.out, /--patience +duration +5m/)
  assert.match(page.out, /--password .*\[secret\] Password\./)
  assert.match(page.out, /--host +text +required/)
  assert.match(page.out, /--schema .*\[sink only\]/)
  const json = JSON.parse((await run(io, ['connectors', 'toy', '--json'])).out) as { options: { name: string; secret: boolean }[] }
  assert.deepEqual(
    json.options.filter((option) => option.secret).map((option) => option.name),
    ['password'],
  )
})

test('a plan is text on stdout, or an object', async () => {
  await using tmp = await tempFolder()
  const io = new TestIo(tmp.path)
  const text = await run(io, ['plan', 'toy://h', '/dev/well', '--name', 'shop'])
  assert.equal(text.code, 0, text.err)
  for (const part of ['shop', 'at-least-once', 'public.a', 'CREATE TABLE a ()', 'b is not copied', 'slot s', 'no deletes'])
    assert.ok(text.out.includes(part), part)
  assert.equal(JSON.parse((await run(io, ['plan', 'toy://h', '/dev/well', '--json'])).out).ok, true)
  assert.ok(!existsSync(tmp.join('.tailrace')), 'a plan made a state')
})

test('a plan does not call unknown what is none', async () => {
  await using tmp = await tempFolder()
  const totalOf = async (...rows: readonly number[]): Promise<string> => {
    const [table] = fakePlan('shop').tables
    const engine = fakeEngine({ plan: async () => ({ ...fakePlan('shop'), tables: rows.map((each) => ({ ...table!, rows: each })) }) })
    const { out } = await run(new TestIo(tmp.path), ['plan', 'toy://h', '/dev/well'], { engine })
    return /^\d+ tables?, .*$/m.exec(out)?.[0] ?? assert.fail(out)
  }
  assert.equal(await totalOf(10, 0), '2 tables, about 10 rows, 4.00 kB')
  assert.equal(await totalOf(-1), '1 table, rows unknown (never analysed), 2.00 kB')
  assert.equal(await totalOf(1000, -1), '2 tables, about 1,000 rows, unknown in 1 table (never analysed), 4.00 kB')
  assert.equal(await totalOf(1000, -1, -1), '3 tables, about 1,000 rows, unknown in 2 tables (never analysed), 6.00 kB')
})

test('a transform is loaded from a module, and told apart from what is none', async () => {
  await using tmp = await tempFolder()
  const { writeFile } = await import('node:fs/promises')
  const files = {
    'good.ts': 'export const transform = (change: unknown): unknown => change',
    'default.ts': 'export default (change: unknown) => change',
    'near.ts': 'export const tranform = 1',
    'broken.ts': 'export const transform = (',
    'enum.ts': 'enum A { B }\nexport const transform = () => A.B',
    'throws.js': "throw new Error('at import')",
  }
  for (const [name, text] of Object.entries(files)) await writeFile(tmp.join(name), text)
  const engine = fakeEngine()
  const load = (file: string): ReturnType<typeof run> =>
    run(new TestIo(tmp.path), ['sync', 'toy://h', '/dev/well', '--state', 'memory:', '--transform', file], { engine })
  assert.equal((await load('good.ts')).code, 0)
  assert.equal(typeof engine.pipelines[0]!.transform, 'function')
  const wrong = {
    'default.ts': /default function/,
    'near.ts': /exports `tranform`/,
    'broken.ts': /cannot be loaded: SyntaxError/,
    'enum.ts': /no enum/,
    'throws.js': /at import/,
  }
  for (const [file, message] of Object.entries(wrong)) {
    const { code, err } = await load(file)
    assert.equal(code, 2, file)
    assert.match(err, message)
  }
})
