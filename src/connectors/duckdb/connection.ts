import type { DuckDBConnection } from '@duckdb/node-api'
import { TailraceError } from '../../sdk/errors.ts'
import { isInvalidating, translate } from './duckdb-errors.ts'

export type TextRow = readonly (string | null)[]

/**
 * One DuckDB connection: its statements run one after another, and of its transactions nothing is forgotten. After a failed
 * statement DuckDB ends the transaction by itself for some errors (out of memory, a failed commit): what came next would
 * then commit by itself. For others it answers COMMIT with ok and stores nothing (TRAP 41). So a failure closes the
 * transaction here: every later statement of it is refused until `rollback`.
 */
export class Connection {
  readonly #connection: DuckDBConnection
  #state: 'idle' | 'open' | 'failed' = 'idle'
  #last: Promise<unknown> = Promise.resolve()
  #broken = false
  #closed = false

  constructor(connection: DuckDBConnection) {
    this.#connection = connection
  }

  /** In a transaction, good or failed. */
  get inTransaction(): boolean {
    return this.#state !== 'idle'
  }

  /** DuckDB gave the database up: only a new instance helps. */
  get broken(): boolean {
    return this.#broken
  }

  async begin(): Promise<void> {
    if (this.#state !== 'idle') throw new TailraceError('BUG', 'a DuckDB transaction was begun within another')
    await this.#execute('BEGIN TRANSACTION')
    this.#state = 'open'
  }

  async commit(): Promise<void> {
    if (this.#state !== 'open') throw new TailraceError('SINK_FAILED', 'a failed DuckDB transaction cannot be committed')
    try {
      await this.#execute('COMMIT')
      this.#state = 'idle'
    } catch (error) {
      this.#state = 'failed'
      throw error
    }
  }

  /** Quiet when there is nothing to roll back. */
  async rollback(): Promise<void> {
    const was = this.#state
    this.#state = 'idle'
    if (was === 'idle' || this.#closed) return
    // "cannot rollback - no transaction is active": DuckDB did it by itself.
    await this.#execute('ROLLBACK').catch(() => {})
  }

  /** Runs one statement; gives the rows that it changed. */
  async run(sql: string, signal?: AbortSignal): Promise<number> {
    return (await this.#guarded(() => this.#execute(sql, signal))).rowsChanged
  }

  /** Rows of a query, which must give VARCHAR columns only. */
  async rows(sql: string, signal?: AbortSignal): Promise<readonly TextRow[]> {
    const result = await this.#guarded(() => this.#execute(sql, signal))
    return (await result.getRows()).map((row) => row.map((value) => (value === null ? null : String(value))))
  }

  /** Stops the statement that runs, waits for it, rolls back. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#connection.interrupt()
    await this.#last.catch(() => {})
    await this.rollback()
    this.#closed = true
    this.#connection.closeSync()
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    if (this.#state === 'failed') throw new TailraceError('SINK_FAILED', 'the DuckDB transaction failed before; it has to be begun anew')
    try {
      return await work()
    } catch (error) {
      if (this.#state === 'open') this.#state = 'failed'
      throw error
    }
  }

  #execute(sql: string, signal?: AbortSignal): ReturnType<DuckDBConnection['run']> {
    const run = this.#last.then(() => this.#interruptible(sql, signal))
    this.#last = run.catch(() => {})
    return run
  }

  async #interruptible(sql: string, signal: AbortSignal | undefined): ReturnType<DuckDBConnection['run']> {
    if (this.#closed) throw new TailraceError('CLOSED', 'connector is closed')
    if (signal?.aborted === true) throw new TailraceError('ABORTED', 'given up on request')
    const interrupt = (): void => this.#connection.interrupt()
    signal?.addEventListener('abort', interrupt, { once: true })
    try {
      return await this.#connection.run(sql)
    } catch (error) {
      this.#broken ||= isInvalidating(error)
      throw error
    } finally {
      signal?.removeEventListener('abort', interrupt)
    }
  }
}

/** Runs `work` in a transaction of its own. `doing` is for the error. */
export async function inTransaction<T>(connection: Connection, doing: string, work: () => Promise<T>): Promise<T> {
  try {
    await connection.begin()
    const result = await work()
    await connection.commit()
    return result
  } catch (error) {
    await connection.rollback()
    throw translate(error, doing)
  }
}
