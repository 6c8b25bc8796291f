import type { DatabaseSync } from 'node:sqlite'
import { TailraceError } from '../../sdk/errors.ts'
import type { Checkpoint } from '../../sdk/sink.ts'
import { claimEpoch, proveEpoch, readHolder } from './bookkeeping.ts'
import { fileIdentity, openWriter } from './database.ts'
import type { LogState, WorkerSetup } from './protocol.ts'
import { isBusy, translate } from './sqlite-errors.ts'
import { WriteAheadLog } from './write-ahead-log.ts'

/**
 * The one writing connection and its transaction. Every transaction is BEGIN IMMEDIATE and proves the epoch first
 * (Invariant 8, TRAP 60): the write lock is ours until COMMIT, so nobody can take over in between.
 *
 * SQLite undoes a failed statement alone and would keep the rest at COMMIT (TRAP 41): whatever fails, `run` and the
 * callers of `begin` roll back as a whole.
 */
export class Connection {
  readonly #setup: WorkerSetup
  readonly #log: WriteAheadLog
  #db: DatabaseSync | null = null
  #file: string | null = null
  epoch: number | null

  constructor(setup: WorkerSetup) {
    this.#setup = setup
    this.#log = new WriteAheadLog(setup.path, setup.config)
    this.epoch = setup.epoch
  }

  /** Opens the file at first use, so that `check` and `plan` leave nothing behind. */
  get db(): DatabaseSync {
    if (this.#db !== null) return this.#db
    try {
      this.#db = openWriter(this.#setup.path, this.#setup.config)
    } catch (error) {
      throw translate(error, `opening ${this.#setup.path}`)
    }
    this.#file = fileIdentity(this.#setup.path)
    return this.#db
  }

  /** `fenced` false: only for taking the pipeline over or removing it. */
  begin(fenced = true): void {
    try {
      this.db.exec('BEGIN IMMEDIATE')
      if (fenced) proveEpoch(this.db, this.#setup.pipeline, this.#claimed())
    } catch (error) {
      throw this.failed(error, 'beginning a transaction')
    }
  }

  /** Durable when it returns. */
  commit(): LogState {
    try {
      // SQLite would go on writing into a file that no longer has a name: all of it would be lost without an error.
      if (fileIdentity(this.#setup.path) !== this.#file) throw replaced(this.#setup.path)
      this.db.exec('COMMIT')
    } catch (error) {
      throw this.failed(error, 'COMMIT')
    }
    return this.#log.tend(this.db)
  }

  run<T>(doing: string, work: (db: DatabaseSync) => T, fenced = true): T {
    this.begin(fenced)
    let result: T
    try {
      result = work(this.db)
    } catch (error) {
      throw this.failed(error, doing)
    }
    this.commit()
    return result
  }

  rollback(): void {
    if (this.#db === null || !this.#db.isTransaction) return
    try {
      this.#db.exec('ROLLBACK')
    } catch {
      // A connection that cannot roll back is of no use: closing it does.
      this.close()
    }
  }

  /** Rolls back and says what it was. A lock that we did not get may mean that somebody took over (TRAP 60). */
  failed(error: unknown, doing: string): TailraceError {
    this.rollback()
    if (isBusy(error) && this.epoch !== null) {
      try {
        proveEpoch(this.db, this.#setup.pipeline, this.epoch)
      } catch (second) {
        if (second instanceof TailraceError && second.code === 'FENCED') return second
      }
    }
    return translate(error, doing)
  }

  /** Takes the pipeline over: the earlier runner's next transaction fails. */
  claim(): Checkpoint {
    this.rollback()
    try {
      this.db.exec('BEGIN IMMEDIATE')
    } catch (error) {
      throw isBusy(error) ? held(this.#setup.path, this.#holder(), error) : translate(error, 'taking the pipeline over')
    }
    let checkpoint: Checkpoint
    try {
      checkpoint = claimEpoch(this.db, this.#setup.pipeline)
    } catch (error) {
      throw this.failed(error, 'taking the pipeline over')
    }
    this.commit()
    this.epoch = checkpoint.epoch
    return checkpoint
  }

  /** What is stored, after a check that the epoch still is ours; never takes a new one. */
  recover(): Checkpoint {
    this.rollback()
    const file = fileIdentity(this.#setup.path)
    if (file === null) throw replaced(this.#setup.path)
    if (this.#db !== null && file !== this.#file) this.close()
    try {
      return proveEpoch(this.db, this.#setup.pipeline, this.#claimed())
    } catch (error) {
      throw translate(error, 'reading the checkpoint')
    }
  }

  close(): void {
    const db = this.#db
    this.#db = null
    try {
      db?.close()
    } catch {
      // Nothing is open that could be kept: uncommitted work goes with the connection.
    }
  }

  /** Whoever ran the pipeline last; reading waits for nobody. */
  #holder(): string | null {
    try {
      return readHolder(this.db, this.#setup.pipeline)
    } catch {
      return null
    }
  }

  #claimed(): number {
    if (this.epoch === null) throw new TailraceError('BUG', 'the SQLite sink was written to before its pipeline was claimed')
    return this.epoch
  }
}

function replaced(path: string): TailraceError {
  return new TailraceError('ENVIRONMENT', `${path} was removed or replaced while it was written to`, {
    hint: 'put the file back, or start over with `tailrace reset <pipeline>`',
  })
}

function held(path: string, holder: string | null, cause: unknown): TailraceError {
  const by = holder === null ? 'another process' : `another process, perhaps the runner ${holder}`
  return new TailraceError('HELD', `${path} is being written to by ${by}`, {
    hint: 'end that process, or wait longer with --busy-timeout',
    cause,
  })
}
