import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite'
import type { Processes } from './lease.ts'
import { openStateFile, patiently } from './sqlite-file.ts'

export type Cells = Record<string, string | number | null>

/** The connection: prepared statements by their text, short IMMEDIATE transactions, errors in our words. */
export class StateConnection {
  readonly clock: () => number
  readonly processes: Processes
  readonly #path: string
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  constructor(path: string, clock: () => number, processes: Processes) {
    this.#path = path
    this.clock = () => Math.round(clock())
    this.processes = processes
    this.#database = openStateFile(path)
  }

  all(sql: string, ...values: SQLInputValue[]): Cells[] {
    return patiently(this.#path, () => this.#statement(sql).all(...values)) as Cells[]
  }

  get(sql: string, ...values: SQLInputValue[]): Cells | undefined {
    return patiently(this.#path, () => this.#statement(sql).get(...values)) as Cells | undefined
  }

  /** Gives the number of changed rows. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return patiently(this.#path, () => Number(this.#statement(sql).run(...values).changes))
  }

  /** IMMEDIATE: a deferred transaction that turns to writing after another process wrote fails at once (TRAPS 60). */
  transaction<T>(work: () => T): T {
    this.run('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.run('COMMIT')
      return result
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw error
    }
  }

  close(): void {
    this.#statements.clear()
    if (this.#database.isOpen) this.#database.close()
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}
