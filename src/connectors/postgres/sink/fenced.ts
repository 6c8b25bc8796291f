import { TailraceError } from '../../../sdk/errors.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError, translate } from '../wire/pg-error.ts'
import type { ExecuteResult } from '../wire/pipeline.ts'
import { fencedError } from './apply.ts'
import type { Bookkeeping } from './bookkeeping.ts'
import { DEMAND_FAILED } from './statements.ts'

/** The right to write: every transaction that does not move the position proves that the epoch still is ours. */
export class Fence {
  readonly #bookkeeping: Bookkeeping
  readonly #epoch: () => number | null

  constructor(bookkeeping: Bookkeeping, epoch: () => number | null) {
    this.#bookkeeping = bookkeeping
    this.#epoch = epoch
  }

  /** BEGIN and the proof, which holds a take-over back until the transaction ends. */
  async begin(connection: PgConnection): Promise<void> {
    const epoch = this.#epoch()
    if (epoch === null) {
      await connection.query('BEGIN')
      return
    }
    const pipeline = connection.pipeline().execute('BEGIN')
    const { statement, params } = this.#bookkeeping.share(epoch)
    try {
      await pipeline.execute(statement.sql, params).run()
    } catch (error) {
      if (!(error instanceof PgError) || error.code !== DEMAND_FAILED) throw error
      await connection.query('ROLLBACK')
      throw fencedError((await this.#bookkeeping.look(connection))?.epoch ?? null, epoch)
    }
  }

  /** Runs statements in one fenced transaction. `what` is said when one fails. */
  async run(connection: PgConnection, statements: readonly string[], what: string): Promise<ExecuteResult[]> {
    if (statements.length === 0) return []
    try {
      await this.begin(connection)
      const pipeline = connection.pipeline()
      for (const sql of statements) pipeline.execute(sql)
      const results = await pipeline.execute('COMMIT').run()
      requireCommit(results.at(-1)?.tag)
      return results
    } catch (error) {
      if (!connection.closed && connection.transactionStatus !== 'I') await connection.query('ROLLBACK')
      throw translate(error, what, 'sink')
    }
  }
}

/** COMMIT of a failed transaction is no error: it answers ROLLBACK (TRAPS 41). */
export function requireCommit(tag: string | undefined): void {
  if (tag !== 'COMMIT') throw new TailraceError('SINK_FAILED', `the target answered COMMIT with ${tag ?? 'nothing'}`)
}
