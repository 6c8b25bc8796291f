import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { tempFolder, type TempFolder } from '../../src/testing/temp-folder.ts'

const SCRIPTS = join(import.meta.dirname, '..', '..', 'scripts')
const HEAD = `import { test } from 'node:test'\n`

interface Result {
  readonly code: number
  readonly lines: readonly string[]
}

async function runTests(tmp: TempFolder, files: Readonly<Record<string, string>>, ...args: string[]): Promise<Result> {
  await cp(SCRIPTS, tmp.join('scripts'), { recursive: true })
  await mkdir(tmp.join('src'))
  for (const [name, text] of Object.entries(files)) await writeFile(tmp.join('src', name), HEAD + text)
  // Its servers need not be there: the tests of this test start none.
  const env = {
    ...process.env,
    TAILRACE_TEST_PG: undefined,
    TAILRACE_PG_BIN_14: '/nowhere',
    TAILRACE_PG_BIN_18: '/nowhere',
    NODE_TEST_CONTEXT: undefined,
  }
  const child = spawn(process.execPath, [tmp.join('scripts', 'test.mjs'), ...args], { env })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data))
  const [code] = await once(child, 'close')
  return { code, lines: output.trimEnd().split('\n') }
}

test('counts tests and ends with the totals', async () => {
  await using tmp = await tempFolder()
  const files = {
    'a.test.ts': `test('one', () => {}); test('two', async (t) => { await t.test('inner', () => {}) })`,
    'b.test.ts': `test('skipped', { skip: 'needs a moon' }, () => {})`,
    'c.test.ts': `test('bad', () => { throw new Error('boom') }); test('parent', async (t) => { await t.test('child', () => { throw new Error('bang') }) })`,
  }
  const { code, lines } = await runTests(tmp, files, 'src')
  assert.equal(code, 1)
  assert.equal(lines.at(-1), '3 passed, 2 failed')
  const text = lines.join('\n')
  for (const expected of [/needs a moon/, /boom/, /bang/, /c\.test\.ts › parent › child/]) assert.match(text, expected)
})

test('all well is exit code 0', async () => {
  await using tmp = await tempFolder()
  const { code, lines } = await runTests(tmp, { 'a.test.ts': `test('one', () => {})` }, 'src/a')
  assert.deepEqual([code, lines.at(-1)], [0, '1 passed, 0 failed'])
})

test('waits for hooks that are still at work on files', async () => {
  await using tmp = await tempFolder()
  const file = `import { after } from 'node:test'
    import { readFile } from 'node:fs/promises'
    after(async () => { for (const end = Date.now() + 8000; Date.now() < end;) await readFile(import.meta.filename) })
    test('one', () => {})`
  const { code, lines } = await runTests(tmp, { 'a.test.ts': file }, 'src/a')
  assert.deepEqual([code, lines.at(-1)], [0, '1 passed, 0 failed'])
})

test('PostgreSQL files run once per major and are told which', async () => {
  await using tmp = await tempFolder()
  const { lines } = await runTests(
    tmp,
    { 'a.pg.test.ts': `test('on ' + process.env.TAILRACE_TEST_PG, () => { throw new Error() })` },
    'src',
  )
  const failed = lines.filter((line) => line.startsWith('  src/a.pg')).sort()
  assert.deepEqual(failed, ['  src/a.pg.test.ts (PostgreSQL 14) › on 14', '  src/a.pg.test.ts (PostgreSQL 18) › on 18'])
})

const BAD: readonly (readonly [what: string, file: string, message: RegExp])[] = [
  ['no test at all', '', /There is no test in the file/],
  ['a file that does not parse', `test('x', () => {`, /ended with exit code 1/],
  ['a skip without a reason', `test('x', { skip: true }, () => {})`, /skipped without a reason/],
  ['a todo', `test('x', { todo: 'later' }, () => {})`, /"todo" counts as failed/],
  ['a process that dies', `test('x', () => { process.kill(process.pid, 'SIGKILL') })`, /signal SIGKILL/],
  ['a timer left running', `test('x', () => { setInterval(() => {}, 1000) })`, /keeps the process alive: .*Timeout/],
]

for (const [what, file, message] of BAD) {
  test(`fails for ${what}`, async () => {
    await using tmp = await tempFolder()
    const { code, lines } = await runTests(tmp, { 'a.test.ts': file }, 'src')
    assert.equal(code, 1)
    assert.match(lines.at(-1) ?? '', /^\d passed, 1 failed$/)
    assert.match(lines.join('\n'), message)
  })
}

test('fails when nothing matches', async () => {
  await using tmp = await tempFolder()
  const { code, lines } = await runTests(tmp, { 'a.test.ts': `test('one', () => {})` }, 'nowhere')
  assert.deepEqual([code, lines.at(-1)], [1, '0 passed, 1 failed'])
})

test(
  'fails for a process that outlives the run, and ends it',
  { skip: process.platform === 'linux' ? false : 'it looks into /proc' },
  async () => {
    await using tmp = await tempFolder()
    const file = `import { spawn } from 'node:child_process'
    test('x', () => { spawn('sleep', ['300'], { detached: true, stdio: 'ignore' }).unref() })`
    const { code, lines } = await runTests(tmp, { 'a.test.ts': file }, 'src')
    const pid = /process (\d+) outlived the tests: sleep 300/.exec(lines.join('\n'))?.[1]
    assert.deepEqual([code, lines.at(-1)], [1, '1 passed, 1 failed'])
    assert.ok(pid !== undefined)
  },
)
