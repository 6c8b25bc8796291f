import type { ConnectorContext } from '../../../sdk/connector.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { PostgresConfig } from '../config.ts'
import { endBackend, type BackendId } from './bookkeeping.ts'
import type { SessionPool } from './load.ts'
import { abortable, openSinkSession, type SessionKind, type SinkSession } from './session.ts'

/** All sessions of one sink. Nothing is written on a new one before what a lost one may still do is settled. */
export class Sessions implements SessionPool, AsyncDisposable {
  readonly #config: PostgresConfig
  readonly #context: ConnectorContext
  readonly #open = new Set<SinkSession>()
  readonly #idle = new Map<SessionKind, SinkSession[]>()
  /** Backends whose connection was lost or cut: they may still have a COMMIT to run. */
  #lost: BackendId[] = []
  #closed = false

  constructor(config: PostgresConfig, context: ConnectorContext) {
    this.#config = config
    this.#context = context
  }

  /** Backends of ours, which a take-over must not end. */
  own(): BackendId[] {
    return [...this.#open].map(backendOf)
  }

  async open(kind: SessionKind, signal: AbortSignal): Promise<SinkSession> {
    if (this.#closed) throw new TailraceError('CLOSED', 'the target is closed')
    const idle = this.#idle.get(kind)?.pop()
    if (idle !== undefined && !idle.connection.closed && this.#lost.length === 0) return idle
    const session = idle !== undefined && !idle.connection.closed ? idle : await openSinkSession(this.#config, this.#context, kind, signal)
    this.#open.add(session)
    try {
      await abortable(session.connection, signal, () => this.#settle(session))
    } catch (error) {
      await this.discard(session)
      throw error
    }
    return session
  }

  async #settle(session: SinkSession): Promise<void> {
    for (const backend of this.#lost) {
      await endBackend(session.connection, backend)
      this.#lost = this.#lost.filter((each) => each !== backend)
    }
  }

  borrow(signal: AbortSignal): Promise<SinkSession> {
    return this.open('load', signal)
  }

  giveBack(session: SinkSession): void {
    this.#keep('load', session)
  }

  /** Work outside the stream: schema, checks, counts. */
  async admin<T>(signal: AbortSignal, work: (session: SinkSession) => Promise<T>): Promise<T> {
    const session = await this.open('admin', signal)
    try {
      const result = await abortable(session.connection, signal, () => work(session))
      this.#keep('admin', session)
      return result
    } catch (error) {
      await this.discard(session)
      throw error
    }
  }

  #keep(kind: SessionKind, session: SinkSession): void {
    if (this.#closed || session.connection.closed || session.connection.transactionStatus !== 'I') {
      void this.discard(session)
      return
    }
    this.#idle.set(kind, [...(this.#idle.get(kind) ?? []), session])
  }

  /** An idle session says goodbye; of any other the server may still have something to run. */
  async discard(session: SinkSession): Promise<void> {
    if (!this.#open.delete(session)) return
    const { connection } = session
    const idle = !connection.closed && connection.transactionStatus === 'I'
    if (!idle) this.#lost.push(backendOf(session))
    if (connection.closed) connection.destroy()
    else await connection.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true
    this.#idle.clear()
    await Promise.all([...this.#open].map((session) => this.discard(session)))
  }
}

function backendOf(session: SinkSession): BackendId {
  return { pid: session.connection.processId, start: session.backendStart }
}
