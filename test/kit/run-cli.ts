import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { existsSync } from 'node:fs'
import { until, type UntilOptions } from './until.ts'
import { openSqlite } from './sqlite-file.ts'

const ROOT = join(import.meta.dirname, '..', '..')

export interface CliOptions {
  /** Where it runs; its state is in `<folder>/state.db` unless `state` says another file. */
  readonly folder: string
  readonly state?: string
  /** More environment variables. */
  readonly env?: Readonly<Record<string, string>>
}

export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** The command as a process of its own. Disposing kills it. */
export interface Cli extends AsyncDisposable {
  readonly pid: number
  readonly running: boolean
  readonly stderr: string
  /** SIGKILL, and waits until it is gone. */
  kill(): Promise<void>
  interrupt(): void
  ended(seconds?: number): Promise<Ended>
  /** Polls the condition; fails at once when the command ends before it is met. */
  until<T>(what: string, condition: () => T | Promise<T>, options?: UntilOptions): Promise<Exclude<T, false | null | undefined>>
}

/** Without what is meant for the tests: the command refuses variables of its own name that it does not know. */
function plainEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TAILRACE_') && name !== 'NODE_TEST_CONTEXT'))
}

export function runCli(args: readonly string[], { folder, state = join(folder, 'state.db'), env = {} }: CliOptions): Cli {
  const quiet = args[0] === 'sync' ? ['--progress', 'none'] : []
  const child = spawn(process.execPath, [join(ROOT, 'bin', 'tailrace.js'), ...args, '--state', state, ...quiet], {
    cwd: folder,
    env: { ...plainEnvironment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (data: string) => (stdout += data))
  child.stderr.setEncoding('utf8').on('data', (data: string) => (stderr += data))
  const closed = once(child, 'close')
  const running = (): boolean => child.exitCode === null && child.signalCode === null
  const kill = async (): Promise<void> => {
    if (running()) child.kill('SIGKILL')
    await closed
  }
  return {
    pid: child.pid ?? -1,
    get running() {
      return running()
    },
    get stderr() {
      return stderr
    },
    kill,
    interrupt: () => void child.kill('SIGINT'),
    ended: async (seconds) => {
      await until(`the end of tailrace ${args[0] ?? ''}`, () => !running(), { seconds, detail: () => stderr })
      await closed
      return { code: child.exitCode, signal: child.signalCode, stdout, stderr }
    },
    until: (what, condition, options = {}) => {
      const look = async (): Promise<Awaited<ReturnType<typeof condition>>> => {
        const result = await condition()
        if (!result && !running()) throw new Error(`tailrace ended with ${child.signalCode ?? child.exitCode} before: ${what}\n${stderr}`)
        return result
      }
      return until(what, look, { detail: () => stderr, ...options })
    },
    [Symbol.asyncDispose]: kill,
  }
}

export interface LedgerChunk {
  readonly table: string
  readonly id: number
  readonly from: string | null
  readonly to: string | null
  readonly kind: string
  readonly done: boolean
  readonly view: number | null
}

export interface StateView {
  readonly position: string | null
  readonly tables: ReadonlyMap<string, { state: string; rule: string | null }>
  readonly chunks: readonly LedgerChunk[]
}

/** The state file as it is now; null while it is not there yet. */
export function readState(file: string): StateView | null {
  if (!existsSync(file)) return null
  const database = openSqlite(file, 'read')
  try {
    database.exec('BEGIN')
    const pipeline = database.prepare('SELECT position FROM pipelines').get()
    if (pipeline === undefined) return null
    const tables = database.prepare('SELECT id, state, rule FROM tables').all()
    const chunks = database.prepare('SELECT table_id, id, chunk, view, done FROM chunks ORDER BY table_id, id').all()
    return {
      position: pipeline['position'] as string | null,
      tables: new Map(tables.map((row) => [String(row['id']), { state: String(row['state']), rule: row['rule'] as string | null }])),
      chunks: chunks.map((row) => chunkOf(row)),
    }
  } finally {
    database.close()
  }
}

function chunkOf(row: Record<string, unknown>): LedgerChunk {
  const { range } = JSON.parse(String(row['chunk'])) as { range: { kind: string; from?: unknown; to?: unknown } }
  const bound = (value: unknown): string | null => (value === null || value === undefined ? null : String(value))
  return {
    table: String(row['table_id']),
    id: Number(row['id']),
    kind: range.kind,
    from: bound(range.from),
    to: bound(range.to),
    done: row['done'] === 1,
    view: row['view'] as number | null,
  }
}

/** How many chunks the ledger calls done, cheap enough to be asked all the time. */
export function chunksDone(file: string): { done: number; all: number } {
  if (!existsSync(file)) return { done: 0, all: 0 }
  const database = openSqlite(file, 'read')
  try {
    const row = database.prepare('SELECT coalesce(sum(done), 0) AS done, count(*) AS "all" FROM chunks').get()
    return { done: Number(row?.['done'] ?? 0), all: Number(row?.['all'] ?? 0) }
  } finally {
    database.close()
  }
}
