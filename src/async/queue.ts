/**
 * A queue between one producer and one consumer, bounded in bytes. The producer is told when to pause, never blocked:
 * sockets are paused, not awaited.
 */
export class ByteQueue<T> {
  readonly #limit: number
  readonly #items: { value: T; bytes: number }[] = []
  #bytes = 0
  #ended = false
  #error: Error | null = null
  #wake: (() => void) | null = null
  #onDrain: (() => void) | null = null

  constructor(limit: number) {
    this.#limit = limit
  }

  get bytes(): number {
    return this.#bytes
  }

  get length(): number {
    return this.#items.length
  }

  /** True when the producer should pause until `onDrain`. */
  push(value: T, bytes: number): boolean {
    this.#items.push({ value, bytes })
    this.#bytes += bytes
    this.#signal()
    return this.#bytes >= this.#limit
  }

  set onDrain(callback: () => void) {
    this.#onDrain = callback
  }

  end(error: Error | null = null): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    this.#signal()
  }

  /** The next item, or null at the end; what was queued before an error is given first. */
  async take(): Promise<T | null> {
    for (;;) {
      const item = this.#items.shift()
      if (item !== undefined) {
        const wasFull = this.#bytes >= this.#limit
        this.#bytes -= item.bytes
        if (wasFull && this.#bytes < this.#limit) this.#onDrain?.()
        return item.value
      }
      if (this.#error !== null) throw this.#error
      if (this.#ended) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  #signal(): void {
    const wake = this.#wake
    this.#wake = null
    wake?.()
  }
}
