/** Builds frontend messages of the PostgreSQL protocol 3.0 in one growing buffer (protocol-message-formats of its manual). */
export class MessageWriter {
  #buffer: Buffer
  #end = 0
  #frame = 0

  constructor(size = 8192) {
    this.#buffer = Buffer.allocUnsafeSlow(size)
  }

  get length(): number {
    return this.#end
  }

  /** What was written so far; valid until the next write after `reset`. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#end)
  }

  /** Hands the bytes out and starts on a buffer of its own. */
  take(): Buffer {
    const bytes = this.bytes()
    this.#buffer = Buffer.allocUnsafeSlow(Math.max(8192, Math.min(this.#end, 1 << 20)))
    this.#end = 0
    return bytes
  }

  reset(): void {
    this.#end = 0
  }

  /** Starts a message of the given type letter (0: none, the start-up packet). */
  begin(type: number): this {
    this.ensure(5)
    if (type !== 0) this.#buffer[this.#end++] = type
    this.#frame = this.#end
    this.#end += 4
    return this
  }

  finish(): this {
    this.#buffer.writeInt32BE(this.#end - this.#frame, this.#frame)
    return this
  }

  ensure(more: number): void {
    if (this.#end + more <= this.#buffer.length) return
    const bigger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#end + more))
    this.#buffer.copy(bigger, 0, 0, this.#end)
    this.#buffer = bigger
  }

  int8(value: number): this {
    this.ensure(1)
    this.#buffer[this.#end++] = value
    return this
  }

  int16(value: number): this {
    this.ensure(2)
    this.#end = this.#buffer.writeInt16BE(value, this.#end)
    return this
  }

  int32(value: number): this {
    this.ensure(4)
    this.#end = this.#buffer.writeInt32BE(value, this.#end)
    return this
  }

  /** The size of something written later: `patchInt32(at, value)`. */
  get position(): number {
    return this.#end
  }

  patchInt32(at: number, value: number): void {
    this.#buffer.writeInt32BE(value, at)
  }

  text(value: string): this {
    const size = Buffer.byteLength(value)
    this.ensure(size + 1)
    this.#buffer.write(value, this.#end)
    this.#end += size
    this.#buffer[this.#end++] = 0
    return this
  }

  raw(bytes: Uint8Array): this {
    this.ensure(bytes.length)
    this.#buffer.set(bytes, this.#end)
    this.#end += bytes.length
    return this
  }

  /** Copies a range without making a view of it: the hot path of parameters. */
  range(from: Buffer, start: number, end: number): this {
    const size = end - start
    this.ensure(size)
    if (size < 24) {
      const { buffer, at } = { buffer: this.#buffer, at: this.#end }
      for (let i = 0; i < size; i++) buffer[at + i] = from[start + i]!
    } else from.copy(this.#buffer, this.#end, start, end)
    this.#end += size
    return this
  }
}
