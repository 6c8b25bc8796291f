import { Backend, parseRow, parseTag, type Wire } from './backend.ts'
import { MessageWriter } from './message-writer.ts'
import type { TailraceError } from '../../../sdk/errors.ts'

export interface ExecuteResult {
  readonly rows: (string | null)[][]
  readonly tag: string
}

/** A statement prepared on one connection under a name. */
export interface Prepared {
  readonly name: string
  readonly sql: string
}

/** Bytes of a parameter: text (string), binary (Buffer) or null. */
export type Parameter = string | Buffer | null

/**
 * Extended-protocol messages for many statements and one Sync: all are on the wire before the first answer is awaited, and
 * run as one implicit transaction unless BEGIN … COMMIT stand among them. The first error skips the rest.
 */
export class Pipeline {
  readonly #connection: Wire
  readonly #writer = new MessageWriter()
  #executes = 0

  constructor(connection: Wire) {
    this.#connection = connection
  }

  get size(): number {
    return this.#executes
  }

  get bytes(): number {
    return this.#writer.length
  }

  /** Parse of a named statement; `types` are oids of the parameters, 0 = let the server infer. */
  prepare(statement: Prepared, types: readonly number[] = []): this {
    this.#writer.begin(0x50).text(statement.name).text(statement.sql).int16(types.length)
    for (const type of types) this.#writer.int32(type)
    this.#writer.finish()
    return this
  }

  close(statement: Prepared): this {
    this.#writer.begin(0x43).int8(0x53).text(statement.name).finish()
    return this
  }

  /** Parse, Bind, Execute of an unnamed statement. */
  execute(sql: string, params: readonly Parameter[] = [], types: readonly number[] = []): this {
    this.prepare({ name: '', sql }, types)
    return this.bind('', params)
  }

  /** Bind and Execute of a prepared statement. */
  bind(name: string, params: readonly Parameter[]): this {
    const writer = this.beginBind(name, params.length, (index) => typeof params[index] !== 'string')
    for (const param of params) {
      if (param === null) writer.int32(-1)
      else if (typeof param === 'string') writer.int32(Buffer.byteLength(param)).raw(Buffer.from(param))
      else writer.int32(param.length).raw(param)
    }
    return this.finishBind()
  }

  /** Bind by hand: write each parameter as int32 length and bytes to the writer that is returned, then `finishBind`. */
  beginBind(name: string, count: number, binary: (index: number) => boolean): MessageWriter {
    const writer = this.#writer.begin(0x42).text('').text(name).int16(count)
    for (let i = 0; i < count; i++) writer.int16(binary(i) ? 1 : 0)
    return writer.int16(count)
  }

  finishBind(): this {
    this.#writer.int16(0).finish()
    this.#writer.begin(0x45).text('').int32(0).finish()
    this.#executes++
    return this
  }

  /**
   * `COPY … FROM STDIN` with all its data, sent without waiting for the server's go: after an error it drops what it does
   * not want. `frames` are whole CopyData messages.
   */
  copy(sql: string, frames: readonly Buffer[]): this {
    this.execute(sql)
    for (const frame of frames) this.#writer.raw(frame)
    this.#writer.begin(0x63).finish()
    return this
  }

  /** Sends everything with one Sync; a result per Execute. Rejects with the PgError of the first that failed (`index`). */
  async run(): Promise<ExecuteResult[]> {
    await this.#connection.idle()
    this.#writer.begin(0x53).finish()
    const results: ExecuteResult[] = []
    let rows: (string | null)[][] = []
    return new Promise((resolve, reject) => {
      this.#connection.start({
        message: (type, buffer, start, end) => {
          if (type === Backend.dataRow) rows.push(parseRow(buffer, start, end))
          else if (type === Backend.commandComplete || type === Backend.emptyQuery) {
            results.push({ rows, tag: type === Backend.emptyQuery ? '' : parseTag(buffer, start, end) })
            rows = []
          }
        },
        ready: (error) => {
          if (error === null) return resolve(results)
          error.index = results.length
          reject(error)
        },
        failed: (error: TailraceError) => reject(error),
      })
      this.#connection.send(this.#writer.take())
    })
  }
}
