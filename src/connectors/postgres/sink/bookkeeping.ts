import type { Position } from '../../../model/position.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { Checkpoint, Writer } from '../../../sdk/sink.ts'
import { quoteIdentifier, quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError } from '../wire/pg-error.ts'
import type { Parameter, Prepared } from '../wire/pipeline.ts'
import { demand } from './statements.ts'
import type { Place } from './target-table.ts'

/** How long a take-over waits for an earlier runner to end its transaction before it ends the runner's sessions. */
const PATIENCE_MS = 3000
const TERMINATE_MS = 10_000

/** A backend by pid and start: a pid alone is used again. */
export interface BackendId {
  readonly pid: number
  readonly start: string
}

/** A statement to be prepared once per connection, with its parameters. */
export interface Call {
  readonly statement: Prepared
  readonly params: readonly Parameter[]
}

/**
 * The row per pipeline that commits with its data: epoch (the fence) and position. Invariant 8, TRAPS 56–58.
 *
 * The position is compared and set, not set: after a lost connection the earlier backend may still have a whole batch with
 * its COMMIT in its receive buffer. Whichever of the two transactions comes second finds another position and fails.
 */
export class Bookkeeping {
  readonly schema: string
  readonly table: string
  /** Which pipelines write which table. */
  readonly #writers: string
  readonly #pipeline: string

  constructor(schema: string, pipeline: string) {
    this.schema = quoteIdentifier(schema)
    this.table = `${this.schema}.checkpoints`
    this.#writers = `${this.schema}.writers`
    this.#pipeline = pipeline
  }

  ddl(): readonly string[] {
    return [
      `CREATE SCHEMA IF NOT EXISTS ${this.schema}`,
      `CREATE TABLE IF NOT EXISTS ${this.table} (pipeline text PRIMARY KEY, epoch bigint NOT NULL, position text, pid integer, backend_start timestamptz, updated_at timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 20)`,
      `CREATE TABLE IF NOT EXISTS ${this.#writers} (namespace text, name text, pipeline text, PRIMARY KEY (namespace, name, pipeline))`,
    ]
  }

  /** Makes what is missing. Two pipelines may start at once: both run the same DDL, and one of them gets 23505 or 42P07. */
  async ensure(connection: PgConnection): Promise<void> {
    for (let attempt = 0; !((await this.exists(connection)) && (await this.#hasWriters(connection))); attempt++) {
      try {
        // Each by itself: CREATE SCHEMA IF NOT EXISTS asks for the right to create even when it exists.
        const [makeSchema = '', ...makeTables] = this.ddl()
        if (!(await this.#schemaExists(connection))) await connection.query(makeSchema)
        for (const makeTable of makeTables) await connection.query(makeTable)
      } catch (error) {
        if (!(error instanceof PgError) || !['23505', '42P06', '42P07'].includes(error.code) || attempt > 5) throw error
      }
    }
  }

  exists(connection: PgConnection): Promise<boolean> {
    return isThere(connection, this.table)
  }

  #hasWriters(connection: PgConnection): Promise<boolean> {
    return isThere(connection, this.#writers)
  }

  /** The pipelines of which the table is. */
  async writers(connection: PgConnection, place: Place): Promise<readonly Writer[]> {
    if (!(await this.#hasWriters(connection))) return []
    const rows = await connection.rows(
      `SELECT w.pipeline, c.position IS NOT NULL FROM ${this.#writers} w LEFT JOIN ${this.table} c USING (pipeline) WHERE ${samePlace(place)} ORDER BY 1`,
    )
    return rows.map(([pipeline, follows]) => ({ pipeline: pipeline ?? '', follows: follows === 't' }))
  }

  /** Statements that make the table this pipeline's; `alone`: and nobody else's any more. */
  noteWriter(place: Place, alone: boolean): readonly string[] {
    const values = [place.namespace, place.name, this.#pipeline].map(quoteLiteral).join(', ')
    return [
      ...(alone ? [`DELETE FROM ${this.#writers} WHERE ${samePlace(place)} AND pipeline <> ${quoteLiteral(this.#pipeline)}`] : []),
      `INSERT INTO ${this.#writers} (namespace, name, pipeline) VALUES (${values}) ON CONFLICT DO NOTHING`,
    ]
  }

  forgetWriter(place: Place): string {
    return `DELETE FROM ${this.#writers} WHERE ${samePlace(place)} AND pipeline = ${quoteLiteral(this.#pipeline)}`
  }

  /** Epoch + 1 under the row lock. FOR UPDATE, because snapshot workers hold FOR KEY SHARE, which a plain UPDATE would not wait for. */
  async claim(connection: PgConnection, ours: readonly BackendId[]): Promise<Checkpoint> {
    const key = quoteLiteral(this.#pipeline)
    // ON CONFLICT alone would wait for an earlier runner's open transaction, which has updated the row.
    await connection.query(
      `INSERT INTO ${this.table} (pipeline, epoch) SELECT ${key}, 0 WHERE NOT EXISTS (SELECT FROM ${this.table} WHERE pipeline = ${key}) ON CONFLICT DO NOTHING`,
    )
    const take = (patience: string): Promise<Checkpoint> => this.#take(connection, patience)
    try {
      return await take(`SET LOCAL lock_timeout = ${PATIENCE_MS}`)
    } catch (error) {
      if (!(error instanceof PgError) || error.code !== '55P03') throw error
    }
    await this.#endEarlierRunner(connection, ours)
    return take('SELECT')
  }

  async #take(connection: PgConnection, patience: string): Promise<Checkpoint> {
    const key = quoteLiteral(this.#pipeline)
    try {
      const results = await connection.query(
        `BEGIN; ${patience}; SELECT FROM ${this.table} WHERE pipeline = ${key} FOR UPDATE;
         UPDATE ${this.table} SET epoch = epoch + 1, pid = a.pid, backend_start = a.backend_start, updated_at = now()
           FROM pg_stat_activity a WHERE a.pid = pg_backend_pid() AND pipeline = ${key} RETURNING epoch, position; COMMIT`,
      )
      const row = results[3]?.rows[0]
      if (row === undefined || results.at(-1)?.tag !== 'COMMIT')
        throw new TailraceError('SINK_FAILED', `taking over pipeline ${this.#pipeline} in the target was rolled back`)
      return { epoch: Number(row[0]), position: (row[1] ?? null) as Position | null }
    } catch (error) {
      if (connection.transactionStatus !== 'I' && !connection.closed) await connection.query('ROLLBACK')
      throw error
    }
  }

  /** Sessions of the same role under the pipeline's name, or the one recorded at its take-over (TRAPS 57). */
  async #endEarlierRunner(connection: PgConnection, ours: readonly BackendId[]): Promise<void> {
    const own = ours.map((backend) => backend.pid)
    await connection.query(
      `SELECT pg_terminate_backend(a.pid, ${TERMINATE_MS}) FROM pg_stat_activity a
        WHERE a.usename = current_user AND a.datname = current_database() AND a.pid NOT IN (${[0, ...own].join(',')}) AND a.pid <> pg_backend_pid()
          AND (a.application_name = current_setting('application_name')
               OR EXISTS (SELECT FROM ${this.table} c WHERE c.pipeline = ${quoteLiteral(this.#pipeline)} AND c.pid = a.pid AND c.backend_start = a.backend_start))`,
    )
  }

  /** What is stored now; null when the row, or the table, is gone. */
  async look(connection: PgConnection): Promise<Checkpoint | null> {
    if (!(await this.exists(connection))) return null
    const [row] = await connection.rows(`SELECT epoch, position FROM ${this.table} WHERE pipeline = ${quoteLiteral(this.#pipeline)}`)
    return row === undefined ? null : { epoch: Number(row[0]), position: (row[1] ?? null) as Position | null }
  }

  /** First statement of a transaction that has its position with it. */
  advance(epoch: number, from: Position | null, to: Position | null): Call {
    const sql = `WITH d AS (UPDATE ${this.table} SET position = $4, updated_at = now() WHERE pipeline = $1 AND epoch = $2 AND position IS NOT DISTINCT FROM $3 RETURNING 1) SELECT ${demand('count(*) = 1')} FROM d`
    return { statement: { name: 'advance', sql }, params: [this.#pipeline, String(epoch), from, to] }
  }

  /** First statement of a transaction whose position comes later: takes the row lock all the same. */
  fence(epoch: number, from: Position | null): Call {
    return this.advance(epoch, from, from)
  }

  /**
   * First statement of a snapshot worker's transaction. TRAPS 56 has FOR SHARE, with which the stream's own position
   * update would wait for every chunk under way; FOR KEY SHARE lets it pass and still holds a take-over back.
   */
  share(epoch: number): Call {
    const sql = `WITH d AS (SELECT FROM ${this.table} WHERE pipeline = $1 AND epoch = $2 FOR KEY SHARE) SELECT ${demand('count(*) = 1')} FROM d`
    return { statement: { name: 'share', sql }, params: [this.#pipeline, String(epoch)] }
  }

  /** Removes the pipeline's row, then table and schema when nothing else is in them. Names what is gone. */
  async remove(connection: PgConnection): Promise<string[]> {
    // All or nothing: half of the tables would be taken for the whole bookkeeping.
    await connection.query('BEGIN')
    try {
      const removed = await this.#remove(connection)
      await connection.query('COMMIT')
      return removed
    } catch (error) {
      if (!connection.closed) await connection.query('ROLLBACK')
      throw error
    }
  }

  async #remove(connection: PgConnection): Promise<string[]> {
    if (!(await this.exists(connection))) return []
    const removed: string[] = []
    const hasWriters = await this.#hasWriters(connection)
    if (hasWriters) await connection.query(`DELETE FROM ${this.#writers} WHERE pipeline = ${quoteLiteral(this.#pipeline)}`)
    const [deleted] = await connection.query(`DELETE FROM ${this.table} WHERE pipeline = ${quoteLiteral(this.#pipeline)}`)
    if (deleted?.tag === 'DELETE 1') removed.push(`row of ${this.#pipeline} in ${this.table}`)
    const [left] = await connection.rows(`SELECT EXISTS (SELECT FROM ${this.table})`)
    if (left?.[0] === 't') return removed
    await connection.query(`DROP TABLE ${this.table}`)
    removed.push(`table ${this.table}`)
    if (hasWriters) {
      await connection.query(`DROP TABLE ${this.#writers}`)
      removed.push(`table ${this.#writers}`)
    }
    const [used] = await connection.rows(
      `SELECT EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = ${quoteLiteral(this.schema)}::regnamespace)`,
    )
    if (used?.[0] === 't') return removed
    await connection.query(`DROP SCHEMA ${this.schema}`)
    return [...removed, `schema ${this.schema}`]
  }

  async #schemaExists(connection: PgConnection): Promise<boolean> {
    const [row] = await connection.rows(`SELECT to_regnamespace(${quoteLiteral(this.schema)}) IS NOT NULL`)
    return row?.[0] === 't'
  }
}

function samePlace({ namespace, name }: Place): string {
  return `namespace = ${quoteLiteral(namespace)} AND name = ${quoteLiteral(name)}`
}

async function isThere(connection: PgConnection, table: string): Promise<boolean> {
  const [row] = await connection.rows(`SELECT to_regclass(${quoteLiteral(table)}) IS NOT NULL`)
  return row?.[0] === 't'
}

/**
 * Ends a backend of ours whose connection was lost, and waits until it is gone: what it had received but not yet run must
 * not be committed after we have looked.
 */
export async function endBackend(connection: PgConnection, backend: BackendId): Promise<void> {
  const where = `pid = ${backend.pid} AND backend_start = ${quoteLiteral(backend.start)}`
  await connection.query(`SELECT pg_terminate_backend(pid, ${TERMINATE_MS}) FROM pg_stat_activity WHERE ${where}`)
  const [row] = await connection.rows(`SELECT EXISTS (SELECT FROM pg_stat_activity WHERE ${where})`)
  if (row?.[0] === 't') throw new TailraceError('SINK_FAILED', 'an earlier session of this runner still works in the target')
}
