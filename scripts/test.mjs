// The test runner: `npm test` runs the checks and every test file; `node scripts/test.mjs some/path` only the files
// whose path contains one of the words, without the checks; `--checks` only the checks. Files named `*.pg.test.ts` run once per PostgreSQL major:
// 14 and 18, or those of `--pg 15,16` or TAILRACE_TEST_PG; each finds its own in TAILRACE_TEST_PG.
//
// Each file runs in a process of its own (node:test), two at a time. The last line is always "N passed, N failed".

import { spawn } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensurePostgres, ROOT } from './bootstrap.mjs'

const JOBS = 2
const TEST_SECONDS = 300
const FILE_SECONDS = 900
/** What a process may take to end after its file did. */
const LEFTOVER_SECONDS = 5
const DEFAULT_MAJORS = '14,18'
const OUTPUT_LINES = 40

// ---- what to run ----------------------------------------------------------------------------------------------------

function parseArguments(args) {
  let majors = process.env['TAILRACE_TEST_PG'] || DEFAULT_MAJORS
  const filters = []
  let onlyChecks = false
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--pg') majors = args[++i] ?? ''
    else if (args[i] === '--checks') onlyChecks = true
    else if (args[i].startsWith('-')) throw new Error(`"${args[i]}" is not understood; usage: test.mjs [--checks] [--pg 14,18] [path…]`)
    else filters.push(args[i].replace(/^\.\//, ''))
  }
  return { majors: majors.split(','), filters, onlyChecks }
}

function testFiles(filters) {
  const all = ['src', 'test', 'demo', 'bench', 'examples'].flatMap((folder) => {
    const path = join(ROOT, folder)
    return existsSync(path) ? readdirSync(path, { recursive: true }).map((name) => join(folder, name)) : []
  })
  const tests = all.filter((path) => path.endsWith('.test.ts') && !path.includes('node_modules'))
  return tests.filter((path) => filters.length === 0 || filters.some((word) => path.includes(word))).sort()
}

function fileJob(path, major) {
  const args = [
    '--disable-warning=ExperimentalWarning',
    '--enable-source-maps',
    `--test-timeout=${TEST_SECONDS * 1000}`,
    '--test-reporter=./scripts/test-reporter.mjs',
    path,
  ]
  const name = major === undefined ? path : `${path} (PostgreSQL ${major})`
  return { name, command: process.execPath, args, major, isTest: true }
}

function fileJobs(paths, majors) {
  const plain = paths.filter((path) => !path.endsWith('.pg.test.ts')).map((path) => fileJob(path))
  const postgres = paths.filter((path) => path.endsWith('.pg.test.ts'))
  return [...plain, ...majors.flatMap((major) => postgres.map((path) => fileJob(path, major)))]
}

function checkJobs() {
  const tool = (name, ...args) => ({ name: `check: ${name}`, command: join(ROOT, 'node_modules', '.bin', name), args })
  const checks = [tool('tsc', '-p', '.'), tool('oxlint', '--deny-warnings'), tool('oxfmt', '--check'), tool('knip')]
  const generate = ['generate.ts', 'generate.mjs'].map((name) => join('scripts', name)).find((path) => existsSync(join(ROOT, path)))
  if (generate === undefined) return checks
  return [...checks, { name: 'check: generated files', command: process.execPath, args: [generate, '--check'] }]
}

// ---- running --------------------------------------------------------------------------------------------------------

const running = new Set()

function killQuietly(pid) {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It is gone already.
  }
}

/** Runs a command to its end; gives its exit code and what it printed. */
function execute(command, args, env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    running.add(child)
    const timer = setTimeout(() => killQuietly(-child.pid), FILE_SECONDS * 1000)
    let output = ''
    const collect = (data) => {
      output += data
    }
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', collect)
    const finish = (code, signal) => {
      clearTimeout(timer)
      running.delete(child)
      resolve({ code, signal, output })
    }
    child.on('error', (error) => {
      collect(error.message)
      finish(1, null)
    })
    // A test's own child that still holds our pipes must not hold us: half a second for the rest of the output.
    child.on('exit', (code, signal) => {
      const late = setTimeout(() => finish(code, signal), 500)
      child.on('close', () => {
        clearTimeout(late)
        finish(code, signal)
      })
    })
  })
}

let recordFiles = 0

/** Runs a job; the records are what the reporter wrote, one line per test. */
async function runJob(job, runFolder) {
  const env = { ...process.env, TMPDIR: runFolder, TAILRACE_TEST_PG: job.major, NODE_TEST_CONTEXT: undefined }
  const file = join(runFolder, `records-${++recordFiles}`)
  const args = job.isTest ? [`--test-reporter-destination=${file}`, ...job.args] : job.args
  const result = await execute(job.command, args, env)
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  return {
    ...result,
    records: text
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line)),
  }
}

function lastLines(text) {
  return text.trimEnd().split('\n').slice(-OUTPUT_LINES).join('\n')
}

/** The outcome of a job as passes and failures; a file that dies, or has no tests, has failed. */
function judge(job, result) {
  const failures = result.records.filter((record) => record.outcome === 'failed')
  const passed = result.records.filter((record) => record.outcome === 'passed').length
  const skips = result.records.filter((record) => record.outcome === 'skipped')
  const fail = (message) => failures.push({ name: '', message: `${message}\n${lastLines(result.output)}`.trimEnd() })
  const died = result.signal === null ? `exit code ${result.code}` : `signal ${result.signal}`
  if (!job.isTest) {
    if (result.code !== 0) fail(`The check failed (${died}).`)
    return { passed: result.code === 0 ? 1 : 0, skips, failures }
  }
  if (result.code !== 0 && failures.length === 0) fail(`The file ended with ${died}.`)
  else if (result.code === 70) fail('A test left something open.')
  else if (passed + failures.length + skips.length === 0) fail('There is no test in the file.')
  else if (failures.length > 0 && result.output !== '') failures.at(-1).message += `\n--- printed by the file:\n${lastLines(result.output)}`
  return { passed, skips, failures }
}

function indent(text) {
  return text.replaceAll(/^/gm, '        ')
}

function print(job, outcome, seconds) {
  const { passed, failures, skips } = outcome
  const state = failures.length === 0 ? 'ok  ' : 'FAIL'
  const count = job.isTest ? `${passed + failures.length} test${passed + failures.length === 1 ? '' : 's'}` : ''
  console.log(`${state} ${seconds.toFixed(1).padStart(6)} s  ${job.name}  ${count}`.trimEnd())
  for (const skip of skips) console.log(`        skipped: ${skip.name}: ${skip.message}`)
  for (const failure of failures) console.log(`  - ${failure.name}\n${indent(failure.message)}`)
}

async function runAll(jobs, runFolder) {
  const totals = { passed: 0, failed: [] }
  const queue = [...jobs]
  const worker = async () => {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      const started = performance.now()
      const outcome = judge(job, await runJob(job, runFolder))
      print(job, outcome, (performance.now() - started) / 1000)
      totals.passed += outcome.passed
      for (const { name } of outcome.failures) totals.failed.push(`${job.name}${name === '' ? '' : ` › ${name}`}`)
    }
  }
  await Promise.all(Array.from({ length: JOBS }, worker))
  return totals
}

// ---- what is left over ----------------------------------------------------------------------------------------------

/** Processes that were started in this run: its temporary folder is in their environment or is where they work. */
function leftovers(runFolder) {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false
    try {
      if (readlinkSync(`/proc/${pid}/cwd`).startsWith(runFolder)) return true
      return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(`TMPDIR=${runFolder}\0`)
    } catch {
      return false
    }
  })
}

function commandOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').slice(0, 150)
  } catch {
    return 'ended meanwhile'
  }
}

/** Waits for processes of this run to end, then ends them; gives what had to be ended. */
async function endLeftovers(runFolder, seconds) {
  const until = Date.now() + seconds * 1000
  let left = leftovers(runFolder)
  while (left.length > 0 && Date.now() < until) {
    await new Promise((resolve) => setTimeout(resolve, 100))
    left = leftovers(runFolder)
  }
  const told = left.map((pid) => `process ${pid} outlived the tests: ${commandOf(pid)}`)
  for (const pid of left) killQuietly(Number(pid))
  return told
}

async function checkLeftovers(runFolder) {
  const left = await endLeftovers(runFolder, LEFTOVER_SECONDS)
  return { passed: left.length === 0 ? 1 : 0, skips: [], failures: left.map((message) => ({ name: '', message })) }
}

// ---- command --------------------------------------------------------------------------------------------------------

function makeRunFolder() {
  // Unix sockets allow about 100 bytes of path, and macOS has a long TMPDIR.
  const folder = mkdtempSync(join(process.platform === 'win32' ? tmpdir() : '/tmp', 'tr-test-'))
  chmodSync(folder, 0o755)
  return folder
}

/** Ends what runs, then what that left behind, and only then removes the folder that they all write to. */
async function abandon(runFolder) {
  for (const child of running) killQuietly(-child.pid)
  await endLeftovers(runFolder, 2)
  rmSync(runFolder, { recursive: true, force: true, maxRetries: 5 })
  process.exit(130)
}

function stopOnSignals(runFolder) {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => void abandon(runFolder))
}

async function main(args) {
  const { majors, filters, onlyChecks } = parseArguments(args)
  const files = onlyChecks ? [fileJob('test/checks/imports.test.ts')] : fileJobs(testFiles(filters), majors)
  if (files.some((job) => job.major !== undefined)) await ensurePostgres(majors)
  const jobs = filters.length === 0 ? [...checkJobs(), ...files] : files
  const runFolder = makeRunFolder()
  stopOnSignals(runFolder)
  const started = performance.now()
  const totals = await runAll(jobs, runFolder)
  const job = { name: 'check: no process is left over' }
  const outcome = await checkLeftovers(runFolder)
  rmSync(runFolder, { recursive: true, force: true, maxRetries: 3 })
  if (filters.length === 0 || outcome.failures.length > 0) print(job, outcome, 0)
  if (filters.length === 0) totals.passed += outcome.passed
  if (outcome.failures.length > 0) totals.failed.push(job.name)
  if (files.length === 0) totals.failed.push(`no test file matches ${filters.join(' ') || 'anything'}`)
  if (totals.failed.length > 0) console.log(`\nFailed:\n${totals.failed.map((name) => `  ${name}`).join('\n')}`)
  console.log(`\n${((performance.now() - started) / 1000).toFixed(0)} s`)
  console.log(`${totals.passed} passed, ${totals.failed.length} failed`)
  return totals.failed.length === 0 ? 0 : 1
}

process.exitCode = await main(process.argv.slice(2))
