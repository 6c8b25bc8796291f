import { createHash } from 'node:crypto'
import type { StreamBatch } from '../model/batch.ts'
import type { Row } from '../model/change.ts'
import type { Position } from '../model/position.ts'
import type { TableSchema } from '../model/schema.ts'
import { Backoff } from '../async/backoff.ts'
import { delay } from '../async/abort.ts'
import { usage } from '../sdk/config/problems.ts'
import { asTailraceError } from '../sdk/errors.ts'
import { silentLogger, type Logger } from '../sdk/logger.ts'
import { EVERYTHING } from '../sdk/selection.ts'
import type { Source, SourceTable } from '../sdk/source.ts'
import type { PipelineState, StateStore } from '../state/store.ts'
import { endpointFrom, type EndpointInput } from './endpoints.ts'
import { openState, scratchFolder, statePlace } from './environment.ts'
import { checkKeys, checkPipelineName, checkTableName } from './settings.ts'
import { TransactionReader, type SourceTransaction } from './transactions.ts'

export interface OpenSourceOptions {
  /** Names the reader: its place in the log is remembered under it. Default: made of the source. */
  readonly name?: string
  readonly state?: string
  readonly logger?: Logger
}

export interface StreamOptions {
  /** Patterns; default: every table. */
  readonly tables?: readonly string[]
  /** After this position. Default: after the last confirmed one, and the first time, from now on. */
  readonly from?: Position
  /** Ends the iteration quietly. */
  readonly signal?: AbortSignal
  /** A transaction with more changes than this comes in parts, so that memory stays bounded. */
  readonly maxChanges?: number
}

/** A source for a program of one's own. */
export interface SourceReader extends AsyncDisposable {
  tables(patterns?: readonly string[]): Promise<readonly TableSchema[]>
  /** Transactions in commit order; goes on after lost connections. What is not confirmed comes again after a restart. */
  stream<T extends Row = Row>(options?: StreamOptions): AsyncIterable<SourceTransaction<T>>
  /** Remembers that everything up to there is dealt with, then lets the source forget it. Null, of a part, does nothing. */
  confirm(position: Position | null): Promise<void>
  /** Drops what is kept upstream for this reader, and forgets its place; names what was dropped. */
  remove(): Promise<readonly string[]>
}

/** Opens a source. `await using source = await openSource('postgres://app@db/shop')`. */
export async function openSource(input: EndpointInput, options: OpenSourceOptions = {}): Promise<SourceReader> {
  checkKeys(options, ['name', 'state', 'logger'])
  if (options.name !== undefined) checkPipelineName(options.name)
  const endpoint = await endpointFrom(input, 'source')
  const identity = endpoint.connector.identity(endpoint.config)
  const name = options.name ?? `reader-${createHash('sha256').update(identity).digest('hex').slice(0, 10)}`
  const place = statePlace(options.state ?? null, process.cwd())
  const labels = { sourceLabel: endpoint.label, sinkLabel: 'a program' }
  // Closed in reverse. Not an AsyncDisposableStack: Node 22 has none.
  const opened: AsyncDisposable[] = []
  try {
    const store = await openState(place)
    opened.push(store)
    const { thisHolder } = await import('../state/lease.ts')
    const state = await store.open({ name, source: identity, sink: READER, ...labels }, thisHolder())
    opened.push(state)
    const closing = new AbortController()
    const source = await endpoint.connector.source!.open(endpoint.config, {
      pipeline: name,
      logger: options.logger ?? silentLogger,
      memory: state.memory,
      deletes: 'hard',
      scratch: () => scratchFolder(place, process.cwd()),
      clock: Date.now,
      random: Math.random,
      signal: closing.signal,
    })
    return new OpenSource({ source, state, store, closing })
  } catch (error) {
    for (const one of opened.toReversed()) await one[Symbol.asyncDispose]()
    throw error
  }
}

/** Stands for the sink in the identity of a reader. */
const READER = 'program:'
const MAX_BATCH = { rows: 10_000, bytes: 8 << 20 }
const MAX_CHANGES = 100_000
const HEARTBEAT_MS = 10_000

interface Opened {
  readonly source: Source
  readonly state: PipelineState
  readonly store: StateStore
  readonly closing: AbortController
}

class OpenSource implements SourceReader {
  readonly #source: Source
  readonly #state: PipelineState
  readonly #store: StateStore
  readonly #closing: AbortController
  readonly #heart: NodeJS.Timeout
  /** End of the last transaction handed out, and of the last confirmed one. */
  #given: Position | null = null
  #confirmed: Position | null = null
  #closed = false

  constructor({ source, state, store, closing }: Opened) {
    this.#source = source
    this.#state = state
    this.#store = store
    this.#closing = closing
    // A failed heartbeat shows in the next write, which is fenced.
    this.#heart = setInterval(() => void state.heartbeat().catch(() => {}), HEARTBEAT_MS)
    this.#heart.unref()
  }

  async tables(patterns: readonly string[] = []): Promise<readonly TableSchema[]> {
    return (await this.#discover(patterns)).map((table) => table.schema)
  }

  async *stream<T extends Row = Row>(options: StreamOptions = {}): AsyncIterable<SourceTransaction<T>> {
    checkKeys(options, ['tables', 'from', 'signal', 'maxChanges'])
    const closing = this.#closing.signal
    const signal = options.signal === undefined ? closing : AbortSignal.any([options.signal, closing])
    const tables = (await this.#discover(options.tables ?? [])).filter(({ schema }) => schema.columns.length > 0)
    const backoff = new Backoff({ first: 100, most: 30_000, random: Math.random })
    const reader = new TransactionReader<T>(options.maxChanges ?? MAX_CHANGES)
    let from = options.from ?? (await this.#origin(tables, signal))
    while (!signal.aborted) {
      try {
        for await (const batch of this.#batches(from, tables, signal)) {
          backoff.reset()
          for (const transaction of reader.read(batch)) {
            from = transaction.position ?? from
            this.#given = transaction.position ?? this.#given
            yield transaction
          }
          if (batch.position !== null && batch.rows === 0 && batch.barrier === null) await this.#confirmIdle(batch.position)
        }
        return
      } catch (error) {
        // Parts that were handed out cannot be taken back: then the caller must begin again.
        if (asTailraceError(error).retry !== 'retry' || reader.isWithinTransaction) throw error
        reader.forget()
        await delay(backoff.next(), signal)
      }
    }
  }

  async confirm(position: Position | null): Promise<void> {
    if (position === null) return
    // Invariant 1: saved before confirmed.
    await this.#state.savePosition(position)
    this.#confirmed = position
    await this.#source.confirm?.(position, this.#closing.signal)
  }

  async remove(): Promise<readonly string[]> {
    const dropped = (await this.#source.remove?.(this.#closing.signal)) ?? []
    const { name } = this.#state
    await this.#release()
    await this.#store.remove(name)
    await this.#store[Symbol.asyncDispose]()
    return dropped
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    await this.#release()
    await this.#store[Symbol.asyncDispose]()
  }

  async #release(): Promise<void> {
    this.#closed = true
    clearInterval(this.#heart)
    this.#closing.abort()
    await this.#source[Symbol.asyncDispose]()
    await this.#state[Symbol.asyncDispose]()
  }

  #discover(patterns: readonly string[]): Promise<readonly SourceTable[]> {
    for (const pattern of patterns) checkTableName(pattern)
    return this.#source.discover({ ...EVERYTHING, tables: patterns }, this.#closing.signal)
  }

  async #origin(tables: readonly SourceTable[], signal: AbortSignal): Promise<Position> {
    const saved = (await this.#state.record()).position
    if (saved !== null) return saved
    if (this.#source.anchor === undefined) throw usage('the source has no change log', 'use sync')
    const position = await this.#source.anchor(tables, signal)
    await this.#state.savePosition(position)
    return position
  }

  #batches(from: Position, tables: readonly SourceTable[], signal: AbortSignal): AsyncIterable<StreamBatch> {
    if (this.#source.stream === undefined) throw usage('the source has no change log', 'use sync')
    return this.#source.stream({ from, tables, views: new Map(), maxBatch: MAX_BATCH }, signal)
  }

  /** Idle time moves the position too (Invariant 4), but never past what the program has not confirmed. */
  async #confirmIdle(position: Position): Promise<void> {
    if (this.#given !== this.#confirmed) return
    await this.confirm(position)
    this.#given = position
  }
}
