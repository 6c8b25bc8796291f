import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { TailraceError } from '../../sdk/errors.ts'

/** Who holds a file; `started` tells a process from a later one with the same number ('' where the system does not say). */
export interface LockHolder {
  readonly host: string
  readonly pid: number
  readonly started: string
}

export interface FileLock {
  release(): void
}

const ATTEMPTS = 3
/** A lock file is written in one call right after it is made: one that holds nothing readable for longer was left by a crash. */
const UNREADABLE_MILLIS = 5000

export function lockPath(path: string): string {
  return `${path}.tailrace.lock`
}

/**
 * Takes the lock beside a database file, or throws HELD naming the holder. DuckDB locks the file itself against other
 * processes, but not against a second instance in this one, and the lock is lost when anything in this process opens and
 * closes the file (TRAP 59). Hence a file of our own, which is never the database.
 */
export function takeLock(path: string): FileLock {
  const lock = lockPath(path)
  const own = JSON.stringify(thisProcess())
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      writeFileSync(lock, own, { flag: 'wx' })
      return { release: () => releaseLock(lock, own) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw cannotLock(lock, error)
    }
    const found = read(lock)
    if (found !== null && !isStale(lock, found)) throw held(path, lock, parse(found))
    // Between our look and the removal another runner may have replaced it: only what we saw is removed.
    if (found !== null && read(lock) === found) rmSync(lock, { force: true })
  }
  throw held(path, lock, null)
}

function releaseLock(lock: string, own: string): void {
  if (read(lock) === own) rmSync(lock, { force: true })
}

function read(lock: string): string | null {
  try {
    return readFileSync(lock, 'utf8')
  } catch {
    return null
  }
}

function parse(text: string): LockHolder | null {
  try {
    const value = JSON.parse(text) as Partial<LockHolder>
    if (typeof value.host !== 'string' || typeof value.pid !== 'number') return null
    return { host: value.host, pid: value.pid, started: typeof value.started === 'string' ? value.started : '' }
  } catch {
    return null
  }
}

function isStale(lock: string, text: string): boolean {
  const holder = parse(text)
  if (holder === null) return Date.now() - (statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? 0) > UNREADABLE_MILLIS
  return holder.host === hostname() && !isAlive(holder)
}

function thisProcess(): LockHolder {
  return { host: hostname(), pid: process.pid, started: startOf(process.pid) }
}

function isAlive(holder: LockHolder): boolean {
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false
  }
  const started = startOf(holder.pid)
  return started === '' || holder.started === '' || started === holder.started
}

/** Start time in clock ticks since boot: field 22 of /proc/<pid>/stat, counted behind the name in brackets. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[22 - 3] ?? ''
  } catch {
    return ''
  }
}

function held(path: string, lock: string, holder: LockHolder | null): TailraceError {
  if (holder === null)
    return new TailraceError('HELD', `${path} is held by another runner`, { hint: `when no process uses it: rm ${lock}`, path })
  const here = holder.host === hostname()
  const who =
    here && holder.pid === process.pid ? 'another copy of Tailrace in this process' : `process ${holder.pid} on host ${holder.host}`
  const hint = here
    ? `wait for it to end, or stop it: kill ${holder.pid}`
    : `wait for it to end; when that host is gone for good: rm ${lock}`
  return new TailraceError('HELD', `${path} is held by ${who}`, { hint, path })
}

function cannotLock(lock: string, error: unknown): TailraceError {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  // Of a folder that takes no files, some file systems say that the file is missing.
  const missing = code === 'ENOENT' && !existsSync(dirname(lock))
  return new TailraceError(missing ? 'USAGE' : 'NOT_ALLOWED', `${lock} cannot be made (${code})`, {
    hint: missing ? 'make its folder' : 'the folder of a DuckDB file must be writable',
    cause: error,
  })
}
