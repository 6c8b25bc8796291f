/** Work that is done a few pieces at a time; the first failure ends it. */
export class Pool {
  readonly #size: number
  readonly #running = new Set<Promise<void>>()
  #failure: { readonly error: unknown } | null = null

  constructor(size: number) {
    this.#size = size
  }

  /** Resolves when there is room for more. */
  async add(work: () => Promise<void>): Promise<void> {
    this.#throw()
    const run: Promise<void> = work().then(
      () => void this.#running.delete(run),
      (error: unknown) => {
        this.#running.delete(run)
        this.#failure ??= { error }
      },
    )
    this.#running.add(run)
    while (this.#running.size >= this.#size) await Promise.race(this.#running)
    this.#throw()
  }

  async done(): Promise<void> {
    await Promise.all(this.#running)
    this.#throw()
  }

  #throw(): void {
    if (this.#failure !== null) throw this.#failure.error
  }
}
