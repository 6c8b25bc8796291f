import { TailraceError } from '../../sdk/errors.ts'
import type { Connection } from './connection.ts'
import { translate } from './duckdb-errors.ts'
import { openDatabase, type Database, type DatabaseOptions } from './database.ts'

export interface TurnstileOptions extends DatabaseOptions {
  /** Without work for so long, the file is closed; 0: never. */
  readonly idleMillis: number
}

/** The file, open. */
export interface OpenFile {
  readonly database: Database
  /** For single statements, and transactions of one call. */
  readonly control: Connection
  /** For the stream's transaction, which may stay open between calls. */
  readonly stream: Connection
}

/**
 * Opens the file when it is first needed (`plan` makes none), counts who works with it, and closes it after some idle time,
 * because no other process can read it meanwhile (opening again costs 10 to 20 ms).
 */
export class Turnstile {
  readonly #options: TurnstileOptions
  #file: Promise<OpenFile> | null = null
  #users = 0
  #timer: NodeJS.Timeout | null = null
  #closing: Promise<void> = Promise.resolve()
  #closed = false
  #wasOpen = false

  constructor(options: TurnstileOptions) {
    this.#options = options
  }

  /** `keep`: the file must stay open afterwards, because a transaction does. */
  async use<T>(work: (file: OpenFile) => Promise<T>, keep = false): Promise<T> {
    const { letGo, ...file } = await this.hold()
    try {
      return await work(file)
    } catch (error) {
      throw translate(error, `working with ${this.#options.path}`)
    } finally {
      letGo(keep)
    }
  }

  async hold(): Promise<OpenFile & { letGo(keep?: boolean): void }> {
    if (this.#closed) throw new TailraceError('CLOSED', 'connector is closed')
    this.#users++
    this.#stopTimer()
    let held = true
    const letGo = (keep = false): void => {
      if (!held) return
      held = false
      this.#users--
      if (!keep) this.#startTimer()
    }
    try {
      await this.#closing
      this.#file ??= this.#open()
      return { ...(await this.#file), letGo }
    } catch (error) {
      this.#file = null
      letGo()
      throw error
    }
  }

  /** After an error upon which DuckDB gives the database up. */
  async renewIfBroken(): Promise<void> {
    const file = await this.#file?.catch(() => null)
    if (file === null || file === undefined) return
    if (!file.stream.broken && !file.control.broken && !file.database.closed) return
    this.#file = null
    await file.database.abandon()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#stopTimer()
    await this.#release()
  }

  async #open(): Promise<OpenFile> {
    const database = await openDatabase(this.#options).catch((error: unknown) => {
      throw this.#wasOpen ? patiently(error) : error
    })
    this.#wasOpen = true
    return { database, control: await database.connect(), stream: await database.connect() }
  }

  #release(): Promise<void> {
    const file = this.#file
    this.#file = null
    if (file !== null) this.#closing = this.#closing.then(() => closeFile(file))
    return this.#closing
  }

  #startTimer(): void {
    const { idleMillis } = this.#options
    if (idleMillis === 0 || this.#users > 0 || this.#closed) return
    this.#timer = setTimeout(() => {
      if (this.#users === 0) this.#release().catch(() => {})
    }, idleMillis)
    this.#timer.unref()
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}

/** A reader has the file while we let go of it: worth waiting for. */
function patiently(error: unknown): unknown {
  if (!(error instanceof TailraceError) || error.code !== 'HELD') return error
  return new TailraceError('HELD', error.message, {
    retry: 'retry',
    cause: error.cause,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  })
}

async function closeFile(opening: Promise<OpenFile>): Promise<void> {
  const file = await opening.catch(() => null)
  if (file === null) return
  await file.database.disconnect(file.stream)
  await file.database.disconnect(file.control)
  await file.database.release()
}
