import { TailraceError } from '../../sdk/errors.ts'

/** Whoever may hold the transaction: compared by identity only. */
export type Holder = object

/**
 * Whose turn it is to have a transaction on the one writing connection: a chunk that is being loaded, the parts of a
 * streamed transaction, or a single call. First come, first served.
 */
export class Turn {
  #owner: Holder | null = null
  #waiting: { readonly holder: Holder; readonly start: () => void }[] = []

  has(holder: Holder): boolean {
    return this.#owner === holder
  }

  /** Resolves when it is the holder's turn, at once when it is already. Rejects on abort. */
  take(holder: Holder, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(abortError(signal))
    if (this.#owner === null || this.#owner === holder) {
      this.#owner = holder
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#waiting = this.#waiting.filter((each) => each.start !== start)
        reject(abortError(signal))
      }
      const start = (): void => {
        signal.removeEventListener('abort', giveUp)
        this.#owner = holder
        resolve()
      }
      signal.addEventListener('abort', giveUp, { once: true })
      this.#waiting.push({ holder, start })
    })
  }

  release(holder: Holder): void {
    if (this.#owner !== holder) return
    this.#owner = null
    this.#waiting.shift()?.start()
  }

  /** After everything was rolled back: nobody has the turn any more. */
  seize(): void {
    if (this.#owner !== null) this.release(this.#owner)
  }
}

function abortError(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new TailraceError('ABORTED', 'a write to SQLite was given up')
}
