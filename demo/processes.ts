import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import type { WriterReport } from './writer.ts'

/** Something that a person can act upon: shown without a stack. */
export class DemoError extends Error {}

const DRAIN_SECONDS = 60
const STOP_SECONDS = 30

interface Child extends AsyncDisposable {
  /** Rejects when the process ends before it was asked to; never resolves. */
  readonly failure: Promise<never>
}

export interface Writer extends Child {
  stop(): Promise<WriterReport>
}

export interface Sync extends Child {
  stop(giveUp: AbortSignal): Promise<void>
}

/** Rejects as soon as the process ends, unless `expected` says that it may. */
function failureOf(child: ChildProcess, name: string, expected: () => boolean): Promise<never> {
  const failure = new Promise<never>((_, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      if (!expected()) reject(new DemoError(`The ${name} ended by itself with ${signal ?? `exit code ${code}`}.`))
    })
  })
  failure.catch(() => undefined)
  return failure
}

/**
 * Ends the process when this one does, however that comes: only we hold the pipe that the shell reads from. In a group of
 * its own a child would otherwise outlive a demo that is killed, and try for hours to reach a server that is gone.
 */
function leash(child: ChildProcess): void {
  const holder = spawn('/bin/sh', ['-c', 'read -r answer || kill -KILL "$1"', 'leash', String(child.pid)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  holder.on('error', () => undefined)
  holder.stdin.on('error', () => undefined)
  holder.unref()
  child.once('exit', () => holder.stdin.end('done\n'))
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGKILL')
  await once(child, 'exit')
}

/** Groups of their own keep a Ctrl-C in the terminal from them: the demo decides in which order things end. */
export function startWriter(uri: string, seconds: number, seed: number): Writer {
  const child = fork(join(import.meta.dirname, 'writer.ts'), [uri, String(seconds), String(seed)], { detached: true })
  leash(child)
  const report = once(child, 'message').then(([message]: WriterReport[]) => message)
  report.catch(() => undefined)
  let isStopping = false
  const failure = failureOf(child, 'writer', () => isStopping && child.exitCode === 0)
  return {
    failure,
    stop: async () => {
      isStopping = true
      child.send('stop')
      const result = await Promise.race([report, failure])
      if (result === undefined) throw new DemoError('The writer gave no report.')
      return result
    },
    [Symbol.asyncDispose]: () => kill(child),
  }
}

export interface SyncOptions {
  readonly project: string
  /** Where the command runs and keeps its state. */
  readonly folder: string
  readonly source: string
  readonly target: string
}

/** The command as a person would type it; its progress goes to the terminal. */
export function startSync({ project, folder, source, target }: SyncOptions): Sync {
  const args = ['sync', source, `duckdb://${target}`, '--follow']
  console.error(`\n$ tailrace ${args.join(' ')}\n`)
  const child = spawn(process.execPath, [join(project, 'bin', 'tailrace.js'), ...args], {
    cwd: folder,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  })
  leash(child)
  let isStopping = false
  return {
    failure: failureOf(child, 'sync', () => isStopping),
    stop: async (giveUp) => {
      isStopping = true
      await interrupt(child, giveUp)
      if (child.exitCode !== 0)
        throw new DemoError(`The sync ended with ${child.signalCode ?? `exit code ${child.exitCode}`} and not with 0.`)
    },
    [Symbol.asyncDispose]: () => kill(child),
  }
}

async function interrupt(child: ChildProcess, giveUp: AbortSignal): Promise<void> {
  const limit = AbortSignal.any([giveUp, AbortSignal.timeout(STOP_SECONDS * 1000)])
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGINT')
  await once(child, 'exit', { signal: limit }).catch(() => {
    throw new DemoError(`The sync did not end within ${STOP_SECONDS} s of Ctrl-C.`)
  })
}

interface SlotRow {
  readonly name: string
  readonly drained: boolean
  readonly behind: string
}

/** Until every slot has confirmed the end of the log as it is now: all that was written is in the target. */
export async function untilDrained(uri: string, signal: AbortSignal): Promise<void> {
  const client = new pg.Client({ connectionString: uri, application_name: 'demo' })
  await client.connect()
  try {
    const { rows } = await client.query<{ lsn: string }>('SELECT pg_current_wal_lsn()::text AS lsn')
    const end = rows[0]?.lsn
    const until = performance.now() + DRAIN_SECONDS * 1000
    while (performance.now() < until) {
      signal.throwIfAborted()
      const slots = await client.query<SlotRow>(
        `SELECT slot_name AS name, coalesce(confirmed_flush_lsn >= $1::pg_lsn, false) AS drained, ($1::pg_lsn - confirmed_flush_lsn)::text AS behind
         FROM pg_replication_slots WHERE database = current_database() AND NOT temporary`,
        [end],
      )
      if (slots.rows.length > 0 && slots.rows.every(({ drained }) => drained)) return
      await sleep(100)
    }
    throw new DemoError(`The copy did not catch up within ${DRAIN_SECONDS} s of the writer's end.`)
  } finally {
    await client.end()
  }
}
