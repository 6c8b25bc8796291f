import type { Slice, SnapshotFrame } from '../../model/batch.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Loader } from '../../sdk/sink.ts'
import { packedBytes, type PackedSlice } from './pack.ts'

/** Parcels that lie with the worker: one is written while the next is decoded. */
const IN_FLIGHT = 2
/** A source's frames are often small (64 KB of COPY), and each message costs some 0.1 ms: they are gathered up to this. */
const PARCEL_BYTES = 1 << 20

/** What a loader needs of the sink. */
export interface LoaderCalls {
  /** Copies at once. Throws when the chunk was given up. */
  pack(slice: Slice): readonly PackedSlice[]
  send(slices: readonly PackedSlice[]): Promise<void>
  finish(): Promise<{ readonly rows: number }>
  abandon(): Promise<void>
}

/** One chunk in one transaction. A frame is copied at once, so its bytes are free when `write` resolves. */
export class ChunkLoader implements Loader {
  readonly #calls: LoaderCalls
  #gathered: PackedSlice[] = []
  #bytes = 0
  #inFlight: Promise<void>[] = []
  #isDone = false

  constructor(calls: LoaderCalls) {
    this.#calls = calls
  }

  async write(frame: SnapshotFrame): Promise<void> {
    if (frame.format !== 'rows') throw new TailraceError('BUG', `the SQLite sink was given a frame of format ${frame.format}`)
    for (const packed of this.#calls.pack(frame.slice)) {
      this.#gathered.push(packed)
      this.#bytes += packedBytes(packed)
    }
    if (this.#bytes < PARCEL_BYTES) return
    this.#send()
    while (this.#inFlight.length >= IN_FLIGHT) await this.#inFlight.shift()
  }

  async finish(): Promise<{ rows: number }> {
    if (this.#gathered.length > 0) this.#send()
    const waiting = this.#inFlight
    this.#inFlight = []
    for (const sent of waiting) await sent
    const { rows } = await this.#calls.finish()
    this.#isDone = true
    return { rows }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isDone) return
    this.#isDone = true
    await this.#calls.abandon()
  }

  #send(): void {
    const sent = this.#calls.send(this.#gathered)
    // Awaited by a later call; until then a failure must not count as unhandled.
    sent.catch(() => {})
    this.#inFlight.push(sent)
    this.#gathered = []
    this.#bytes = 0
  }
}
