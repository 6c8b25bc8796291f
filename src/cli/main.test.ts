import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { tempFolder } from '../testing/temp-folder.ts'
import type { Report } from '../engine/report.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { PipelineOptions } from '../engine/options.ts'
import { COMMAND_SPECS } from './commands.ts'
import { OWN_OPTIONS } from './own-options.ts'
import { RESERVED_OPTIONS } from '../sdk/config/reserved.ts'
import { fakeEngine, fakePlan, fakeReport } from './testing/fake-engine.ts'
import { run, TestIo } from './testing/test-io.ts'

/** The pipeline that a command line asks for. */
async function asked(args: readonly string[], variables: Record<string, string> = {}): Promise<PipelineOptions> {
  await using tmp = await tempFolder()
  const engine = fakeEngine()
  const { code, err } = await run(new TestIo(tmp.path, variables), ['sync', '--state', 'memory:', ...args], { engine })
  assert.equal(code, 0, err)
  return engine.pipelines[0]!
}

/** A refusal: exit code 2, one sentence and a hint; nothing was touched. */
async function refused(args: readonly string[], variables: Record<string, string> = {}): Promise<{ message: string; hint: string }> {
  await using tmp = await tempFolder()
  const engine = fakeEngine()
  const { code, out, err } = await run(new TestIo(tmp.path, variables), args, { engine })
  assert.equal(code, 2, `${args.join(' ')}: ${err}`)
  assert.equal(out, '')
  assert.equal(engine.pipelines.length + engine.managed.length, 0)
  assert.ok(!existsSync(tmp.join('.tailrace')), 'a state was made')
  const [, message = '', hint = ''] = /^error: ([^\n]*)\n(?:  hint: ([^\n]*)\n)?/.exec(err) ?? assert.fail(err)
  return { message, hint }
}

test('a typo in any name ends with exit code 2 and the nearest right name (CASE 40)', async () => {
  const cases: readonly (readonly [string, RegExp])[] = [
    ['snyc toy://h /dev/well', /`tailrace sync`/],
    ['sync tyo://h /dev/well', /`toy`/],
    ['sync toy://h /dev/wel', /`\/dev\/well`/],
    ['sync toy://h --slto x /dev/well', /`--slot`/],
    ['sync toy://h?slto=x /dev/well', /`slot`/],
    ['sync toy://h /dev/well --folow', /`--follow`/],
    ['sync toy://h /dev/well --source.slto x', /`--source\.slot`/],
    ['sync toy://h /dev/well --if-exists trucate', /`truncate`/],
    ['sync toy://h --ssl-mode verifyfull /dev/well', /`verify-full`/],
    ['sync toy://h?ssl-mode=requre /dev/well', /`require`/],
    ['sync toy://h /dev/well --until caughtup', /`caught-up`/],
    ['sync toy://h /dev/well --state sqlit:x', /`sqlite:`/],
    ['sync toy://h /dev/well --progress plian', /`plain`/],
    ['sync toy://h /dev/well --log-level wran', /`warn`/],
    ['sync toy://h /dev/well --deletes softly', /`soft`/],
    ['connectors tyo', /`toy`/],
    ['dlq lsit shop', /`list`/],
    ['tables shop ad x', /`add`/],
    ['help snyc', /`tailrace sync`/],
    ['verfiy --help', /./],
  ]
  for (const [line, hint] of cases) assert.match((await refused(line.split(' '))).hint, hint, line)
})

test('a typo in an environment variable is one too', async () => {
  const line = ['sync', 'toy://h', '/dev/well']
  assert.match((await refused(line, { TAILRACE_SOURCE_SLTO: 'x' })).hint, /TAILRACE_SOURCE_SLOT/)
  assert.match((await refused(line, { TAILRACE_IF_EXIST: 'append' })).hint, /TAILRACE_IF_EXISTS/)
  assert.match((await refused(line, { TAILRACE_IF_EXISTS: 'apend' })).message, /^TAILRACE_IF_EXISTS must be/)
  assert.match((await refused(line, { TAILRACE_SOURCE_SHINY: 'perhaps' })).message, /^TAILRACE_SOURCE_SHINY must be true or false/)
  await asked(line.slice(1), { TAILRACE_SOMETHING_ELSE: 'x', OTHER: 'y' })
})

test('commands that are not there are not listed as if they were', async () => {
  for (const name of ['verify', 'run', 'why', 'tail', 'cutover', 'rollback', 'create', 'serve', 'pack', 'test']) {
    assert.match((await refused([name, 'x'])).message, /there is no command/)
  }
})

test('what is missing or too much', async () => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['sync'], /no source is given/],
    [['sync', 'toy://h'], /no sink is given/],
    [['sync', 'toy://h', '/dev/well', 'toy://x'], /more than two URIs/],
    [['toy://h', '/dev/well'], /no command is given before the URI/],
    [['--no-json'], /no command is given/],
    [['sync', '/dev/well', 'toy://h'], /cannot be a source/],
    [['sync', 'toy://h', '/dev/well', '--name'], /--name needs a value/],
    [['sync', 'toy://h', '/dev/well', '--name', '--follow'], /--name needs a value/],
    [['sync', 'toy://h', '/dev/well', '--name='], /--name is empty/],
    [['sync', 'toy://h', '/dev/well', '--name', 'a', '--name', 'b'], /--name is given twice/],
    [['sync', 'toy://h', '/dev/well', '--name', 'a b'], /a pipeline name/],
    [['sync', 'toy://h', '--slot', 'a', '--slot', 'b', '/dev/well'], /--slot is given twice/],
    [['sync', 'toy://h', '--box', '/dev/well'], /no sink is given/],
    [['sync', 'toy://h', '--slot', '--shiny', '/dev/well'], /--slot needs a value/],
    [['sync', 'toy://h', '--slot', 'NOT OK', '/dev/well'], /--slot is not valid/],
    [['sync', 'toy://', '/dev/well'], /needs the option host/],
    [['sync', 'toy://h/forbidden', '/dev/well'], /this box must not be opened/],
    [['sync', 'toy://h', '--schema', 'x', '/dev/well'], /means nothing for a source/],
    [['sync', 'toy://h', '/dev/well', '--slot', 'x'], /no option of the URI before it/],
    [['sync', 'toy://h', '/dev/well', '--json=perhaps'], /is a switch/],
    [['sync', 'toy://h', '/dev/well', '--no-json=true'], /takes no value/],
    [['sync', 'toy://h', '/dev/well', '-x'], /no option `-x`/],
    [['sync', 'toy://h', '/dev/well', '--limit', '3'], /no option of sync/],
    [['sync', 'toy://h', '/dev/well', '--workers', '0'], /between 1 and 64/],
    [['sync', 'toy://h', '/dev/well', '--workers', 'many'], /a whole number/],
    [['sync', 'toy://h', '/dev/well', '--snapshot', 'never'], /nothing to copy/],
    [['sync', 'toy://h', '/dev/well', '--map', 'a'], /--map wants a table/],
    [['sync', 'toy://h', '/dev/well', '--map', 'a=x,b=x'], /both mapped to x/],
    [['sync', 'toy://h', '/dev/well', '--tables', 'a.b.c'], /no table name/],
    [['sync', 'toy://h', '/dev/well', '--tables', '!a..b'], /no table name/],
    [['s y=c'], /there is no command `…` \(not shown: it may hold a secret\)/],
    [['sync', 'toy://h', '/dev/well', '--tables', 'a..b'], /no table name/],
    [['sync', 'toy://h', '/dev/well', '--exclude', 'a'], /names no column/],
    [['sync', 'toy://h', '/dev/well', '--until', '2026-02-30'], /is no time/],
    [['sync', 'toy://h', '/dev/well', '--until', '2026-13-01T00:00:00Z'], /is no time/],
    [['sync', 'toy://h', '/dev/well', '--transform', 'none.ts'], /does not exist/],
    [['sync', 'toy://h', '/dev/well', '--state', 'sqlite:'], /is no file/],
    [['sync', 'toy://h --slot', '/dev/well'], /--slot needs a value/],
    [['sync', 'toy://h --slot x y', '/dev/well'], /something that is no flag/],
    [['sync', "toy://h --slot 'x", '/dev/well'], /quote .* is not closed/],
    [['sync', '--source', 'toy://a', 'toy://b', '/dev/well', '--sink', 'toy://c'], /more than/],
    [['status', 'a', 'b'], /no more than 1 argument/],
    [['status', '--source', 'toy://a'], /no option of status/],
    [['pause'], /needs the name of a pipeline/],
    [['dlq'], /needs to know what to do/],
    [['dlq', 'show', 'shop'], /needs the id/],
    [['dlq', 'show', 'shop', 'x'], /is a number/],
    [['status', 'shop'], /no pipeline `shop`/],
    [['reset'], /name is needed/],
  ]
  for (const [args, message] of cases) assert.match((await refused(args)).message, message, args.join(' '))
})

test('every problem of an endpoint is told at once', async () => {
  await using tmp = await tempFolder()
  const { err, code } = await run(new TestIo(tmp.path), ['sync', 'toy://h?slto=1', '--ssl-mode', 'x', '--buffer-size', 'big', '/dev/well'])
  assert.equal(code, 2)
  assert.equal(err.match(/^error: /gm)?.length, 3, err)
})

test('an option follows its URI, stands in it, or names its side', async () => {
  const spellings = [
    ['toy://h', '--slot', 'x', '/dev/well'],
    ['toy://h', '--slot=x', '/dev/well'],
    ['toy://h?slot=x', '/dev/well'],
    ['toy://h', '/dev/well', '--source.slot', 'x'],
    ['--source.slot', 'x', 'toy://h', '/dev/well'],
    ['toy://h --slot x', '/dev/well'],
    ["toy://h --slot 'x'", '/dev/well'],
    ['--source', 'toy://h', '--slot', 'x', '--sink', '/dev/well'],
    ['--sink', '/dev/well', '--source', 'toy://h', '--slot', 'x'],
    ['--sink', '/dev/well', 'toy://h', '--slot', 'x'],
    ['--source', 'toy://h?slot=x', '/dev/well'],
    ['--', 'toy://h?slot=x', '/dev/well'],
    ['--no-follow', 'toy://h', '--slot', 'x', '/dev/well'],
  ]
  for (const args of spellings) {
    const { source, sink } = await asked(args)
    assert.equal(source.config['slot'], 'x', args.join(' '))
    assert.equal(sink.label, '/dev/well')
  }
})

test('both ends may have the same options', async () => {
  const { source, sink } = await asked([
    'toy://a',
    '--box',
    'one',
    '--shiny',
    'toy://b',
    '--box',
    'two',
    '--schema',
    's',
    '--labels',
    'x',
    '--labels',
    'y,z',
  ])
  assert.deepEqual([source.config['box'], source.config['shiny'], sink.config['box'], sink.config['shiny']], ['one', true, 'two', false])
  assert.deepEqual(sink.config['labels'], ['x', 'y', 'z'])
})

test('values are read by the schema', async () => {
  const { source } = await asked([
    'toy://me@h/b',
    '--buffer-size',
    '2MB',
    '--patience',
    '2m',
    '--no-shiny',
    '--sslmode',
    'require',
    '/dev/well',
  ])
  const { bufferSize, patience, shiny, sslMode, user, box } = source.config as Record<string, unknown>
  assert.deepEqual(
    { bufferSize, patience, shiny, sslMode, user, box },
    { bufferSize: 2 * 2 ** 20, patience: 120, shiny: false, sslMode: 'require', user: 'me', box: 'b' },
  )
})

test('a value may begin with a dash where it is no option, and anything after =', async () => {
  const { source } = await asked(['toy://h', '--labels', '-5', '--box=--json', '/dev/well'])
  assert.deepEqual([source.config['labels'], source.config['box']], [['-5'], '--json'])
})

test('flag > parameter of the URI > the URI > environment > default', async () => {
  const all = {
    TAILRACE_SOURCE_BOX: 'from env',
    TAILRACE_SOURCE_SLOT: 'env',
    TAILRACE_SOURCE_BUFFER_SIZE: '1MB',
    TAILRACE_SOURCE_USER: 'env',
  }
  const { source } = await asked(['toy://me@h/path?box=param&slot=param', '--slot', 'flag', '/dev/well'], all)
  const { slot, box, user, bufferSize, patience } = source.config as Record<string, unknown>
  assert.deepEqual(
    { slot, box, user, bufferSize, patience },
    { slot: 'flag', box: 'param', user: 'me', bufferSize: 2 ** 20, patience: 300 },
  )
  const own = { TAILRACE_IF_EXISTS: 'append', TAILRACE_WORKERS: '2', TAILRACE_FOLLOW: 'yes', TAILRACE_TABLES: 'a,b', TAILRACE_NAME: 'env' }
  const pipeline = await asked(['toy://h', '/dev/well', '--workers', '3', '--no-follow'], own)
  assert.deepEqual([pipeline.ifExists, pipeline.workers, pipeline.mode.kind, pipeline.name], ['append', 3, 'copy', 'env'])
  assert.deepEqual(pipeline.selection.tables, ['a', 'b'])
})

test('ends come from the environment where the line does not name them', async () => {
  const env = { TAILRACE_SOURCE: 'toy://from-env --slot env_slot', TAILRACE_SINK: '/dev/well' }
  const labels = async (args: readonly string[], variables: Record<string, string> = env): Promise<readonly string[]> => {
    const { source, sink } = await asked(args, variables)
    return [source.label, sink.label, String(source.config['slot'] ?? '')]
  }
  assert.deepEqual(await labels([]), ['toy://from-env', '/dev/well', 'env_slot'])
  assert.deepEqual(await labels(['toy://other']), ['toy://other', '/dev/well', ''])
  assert.deepEqual(await labels(['--sink', 'toy://other']), ['toy://from-env', 'toy://other', 'env_slot'])
  assert.deepEqual(await labels(['--source.slot', 'flag'], { ...env, TAILRACE_SOURCE: 'toy://from-env' }), [
    'toy://from-env',
    '/dev/well',
    'flag',
  ])
  assert.deepEqual(await labels(['--slot', 'flag'], { ...env, TAILRACE_SOURCE: 'toy://from-env' }), ['toy://from-env', '/dev/well', 'flag'])
  // Only the source is known otherwise: the single URI is the sink.
  assert.deepEqual(await labels(['toy://sink'], { TAILRACE_SOURCE: 'toy://from-env' }), ['toy://from-env', 'toy://sink', ''])
})

test('options of sync reach the engine', async () => {
  const what = ['--follow', 'toy://h', '/dev/well', '--tables', 'a,"B,c".*', '--tables', 'd', '--map', 'a=x.y', '--map', '"q=r"=z']
  const rows = ['--columns', 'a=id,"we,ird"', '--exclude', 'a.b,s.t.u', '--where', "a=total > 0 AND note = 'x=y, z'", '--key', 's.t=a,b']
  const how = ['--if-exists', 'append', '--schema-changes', 'stop', '--deletes', 'soft', '--on-error', 'dead-letter', '--workers', '7']
  const line = [...what, ...rows, ...how, '--name', 'shop']
  const pipeline = await asked(line)
  assert.deepEqual(pipeline.selection, {
    tables: ['a', '"B,c".*', 'd'],
    columns: new Map([['a', ['id', 'we,ird']]]),
    exclude: ['a.b', 's.t.u'],
    where: new Map([['a', "total > 0 AND note = 'x=y, z'"]]),
    keys: new Map([['s.t', ['a', 'b']]]),
  })
  assert.deepEqual(
    [...pipeline.map],
    [
      ['a', 'x.y'],
      ['"q=r"', 'z'],
    ],
  )
  const { name, mode, ifExists, schemaChanges, deletes, onRowError, workers, snapshot, transform } = pipeline
  assert.deepEqual(
    { name, mode, ifExists, schemaChanges, deletes, onRowError, workers, snapshot, transform },
    {
      name: 'shop',
      mode: { kind: 'follow' },
      ifExists: 'append',
      schemaChanges: 'stop',
      deletes: 'soft',
      onRowError: 'dead-letter',
      workers: 7,
      snapshot: 'initial',
      transform: null,
    },
  )
})

test('--until', async () => {
  const until = async (text: string): Promise<unknown> => (await asked(['toy://h', '/dev/well', '--until', text])).mode
  assert.deepEqual(await until('caught-up'), { kind: 'until', until: 'caught-up' })
  assert.deepEqual(await until('0/16B3748'), { kind: 'until', until: { position: '0/16B3748' } })
  assert.deepEqual(await until('2026-01-31T12:00:00Z'), { kind: 'until', until: { time: Date.UTC(2026, 0, 31, 12) } })
})

test('the name is made of the two places, whatever the user, the password and the options are', async () => {
  const names = new Set<string | null>()
  for (const uri of ['toy://h/b', 'toy://me:pw@h/b', 'toy://h/b?slot=x']) names.add((await asked([uri, '/dev/well'])).name)
  assert.equal(names.size, 1)
  assert.match([...names][0]!, /^[a-z2-7]{10}$/)
  names.add((await asked(['toy://h/c', '/dev/well'])).name)
  assert.equal(names.size, 2)
})

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

test('every own option is reserved against connectors, and every option that a command names exists', () => {
  for (const name of OWN_OPTIONS.keys()) assert.ok(RESERVED_OPTIONS.has(name), name)
  for (const command of COMMAND_SPECS.values()) for (const name of command.options) assert.ok(OWN_OPTIONS.has(name), name)
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
