import type { Position } from '../model/position.ts'
import type { Source } from '../sdk/source.ts'
import type { PipelineState } from '../state/store.ts'

const SAVE_MILLIS = 200

/**
 * Invariant 1: sink durable → state saved → source.confirm, in no other order. `advance` is called with what the sink has
 * made durable; saving is spared to a few times a second, confirming follows each save. Nothing waits for confirm.
 */
export class Checkpointer {
  readonly #state: PipelineState
  readonly #source: Source
  readonly #clock: () => number
  #durable: Position | null
  #saved: Position | null
  #savedAt = 0
  #later: NodeJS.Timeout | undefined

  constructor(state: PipelineState, source: Source, clock: () => number, position: Position | null) {
    this.#state = state
    this.#source = source
    this.#clock = clock
    this.#durable = position
    this.#saved = position
  }

  get position(): Position | null {
    return this.#durable
  }

  /** The sink holds everything up to here, durably. */
  async advance(position: Position, signal: AbortSignal): Promise<void> {
    this.#durable = position
    if (this.#clock() - this.#savedAt >= SAVE_MILLIS) return this.save(signal)
    // Nothing may come after it: unsaved it would not be confirmed, and a server that shuts down waits for that.
    this.#later ??= setTimeout(() => void this.save(signal).catch(() => {}), SAVE_MILLIS).unref()
  }

  /** The position is another one than we thought: after a recovery, where the sink's word counts. */
  rewind(position: Position | null): void {
    this.#durable = position
  }

  /** Saves what is durable, then confirms it. */
  async save(signal: AbortSignal): Promise<void> {
    clearTimeout(this.#later)
    this.#later = undefined
    const position = this.#durable
    if (position === null || position === this.#saved) return
    await this.#state.savePosition(position)
    this.#saved = position
    this.#savedAt = this.#clock()
    // Invariant 2: advisory; a failure to confirm costs disk upstream, the next one is cumulative.
    this.#source.confirm?.(position, signal).catch(() => {})
  }
}
