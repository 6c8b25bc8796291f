import { TailraceError } from '../../../sdk/errors.ts'
import { Backend, parseTag, type BulkHandler, type Wire } from './backend.ts'
import { MessageWriter } from './message-writer.ts'
import type { PgError } from './pg-error.ts'
import type { ReceiveBuffer } from './receive-buffer.ts'

/** A stretch of whole CopyData messages as they are on the wire. Valid until `release`. */
export interface CopyStretch {
  readonly data: Buffer
  /** Number of CopyData messages in it. */
  readonly messages: number
  release(): void
}

/** Reads ahead this many bytes at most before the socket is paused. */
const READ_AHEAD = 1 << 20

function rowsOfTag(tag: string): number {
  const count = Number(tag.slice(tag.lastIndexOf(' ') + 1))
  if (!tag.startsWith('COPY ') || !Number.isSafeInteger(count))
    throw new TailraceError('PROTOCOL', `PostgreSQL ended a COPY with the tag ${JSON.stringify(tag)}`)
  return count
}

/**
 * `COPY … TO STDOUT`: stretches of the socket's own buffer are lent out, nothing is copied or parsed beyond frame heads.
 * Ends with the row count that the server says.
 */
export class CopyOut implements AsyncDisposable, BulkHandler {
  readonly #connection: Wire
  readonly #ready: CopyStretch[] = []
  #bytes = 0
  #paused = false
  #started: { resolve(): void; reject(error: Error): void } | null = null
  #wake: (() => void) | null = null
  #tag = ''
  #ended = false
  #error: Error | null = null

  private constructor(connection: Wire) {
    this.#connection = connection
  }

  static async start(connection: Wire, sql: string): Promise<CopyOut> {
    const copy = new CopyOut(connection)
    await connection.idle()
    await new Promise<void>((resolve, reject) => {
      copy.#started = { resolve, reject }
      connection.start({
        bulk: copy,
        message: (type, buffer, start, end) => copy.#message(type, buffer, start, end),
        ready: (error) => copy.#end(error),
        failed: (error) => copy.#end(error),
      })
      connection.send(new MessageWriter(sql.length + 16).begin(0x51).text(sql).finish().take())
    })
    return copy
  }

  /** Rows that the server says it sent; after the last stretch. */
  get rows(): number {
    return rowsOfTag(this.#tag)
  }

  /** The next stretch, or null at the end. */
  async next(): Promise<CopyStretch | null> {
    for (;;) {
      const stretch = this.#ready.shift()
      if (stretch !== undefined) {
        this.#bytes -= stretch.data.length
        if (this.#paused && this.#bytes < READ_AHEAD) {
          this.#paused = false
          this.#connection.resume()
        }
        return stretch
      }
      if (this.#error !== null) throw this.#error
      if (this.#ended) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  consume(receive: ReceiveBuffer): boolean {
    let at = receive.start
    let messages = 0
    while (receive.end - at >= 5 && receive.buffer[at] === Backend.copyData) {
      const frame = receive.frameLength(at)
      if (receive.end - at < frame) break
      at += frame
      messages++
    }
    if (messages > 0) this.#lend(receive, at, messages)
    if (this.#bytes < READ_AHEAD) return true
    this.#paused = true
    return false
  }

  /** Gives up: a COPY that is not at its end costs the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended || this.#error !== null) return
    this.#connection.destroy(new TailraceError('ABORTED', 'a COPY was given up before its end'))
  }

  #lend(receive: ReceiveBuffer, at: number, messages: number): void {
    const data = receive.buffer.subarray(receive.start, at)
    receive.start = at
    const held = receive.detach()
    this.#bytes += data.length
    this.#ready.push({ data, messages, release: () => receive.giveBack(held) })
    this.#signal()
  }

  #message(type: number, buffer: Buffer, start: number, end: number): void {
    if (type === Backend.copyOut) {
      this.#started?.resolve()
      this.#started = null
    } else if (type === Backend.commandComplete) this.#tag = parseTag(buffer, start, end)
  }

  #end(error: PgError | TailraceError | null): void {
    this.#ended = true
    this.#error ??= error
    if (this.#started !== null) this.#started.reject(error ?? new TailraceError('PROTOCOL', 'PostgreSQL answered a COPY without data'))
    this.#signal()
  }

  #signal(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }
}

/** `COPY … FROM STDIN`. */
export class CopyIn implements AsyncDisposable {
  readonly #connection: Wire
  readonly #done: Promise<void>
  #tag = ''
  #failed: Error | null = null
  #open = true

  private constructor(connection: Wire, sql: string, started: { resolve(): void; reject(error: Error): void }) {
    this.#connection = connection
    this.#done = new Promise<void>((resolve, reject) => {
      const fail = (error: Error): void => {
        this.#failed = error
        this.#open = false
        started.reject(error)
        reject(error)
      }
      let begun = false
      connection.start({
        message: (type, buffer, start, end) => {
          if (type === Backend.copyIn) {
            begun = true
            started.resolve()
          } else if (type === Backend.commandComplete) this.#tag = parseTag(buffer, start, end)
          else if (type === Backend.error) this.#open = false
        },
        ready: (error) => {
          if (error === null && begun) resolve()
          else fail(error ?? new TailraceError('PROTOCOL', 'PostgreSQL answered a COPY without taking data'))
        },
        failed: fail,
      })
    })
    this.#done.catch(() => {})
    connection.send(new MessageWriter(sql.length + 16).begin(0x51).text(sql).finish().take())
  }

  static async start(connection: Wire, sql: string): Promise<CopyIn> {
    let copy: CopyIn | null = null
    await connection.idle()
    await new Promise<void>((resolve, reject) => {
      copy = new CopyIn(connection, sql, { resolve, reject })
    })
    if (copy === null) throw new TailraceError('BUG', 'COPY did not start')
    return copy
  }

  /** Whole CopyData messages; resolves when the bytes may be reused. After an error of the server: rejects with it. */
  async write(frames: Buffer): Promise<void> {
    if (!this.#open) await this.#done
    if (this.#failed !== null) throw this.#failed
    await this.#connection.sent(frames)
  }

  /** Bytes of the COPY format, which are put into a CopyData message. */
  async writePayload(bytes: Buffer): Promise<void> {
    const head = Buffer.allocUnsafe(5)
    head[0] = Backend.copyData
    head.writeInt32BE(bytes.length + 4, 1)
    this.#connection.send(head)
    await this.write(bytes)
  }

  /** Ends the COPY; the number of rows that the server took. */
  async finish(): Promise<number> {
    if (this.#open) {
      this.#open = false
      this.#connection.send(Buffer.from([0x63, 0, 0, 0, 4]))
    }
    await this.#done
    return rowsOfTag(this.#tag)
  }

  /** Makes the server fail the COPY; the transaction is then to be rolled back. */
  async abort(): Promise<void> {
    if (this.#open) {
      this.#open = false
      this.#connection.send(new MessageWriter(64).begin(0x66).text('given up').finish().take())
    }
    await this.#done.catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.abort()
  }
}
