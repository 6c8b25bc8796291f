import { spawn } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import type { PostgresServer } from '../src/testing/postgres-server.ts'

export const TAILRACE = fileURLToPath(new URL('built.mjs', import.meta.url))
const RESULTS = new URL('results/', import.meta.url)

/** One line of a result table: ours against a named peer, in the same run. */
export interface Row {
  readonly what: string
  readonly rows: number
  readonly peer: string
  readonly peerSeconds: number
  readonly oursSeconds: number
  readonly ratio: number
  readonly peakMegabytes: number | null
}

export interface Finished {
  readonly seconds: number
  readonly code: number | null
  readonly peakMegabytes: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end; its peak memory is read from the kernel while it lives. */
export async function run(
  command: string,
  args: readonly string[],
  { keepOutput = false, ...options }: { readonly cwd?: string; readonly keepOutput?: boolean } = {},
): Promise<Finished> {
  const started = performance.now()
  const child = spawn(command, args, { stdio: ['ignore', keepOutput ? 'pipe' : 'ignore', 'pipe'], ...options })
  let [stdout, stderr] = ['', '']
  child.stdout?.on('data', (chunk: Buffer) => {
    stdout += chunk.toString('utf8')
  })
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString('utf8')).slice(-4000)
  })
  const watch = new PeakMemory(child.pid)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  return { seconds: (performance.now() - started) / 1000, code, peakMegabytes: watch.end(), stdout, stderr }
}

/** Runs and demands exit code 0. */
export async function must(command: string, args: readonly string[], options: { readonly cwd?: string } = {}): Promise<Finished> {
  const done = await run(command, args, options)
  if (done.code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${done.code}: ${done.stderr}`)
  return done
}

class PeakMemory {
  readonly #timer: NodeJS.Timeout
  #peak = 0

  constructor(pid: number | undefined) {
    this.#timer = setInterval(() => void this.#look(pid), 20)
  }

  end(): number | null {
    clearInterval(this.#timer)
    return this.#peak === 0 ? null : Math.round(this.#peak / 1024)
  }

  async #look(pid: number | undefined): Promise<void> {
    const { readFile } = await import('node:fs/promises')
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
    this.#peak = Math.max(this.#peak, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0))
  }
}

export async function query(server: PostgresServer, sql: string, database = 'postgres'): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString: server.uri(database) })
  await client.connect()
  try {
    return await client.query(sql)
  } finally {
    await client.end()
  }
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

/** A B A B …: what disturbs the machine disturbs both. */
export async function paired(
  rounds: number,
  peer: () => Promise<number>,
  ours: () => Promise<number>,
): Promise<{ peer: number; ours: number }> {
  const times = { peer: [] as number[], ours: [] as number[] }
  for (let i = 0; i < rounds; i++) {
    times.peer.push(await peer())
    times.ours.push(await ours())
  }
  return { peer: median(times.peer), ours: median(times.ours) }
}

export function formatTable(rows: readonly Row[]): string {
  const lines = rows.map(
    (row) =>
      `| ${row.what} | ${row.rows.toLocaleString('en')} | ${row.peer} | ${row.peerSeconds.toFixed(2)} | ${row.oursSeconds.toFixed(2)} | **${row.ratio.toFixed(2)}** | ${row.peakMegabytes ?? '–'} |`,
  )
  return ['| what | rows | peer | peer s | ours s | ratio | our peak MB |', '|---|---|---|---|---|---|---|', ...lines].join('\n')
}

export async function saveResult(name: string, command: string, rows: readonly Row[], notes: readonly string[]): Promise<string> {
  await mkdir(RESULTS, { recursive: true })
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}`
  const text = [
    `# ${name}`,
    '',
    `Command: \`${command}\``,
    '',
    `Machine: ${machine}. Ratio = peer's time / ours, medians of rounds run in turn; above 1 is faster than the peer.`,
    '',
    formatTable(rows),
    '',
    ...notes,
    '',
  ].join('\n')
  await writeFile(new URL(`${name}.md`, RESULTS), text)
  return text
}
