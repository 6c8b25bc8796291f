import type { Barrier, StreamBatch } from '../../../model/batch.ts'
import type { Position } from '../../../model/position.ts'
import type { TableId, TableSchema } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { Logger } from '../../../sdk/logger.ts'
import { tablesOption } from '../../../sdk/selection.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import { compact } from '../../../sdk/sql/compact.ts'
import { fillCells } from '../../../sdk/sql/fill.ts'
import { translatePgError } from '../wire/pg-error.ts'
import type { Bookkeeping } from './bookkeeping.ts'
import { compileRows, compileSets, entriesToFetch, fetchedCells, requestFetch, type Manner, type TableWork } from './compile.ts'
import { keyStatements, notUniqueError } from './key.ts'
import { unknownLabels } from './labels.ts'
import { Requests, StatementError } from './requests.ts'
import type { SinkSession } from './session.ts'
import { DEMAND_FAILED } from './statements.ts'
import { TablePlans } from './table-plans.ts'

/** What a stream writer needs to know of the tables, and who carries out schema changes. */
export interface ApplyHost {
  readonly bookkeeping: Bookkeeping
  readonly logger: Logger
  /** Deleted rows stay and are marked. */
  readonly soft: boolean
  table(id: TableId): SinkTable
  /** Labels of enums for which the source was asked to look at its types again: once each, however often a writer is made. */
  readonly askedLabels: Set<string>
  /** Statements for a barrier; run inside the stream's transaction. */
  barrier(barrier: Barrier, session: SinkSession): Promise<BarrierWork>
}

export interface BarrierWork {
  readonly statements: readonly string[]
  /** Called when the statements have run. */
  done(): void
}

/** Constraint errors that another manner of writing may not trip over: unique, exclusion, foreign key, twice the same key in an upsert. */
const CONSTRAINT_ERRORS: ReadonlySet<string> = new Set(['23505', '23P01', '23503', '21000'])
/** invalid_text_representation: also what an enum says of a label that it does not have. */
const NO_SUCH_LABEL = '22P02'

/**
 * Applies stream batches on one session, each with its position in one transaction (Invariant 4); parts of a large
 * transaction stay in one open transaction until the part that brings the position.
 */
export class StreamWriter {
  readonly #host: ApplyHost
  readonly #session: SinkSession
  readonly #epoch: number
  readonly #prepared = new Set<string>()
  readonly #plans: TablePlans
  /** Tables whose key index is known to be there: the stream may come before `seal` (TRAPS 4e). */
  readonly #keyed = new Set<TableId>()
  /** Tables whose inserts met rows that were there already: they go on as upserts. */
  readonly #repeating = new Set<TableId>()
  #position: Position | null
  #open = false
  #failed = false

  constructor(host: ApplyHost, session: SinkSession, epoch: number, position: Position | null) {
    this.#host = host
    this.#session = session
    this.#epoch = epoch
    this.#position = position
    this.#plans = new TablePlans(session.connection, (id) => host.table(id), host.soft)
  }

  get session(): SinkSession {
    return this.#session
  }

  get failed(): boolean {
    return this.#failed
  }

  /** The catalog of a table may have changed. */
  forget(): void {
    this.#plans.forget()
    this.#keyed.clear()
  }

  async write(batch: StreamBatch): Promise<void> {
    if (this.#failed) throw new TailraceError('SINK_FAILED', 'the target session failed before; the checkpoint has to be read again')
    try {
      if (batch.barrier !== null) await this.#barrier(batch.barrier, batch.position)
      else await this.#rows(batch)
    } catch (error) {
      this.#failed = true
      throw error
    }
  }

  /** Stores a position without rows. */
  async store(position: Position | null): Promise<void> {
    if (this.#open) throw new TailraceError('BUG', 'a position was stored while a transaction was half written')
    try {
      await this.#finish(this.#begin(position, true), position, true)
    } catch (error) {
      this.#failed = true
      throw await this.#explain(error)
    }
  }

  async #rows(batch: StreamBatch): Promise<void> {
    const works: TableWork[] = []
    for (const slice of [...batch.slices].sort((a, b) => (a.order[0] ?? 0) - (b.order[0] ?? 0))) {
      if (slice.rows === 0) continue
      const statements = await this.#plans.of(slice.schema)
      works.push({ statements, slice, compaction: compact(slice, statements.match) })
    }
    const manners = this.#manners(works)
    for (const [attempt, manner] of manners.entries()) {
      if (await this.#attempt(works, manner, batch.position, attempt + 1 < manners.length)) return
      this.#noteRetry(works, manners[attempt + 1])
    }
  }

  /** The manners to try, in order. */
  #manners(works: readonly TableWork[]): Manner[] {
    // A marked row may hold the key that comes again, and marking a row cascades to none.
    if (this.#host.soft) return ['upsert']
    // TRAPS 36: without the replica role foreign keys are checked and cascade, so only the source's own order is safe.
    const bound =
      !this.#session.replicaRole &&
      works.some(({ statements: { target } }) => target.references.length > 0 || target.referencedBy.length > 0)
    if (bound) return ['rows', 'rows-upsert']
    if (works.some((work) => this.#repeating.has(work.slice.schema.id))) return ['upsert', 'rows-upsert']
    const replaceFirst = works.some(({ statements }) => statements.settable.some((column) => column.target.identity === 'always'))
    const swap = works.some(({ statements }) => statements.hasOtherUniques)
    return [...(replaceFirst ? [] : ['place' as const]), ...(swap || replaceFirst ? ['replace' as const] : []), 'upsert', 'rows-upsert']
  }

  #noteRetry(works: readonly TableWork[], manner: Manner | undefined): void {
    if (manner !== 'upsert' && manner !== 'rows-upsert') return
    for (const { slice } of works) {
      if (this.#repeating.has(slice.schema.id)) continue
      this.#repeating.add(slice.schema.id)
      this.#host.logger.warn('a batch met a constraint of the target; its inserts are repeated over what is there', {
        table: slice.schema.id,
        manner,
      })
    }
  }

  /** False: a constraint was tripped, everything of this batch is rolled back, and another manner may do. */
  async #attempt(works: readonly TableWork[], manner: Manner, position: Position | null, again: boolean): Promise<boolean> {
    // A part of an open transaction can be repeated only from its own start.
    const savepoint = again && (this.#open || position === null)
    const wasOpen = this.#open
    const begins = !wasOpen
    const requests = begins ? this.#begin(position, position !== null) : this.#requests()
    if (savepoint) requests.run({ kind: 'savepoint' }, 'SAVEPOINT part')
    try {
      await this.#makeKeys(requests, works)
      const filled = await this.#fetchMissing(requests, works, manner)
      this.#defer(filled.requests, works)
      if (manner === 'rows' || manner === 'rows-upsert') compileRows(filled.requests, works, manner === 'rows-upsert')
      else for (const work of filled.works) compileSets(filled.requests, work, manner)
      if (savepoint) filled.requests.run({ kind: 'savepoint' }, 'RELEASE SAVEPOINT part')
      await this.#finish(filled.requests, position, begins && position !== null)
      for (const { slice } of works) this.#keyed.add(slice.schema.id)
      return true
    } catch (error) {
      if (!again || !(error instanceof StatementError) || error.purpose.kind !== 'rows' || !CONSTRAINT_ERRORS.has(error.error.code))
        throw this.#newLabel(error, works, await this.#explain(error))
      await this.#rollBack(savepoint)
      return false
    }
  }

  /** A label that the rows' schema does not know: the stream begins again at the last checkpoint, and its source looks at its types first. */
  #newLabel(error: unknown, works: readonly TableWork[], explained: unknown): unknown {
    if (!(error instanceof StatementError) || error.error.code !== NO_SUCH_LABEL) return explained
    const slice = works.find((work) => work.slice.schema.id === error.purpose.table)?.slice
    const labels = slice === undefined ? [] : unknownLabels(slice).filter((label) => !this.#host.askedLabels.has(label))
    if (slice === undefined || labels.length === 0) return explained
    for (const label of labels) this.#host.askedLabels.add(label)
    return new TailraceError(
      'SINK_FAILED',
      `writing to ${slice.schema.id}: rows have a new label of an enum, its type is looked at again`,
      {
        path: slice.schema.id,
      },
    )
  }

  /** In the stream's own transaction: another session would wait for what this one has locked. */
  async #makeKeys(requests: Requests, works: readonly TableWork[]): Promise<void> {
    // Once per table: a batch may hold several slices of it, and none of these statements has run yet.
    const schemas = new Map(works.map(({ slice }) => [slice.schema.id, slice.schema]))
    for (const schema of schemas.values()) {
      if (this.#keyed.has(schema.id)) continue
      const statements = await keyStatements(this.#session.connection, this.#host.table(schema.id))
      for (const sql of statements) requests.run({ kind: 'key', table: schema.id }, sql)
    }
  }

  /** Base rows' values for rows that are written as delete + insert but lack a column. A round trip, only when needed. */
  async #fetchMissing(
    requests: Requests,
    works: readonly TableWork[],
    manner: Manner,
  ): Promise<{ requests: Requests; works: readonly TableWork[] }> {
    if (manner === 'rows' || manner === 'rows-upsert') return { requests, works }
    const wanted = works.map((work) => ({ work, entries: entriesToFetch(work, manner) })).filter(({ entries }) => entries.length > 0)
    if (wanted.length === 0) return { requests, works }
    const first = requests.size
    const fetches = wanted.map(({ work, entries }) => requestFetch(requests, work, entries))
    const results = await requests.send()
    this.#open = true
    const filled = works.map((work) => {
      const at = fetches.findIndex((fetch) => fetch.work === work)
      const fetch = fetches[at]
      if (fetch === undefined) return work
      const cells = fetchedCells(fetch, results[first + at] ?? { rows: [], tag: '' })
      if (cells === null) throw holeError(work.slice.schema)
      const compaction = fillCells(work.compaction, cells)
      return { ...work, slice: compaction.slice, compaction }
    })
    return { requests: this.#requests(), works: filled }
  }

  /** TRAPS 39: deferrable constraints wait for the end of the transaction; what else holds at each row holds in the source too. */
  #defer(requests: Requests, works: readonly TableWork[]): void {
    if (works.some((work) => work.statements.target.deferrable)) requests.run({ kind: 'ddl' }, 'SET CONSTRAINTS ALL DEFERRED')
  }

  async #barrier(barrier: Barrier, position: Position | null): Promise<void> {
    const begins = !this.#open
    const work = await this.#host.barrier(barrier, this.#session)
    const requests = begins ? this.#begin(position, position !== null) : this.#requests()
    const table = barrier.kind === 'schema' ? barrier.schema.id : barrier.tables[0]?.id
    for (const sql of work.statements) requests.run({ kind: 'ddl', ...(table === undefined ? {} : { table }) }, sql)
    try {
      await this.#finish(requests, position, begins && position !== null)
    } catch (error) {
      throw await this.#explain(error)
    }
    work.done()
    if (barrier.kind === 'schema') this.forget()
  }

  #requests(): Requests {
    return new Requests(this.#session.connection, this.#prepared)
  }

  /** BEGIN and the fence; with `advance` the new position goes with it. */
  #begin(position: Position | null, advance: boolean): Requests {
    const requests = this.#requests()
    requests.call({ kind: 'begin' }, { name: 'begin', sql: 'BEGIN' }, [])
    this.#move(requests, advance ? position : this.#position)
    return requests
  }

  #move(requests: Requests, to: Position | null): void {
    const { statement, params } = this.#host.bookkeeping.advance(this.#epoch, this.#position, to)
    requests.call({ kind: 'fence' }, statement, params)
  }

  /** Sends it all; with a position also commits. `advanced`: the position is in the transaction already. */
  async #finish(requests: Requests, position: Position | null, advanced: boolean): Promise<void> {
    const commits = position !== null || advanced
    if (commits && !advanced) this.#move(requests, position)
    if (commits) requests.call({ kind: 'commit' }, { name: 'commit', sql: 'COMMIT' }, [])
    const results = await requests.send()
    this.#open = !commits
    if (!commits) return
    // COMMIT of a failed transaction is no error: it answers ROLLBACK (TRAPS 41).
    const tag = results.at(-1)?.tag
    if (tag !== 'COMMIT') throw new TailraceError('SINK_FAILED', `the target answered COMMIT with ${tag ?? 'nothing'}`)
    this.#position = position
  }

  async #rollBack(savepoint: boolean): Promise<void> {
    const { connection } = this.#session
    // Which statements were prepared before the error is not known, and a key made since BEGIN is gone.
    this.#prepared.clear()
    this.#keyed.clear()
    if (savepoint && connection.transactionStatus === 'E') {
      await connection.query('ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part; DEALLOCATE ALL')
      this.#open = true
      return
    }
    this.#open = false
    await connection.query('ROLLBACK; DEALLOCATE ALL')
  }

  /** Rolls back and says what happened in our words. */
  async #explain(error: unknown): Promise<unknown> {
    if (!(error instanceof StatementError)) return error
    await this.#rollBack(false)
    const { purpose, error: cause } = error
    if (purpose.kind === 'key' && purpose.table !== undefined && cause.code === '23505')
      return notUniqueError(this.#host.table(purpose.table))
    if (cause.code !== DEMAND_FAILED) return translatePgError(cause, doing(purpose.kind, purpose.table), 'sink', purpose.table)
    if (purpose.kind === 'fence') return this.#fenceError()
    return holeError(purpose.table === undefined ? null : this.#host.table(purpose.table).schema)
  }

  /** Another epoch: a newer runner. The same with another position: an earlier session of ours committed late. */
  async #fenceError(): Promise<TailraceError> {
    const stored = await this.#host.bookkeeping.look(this.#session.connection)
    if (stored?.epoch === this.#epoch)
      return new TailraceError('SINK_FAILED', 'the position stored in the target is not the one last written; it has to be read again')
    return fencedError(stored?.epoch ?? null, this.#epoch)
  }
}

export function fencedError(stored: number | null, ours: number): TailraceError {
  const what =
    stored === null ? 'the pipeline was removed from the target' : `a newer runner took the target over (epoch ${stored}, ours is ${ours})`
  return new TailraceError('FENCED', `${what}; nothing was written`, {
    hint: 'only one runner of a pipeline can write; stop this one or the other',
  })
}

function holeError(schema: TableSchema | null): TailraceError {
  const again = `tailrace resnapshot <pipeline>${schema === null ? '' : ` ${tablesOption([schema.id])}`}`
  return new TailraceError('NOT_ACCOUNTED', `${schema?.id ?? 'the target'}: the change log changes a row that is not in the target table`, {
    hint: `somebody else writes to the target, or the copy was not complete; ${again}`,
    ...(schema === null ? {} : { path: schema.id }),
  })
}

function doing(kind: string, table: TableId | undefined): string {
  if (kind === 'ddl') return `changing the shape of ${table ?? 'the target'}`
  return kind === 'commit' ? 'committing to the target' : `writing to ${table ?? 'the target'}`
}
