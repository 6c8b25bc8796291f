import type { Position, Transaction } from '../../../model/position.ts'
import type { StreamBatch } from '../../../model/batch.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { MessageHandler } from '../wire/backend.ts'
import type { PgConnection } from '../wire/connection.ts'
import { MessageWriter } from '../wire/message-writer.ts'
import { translatePgError, type PgError } from '../wire/pg-error.ts'
import type { ReceiveBuffer } from '../wire/receive-buffer.ts'
import { Assembler } from './assembler.ts'
import { damaged, Message, readRelation, readRow, type Relation, type RelationTarget } from './pgoutput.ts'
import { writePosition } from './position.ts'

const COPY_DATA = 0x64
const XLOG_DATA = 0x77
const KEEPALIVE = 0x6b
const POSTGRES_EPOCH_MICROS = 946_684_800_000_000
/** Idle positions are taken no more often than this (TRAPS 21). */
const IDLE_MILLIS = 1000
/** Well below any sensible wal_sender_timeout, so that a busy moment of ours does not cost the connection. */
const STATUS_MILLIS = 250

export interface ReaderOptions {
  readonly system: string
  readonly timeline: number
  readonly slot: string
  readonly publication: string
  readonly from: bigint
  readonly maxBatch: { readonly rows: number; readonly bytes: number }
  readonly clock: () => number
  /** So long without a byte while we read: the connection is lost. */
  readonly silenceMillis: number
}

/** Something that the stream cannot decide without asking the catalog: decoding waits until it is answered. */
export type Question =
  | { readonly kind: 'relation'; readonly relation: Relation; readonly transaction: Transaction | null }
  | { readonly kind: 'truncate'; readonly relations: readonly number[]; readonly cascade: boolean; readonly restartIdentity: boolean }

/**
 * Reads one walsender. Bytes are decoded as they arrive, while the sink still works on the batch before; the socket is
 * paused when a batch's worth waits. Status updates go out on a timer of their own, whatever the sink does (TRAPS 22).
 */
export class StreamReader implements AsyncDisposable {
  readonly #connection: PgConnection
  readonly #options: ReaderOptions
  readonly #assembler = new Assembler()
  readonly #targets = new Map<number, RelationTarget | null>()
  #buffer: Buffer | null = null
  #question: Question | null = null
  #wake: (() => void) | null = null
  #onLost: (() => void) | null = null
  #error: Error | null = null
  #ended = false
  #paused = false
  #confirmed: bigint
  #idleTaken = 0
  #lastPosition: bigint
  #timer: NodeJS.Timeout | null = null
  #heardAt = 0
  /** End of the server's log as last heard. */
  serverEnd = 0n

  constructor(connection: PgConnection, options: ReaderOptions) {
    this.#connection = connection
    this.#options = options
    this.#confirmed = options.from
    this.#lastPosition = options.from
  }

  start(command: string): Promise<void> {
    return new Promise((resolve, reject) => {
      let started = false
      const handler: MessageHandler = {
        message: (type) => {
          if (type !== 0x57) return
          started = true
          handler.bulk = { consume: (receive) => this.#consume(receive) }
          this.#heardAt = this.#options.clock()
          this.#timer = setInterval(() => this.#tick(), STATUS_MILLIS)
          resolve()
        },
        ready: (error) => (started ? this.#end(error) : reject(error ?? new TailraceError('PROTOCOL', 'START_REPLICATION ended at once'))),
        failed: (error) => (started ? this.#end(error) : reject(error)),
      }
      this.#connection.start(handler)
      this.#connection.send(new MessageWriter(command.length + 16).begin(0x51).text(command).finish().take())
    })
  }

  /** The next batch, or a question that must be answered first; null at the end. */
  async next(): Promise<StreamBatch | Question | null> {
    for (;;) {
      const batch = this.#assembler.take(this.#buffer ?? EMPTY, this.#full())
      if (batch !== null) {
        this.#goOn()
        return batch
      }
      if (this.#question !== null) return this.#question
      if (this.#error !== null) throw this.#error
      if (this.#ended) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  /** Answers the question that waits: how the relation's rows are taken (null: not at all), and what to put into the stream. */
  answer(work: (assembler: Assembler, buffer: Buffer, targets: Map<number, RelationTarget | null>) => void): void {
    work(this.#assembler, this.#buffer ?? EMPTY, this.#targets)
    this.#question = null
    this.#goOn()
  }

  /** Told when the connection is lost: whoever asks the catalog for this stream may wait on a connection that is as dead. */
  set onLost(callback: () => void) {
    this.#onLost = callback
  }

  confirm(lsn: bigint): void {
    if (lsn <= this.#confirmed) return
    this.#confirmed = lsn
    this.#sendStatus(false)
  }

  /** Asks the server to say where its log ends: gives an idle position soon when nothing is to be sent. */
  ping(): void {
    this.#idleTaken = 0
    this.#sendStatus(true)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopTimer()
    this.#ended = true
    this.#signal()
    this.#connection.destroy()
  }

  #full(): boolean {
    const { rows, bytes } = this.#options.maxBatch
    return this.#assembler.rows >= rows || this.#assembler.bytes >= bytes
  }

  #goOn(): void {
    if (!this.#paused || this.#question !== null) return
    this.#paused = false
    this.#connection.resume()
  }

  #signal(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }

  #end(error: PgError | TailraceError | null): void {
    this.#stopTimer()
    if (error !== null && this.#error === null) {
      this.#error =
        error instanceof TailraceError ? error : translatePgError(error, `reading replication slot ${this.#options.slot}`, 'source')
    }
    this.#ended = true
    if (this.#error !== null) this.#onLost?.()
    this.#signal()
  }

  /** A status now and then; after half of the patience one that asks for an answer, and then no more waiting (CASE 7: half open). */
  #tick(): void {
    const now = this.#options.clock()
    if (this.#paused) this.#heardAt = now
    const silence = now - this.#heardAt
    if (silence > this.#options.silenceMillis) {
      const error = new TailraceError(
        'UNREACHABLE',
        `reading replication slot ${this.#options.slot}: the server has said nothing for ${Math.round(silence / 1000)} s`,
        { hint: 'the connection is taken for lost; --source.silence-timeout SECONDS waits longer' },
      )
      this.#end(error)
      return this.#connection.destroy(error)
    }
    this.#sendStatus(silence > this.#options.silenceMillis / 2)
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** BulkHandler: takes whole CopyData frames off the receive buffer. */
  #consume(receive: ReceiveBuffer): boolean {
    this.#heardAt = this.#options.clock()
    while (receive.end - receive.start >= 5 && receive.buffer[receive.start] === COPY_DATA) {
      if (this.#question !== null || this.#full()) return this.#pause()
      const at = receive.start
      const frame = receive.frameLength(at)
      if (receive.end - at < frame) {
        // A frame that does not fit moves to a larger buffer: what was decoded stays behind in this one.
        if (at + frame > receive.buffer.length) receive.expect(frame)
        break
      }
      if (receive.buffer !== this.#buffer) this.#changeBuffer(receive.buffer)
      receive.start = at + frame
      this.#frame(receive.buffer, at + 5, at + frame)
    }
    if (this.#assembler.hasCommit) this.#signal()
    return this.#question === null || this.#pause()
  }

  #pause(): boolean {
    this.#paused = true
    this.#signal()
    return false
  }

  #changeBuffer(next: Buffer): void {
    if (this.#buffer !== null) this.#assembler.flush(this.#buffer)
    this.#buffer = next
  }

  #frame(buffer: Buffer, at: number, end: number): void {
    const kind = at < end ? buffer[at]! : 0
    if (kind === XLOG_DATA) {
      if (end - at < 26) throw damaged('a message is too short')
      this.#message(buffer, at + 25, end, buffer.readUInt32BE(at + 1), buffer.readUInt32BE(at + 5))
    } else if (kind === KEEPALIVE) this.#keepalive(buffer, at, end)
    else throw new TailraceError('PROTOCOL', `the walsender sent a message of the unknown kind ${kind}`)
  }

  /** `placeHigh`, `placeLow`: LSN of the change. */
  #message(buffer: Buffer, at: number, end: number, placeHigh: number, placeLow: number): void {
    const type = buffer[at]!
    switch (type) {
      case Message.insert:
      case Message.update:
      case Message.delete: {
        atLeast(6, at, end)
        const target = this.#targets.get(buffer.readUInt32BE(at + 1))
        if (target === undefined) throw damaged('a row of a relation that it did not describe')
        if (!this.#assembler.inTransaction) throw damaged('a row outside of a transaction')
        if (target === null) return
        const assembler = this.#assembler
        readRow(type, buffer, at + 5, end, target, assembler.nextOrder(), assembler.transactionIndex, placeHigh, placeLow)
        assembler.addBytes(end - at, target.builder.columns)
        return
      }
      case Message.begin:
        atLeast(21, at, end)
        return this.#begin(buffer, at + 1)
      case Message.commit:
        atLeast(26, at, end)
        return this.#commit(buffer, at + 1)
      case Message.relation:
        this.#question = { kind: 'relation', relation: readRelation(buffer, at + 1, end), transaction: this.#assembler.open }
        return
      case Message.truncate:
        return this.#truncate(buffer, at + 1, end)
      case Message.origin:
      case Message.type:
      case Message.message:
        return
      default:
        throw new TailraceError(
          'PROTOCOL',
          `the change stream holds a message of the unknown type ${JSON.stringify(String.fromCharCode(type))}`,
        )
    }
  }

  #position(lsn: bigint): Position {
    return writePosition({ system: this.#options.system, timeline: this.#options.timeline, lsn })
  }

  #begin(buffer: Buffer, at: number): void {
    this.#assembler.begin({
      position: this.#position(buffer.readBigUInt64BE(at)),
      committedAt: Number(buffer.readBigInt64BE(at + 8)) + POSTGRES_EPOCH_MICROS,
      id: String(buffer.readUInt32BE(at + 16)),
    })
  }

  #commit(buffer: Buffer, at: number): void {
    const end = buffer.readBigUInt64BE(at + 9)
    if (end > this.serverEnd) this.serverEnd = end
    this.#lastPosition = end
    this.#assembler.commit(this.#position(end))
  }

  #truncate(buffer: Buffer, at: number, end: number): void {
    atLeast(5, at, end)
    const count = buffer.readUInt32BE(at)
    atLeast(5 + count * 4, at, end)
    const flags = buffer[at + 4]!
    const relations: number[] = []
    for (let i = 0; i < count; i++) relations.push(buffer.readUInt32BE(at + 5 + i * 4))
    this.#question = { kind: 'truncate', relations, cascade: (flags & 1) !== 0, restartIdentity: (flags & 2) !== 0 }
  }

  /**
   * TRAPS 20: the end of the log in a keepalive is a position only when every byte before it is parsed (it is: frames come
   * in order), no transaction is open, and nothing waits before it in the queue (it then follows in order).
   */
  #keepalive(buffer: Buffer, at: number, end: number): void {
    if (end - at < 18) throw new TailraceError('PROTOCOL', 'the walsender sent a keepalive that is too short')
    const walEnd = buffer.readBigUInt64BE(at + 1)
    if (walEnd > this.serverEnd) this.serverEnd = walEnd
    const now = this.#options.clock()
    const due = now - this.#idleTaken >= IDLE_MILLIS
    if (due && walEnd > this.#lastPosition && !this.#assembler.inTransaction && this.#assembler.empty) {
      this.#idleTaken = now
      this.#lastPosition = walEnd
      this.#assembler.idle(this.#position(walEnd))
      this.#signal()
    }
    if (buffer[at + 17] === 1) this.#sendStatus(false)
  }

  /** Standby status update: written, flushed and applied are all what is confirmed, for nothing else is durable. */
  #sendStatus(reply: boolean): void {
    const micros = BigInt(Math.round(this.#options.clock() * 1000) - POSTGRES_EPOCH_MICROS)
    const message = Buffer.allocUnsafe(39)
    message[0] = COPY_DATA
    message.writeInt32BE(38, 1)
    message[5] = 0x72
    message.writeBigUInt64BE(this.#confirmed, 6)
    message.writeBigUInt64BE(this.#confirmed, 14)
    message.writeBigUInt64BE(this.#confirmed, 22)
    message.writeBigInt64BE(micros, 30)
    message[38] = reply ? 1 : 0
    this.#connection.send(message)
  }
}

const EMPTY = Buffer.alloc(0)

function atLeast(bytes: number, at: number, end: number): void {
  if (end - at < bytes) throw damaged('a message is too short')
}
