// Smoke test of the package as users get it: builds and packs it, installs the tarball into an empty folder, and runs it
// under every Node that is supported. Ends with "N passed, N failed".

import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { ensureNode, ROOT } from './bootstrap.mjs'

const run = promisify(execFile)
const VERSIONS = ['22.23.3', '24.21.0', '26.10.0']
const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

/** Names under which the package can be imported; patterns are left out. */
function entryPoints() {
  const entries = Object.keys(manifest.exports ?? {})
  if (entries.length === 0) throw new Error('package.json has no "exports": nothing can be imported.')
  return entries.filter((name) => !name.includes('*') && !name.endsWith('.json')).map((name) => join(manifest.name, name))
}

async function npm(args, cwd) {
  await run('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], { cwd })
}

async function pack(folder) {
  await npm(['pack', '--pack-destination', folder], ROOT)
  return join(folder, `${manifest.name}-${manifest.version}.tgz`)
}

/** One step under one Node; gives what it printed. */
async function command(node, args, cwd) {
  const PATH = [dirname(node), process.env['PATH']].join(delimiter)
  const { stdout, stderr } = await run(node, args, { cwd, env: { ...process.env, PATH } })
  if (stderr !== '') throw new Error(`it printed on standard error:\n${stderr}`)
  return stdout.trim()
}

async function tryCommandLine(node, folder) {
  const printed = await command(node, [join('node_modules', manifest.name, 'bin', 'tailrace.js'), '--version'], folder)
  if (!printed.includes(manifest.version)) throw new Error(`--version printed "${printed}" and not ${manifest.version}`)
}

async function tryImport(node, folder, name) {
  const program = `const names = Object.keys(await import('${name}')); if (names.length === 0) throw new Error('it exports nothing')`
  await command(node, ['--input-type=module', '--eval', program], folder)
}

/** What the declarations say, to a user's compiler. */
async function tryTypes(folder) {
  const uses = entryPoints().map((name, i) => `import * as e${i} from '${name}'\nconsole.log(e${i})\n`)
  writeFileSync(join(folder, 'use.mts'), uses.join(''))
  const tsc = join(ROOT, 'node_modules', '.bin', 'tsc')
  const types = ['--types', 'node', '--typeRoots', join(ROOT, 'node_modules', '@types')]
  const options = [
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    'false',
    '--module',
    'nodenext',
    '--target',
    'es2024',
    '--lib',
    'es2024,esnext.disposable',
  ]
  await run(process.execPath, [tsc, ...options, ...types, 'use.mts'], { cwd: folder }).catch((error) => {
    throw new Error(error.stdout || error.message)
  })
}

async function stepsOf(version, folder) {
  const node = await ensureNode(version)
  const steps = [[`Node ${version}: tailrace --version`, () => tryCommandLine(node, folder)]]
  for (const name of entryPoints()) steps.push([`Node ${version}: import '${name}'`, () => tryImport(node, folder, name)])
  return steps
}

/** Runs the steps; gives how many failed. */
async function runSteps(steps) {
  let failed = 0
  for (const [what, step] of steps) {
    const problem = await step().then(
      () => null,
      (error) => error.message,
    )
    if (problem !== null) failed++
    console.log(`${problem === null ? 'ok  ' : 'FAIL'}  ${what}${problem === null ? '' : `\n${problem}`}`)
  }
  return failed
}

async function main() {
  const folder = mkdtempSync(join(tmpdir(), 'tailrace-nodes-'))
  let [steps, failed] = [[], 0]
  try {
    writeFileSync(join(folder, 'package.json'), '{ "private": true }')
    await npm(['install', '--no-save', await pack(folder)], folder)
    for (const version of VERSIONS) steps.push(...(await stepsOf(version, folder)))
    steps.push(['the declarations compile', () => tryTypes(folder)])
    failed = await runSteps(steps)
  } catch (error) {
    console.error(error.stderr || error.message)
    ;[steps, failed] = [[null], 1]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  console.log(`${steps.length - failed} passed, ${failed} failed`)
  return failed === 0 ? 0 : 1
}

process.exitCode = await main()
