import { onAbort } from '../../../async/abort.ts'
import type { StreamBatch, Slice } from '../../../model/batch.ts'
import type { Position, Transaction, View } from '../../../model/position.ts'
import { columnAt } from '../../../model/schema.ts'
import type { ConnectorContext } from '../../../sdk/connector.ts'
import { TailraceError, type Problem } from '../../../sdk/errors.ts'
import { selectTables } from '../../../sdk/selection.ts'
import type { Purpose, Retention, Selection, Snapshot, SnapshotRequest, Source, SourceTable, StreamRequest } from '../../../sdk/source.ts'
import type { PostgresConfig } from '../config.ts'
import { qualifiedName, quoteName, quoteText } from '../identifiers.ts'
import { openSession } from '../session.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError, translate } from '../wire/pg-error.ts'
import { sayingWho } from './blockers.ts'
import { readCatalog } from './catalog.ts'
import { checkLoop, checkSource } from './check.ts'
import { copyTextToSlice } from './copy-rows.ts'
import { createSlot, dropUnreadSlot, historyLost, lostSlot, OriginKeeper, slotState, slotTaken, type Origin } from './origin.ts'
import { flushedEnd, insertedEnd, isStandby, nudgeLog, untilFlushed } from './log-end.ts'
import { Publisher } from './publisher.ts'
import { comparePositions, parseLsn, readPosition, writePosition } from './position.ts'
import type { Relations } from './relations.ts'
import { hasSameColumns } from './schema-diff.ts'
import { PostgresSnapshot, severalServers, SnapshotKeeper, type SnapshotParts } from './snapshot.ts'
import { identify, readStream, startStream, validatePosition } from './stream.ts'
import type { StreamReader } from './stream-reader.ts'
import { checkStrays } from './strays.ts'
import { covers } from './view.ts'
import { Watch, watched } from './watch.ts'

const RETENTION_MILLIS = 5000
const SNAPSHOT_TRIES = 5

/** Errors of the server as ours, with what was being done: the engine decides by their class. */
async function said<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw translate(error, doing, 'source')
  }
}

/** PostgreSQL 14 to 18 as a source: COPY for the snapshot, pgoutput for the changes. */
export class PostgresSource implements Source {
  readonly #config: PostgresConfig
  readonly #context: ConnectorContext
  readonly #keeper: OriginKeeper
  readonly #publisher: Publisher
  #control: PgConnection
  #reader: StreamReader | null = null
  #identity: { system: string; timeline: number } | null = null
  #upstream: { what: string; drop: string }[] = []
  #retention: { at: number; value: Retention | null } = { at: 0, value: null }

  private constructor(config: PostgresConfig, context: ConnectorContext, control: PgConnection) {
    this.#config = config
    this.#context = context
    this.#control = control
    this.#keeper = new OriginKeeper(config, context)
    this.#publisher = new Publisher(config, context, this.#keeper)
  }

  static async open(config: PostgresConfig, context: ConnectorContext): Promise<PostgresSource> {
    const source = new PostgresSource(config, context, await openSession(config, context.signal))
    source.#upstream = await source.#keeper.upstream()
    return source
  }

  async check(
    tables: readonly SourceTable[],
    purpose: Purpose,
    signal: AbortSignal,
    beside: Parameters<Source['check']>[3] = [],
  ): Promise<readonly Problem[]> {
    return said('checking the source', async () => {
      const sql = await this.#sql(signal)
      const loops = purpose === 'copy' || beside.length === 0 ? [] : await checkLoop(sql, this.#config, beside)
      return [...(await checkSource(sql, this.#config, tables, purpose, await this.#keeper.known())), ...loops]
    })
  }

  async strays(signal: AbortSignal): Promise<readonly Problem[]> {
    return said('looking for what is kept upstream', async () =>
      checkStrays(await this.#sql(signal), this.#context.pipeline, await this.#keeper.names()),
    )
  }

  async discover(selection: Selection, signal: AbortSignal): Promise<readonly SourceTable[]> {
    return said('looking for tables', async () => {
      const catalog = await readCatalog(await this.#sql(signal), this.#config.schema)
      return selectTables(
        catalog.map((table) => table.schema),
        selection,
      )
    })
  }

  async count(table: SourceTable, signal: AbortSignal): Promise<{ rows: bigint; exact: boolean }> {
    return said('counting rows', async () => {
      // Of its own: it takes as long as it takes.
      await using sql = await openSession(this.#config, signal)
      const [row] = await sql.rows(
        `SELECT count(*) FROM ${qualifiedName(table.schema)}${table.where === null ? '' : ` WHERE ${table.where}`}`,
      )
      return { rows: BigInt(row?.[0] ?? 0), exact: true }
    })
  }

  async openSnapshot(request: SnapshotRequest, signal: AbortSignal): Promise<Snapshot> {
    return said('taking the snapshot', async () => {
      for (let left = SNAPSHOT_TRIES; left > 0; left--) {
        const taking = request.mode === 'origin' ? this.#origin(request, signal) : this.#freshView(request, signal)
        const parts = await taking.catch(nullIfRenamed)
        if (parts !== null) return new PostgresSnapshot(parts)
        this.#context.logger.info('a table was altered while the snapshot was taken: it is taken again')
      }
      throw new TailraceError('SOURCE_FAILED', `tables were altered each of ${SNAPSHOT_TRIES} times that the snapshot was taken`, {
        hint: 'start again when nobody alters them',
      })
    })
  }

  async anchor(tables: readonly SourceTable[], signal: AbortSignal): Promise<Position> {
    return said('making the replication slot', async () => {
      const known = await this.#keeper.known()
      if (known !== null) return this.#knownOrigin(known, tables, signal)
      const { position, walsender } = await this.#makeOrigin(tables, signal)
      await walsender.end()
      return position
    })
  }

  /** The slot that was made before, with more tables: it is never made anew. */
  async #knownOrigin(origin: Origin, tables: readonly SourceTable[], signal: AbortSignal): Promise<Position> {
    const sql = await this.#sql(signal)
    const state = await slotState(sql, origin.slot)
    const lost = lostSlot(origin, state)
    if (lost !== null) throw historyLost(lost)
    if (state.confirmed === null) throw historyLost(`replication slot ${origin.slot} has no position to read from`)
    await this.#publisher.publishMore(sql, origin, tables, 'followed', signal)
    return this.#position(state.confirmed, signal)
  }

  async assertResumable(from: Position, signal: AbortSignal): Promise<void> {
    await said('looking at the replication slot', async () => {
      const origin = await this.#made()
      await using walsender = await openSession(this.#config, signal, 'replication')
      await validatePosition(await this.#sql(signal), walsender, origin, readPosition(from))
    })
  }

  /** What the stream reads from. */
  async #made(): Promise<Origin> {
    const origin = await this.#keeper.known()
    if (origin !== null) return origin
    throw historyLost('this pipeline has no replication slot')
  }

  async *stream(request: StreamRequest, signal: AbortSignal): AsyncGenerator<StreamBatch, void, undefined> {
    try {
      yield* this.#follow(request, signal)
    } catch (error) {
      // Also while it still connects: who ends the stream expects no error.
      if (signal.aborted) return
      throw translate(error, 'following the changes', 'source')
    }
  }

  async *#follow(request: StreamRequest, signal: AbortSignal): AsyncGenerator<StreamBatch, void, undefined> {
    const origin = await this.#made()
    await using sql = await openSession(this.#config, signal)
    await using walsender = await openSession(this.#config, signal, 'replication')
    sql.patience = this.#config.silenceTimeout * 1000
    walsender.patience = sql.patience
    const open = await startStream(
      {
        sql,
        walsender,
        origin,
        ownSchema: this.#config.schema,
        request,
        clock: this.#context.clock,
        silenceMillis: this.#config.silenceTimeout * 1000,
      },
      signal,
    )
    await using reader = open.reader
    using _ = onAbort(signal, () => void reader[Symbol.asyncDispose]())
    this.#reader = reader
    // Half-open connections come in groups: a catalog query would be waited for until the end of time.
    const lost = (): TailraceError => new TailraceError('UNREACHABLE', 'the connection to PostgreSQL was lost')
    reader.onLost = () => {
      sql.destroy(lost())
      this.#control.destroy(lost())
    }
    const beat = this.#heartbeat(signal)
    try {
      yield* this.#guarded(watched(readStream(open), this.#watch(open.relations, sql, origin, request)), signal)
    } catch (error) {
      // What cut this connection may have cut the control session, too, without a word: it is opened again when needed.
      this.#control.destroy()
      throw error
    } finally {
      clearInterval(beat)
      this.#reader = null
    }
  }

  /** `--source.heartbeat`: something in the log of a quiet database, so that its slot does not hold back a busy neighbour's log. */
  #heartbeat(signal: AbortSignal): NodeJS.Timeout | undefined {
    if (this.#config.heartbeat === 0) return undefined
    const beat = async (): Promise<void> => {
      await (await this.#sql(signal)).rows("SELECT pg_logical_emit_message(false, 'tailrace', 'heartbeat')")
    }
    return setInterval(
      () => void beat().catch((error: Error) => this.#context.logger.debug(`heartbeat failed: ${error.message}`)),
      this.#config.heartbeat * 1000,
    )
  }

  /** Invariant 9: a budget for the log that the slot retains; over it the run stops and says so. */
  async *#guarded(batches: AsyncIterable<StreamBatch>, signal: AbortSignal): AsyncGenerator<StreamBatch, void, undefined> {
    const { retainedMax } = this.#config
    for await (const batch of batches) {
      yield batch
      if (retainedMax === 0 || batch.position === null) continue
      const retention = await this.retention(signal)
      if (retention === null || retention.retainedBytes <= retainedMax) continue
      throw new TailraceError(
        'SNAPSHOT_TOO_OLD',
        `replication slot ${retention.name} retains ${retention.retainedBytes} bytes of log, over the limit of ${retainedMax} that protects the source`,
        {
          hint: 'raise --source.retained-max, make the target faster, or drop the pipeline: tailrace remove <pipeline>',
        },
      )
    }
  }

  #watch(relations: Relations, sql: PgConnection, origin: Origin, { tables, from }: StreamRequest): Watch {
    return new Watch({
      relations,
      sql,
      origin,
      tables,
      from,
      memory: this.#publisher.memory,
      ours: this.#publisher.ours,
      intervalMillis: this.#config.watchInterval * 1000,
      clock: this.#context.clock,
    })
  }

  comparePositions(a: Position, b: Position): -1 | 0 | 1 | undefined {
    return comparePositions(a, b)
  }

  distance(from: Position, to: Position): number {
    return Number(readPosition(to).lsn - readPosition(from).lsn)
  }

  async head(signal: AbortSignal): Promise<Position> {
    return said('asking for the end of the log', async () => {
      const sql = await this.#sql(signal)
      if (this.#reader !== null) {
        // While streaming it is asked for again and again: only what can be sent counts, and nothing is written for it.
        this.#reader.ping()
        return this.#position(await flushedEnd(sql), signal)
      }
      return this.#wholeEnd(sql, signal)
    })
  }

  async endAt(time: number, signal: AbortSignal): Promise<Position | null> {
    return said('asking for the time of the server', async () => {
      const sql = await this.#sql(signal)
      const [row] = await sql.rows('SELECT extract(epoch FROM clock_timestamp())')
      return Number(row?.[0]) * 1000 > time ? this.#wholeEnd(sql, signal) : null
    })
  }

  /** End of the log with every commit that was answered, made durable. */
  async #wholeEnd(sql: PgConnection, signal: AbortSignal): Promise<Position> {
    const end = await insertedEnd(sql)
    await untilFlushed(sql, end, () => nudgeLog(sql), signal)
    return this.#position(end, signal)
  }

  async #nudge(signal: AbortSignal): Promise<void> {
    await nudgeLog(await this.#sql(signal))
  }

  async parsePosition(text: string, signal: AbortSignal): Promise<Position | null> {
    const [, system, timeline, place = text] = /^pg1:(\d+):(\d+):(.*)$/.exec(text) ?? []
    const lsn = parseLsn(place)
    if (lsn === null) return null
    const own = await this.#position(lsn, signal)
    // As `status` shows it: then it must be of this very cluster, or it would never be reached.
    if (system === undefined) return own
    return system === readPosition(own).system ? writePosition({ system, timeline: Number(timeline), lsn }) : null
  }

  covers(view: View, transaction: Transaction): boolean {
    return covers(view, transaction)
  }

  async fetch(
    table: SourceTable,
    keys: readonly (readonly string[])[],
    signal: AbortSignal,
  ): Promise<{ slice: Slice; view: View; viewEnd: Position } | null> {
    return said('fetching rows by key', async () => {
      await using keeper = await SnapshotKeeper.lock(this.#config, [table], 0, signal)
      const { view, insertEnd } = await keeper.view(() => this.#nudge(signal), signal)
      const now = await keeper.retake(this.#config.schema, [table], await this.#sql(signal))
      if (now === null || !hasSameColumns(now.tables[0]?.schema, table.schema)) return null
      const columns = table.schema.key.map((index) => columnAt(table.schema, index))
      const tuples = keys.map((key) => `(${key.map((value, i) => `${quoteText(value)}::${columns[i]?.sourceType ?? 'text'}`).join(', ')})`)
      const where = `(${columns.map((column) => quoteName(column.name)).join(', ')}) IN (${tuples.join(', ')})`
      const names = table.schema.columns.map((column) => quoteName(column.name)).join(', ')
      await using copy = await keeper.connection.copyOut(
        `COPY (SELECT ${names} FROM ${qualifiedName(table.schema)} WHERE ${where}) TO STDOUT`,
      )
      const pieces: Buffer[] = []
      for (let stretch = await copy.next(); stretch !== null; stretch = await copy.next()) {
        pieces.push(Buffer.from(stretch.data))
        stretch.release()
      }
      return { slice: copyTextToSlice(table.schema, Buffer.concat(pieces)), view, viewEnd: await this.#position(insertEnd, signal) }
    })
  }

  async confirm(position: Position): Promise<void> {
    this.#reader?.confirm(readPosition(position).lsn)
  }

  async retention(signal: AbortSignal): Promise<Retention | null> {
    return said('looking at the replication slot', async () => {
      const now = this.#context.clock()
      if (now - this.#retention.at < RETENTION_MILLIS) return this.#retention.value
      const origin = await this.#keeper.known()
      if (origin === null) return null
      const state = await slotState(await this.#sql(signal), origin.slot)
      const value = {
        name: origin.slot,
        retainedBytes: state.retainedBytes,
        status: state.exists ? state.walStatus : 'missing',
        remainingBytes: state.remainingBytes,
        active: state.active,
      }
      this.#retention = { at: now, value }
      return value
    })
  }

  plannedUpstream(): readonly { readonly what: string; readonly drop: string }[] {
    return this.#keeper.planned()
  }

  upstream(): readonly { readonly what: string; readonly drop: string }[] {
    return this.#upstream
  }

  limits(): readonly string[] {
    const { lockTimeout, snapshotMaxAge, retainedMax } = this.#config
    return [
      `locks on tables are given up after ${lockTimeout} s`,
      `the snapshot transaction lives ${snapshotMaxAge} s at most`,
      retainedMax === 0
        ? 'no limit on the log that the slot retains (--source.retained-max BYTES sets one)'
        : `the run stops when the slot retains more than ${retainedMax} bytes of log`,
    ]
  }

  async remove(signal: AbortSignal): Promise<readonly string[]> {
    return said('dropping what the pipeline made', async () => {
      const dropped = await this.#keeper.remove(await this.#sql(signal))
      this.#upstream = []
      return dropped
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reader?.[Symbol.asyncDispose]()
    await this.#control.end()
  }

  /** The control session, opened again when the server closed it. */
  async #sql(signal: AbortSignal): Promise<PgConnection> {
    if (this.#control.closed) this.#control = await openSession(this.#config, signal)
    this.#control.patience = this.#config.silenceTimeout * 1000
    return this.#control
  }

  async #position(lsn: bigint, signal: AbortSignal): Promise<Position> {
    if (this.#identity === null) {
      const [row] = await (
        await this.#sql(signal)
      ).rows('SELECT system_identifier, timeline_id FROM pg_control_system(), pg_control_checkpoint()')
      this.#identity = { system: row?.[0] ?? '', timeline: Number(row?.[1] ?? 0) }
    }
    return writePosition({ ...this.#identity, lsn })
  }

  async #makeOrigin(
    tables: readonly SourceTable[],
    signal: AbortSignal,
  ): Promise<{ position: Position; walsender: PgConnection; snapshot: string | null }> {
    const sql = await this.#sql(signal)
    const origin = await this.#keeper.intend()
    await this.#dropUnread(sql, origin, signal)
    await this.#publisher.publish(sql, origin, tables)
    const walsender = await openSession(this.#config, signal, 'replication')
    try {
      const server = await identify(walsender)
      // CASE 15: `check` has seen that the control session is not on one.
      if (await isStandby(walsender)) throw severalServers()
      this.#identity = server
      await this.#keeper.mark('creating')
      const making = createSlot(walsender, origin.slot, this.#config.failover, signal)
      const slot = await sayingWho(`making the replication slot ${origin.slot}`, making, {
        session: () => openSession(this.#config, signal),
        logger: this.#context.logger,
      })
      await this.#keeper.mark('made')
      this.#upstream = await this.#keeper.upstream()
      return {
        position: writePosition({ system: server.system, timeline: server.timeline, lsn: slot.consistentPoint }),
        walsender,
        snapshot: slot.snapshot,
      }
    } catch (error) {
      await walsender.end()
      throw error
    }
  }

  /**
   * TRAPS 11: this is only called while no position is saved, so a slot that we began to make is ours and nobody has read
   * from it.
   */
  async #dropUnread(sql: PgConnection, origin: Origin, signal: AbortSignal): Promise<void> {
    if (!(await slotState(sql, origin.slot)).exists) return
    if (!(await this.#keeper.mine())) throw slotTaken(origin.slot)
    this.#context.logger.info(`dropping replication slot ${origin.slot}, which an interrupted start left unread`)
    await dropUnreadSlot(sql, origin.slot, signal)
  }

  /**
   * The slot waits for transactions that may wait for a lock of ours, so the tables are locked after it: what came in between is
   * looked for. Null: something did.
   */
  async #origin(request: SnapshotRequest, signal: AbortSignal): Promise<SnapshotParts | null> {
    const { position, walsender, snapshot } = await this.#makeOrigin(request.tables, signal)
    let parts: SnapshotParts | null = null
    try {
      if (snapshot === null) throw new TailraceError('PROTOCOL', 'PostgreSQL made the slot but exported no snapshot')
      parts = await this.#locked(request, signal, async (keeper) => {
        await keeper.adopt(snapshot, walsender)
        // The slot's snapshot is exactly what lies before its consistent point, so nothing of the stream is covered (TRAPS 15).
        return { position, view: null, viewEnd: null }
      })
      return parts
    } finally {
      await walsender.end()
      if (parts === null) await this.#unmake(signal)
    }
  }

  /** A slot that nobody will read holds back the server's log. If it cannot be dropped now, the next start does. */
  async #unmake(signal: AbortSignal): Promise<void> {
    const origin = await this.#keeper.known()
    if (origin === null || signal.aborted) return
    try {
      await dropUnreadSlot(await this.#sql(signal), origin.slot, signal)
      await this.#keeper.mark(null)
      this.#upstream = await this.#keeper.upstream()
    } catch (error) {
      this.#context.logger.debug(`could not drop replication slot ${origin.slot}: ${String(error)}`)
    }
  }

  async #freshView(request: SnapshotRequest, signal: AbortSignal): Promise<SnapshotParts | null> {
    const origin = request.mode === 'again' ? await this.#keeper.known() : null
    // It waits for transactions that run: before anything is locked, as for a slot.
    if (origin !== null) await this.#publisher.publishMore(await this.#sql(signal), origin, request.tables, 'read', signal)
    return this.#locked(request, signal, async (keeper) => {
      // A standby shows what is flushed only (TRAPS 17), and a copy that does not follow needs no fence.
      if (request.mode === 'bounded' && (await isStandby(keeper.connection))) return { position: null, view: null, viewEnd: null }
      const { view, insertEnd } = await keeper.view(() => this.#nudge(signal), signal)
      return { position: null, view, viewEnd: await this.#position(insertEnd, signal) }
    })
  }

  /** Locks, then what `take` sees, shared by all workers. Null: the tables as seen are not the tables as locked. */
  async #locked(
    request: SnapshotRequest,
    signal: AbortSignal,
    take: (keeper: SnapshotKeeper) => Promise<Pick<SnapshotParts, 'position' | 'view' | 'viewEnd'>>,
  ): Promise<SnapshotParts | null> {
    const keeper = await SnapshotKeeper.lock(this.#config, request.tables, request.workers, signal)
    let parts: SnapshotParts | null = null
    try {
      const taken = await take(keeper)
      const found = await keeper.retake(this.#config.schema, request.tables, await this.#sql(signal))
      if (found === null) return null
      const name = await keeper.export()
      const workers = await keeper.takeWorkers(name)
      // A table that was renamed goes by the name that it was chosen by.
      const tables = found.tables.map((table) => ({ ...table, schema: { ...table.schema, id: table.id } }))
      parts = { ...taken, config: this.#config, keeper, name, workers, tables, catalog: found.catalog, clock: this.#context.clock }
      return parts
    } finally {
      if (parts === null) await keeper[Symbol.asyncDispose]()
    }
  }
}

/** A name that was right a moment ago, of a table that has another one by now: not the operator's mistake. */
function nullIfRenamed(error: unknown): null {
  const cause = error instanceof TailraceError ? error.cause : error
  if (cause instanceof PgError && cause.code === '42P01') return null
  throw error
}
