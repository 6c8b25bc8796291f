import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { TailraceError } from '../sdk/errors.ts'
import { LEASE_SECONDS, type Holder } from './store.ts'

/** What must be known of the processes of this machine to judge a lease. An argument, so that tests own it. */
export interface Processes {
  readonly host: string
  /** Start time of a living process; '' when it lives but the system does not tell; null when there is no such process. */
  started(pid: number): string | null
}

/** What a store needs from outside. */
export interface StoreOptions {
  /** Milliseconds since 1970. */
  readonly clock?: () => number
  readonly processes?: Processes
}

export function systemProcesses(): Processes {
  return { host: hostname(), started: startedOf }
}

/** This process, as the holder of a lease. */
export function thisHolder(processes: Processes = systemProcesses()): Holder {
  return { host: processes.host, pid: process.pid, started: processes.started(process.pid) ?? '' }
}

function startedOf(pid: number): string | null {
  const stat = readStat(pid)
  if (stat === null) return exists(pid) ? '' : null
  // Field 2 is the program's name in brackets and may itself hold spaces and brackets: count from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const state = fields[0]
  if (state === 'Z' || state === 'X') return null
  return fields[22 - 3] ?? ''
}

function readStat(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    // No /proc here, or it hides other users' processes.
    return null
  }
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/**
 * Whether the holder of a lease lives. On our own host only the process counts, never a clock: it may have been set back
 * or forward. From elsewhere there is only the heartbeat; one from the future is a skewed clock and counts as alive,
 * because taking over from a living runner is worse than asking a person.
 */
export function isAlive(holder: Holder, heartbeatAt: number, now: number, processes: Processes): boolean {
  if (holder.host !== processes.host) return now - heartbeatAt <= LEASE_SECONDS * 1000
  const started = processes.started(holder.pid)
  if (started === null) return false
  return started === '' || holder.started === '' || started === holder.started
}

export function heldError(pipeline: string, holder: Holder, since: number, processes: Processes): TailraceError {
  const message = `pipeline ${pipeline} is held by process ${holder.pid} on host ${holder.host} since ${new Date(since).toISOString()}`
  const here = holder.host === processes.host
  const hint = here
    ? `wait for it to end, or stop it: kill ${holder.pid}`
    : `wait for it to end or stop it there; a lost host's lease ends ${LEASE_SECONDS} seconds after its last heartbeat by this machine's clock`
  return new TailraceError('HELD', message, { hint, path: pipeline })
}

export function fencedError(pipeline: string, epoch: number): TailraceError {
  return new TailraceError('FENCED', `pipeline ${pipeline} was taken over by a newer runner: epoch ${epoch} is over`, {
    hint: 'nothing was written; let the newer runner go on',
    path: pipeline,
  })
}

export function closedError(pipeline: string): TailraceError {
  return new TailraceError('CLOSED', `the lease of pipeline ${pipeline} was given back already`)
}

export function unknownPipeline(name: string): TailraceError {
  return new TailraceError('USAGE', `there is no pipeline named ${name}`, { hint: 'see the names: tailrace status', path: name })
}

export function otherPair(name: string, source: string, sink: string): TailraceError {
  return new TailraceError('USAGE', `the name ${name} belongs to the pipeline from ${source} to ${sink}`, {
    hint: `choose another --name, or forget that pipeline: tailrace remove ${name}`,
    path: name,
  })
}
