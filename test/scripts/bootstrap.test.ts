import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { test } from 'node:test'
import { tempFolder, type TempFolder } from '../../src/testing/temp-folder.ts'

const SCRIPTS = join(import.meta.dirname, '..', '..', 'scripts')

/** Stands for npm: notes each call, and installs what a PostgreSQL package looks like. */
const NPM = `#!/bin/sh
echo "$@" >> "$(dirname "$0")/calls"
[ -n "$FAKE_NPM_FAILS" ] && { echo "npm error $FAKE_NPM_FAILS" >&2; exit 1; }
sleep 0.3
case "$1" in
  ci) mkdir -p node_modules && cp package-lock.json node_modules/.package-lock.json ;;
  install)
    while [ "$1" != --prefix ]; do shift; done
    name=\${3%@*}; package="$2/node_modules/$name"
    mkdir -p "$package/native/bin" "$package/scripts" && echo '#!/bin/sh' > "$package/native/bin/postgres"
    echo "require('fs').writeFileSync('links-made', '')" > "$package/scripts/hydrate-symlinks.js" ;;
esac
`

interface Result {
  readonly code: number
  readonly stderr: string
  readonly stdout: string
}

class Project {
  readonly #tmp: TempFolder

  constructor(tmp: TempFolder) {
    this.#tmp = tmp
  }

  join(...parts: string[]): string {
    return this.#tmp.join(...parts)
  }

  async calls(): Promise<readonly string[]> {
    const text = await readFile(this.join('bin', 'calls'), 'utf8').catch(() => '')
    return text.split('\n').filter(Boolean)
  }

  async bootstrap(args: readonly string[], env: Record<string, string> = {}): Promise<Result> {
    const PATH = [this.join('bin'), process.env['PATH']].join(delimiter)
    const child = spawn(process.execPath, [this.join('scripts', 'bootstrap.mjs'), ...args], {
      env: { ...process.env, PATH, npm_execpath: undefined, ...env },
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (data) => (stdout += data))
    child.stderr.on('data', (data) => (stderr += data))
    const [code] = await once(child, 'close')
    return { code, stderr, stdout }
  }
}

async function projectIn(tmp: TempFolder): Promise<Project> {
  await cp(SCRIPTS, tmp.join('scripts'), { recursive: true })
  await mkdir(tmp.join('bin'))
  await writeFile(tmp.join('bin', 'npm'), NPM)
  await chmod(tmp.join('bin', 'npm'), 0o755)
  await writeLock(tmp, '1.0.0')
  return new Project(tmp)
}

async function writeLock(tmp: TempFolder, version: string): Promise<void> {
  const packages = { '': {}, 'node_modules/a': { version }, 'node_modules/elsewhere': { version, optional: true } }
  await writeFile(tmp.join('package-lock.json'), JSON.stringify({ packages }))
}

test('installs what is missing, once, and is quiet from then on', async () => {
  await using tmp = await tempFolder()
  const project = await projectIn(tmp)
  const first = await project.bootstrap(['--pg', '14,18'])
  assert.equal(first.code, 0, first.stderr)
  assert.equal(first.stderr.split('\n').filter((line) => line.startsWith('bootstrap: ')).length, 3)
  assert.equal((await project.calls()).length, 3)
  const again = await project.bootstrap(['--pg', '14,18'])
  assert.deepEqual([again.code, again.stderr, again.stdout], [0, '', ''])
  assert.equal((await project.calls()).length, 3)
  assert.ok((await readdir(project.join('.tools', 'pg18'))).includes('links-made'))
})

test('a changed lock is installed again', async () => {
  await using tmp = await tempFolder()
  const project = await projectIn(tmp)
  await project.bootstrap([])
  await writeLock(tmp, '1.0.1')
  const result = await project.bootstrap([])
  assert.match(result.stderr, /package-lock/)
  assert.equal((await project.calls()).length, 2)
})

test('two at once install once', async () => {
  await using tmp = await tempFolder()
  const project = await projectIn(tmp)
  const results = await Promise.all([1, 2, 3].map(() => project.bootstrap(['--pg', '16'])))
  assert.deepEqual(
    results.map(({ code }) => code),
    [0, 0, 0],
  )
  assert.equal((await project.calls()).length, 2)
  assert.deepEqual((await readdir(project.join('.tools'))).sort(), ['pg16'])
})

test('what an interrupted one left is cleared and done again', async () => {
  await using tmp = await tempFolder()
  const project = await projectIn(tmp)
  await mkdir(project.join('.tools', '.lock'), { recursive: true })
  await writeFile(project.join('.tools', '.lock', 'pid'), '4194303')
  await mkdir(project.join('.tools', '.staging-abc', 'half'), { recursive: true })
  const result = await project.bootstrap(['--pg', '15'])
  assert.equal(result.code, 0, result.stderr)
  assert.deepEqual((await readdir(project.join('.tools'))).sort(), ['pg15'])
})

test('without a network it says so in one sentence and leaves nothing half done', async () => {
  await using tmp = await tempFolder()
  const project = await projectIn(tmp)
  const result = await project.bootstrap(['--pg', '18'], { FAKE_NPM_FAILS: 'code ENOTFOUND' })
  assert.equal(result.code, 3)
  assert.match(
    result.stderr.trimEnd().split('\n').at(-1) ?? '',
    /^bootstrap: npm could not get .*: the package registry cannot be reached;/,
  )
  assert.equal((await project.bootstrap(['--pg', '18'])).code, 0)
})

test('runs the script with its arguments and ends as it does', async () => {
  await using tmp = await tempFolder()
  const project = await projectIn(tmp)
  await writeFile(project.join('script.mjs'), 'console.log(process.argv.slice(2).join()); process.exitCode = 7')
  const result = await project.bootstrap(['--', project.join('script.mjs'), '--flag', 'x'])
  assert.deepEqual([result.code, result.stdout], [7, '--flag,x\n'])
})

for (const args of [['--pg', '13'], ['--pg', 'x'], ['script.mjs']]) {
  test(`refuses ${args.join(' ')}`, async () => {
    await using tmp = await tempFolder()
    const project = await projectIn(tmp)
    const result = await project.bootstrap(args)
    assert.equal(result.code, 3)
    assert.match(result.stderr, /^bootstrap: (There is no PostgreSQL 13|"--pg" is not|"script.mjs" is not)/m)
  })
}
