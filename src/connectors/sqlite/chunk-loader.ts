import type { SnapshotFrame } from '../../model/batch.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Loader } from '../../sdk/sink.ts'

/** Frames that lie with the worker: one is written while the next is decoded. */
const FRAMES_IN_FLIGHT = 2

/** What a loader needs of the sink. */
export interface LoaderCalls {
  frame(frame: SnapshotFrame & { readonly format: 'rows' }): Promise<void>
  finish(): Promise<{ readonly rows: number }>
  abandon(): Promise<void>
}

/** One chunk in one transaction. A frame is copied when it is posted, so its bytes are free when `write` resolves. */
export class ChunkLoader implements Loader {
  readonly #calls: LoaderCalls
  #inFlight: Promise<void>[] = []
  #isDone = false

  constructor(calls: LoaderCalls) {
    this.#calls = calls
  }

  async write(frame: SnapshotFrame): Promise<void> {
    if (frame.format !== 'rows') throw new TailraceError('BUG', `the SQLite sink was given a frame of format ${frame.format}`)
    const posted = this.#calls.frame(frame)
    // Awaited by a later call; until then a failure must not count as unhandled.
    posted.catch(() => {})
    this.#inFlight.push(posted)
    while (this.#inFlight.length >= FRAMES_IN_FLIGHT) await this.#inFlight.shift()
  }

  async finish(): Promise<{ rows: number }> {
    const waiting = this.#inFlight
    this.#inFlight = []
    for (const posted of waiting) await posted
    const { rows } = await this.#calls.finish()
    this.#isDone = true
    return { rows }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDone) return
    this.#isDone = true
    await this.#calls.abandon()
  }
}
