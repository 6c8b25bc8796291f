import assert from 'node:assert/strict'
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { watch, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { test } from 'node:test'
import { tempFolder } from '../testing/temp-folder.ts'

const SCRIPT = fileURLToPath(new URL('./testing/fake-tailrace.ts', import.meta.url))

interface Running {
  readonly child: ChildProcess
  readonly output: { out: string; err: string }
  /** Resolves once stderr matches. */
  seen(pattern: RegExp): Promise<void>
  ended(): Promise<number | null>
}

function start(behaviour: string, args: readonly string[], cwd: string, env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', SCRIPT, behaviour, ...args], {
    cwd,
    env: { ...process.env, ...env },
  })
  const output = { out: '', err: '' }
  child.stdout.on('data', (data: Buffer) => {
    output.out += data.toString()
  })
  child.stderr.on('data', (data: Buffer) => {
    output.err += data.toString()
  })
  const closed = once(child, 'close') as Promise<[number | null]>
  return {
    child,
    output,
    ended: async () => (await closed)[0],
    seen: async (pattern) => {
      while (!pattern.test(output.err)) {
        if (child.exitCode !== null) assert.fail(`ended before ${String(pattern)}: ${output.err}`)
        await Promise.race([once(child.stderr, 'data'), once(child, 'close')])
      }
    },
  }
}

const FOLLOW = ['sync', 'toy://me:hunter2@h/b', '--password=hunter2', '/dev/well', '--follow', '--progress', 'json']

test('Ctrl-C and SIGTERM drain and end with exit code 0 and one object on stdout', async () => {
  await using tmp = await tempFolder()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const running = start('follow', [...FOLLOW, '--json'], tmp.path)
    await running.seen(/"event":"progress"/)
    running.child.kill(signal)
    assert.equal(await running.ended(), 0, running.output.err)
    assert.equal((JSON.parse(running.output.out) as { state: string }).state, 'stopped')
    for (const line of running.output.err.trimEnd().split('\n')) JSON.parse(line)
  }
})

test('the second signal gives up at once', async () => {
  await using tmp = await tempFolder()
  const running = start('stubborn', ['sync', 'toy://h', '/dev/well', '--follow'], tmp.path)
  await running.seen(/streaming/)
  running.child.kill('SIGINT')
  await running.seen(/draining/)
  running.child.kill('SIGINT')
  assert.equal(await running.ended(), 1)
  assert.match(running.output.err, /giving up[^]*error: the work was given up/)
})

test('no secret of the command line is in what ps shows', { skip: process.platform === 'linux' ? false : 'reads /proc' }, async () => {
  await using tmp = await tempFolder()
  const running = start('follow', FOLLOW, tmp.path)
  await running.seen(/"event":"progress"/)
  const pid = String(running.child.pid)
  const shown = execFileSync('cat', [`/proc/${pid}/cmdline`, `/proc/${pid}/comm`]).toString()
  running.child.kill('SIGINT')
  await running.ended()
  assert.doesNotMatch(shown, /hunter2/)
  assert.match(shown, /^tailrace sync/)
})

test('a reader that goes away breaks nothing', async () => {
  await using tmp = await tempFolder()
  const script = `node() { "$NODE" --disable-warning=ExperimentalWarning "$@"; }; node "$SCRIPT" none connectors toy | head -n 1; echo "code \${PIPESTATUS[0]}"; node "$SCRIPT" none sync toy://h /dev/well --json >&-; echo "code $?"; node "$SCRIPT" none sync toy://h /dev/well 2>&-; echo "code $?"`
  const text = execFileSync('bash', ['-c', script], {
    cwd: tmp.path,
    env: { ...process.env, NODE: process.execPath, SCRIPT },
    stdio: ['ignore', 'pipe', 'ignore'],
  }).toString()
  assert.equal(text, 'Toy (source, sink)\ncode 0\ncode 0\ncode 0\n')
})

test('what a transform prints goes to stderr, without secrets, and leaves the one object on stdout alone', async () => {
  await using tmp = await tempFolder()
  for (const format of ['text', 'json']) {
    const running = start('print', ['sync', 'toy://me:hunter2@h/b', '/dev/well', '--json', '--log-format', format], tmp.path)
    assert.equal(await running.ended(), 0, running.output.err)
    assert.equal((JSON.parse(running.output.out) as { ok: boolean }).ok, true)
    assert.match(running.output.err, /seen \{ id: 1 \} [^h]/)
    for (const part of ['two', 'lines', '│', 'and that']) assert.ok(running.output.err.includes(part), part)
    assert.doesNotMatch(running.output.err, /hunter2/)
    if (format === 'json') for (const line of running.output.err.trimEnd().split('\n')) JSON.parse(line)
  }
})

test('a result that cannot be written is a failure', { skip: existsSync('/dev/full') ? false : 'there is no /dev/full' }, async () => {
  await using tmp = await tempFolder()
  for (const words of [
    'sync toy://h /dev/well --json',
    'connectors',
    'sync --help',
    '--version',
    'sync toy://h /dev/well --folow --json',
  ]) {
    const script = '"$NODE" --disable-warning=ExperimentalWarning "$SCRIPT" none "$@" 2>&1 > /dev/full; echo "code $?"'
    const text = execFileSync('bash', ['-c', script, 'bash', ...words.split(' ')], {
      cwd: tmp.path,
      env: { ...process.env, NODE: process.execPath, SCRIPT },
    }).toString()
    assert.match(text, /^error: what the command gave could not be written to standard output: .*no space left on device/m, words)
    assert.match(text, words.includes('--folow') ? /code 2\n$/ : /code 3\n$/, words)
  }
})

test('a pipe that closes in the middle of a run does not end it', async () => {
  await using tmp = await tempFolder()
  const running = start('chat', ['sync', 'toy://h', '/dev/well', '--follow', '--json'], tmp.path)
  await running.seen(/tick/)
  running.child.stderr!.destroy()
  running.child.stdout!.destroy()
  const changes = watch(tmp.path)[Symbol.asyncIterator]()
  let change = changes.next()
  await writeFile(tmp.join('closed'), '')
  while ((await change).value?.filename !== 'still-alive') change = changes.next()
  await changes.return?.()
  running.child.kill('SIGTERM')
  assert.equal(await running.ended(), 0)
})

test('what nobody caught is told without secrets, and fails', async () => {
  await using tmp = await tempFolder()
  const running = start('crash', ['sync', 'toy://me:hunter2@h/b', '/dev/well', '--log-level', 'debug'], tmp.path)
  assert.equal(await running.ended(), 1)
  assert.match(running.output.err, /error: unexpected: spilt/)
  assert.equal(running.output.err.match(/^error: /gm)?.length, 1)
  assert.doesNotMatch(running.output.err, /hunter2/)
})

test('work that ends without a result is no success', async () => {
  await using tmp = await tempFolder()
  const running = start('vanish', ['sync', 'toy://h', '/dev/well', '--json'], tmp.path)
  assert.equal(await running.ended(), 1)
  assert.match(running.output.err, /error: the process ended before the work was done/)
  assert.equal((JSON.parse(running.output.out) as { ok: boolean }).ok, false)
})

test('a forgotten handle does not keep a finished command alive', async () => {
  await using tmp = await tempFolder()
  const running = start('leaky', ['sync', 'toy://h', '/dev/well', '--json'], tmp.path)
  assert.equal(await running.ended(), 0)
  assert.equal((JSON.parse(running.output.out) as { ok: boolean }).ok, true)
})

test('a mistake leaves nothing behind, a run its state', async () => {
  await using tmp = await tempFolder()
  assert.equal(await start('none', ['sync', 'toy://h', '/dev/well', '--folow'], tmp.path).ended(), 2)
  assert.ok(!existsSync(tmp.join('.tailrace')))
  assert.equal(await start('none', ['sync', 'toy://h', '/dev/well'], tmp.path).ended(), 0)
  assert.ok(existsSync(tmp.join('.tailrace', 'state.db')))
})
