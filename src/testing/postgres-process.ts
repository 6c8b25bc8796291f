import { execFile, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * SIGKILL to a process and its children, and waits until all are gone: a new postmaster refuses to start while a backend
 * of the old one holds the shared memory. Backends are leaders of groups of their own, so killing the postmaster's group
 * is not enough; it is stopped first so that it makes no more of them.
 */
export async function killTree(pid: number): Promise<void> {
  signal(pid, 'SIGSTOP')
  const all = [pid, ...(await childrenOf(pid))]
  for (const each of all) signal(each, 'SIGKILL')
  while (all.some(isRunning)) await sleep(2)
}

async function childrenOf(pid: number): Promise<number[]> {
  const list = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() =>
    run('pgrep', ['-P', String(pid)]).then(
      ({ stdout }) => stdout,
      () => '',
    ),
  )
  return list.split(/\s+/).filter(Boolean).map(Number)
}

function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}

/** A dead child that nobody has waited for still takes signals: it is not running. */
function isRunning(pid: number): boolean {
  if (!signal(pid, 0)) return false
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return process.platform !== 'linux'
  }
}

/**
 * Waits for our end, however it comes: its standard input is a pipe that only we hold, so a SIGKILL closes it, too. Then
 * it ends the server whose pid the data folder names, if it is still that server, and removes the temporary folder.
 */
const WATCH = `
read -r answer && exit
pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null)
lives() {
  [ -n "$pid" ] || return 1
  if [ -d /proc/1 ]; then [ "$(readlink "/proc/$pid/cwd")" = "$1" ]; else kill -0 "$pid" 2>/dev/null; fi
}
lives "$1" && kill -QUIT "$pid"
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do lives "$1" || break; sleep 0.1; done
lives "$1" && kill -KILL "$pid"
rm -rf "$2"
`

export interface Watch {
  /** All is in order: nothing is left to do for the watcher. */
  end(): void
}

/** Makes sure that the server in `dataDir` and the folder `home` do not outlive this process. */
export function watchOver(dataDir: string, home: string): Watch {
  const child = spawn('/bin/sh', ['-c', WATCH, 'postgres-watch', dataDir, home], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  child.on('error', () => undefined)
  child.stdin.on('error', () => undefined)
  child.unref()
  if ('unref' in child.stdin && typeof child.stdin.unref === 'function') child.stdin.unref()
  return { end: () => child.stdin.end('done\n') }
}

/** A killed server leaves a System V segment of 56 bytes behind that only its next start would remove. */
export async function releaseSharedMemory(dataDir: string): Promise<void> {
  const lines = (await readFile(join(dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
  const id = /^\s*\d+\s+(\d+)\s*$/.exec(lines[6] ?? '')?.[1]
  if (id !== undefined) await run('ipcrm', ['-m', id]).catch(() => undefined)
}
