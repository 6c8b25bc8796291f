import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { tempFolder } from '../testing/temp-folder.ts'
import type { PipelineOptions } from '../engine/options.ts'
import { COMMAND_SPECS } from './commands.ts'
import { OWN_OPTIONS } from './own-options.ts'
import { RESERVED_OPTIONS } from '../sdk/config/reserved.ts'
import { fakeEngine } from './testing/fake-engine.ts'
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
  for (const name of ['run', 'tail', 'cutover', 'rollback', 'create', 'serve', 'pack', 'test']) {
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

test('every own option is reserved against connectors, and every option that a command names exists', () => {
  for (const name of OWN_OPTIONS.keys()) assert.ok(RESERVED_OPTIONS.has(name), name)
  for (const command of COMMAND_SPECS.values()) for (const name of command.options) assert.ok(OWN_OPTIONS.has(name), name)
})
