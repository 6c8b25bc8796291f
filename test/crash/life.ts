import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { until } from '../kit/until.ts'
import type { Outcome, Phase, Task } from './scenario.ts'

const SECONDS = 90
const DRIVERS = pathToFileURL(join(import.meta.dirname, 'drivers.ts')).href

export interface Noted {
  readonly points: readonly string[]
  readonly methods: readonly string[]
  readonly phase: Phase
}

/** One process of the scenario. */
export class Life implements AsyncDisposable {
  readonly #child: ReturnType<typeof start>
  readonly #closed: Promise<unknown>
  #stdout = ''
  #stderr = ''

  constructor(task: Task) {
    this.#child = start(task)
    this.#child.stdout.setEncoding('utf8').on('data', (data: string) => (this.#stdout += data))
    this.#child.stderr.setEncoding('utf8').on('data', (data: string) => (this.#stderr += data))
    this.#child.stdin.on('error', () => undefined)
    this.#closed = once(this.#child, 'close')
  }

  get #over(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null
  }

  /** True: it killed itself; false: it came to its end. Anything else is an error. */
  async died(): Promise<boolean> {
    await until('the end of the scenario', () => this.#over, { seconds: SECONDS, detail: () => this.#stderr })
    await this.#closed
    const { exitCode, signalCode } = this.#child
    if (signalCode === 'SIGKILL') return true
    if (exitCode === 0) return false
    throw new Error(`the scenario ended with ${signalCode ?? exitCode}:\n${this.#stderr}`)
  }

  async streaming(): Promise<void> {
    await until('the restarted run streaming', () => this.#over || this.#stdout.includes('streaming\n'), {
      seconds: SECONDS,
      detail: () => this.#stderr,
    })
  }

  end(): void {
    this.#child.stdin.end('end\n')
  }

  outcome(): Outcome {
    return JSON.parse(this.#stdout.trim().split('\n').at(-1) ?? '') as Outcome
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#over) this.#child.kill('SIGKILL')
    await this.#closed
  }
}

function start(task: Task): ChildProcessWithoutNullStreams {
  const script = join(import.meta.dirname, 'scenario.ts')
  const flags = ['--disable-warning=ExperimentalWarning', '--import', DRIVERS]
  return spawn(process.execPath, [...flags, script, JSON.stringify(task)], { stdio: 'pipe' })
}

export function noted(log: string): Noted {
  const lines = readFileSync(log, 'utf8').trim().split('\n')
  const of = (kind: string): string[] => lines.flatMap((line) => (line.startsWith(`${kind} `) ? [line.slice(kind.length + 1)] : []))
  return { points: of('point'), methods: of('method'), phase: (of('phase').at(-1) ?? 'follow') as Phase }
}
