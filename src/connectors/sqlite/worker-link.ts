import { Worker, type Transferable } from 'node:worker_threads'
import { TailraceError } from '../../sdk/errors.ts'
import type { CallName, Reply, Request, WorkerCalls, WorkerSetup } from './protocol.ts'
import { fromPlain } from './sqlite-errors.ts'

/** How long a worker may take to give the file back before it is ended by force: SQLite recovers from that. */
const CLOSE_MS = 5000

interface Pending {
  readonly resolve: (result: never) => void
  readonly reject: (error: TailraceError) => void
}

/**
 * Calls to one worker thread. When the thread dies, every call that waits rejects with an error to be retried, and so
 * does every later one: the owner starts another link.
 */
export class WorkerLink {
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  readonly #ended: Promise<void>
  #count = 0
  #death: TailraceError | null = null

  constructor(setup: WorkerSetup) {
    this.#worker = new Worker(workerFile(), { workerData: setup, name: 'tailrace-sqlite' })
    this.#worker.on('message', (reply: Reply) => this.#receive(reply))
    this.#worker.on('error', (error) => this.#die(error))
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#die(new Error(`exit code ${code}`))
        resolve()
      })
    })
  }

  get isDead(): boolean {
    return this.#death !== null
  }

  call<N extends CallName>(
    name: N,
    parameters: Parameters<WorkerCalls[N]>,
    transfer: readonly Transferable[] = [],
  ): Promise<ReturnType<WorkerCalls[N]>> {
    if (this.#death !== null) return Promise.reject(this.#death)
    const id = this.#count++
    const request: Request = { id, name, parameters }
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#worker.postMessage(request, transfer)
    })
  }

  /** Quiet whatever happens; nothing of the thread is left when it resolves. */
  async close(): Promise<void> {
    this.call('close', []).catch(() => {})
    const timer = setTimeout(() => void this.#worker.terminate(), CLOSE_MS)
    await this.#ended
    clearTimeout(timer)
  }

  /** Ends the thread as a crash would: whatever it had not committed is undone. */
  async kill(): Promise<void> {
    await this.#worker.terminate()
  }

  #receive(reply: Reply): void {
    const pending = this.#pending.get(reply.id)
    this.#pending.delete(reply.id)
    if ('error' in reply) pending?.reject(fromPlain(reply.error))
    else pending?.resolve(reply.result as never)
  }

  #die(cause: unknown): void {
    this.#death ??= new TailraceError('SINK_FAILED', "the SQLite sink's worker thread ended before its work was done", { cause })
    const waiting = [...this.#pending.values()]
    this.#pending.clear()
    for (const { reject } of waiting) reject(this.#death)
  }
}

/** TypeScript from the sources, JavaScript from the built package. */
function workerFile(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url)
}
