import type { SnapshotFormat, SnapshotFrame } from '../../../model/batch.ts'
import type { Position, View } from '../../../model/position.ts'
import { onAbort } from '../../../async/abort.ts'
import { keyNames } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { Chunk, ChunkPlan, Snapshot, SourceTable } from '../../../sdk/source.ts'
import type { PostgresConfig } from '../config.ts'
import { qualifiedName, quoteName, quoteText } from '../identifiers.ts'
import { openSession } from '../session.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError, translate } from '../wire/pg-error.ts'
import { catalogOf, readNames, readStorage, type CatalogTable } from './catalog.ts'
import { copyCommand, planChunks } from './chunks.ts'
import { copyTextToSlice, stripFrames } from './copy-rows.ts'
import { insertedEnd, untilFlushed } from './log-end.ts'
import { chosenShape } from './schema-diff.ts'
import { viewOfSnapshot } from './view.ts'

const FORMATS = { 'pg-copy-binary': 'binary', csv: 'csv', rows: 'text' } as const
const LOCKS_PER_STATEMENT = 500
const LOCK_TRIES = 3

/** Above this many locks in all, workers take theirs when they come to a table: the server's lock table is finite. */
const MOST_LOCKS = 2000

/** Sessions that hold locks on every table and, once it has one, the snapshot that the workers share. */
export class SnapshotKeeper implements AsyncDisposable {
  readonly #connection: PgConnection
  readonly #workers: PgConnection[]
  /** By which the tables were locked, by oid. */
  readonly #names: ReadonlyMap<number, string>

  private constructor(connection: PgConnection, workers: PgConnection[], names: ReadonlyMap<number, string>) {
    this.#connection = connection
    this.#workers = workers
    this.#names = names
  }

  get connection(): PgConnection {
    return this.#connection
  }

  /**
   * Locks first, snapshot later (TRAPS 7): no DDL can come between. While they are held nobody else's transaction may be
   * waited for: it may wait for us, to TRUNCATE what we have locked, and the server would see no deadlock (Invariant 9).
   * Workers lock all tables here too: later, a waiting TRUNCATE would stand in the queue between the keeper's lock and
   * theirs, and neither would ever get on. If one comes just now, all locks are let go, and taken after it.
   */
  static async lock(config: PostgresConfig, tables: readonly SourceTable[], workers: number, signal: AbortSignal): Promise<SnapshotKeeper> {
    const early = tables.length * (workers + 1) <= MOST_LOCKS ? workers : 0
    for (let left = LOCK_TRIES; ; left--) {
      const sessions: PgConnection[] = []
      try {
        const first = await openSession(config, signal)
        sessions.push(first)
        const names = await readNames(first, oidsOf(tables))
        for (let i = 0; i < early; i++) sessions.push(await openSession(config, signal))
        for (const [i, session] of sessions.entries()) {
          await lockTables(session, tables, names).catch((error: unknown) => {
            throw i > 0 && left > 1 && isLockTimeout(error) ? new QueuedBehind() : error
          })
        }
        return new SnapshotKeeper(first, sessions.slice(1), names)
      } catch (error) {
        for (const session of sessions) await session.end()
        if (!(error instanceof QueuedBehind)) throw lockError(error)
      }
    }
  }

  /**
   * The tables again, under lock: columns as the snapshot sees them (TRAPS 8). Null: one was renamed before it was locked or, as
   * `sql` sees it, rewritten after a snapshot that is older than the lock, which shows none of its rows (TRAPS 7).
   */
  async retake(
    ownSchema: string,
    tables: readonly SourceTable[],
    sql: PgConnection,
  ): Promise<{ tables: SourceTable[]; catalog: Map<number, CatalogTable> } | null> {
    const [names, marks] = [await readNames(sql, oidsOf(tables)), await readStorage(sql, oidsOf(tables))]
    const catalog = await catalogOf(this.#connection, ownSchema, tables)
    const fresh: SourceTable[] = []
    for (const table of tables) {
      const { relation } = table.schema
      const now = catalog.get(relation)
      if (now === undefined || !names.has(relation))
        throw new TailraceError('SOURCE_FAILED', `table ${table.id} was dropped while the snapshot was prepared`)
      const locked = this.#names.get(relation)
      if (locked !== qualifiedName(now.schema) || locked !== names.get(relation) || now.schema.storage !== marks.get(relation)) return null
      // Columns that came since they were chosen are read, too: of rows that this view shows the stream will tell nothing.
      fresh.push({ ...table, schema: chosenShape(table, table.schema, now.schema) })
    }
    return { tables: fresh, catalog }
  }

  /** Worker sessions that hold their locks already, now on the snapshot of that name. */
  async takeWorkers(name: string): Promise<PgConnection[]> {
    const workers = this.#workers.splice(0)
    for (const worker of workers) await joinSnapshot(worker, name, this.#connection)
    return workers
  }

  /** Takes over a snapshot that a walsender exported. */
  async adopt(name: string, exporter: PgConnection): Promise<void> {
    await joinSnapshot(this.#connection, name, exporter)
  }

  /**
   * The fence of this view, and the end of the log past which it needs no more asking (TRAPS 13, 17). `nudge` writes to the
   * log over another session.
   */
  async view(nudge: () => Promise<unknown>, signal: AbortSignal): Promise<{ view: View; insertEnd: bigint }> {
    const [row] = await this.#connection.rows('SELECT pg_current_snapshot()::text')
    const view = viewOfSnapshot(row?.[0] ?? '')
    const insertEnd = await insertedEnd(this.#connection)
    // Asynchronous commits are visible before they are durable: a server crash would leave phantom rows in the copy.
    await untilFlushed(this.#connection, insertEnd, nudge, signal)
    return { view, insertEnd }
  }

  /** A name under which workers import this session's snapshot, as long as it lives. */
  async export(): Promise<string> {
    const [row] = await this.#connection.rows('SELECT pg_export_snapshot()')
    return row?.[0] ?? ''
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers) await worker.end()
    await this.#connection.end()
  }
}

/** A worker's lock waits for somebody who waits for the keeper's. */
class QueuedBehind extends Error {}

function oidsOf(tables: readonly SourceTable[]): number[] {
  return tables.map(({ schema }) => schema.relation)
}

async function lockTables(connection: PgConnection, tables: readonly SourceTable[], known: ReadonlyMap<number, string>): Promise<void> {
  await connection.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  for (let i = 0; i < tables.length; i += LOCKS_PER_STATEMENT) {
    const names = tables.slice(i, i + LOCKS_PER_STATEMENT).map(({ schema }) => known.get(schema.relation) ?? qualifiedName(schema))
    await connection.query(`LOCK TABLE ${names.join(', ')} IN ACCESS SHARE MODE`)
  }
}

/** Parallel plans would take the server's workers away from its own users. */
async function joinSnapshot(connection: PgConnection, name: string, exporter: PgConnection): Promise<void> {
  try {
    await connection.query(`SET TRANSACTION SNAPSHOT ${quoteText(name)}; SET LOCAL max_parallel_workers_per_gather = 0`)
  } catch (error) {
    throw (await isAlive(exporter)) ? elsewhere(error) : gone(error)
  }
}

async function isAlive(exporter: PgConnection): Promise<boolean> {
  // A replication session does not run queries, nor does it need to: it says by its state whether it lives.
  if (exporter.options.replication === true || exporter.closed) return !exporter.closed
  return exporter.rows('SELECT 1').then(
    () => true,
    () => false,
  )
}

/** CASE 15: the session that exported the snapshot lives, and this one does not find it: it is not on the same server. */
function elsewhere(error: unknown): TailraceError {
  if (!(error instanceof PgError) || !['22023', '42704'].includes(error.code)) return translate(error, 'joining the snapshot', 'source')
  return severalServers(error)
}

export function severalServers(cause?: unknown): TailraceError {
  return new TailraceError('ENVIRONMENT', 'the sessions of one snapshot were not connected to one server', {
    cause,
    hint: 'name the server itself, or its primary, in the URI: a load balancer or a list of hosts may lead to others',
  })
}

function gone(error: unknown): TailraceError {
  return new TailraceError('UNREACHABLE', 'the session that held the snapshot was lost', { cause: error })
}

function isLockTimeout(error: unknown): boolean {
  return error instanceof PgError && error.code === '55P03'
}

function lockError(error: unknown): TailraceError {
  if (isLockTimeout(error)) {
    return new TailraceError('SOURCE_FAILED', 'a table of the source is locked by someone else (lock_timeout)', {
      cause: error,
      hint: 'a long ALTER or VACUUM FULL? See pg_locks; --source.lock-timeout SECONDS waits longer',
    })
  }
  return translate(error, 'locking the tables of the snapshot', 'source')
}

export interface SnapshotParts {
  readonly config: PostgresConfig
  readonly keeper: SnapshotKeeper
  readonly name: string
  /** Sessions on the snapshot, with their locks. */
  readonly workers: readonly PgConnection[]
  readonly tables: readonly SourceTable[]
  /** By oid. */
  readonly catalog: ReadonlyMap<number, CatalogTable>
  readonly position: Position | null
  readonly view: View | null
  readonly viewEnd: Position | null
  readonly clock: () => number
}

/** One view, shared by all workers. */
export class PostgresSnapshot implements Snapshot {
  readonly position: Position | null
  readonly view: View | null
  readonly viewEnd: Position | null
  readonly #parts: SnapshotParts
  readonly #idle: PgConnection[]
  readonly #busy = new Set<PgConnection>()
  readonly #born: number
  #closed = false

  constructor(parts: SnapshotParts) {
    this.#parts = parts
    this.#idle = [...parts.workers]
    this.position = parts.position
    this.view = parts.view
    this.viewEnd = parts.viewEnd
    this.#born = parts.clock()
  }

  tables(): readonly SourceTable[] {
    return this.#parts.tables
  }

  async plan(table: SourceTable, _signal: AbortSignal): Promise<ChunkPlan> {
    return planChunks(this.#parts.keeper.connection, table, this.#catalogOf(table), this.#parts.config.chunkBytes)
  }

  async hasKeyTwice({ schema, where }: SourceTable, signal: AbortSignal): Promise<boolean> {
    const { connection } = this.#parts.keeper
    const key = keyNames(schema).map(quoteName).join(', ')
    const condition = where === null ? '' : ` WHERE (${where})`
    using _ = onAbort(signal, () => void connection.cancel())
    return (
      (await connection.rows(`SELECT 'x' FROM ${qualifiedName(schema)}${condition} GROUP BY ${key} HAVING count(*) > 1 LIMIT 1`)).length > 0
    )
  }

  async *read(
    table: SourceTable,
    chunk: Chunk,
    format: SnapshotFormat,
    signal: AbortSignal,
  ): AsyncGenerator<SnapshotFrame, void, undefined> {
    this.#checkAge()
    const connection = await this.#session(signal)
    try {
      using _ = onAbort(signal, () => connection.destroy(new TailraceError('ABORTED', 'the snapshot was given up')))
      if (chunk.range.kind === 'key') await connection.query('SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off')
      yield* this.#copy(connection, table, chunk, format)
      this.#idle.push(connection)
    } catch (error) {
      throw translate(error, `reading ${table.id}`, 'source')
    } finally {
      this.#busy.delete(connection)
      if (!this.#idle.includes(connection)) connection.destroy()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    for (const connection of this.#busy) connection.destroy()
    await Promise.all(this.#idle.map((connection) => connection.end()))
    await this.#parts.keeper[Symbol.asyncDispose]()
  }

  async *#copy(
    connection: PgConnection,
    table: SourceTable,
    chunk: Chunk,
    format: SnapshotFormat,
  ): AsyncGenerator<SnapshotFrame, void, undefined> {
    await using copy = await connection.copyOut(copyCommand(table, chunk, this.#catalogOf(table).partitioned, FORMATS[format]))
    let rows = 0
    for (;;) {
      const stretch = await copy.next()
      if (stretch === null) break
      const bytes = stretch.data.length
      rows += stretch.messages
      if (format === 'rows') yield { format, slice: copyTextToSlice(table.schema, stretch.data), rows: stretch.messages, bytes }
      else yield { format, data: format === 'csv' ? stripFrames(stretch.data) : stretch.data, rows: stretch.messages, bytes }
      stretch.release()
    }
    // In binary the header rides with the first row and the trailer has a message of its own: the server's count is right.
    if (format === 'pg-copy-binary' && rows !== copy.rows) yield { format, data: Buffer.alloc(0), rows: copy.rows - rows, bytes: 0 }
    else if (rows !== copy.rows)
      throw new TailraceError('NOT_ACCOUNTED', `reading ${table.id}: PostgreSQL says that it sent ${copy.rows} rows, ${rows} arrived`)
  }

  async #session(signal: AbortSignal): Promise<PgConnection> {
    const idle = this.#idle.pop()
    if (idle !== undefined && !idle.closed) {
      this.#busy.add(idle)
      return idle
    }
    const connection = await openSession(this.#parts.config, signal)
    this.#busy.add(connection)
    try {
      await connection.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
      await joinSnapshot(connection, this.#parts.name, this.#parts.keeper.connection)
      return connection
    } catch (error) {
      this.#busy.delete(connection)
      await connection.end()
      throw translate(error, 'joining the snapshot', 'source')
    }
  }

  #catalogOf(table: SourceTable): CatalogTable {
    const found = this.#parts.catalog.get(table.schema.relation)
    if (found === undefined) throw new TailraceError('BUG', `table ${table.id} is not part of this snapshot`)
    return found
  }

  /** Invariant 9: an old snapshot keeps the server from cleaning up. */
  #checkAge(): void {
    const age = (this.#parts.clock() - this.#born) / 1000
    if (age <= this.#parts.config.snapshotMaxAge) return
    throw new TailraceError(
      'SNAPSHOT_TOO_OLD',
      `the snapshot transaction is ${Math.round(age)} s old, over the limit of ${this.#parts.config.snapshotMaxAge} s that protects the source`,
      {
        hint: 'start again: finished chunks are kept where the table is cut by key; --source.snapshot-max-age SECONDS raises the limit',
      },
    )
  }
}
