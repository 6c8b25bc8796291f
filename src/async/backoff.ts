/** Delays of retries: doubling from `first` to `most` milliseconds, each drawn from its upper half so that runners spread. */
export interface BackoffOptions {
  readonly first: number
  readonly most: number
  readonly random: () => number
}

export class Backoff {
  readonly #options: BackoffOptions
  #attempt = 0

  constructor(options: BackoffOptions) {
    this.#options = options
  }

  get attempt(): number {
    return this.#attempt
  }

  next(): number {
    const { first, most, random } = this.#options
    const full = Math.min(most, first * 2 ** this.#attempt)
    this.#attempt++
    return full / 2 + (full / 2) * random()
  }

  reset(): void {
    this.#attempt = 0
  }
}
