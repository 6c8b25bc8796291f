import { onAbort } from '../../../async/abort.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { Backend, endOfText, parseColumns, parseRow, parseTag, readInt32, tooShort, type MessageHandler, type Wire } from './backend.ts'
import { CopyIn, CopyOut } from './copy.ts'
import { Login } from './login.ts'
import { MessageWriter } from './message-writer.ts'
import type { PgOptions } from './options.ts'
import { parseErrorFields, PgError } from './pg-error.ts'
import { Pipeline, type ExecuteResult } from './pipeline.ts'
import { ReceiveBuffer } from './receive-buffer.ts'
import { openSocket, type PgSocket } from './socket.ts'

export interface QueryResult {
  readonly columns: readonly string[]
  readonly rows: (string | null)[][]
  /** Command tag: `INSERT 0 1`. */
  readonly tag: string
}

const CANCEL_REQUEST = 80877102

/**
 * One connection to PostgreSQL, protocol 3.0 (its manual, chapter 55): one request at a time, text results, COPY in both
 * directions without touching the bytes, pipelines with one Sync, and the walsender's copy-both mode.
 */
export class PgConnection implements Wire, AsyncDisposable {
  readonly options: PgOptions
  readonly parameters = new Map<string, string>()
  readonly receive = new ReceiveBuffer()
  processId = 0
  #secret = 0
  #socket: PgSocket | null = null
  #handler: MessageHandler | null = null
  readonly #waiting: (() => void)[] = []
  #timer: NodeJS.Timeout | undefined
  #error: PgError | null = null
  #failure: TailraceError | null = null
  #transaction = 'I'
  #onNotice: ((fields: Map<string, string>) => void) | null = null

  private constructor(options: PgOptions) {
    this.options = options
  }

  static async connect(options: PgOptions, signal: AbortSignal): Promise<PgConnection> {
    const connection = new PgConnection(options)
    await connection.#open(signal)
    return connection
  }

  /** 180004 for 18.4. */
  get serverVersion(): number {
    const [major = 0, minor = 0] = (this.parameters.get('server_version') ?? '').split(/[^0-9]+/).map(Number)
    return major * 10_000 + minor
  }

  get closed(): boolean {
    return this.#failure !== null
  }

  /** `I` idle, `T` in a transaction, `E` in a failed one. */
  get transactionStatus(): string {
    return this.#transaction
  }

  set onNotice(callback: (fields: Map<string, string>) => void) {
    this.#onNotice = callback
  }

  /** Simple protocol: one or several statements, no parameters; a result per statement. */
  async query(sql: string): Promise<QueryResult[]> {
    const results: QueryResult[] = []
    await this.request(new MessageWriter(sql.length + 64).begin(0x51).text(sql).finish().take(), new ResultCollector(results))
    return results
  }

  /** First statement's rows. */
  async rows(sql: string): Promise<(string | null)[][]> {
    return (await this.query(sql))[0]?.rows ?? []
  }

  /** Extended protocol: one statement with parameters (strings are text, Buffers binary, null), text results. */
  async execute(sql: string, params: readonly (string | Buffer | null)[] = []): Promise<ExecuteResult> {
    const pipeline = this.pipeline()
    pipeline.execute(sql, params)
    const results = await pipeline.run()
    return results[0] ?? { rows: [], tag: '' }
  }

  pipeline(): Pipeline {
    return new Pipeline(this)
  }

  copyOut(sql: string): Promise<CopyOut> {
    return CopyOut.start(this, sql)
  }

  copyIn(sql: string): Promise<CopyIn> {
    return CopyIn.start(this, sql)
  }

  /**
   * Milliseconds that a request may take before the connection is taken for lost; 0: any time. For sessions whose requests
   * are short: a half-open connection would be waited for until the end of time.
   */
  patience = 0

  /** Sends a request and hands the answers to `handler`; resolves at ReadyForQuery, rejects with the first error. */
  async request(bytes: Buffer, handler: Pick<MessageHandler, 'message'>): Promise<void> {
    await this.idle()
    return new Promise<void>((resolve, reject) => {
      this.start({
        message: (type, buffer, start, end) => handler.message(type, buffer, start, end),
        ready: (error) => (error === null ? resolve() : reject(error)),
        failed: reject,
      })
      this.send(bytes)
    })
  }

  #watch(): NodeJS.Timeout | undefined {
    if (this.patience === 0) return undefined
    return setTimeout(() => {
      // A stream is watched by who reads it.
      if (this.#handler?.bulk !== undefined) return
      this.destroy(
        new TailraceError('UNREACHABLE', `PostgreSQL has not answered for ${this.patience / 1000} s: the connection is taken for lost`),
      )
    }, this.patience)
  }

  /** Resolves when no request is under way; then `start` must be called without awaiting anything between. */
  async idle(): Promise<void> {
    while (this.#handler !== null) await new Promise<void>((resolve) => this.#waiting.push(resolve))
  }

  /** Becomes the receiver of all messages up to the next ReadyForQuery. */
  start(handler: MessageHandler): void {
    if (this.#failure !== null) throw this.#failure
    if (this.#handler !== null) throw new TailraceError('BUG', 'a PostgreSQL connection was given a request while another was under way')
    this.#handler = handler
    this.#error = null
    this.#timer = this.#watch()
  }

  /** Writes to the socket; false = the socket's buffer is full, see `drained`. */
  send(bytes: Buffer, written?: (error?: Error | null) => void): boolean {
    const socket = this.#socket
    if (socket === null || this.#failure !== null) {
      const failure = this.#failure ?? closedError()
      if (written === undefined) return false
      written(failure)
      return false
    }
    return written === undefined ? socket.stream.write(bytes) : socket.stream.write(bytes, written)
  }

  /** Resolves when the kernel has taken everything written so far. */
  sent(bytes: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      this.send(bytes, (error) => (error ? reject(this.#failure ?? this.#lost(error)) : resolve()))
    })
  }

  pause(): void {
    this.#socket?.stream.pause()
  }

  resume(): void {
    if (this.#failure === null && this.#process()) this.#socket?.stream.resume()
  }

  /** Asks the server, over a connection of its own, to end the request under way. Best effort. */
  async cancel(): Promise<void> {
    if (this.processId === 0) return
    const bytes = new MessageWriter(16).begin(0).int32(CANCEL_REQUEST).int32(this.processId).int32(this.#secret).finish().take()
    const quiet = { space: () => Buffer.allocUnsafe(64), received: () => true, closed: () => {} }
    try {
      const socket = await openSocket(this.options, quiet, AbortSignal.timeout(this.options.connectTimeoutMs))
      await new Promise<void>((resolve) => socket.stream.end(bytes, () => resolve()))
      socket.stream.destroySoon()
    } catch {
      // The server then ends the request when it notices that the connection is gone.
    }
  }

  /** Ends the session: politely when idle, at once when something is under way. Twice is quiet. */
  async end(): Promise<void> {
    const socket = this.#socket
    if (socket === null || socket.stream.destroyed) return
    const idle = this.#handler === null && this.#failure === null
    this.#failure ??= closedError()
    await new Promise<void>((resolve) => {
      socket.stream.once('close', () => resolve())
      if (!idle) return void socket.stream.destroy()
      const timer = setTimeout(() => socket.stream.destroy(), 1000)
      socket.stream.once('close', () => clearTimeout(timer))
      socket.stream.resume()
      socket.stream.end(Buffer.from([0x58, 0, 0, 0, 4]))
    })
  }

  /** Cuts the connection; whatever is under way fails. */
  destroy(error?: TailraceError): void {
    this.#fail(error ?? closedError())
    this.#socket?.stream.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end()
  }

  async #open(signal: AbortSignal): Promise<void> {
    const receiver = {
      space: () => this.receive.space(),
      received: (chunk: Buffer) => this.#received(chunk),
      closed: (error: Error | null) => this.#fail(this.#lost(error)),
    }
    this.#socket = await openSocket(this.options, receiver, signal)
    const timer = setTimeout(
      () => this.destroy(new TailraceError('UNREACHABLE', 'PostgreSQL accepted the connection but did not finish the log-in in time')),
      this.options.connectTimeoutMs,
    )
    try {
      using _ = onAbort(signal, () => this.destroy(new TailraceError('ABORTED', 'connecting to PostgreSQL was given up')))
      await new Promise<void>((resolve, reject) => {
        const login = new Login(this.options, this.#socket?.certificate ?? null, (bytes) => this.send(bytes))
        this.start({
          message: (type, buffer, start, end) => {
            if (type === Backend.keyData) this.#keyData(buffer, start, end)
            else if (type === Backend.authentication)
              login.challenge(buffer, start, end).catch((error: TailraceError) => this.destroy(error))
          },
          ready: (error) => (error === null && login.isDone ? resolve() : reject(error ?? notLoggedIn())),
          failed: reject,
        })
        this.send(login.startup())
        this.#socket?.stream.resume()
      })
    } catch (error) {
      this.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  #keyData(buffer: Buffer, start: number, end: number): void {
    this.processId = readInt32(buffer, start, end)
    this.#secret = readInt32(buffer, start + 4, end)
  }

  #received(chunk: Buffer): boolean {
    this.receive.accept(chunk)
    return this.#process()
  }

  /** Consumes what has arrived. False: a bulk consumer wants the socket paused. */
  #process(): boolean {
    try {
      for (;;) {
        const bulk = this.#handler?.bulk
        if (bulk !== undefined && !bulk.consume(this.receive)) return false
        if (!this.#next()) return true
      }
    } catch (error) {
      this.destroy(error instanceof TailraceError ? error : new TailraceError('BUG', 'reading from PostgreSQL failed', { cause: error }))
      return true
    }
  }

  /** Handles one message; false when it is not there whole. */
  #next(): boolean {
    const { receive } = this
    const frame = receive.frameLength(receive.start)
    if (frame === 0 || receive.end - receive.start < frame) {
      if (frame !== 0) receive.expect(frame)
      else if (this.#handler?.bulk === undefined) receive.rewind()
      return false
    }
    const at = receive.start
    receive.start = at + frame
    this.#message(receive.buffer[at]!, receive.buffer, at + 5, at + frame)
    return true
  }

  #message(type: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case Backend.parameterStatus: {
        const zero = endOfText(buffer, start, end)
        this.parameters.set(buffer.toString('utf8', start, zero), buffer.toString('utf8', zero + 1, endOfText(buffer, zero + 1, end)))
        return
      }
      case Backend.notice:
        this.#onNotice?.(parseErrorFields(buffer, start, end))
        return
      case Backend.notification:
        return
      case Backend.error:
        this.#serverError(new PgError(parseErrorFields(buffer, start, end)))
        return
      case Backend.ready: {
        if (end <= start) throw tooShort()
        this.#transaction = String.fromCharCode(buffer[start]!)
        this.#release()?.ready(this.#error)
        return
      }
      default:
        this.#handler?.message(type, buffer, start, end)
    }
  }

  #serverError(error: PgError): void {
    this.#error ??= error
    this.#handler?.message(Backend.error, EMPTY, 0, 0)
    // A FATAL error is the last thing said before the server closes: during log-in, at shutdown, when it terminates us.
    if (error.severity === 'FATAL' || error.severity === 'PANIC') {
      const handler = this.#release()
      this.#failure ??= new TailraceError('UNREACHABLE', `PostgreSQL ended the connection: ${error.message}`, { cause: error })
      handler?.ready(error)
    }
  }

  #lost(error: Error | null): TailraceError {
    const reason = error === null ? 'closed by the other side' : ((error as NodeJS.ErrnoException).code ?? error.message)
    return new TailraceError('UNREACHABLE', `the connection to PostgreSQL was lost: ${reason}`, error === null ? {} : { cause: error })
  }

  #fail(error: TailraceError): void {
    this.#failure ??= error
    this.#release()?.failed(this.#failure)
  }

  /** The request is over: whoever waits may start the next one, after its handler was told. */
  #release(): MessageHandler | null {
    clearTimeout(this.#timer)
    const handler = this.#handler
    this.#handler = null
    for (const resolve of this.#waiting.splice(0)) queueMicrotask(resolve)
    return handler
  }
}

const EMPTY = Buffer.alloc(0)

function notLoggedIn(): TailraceError {
  return new TailraceError('PROTOCOL', 'the PostgreSQL server is ready for queries before anybody has logged in')
}

function closedError(): TailraceError {
  return new TailraceError('CLOSED', 'the PostgreSQL connection is closed')
}

/** Collects text results of the simple protocol. */
class ResultCollector {
  readonly #results: QueryResult[]
  #columns: string[] = []
  #rows: (string | null)[][] = []

  constructor(results: QueryResult[]) {
    this.#results = results
  }

  message(type: number, buffer: Buffer, start: number, end: number): void {
    switch (type) {
      case Backend.rowDescription:
        this.#columns = parseColumns(buffer, start, end)
        return
      case Backend.dataRow:
        this.#rows.push(parseRow(buffer, start, end))
        return
      case Backend.commandComplete:
        this.#results.push({ columns: this.#columns, rows: this.#rows, tag: parseTag(buffer, start, end) })
        this.#columns = []
        this.#rows = []
        return
      default:
    }
  }
}
