import { TailraceError } from '../../../sdk/errors.ts'

/** One read gets at least this much room: walsender and COPY then arrive in few large reads. */
const LEAST_ROOM = 64 * 1024
const SIZE = 256 * 1024
/** PostgreSQL itself refuses values over 1 GB; a longer frame is damage or no PostgreSQL. */
const MOST_FRAME = 0x4000_0000 + 64 * 1024 * 1024

/**
 * Bytes as they come from the socket, read straight into place. `[start, end)` is not yet consumed. Parsing happens in
 * place; whoever keeps bytes calls `detach`, after which the buffer is theirs and reading goes on in another one.
 */
export class ReceiveBuffer {
  buffer: Buffer
  start = 0
  end = 0
  /** Size of the next buffers. The change stream takes larger ones, so that a batch lies in few. */
  size: number
  #spare: Buffer | null = null

  constructor(size = SIZE) {
    this.size = size
    this.buffer = Buffer.allocUnsafeSlow(size)
  }

  /** Room to read into. */
  space(): Buffer {
    if (this.buffer.length - this.end < LEAST_ROOM) this.makeRoom(LEAST_ROOM)
    return this.buffer.subarray(this.end)
  }

  accept(chunk: Buffer): void {
    const inPlace = chunk.buffer === this.buffer.buffer && chunk.byteOffset === this.buffer.byteOffset + this.end
    if (!inPlace) {
      if (this.buffer.length - this.end < chunk.length) this.makeRoom(chunk.length)
      chunk.copy(this.buffer, this.end)
    }
    this.end += chunk.length
  }

  /** Total length of the frame at `start` (type byte and length included), or 0 when its head is not there yet. */
  frameLength(at: number): number {
    if (this.end - at < 5) return 0
    const length = this.buffer.readInt32BE(at + 1)
    if (length < 4 || length > MOST_FRAME) {
      throw new TailraceError(
        'PROTOCOL',
        `the PostgreSQL server sent a message of type ${JSON.stringify(String.fromCharCode(this.buffer[at]!))} with the impossible length ${length}`,
      )
    }
    return length + 1
  }

  /** Makes sure that the frame at `start` can be received whole in one buffer. */
  expect(frame: number): void {
    if (this.start + frame > this.buffer.length) this.makeRoom(frame - (this.end - this.start))
  }

  /** Everything is consumed: reading starts again at the beginning. Not while someone holds the buffer. */
  rewind(): void {
    if (this.start !== this.end) return
    this.start = 0
    this.end = 0
  }

  /** Leaves the buffer to whoever holds bytes of it; what is not consumed moves to a new one. */
  detach(): Buffer {
    const held = this.buffer
    this.#replace(Math.max(this.size, this.end - this.start + LEAST_ROOM))
    return held
  }

  /** Gives a detached buffer back, to be read into again. */
  giveBack(buffer: Buffer): void {
    if (buffer.length === this.size) this.#spare = buffer
  }

  /** Room for `more` bytes behind `end`, in a fresh buffer when the old one cannot give it. */
  makeRoom(more: number): void {
    this.#replace(Math.max(this.size, this.end - this.start + more))
  }

  #replace(size: number): void {
    const spare = this.#spare
    const next = spare !== null && spare.length >= size ? spare : Buffer.allocUnsafeSlow(size)
    if (next === spare) this.#spare = null
    this.buffer.copy(next, 0, this.start, this.end)
    this.end -= this.start
    this.start = 0
    this.buffer = next
  }
}
