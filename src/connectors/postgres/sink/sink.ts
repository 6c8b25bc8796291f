import type { Barrier, SnapshotFormat, StreamBatch } from '../../../model/batch.ts'
import type { Position } from '../../../model/position.ts'
import type { TableId } from '../../../model/schema.ts'
import type { ConnectorContext } from '../../../sdk/connector.ts'
import { TailraceError, type Problem } from '../../../sdk/errors.ts'
import type { ApplyOptions, Checkpoint, Loader, LoadRequest, Misfit, Sink, SinkCheckpoints, SinkTable, Writer } from '../../../sdk/sink.ts'
import { DELETED_COLUMN } from '../../../sdk/soft-delete.ts'
import { quoteIdentifier } from '../../../sdk/sql/identifiers.ts'
import type { PostgresConfig } from '../config.ts'
import type { PgConnection } from '../wire/connection.ts'
import { translate } from '../wire/pg-error.ts'
import { fencedError, StreamWriter, type BarrierWork } from './apply.ts'
import { Bookkeeping } from './bookkeeping.ts'
import { postgresSinkCapabilities } from '../capabilities.ts'
import { checkTarget, findMisfits } from './check.ts'
import { describeTable, hopeful, requireNames, type DdlContext } from './ddl.ts'
import { newEnums, planEvolution, sizeOf, truncateSql } from './evolve.ts'
import { Fence } from './fenced.ts'
import { emptySql, startLoad } from './load.ts'
import { acceptsBinary } from './relay.ts'
import { ddlContext, makeEnums, makeTable, plannedContext, plannedTypes } from './schema-writer.ts'
import { Sealer } from './seal.ts'
import { abortable, type SinkSession } from './session.ts'
import { Sessions } from './sessions.ts'
import { placeOf, readTarget, requireTarget, targetSql, type TargetTable } from './target-table.ts'

/** A connected sink. One session was opened, so that a wrong password is said now. */
export async function openPostgresSink(config: PostgresConfig, context: ConnectorContext): Promise<PostgresSink> {
  const sessions = new Sessions(config, context)
  await sessions.admin(context.signal, async () => {})
  return new PostgresSink(config, context, sessions)
}

/**
 * PostgreSQL as a target: snapshots by COPY on parallel sessions, changes set by set on one, each batch with its position
 * in one transaction.
 */
export class PostgresSink implements Sink {
  readonly checkpoints: SinkCheckpoints
  readonly #config: PostgresConfig
  readonly #context: ConnectorContext
  readonly #sessions: Sessions
  readonly #bookkeeping: Bookkeeping
  readonly #fence: Fence
  readonly #tables = new Map<TableId, SinkTable>()
  /** Tables that have their indexes. */
  readonly #sealed = new Map<TableId, SinkTable>()
  readonly #askedLabels = new Set<string>()
  /** What the target has for each table, as `check` found it: for `describeSchema`. */
  readonly #contexts = new Map<TableId, DdlContext>()
  #epoch: number | null = null
  #writer: StreamWriter | null = null
  /** Once a newer runner has taken over, this one never writes again. */
  #fenced: TailraceError | null = null

  constructor(config: PostgresConfig, context: ConnectorContext, sessions: Sessions) {
    this.#config = config
    this.#context = context
    this.#sessions = sessions
    this.#bookkeeping = new Bookkeeping(config.schema, context.pipeline)
    this.#fence = new Fence(this.#bookkeeping, () => this.#epoch)
    this.checkpoints = {
      look: (signal) => this.#look(signal),
      writers: (table, signal) => this.#writers(table, signal),
      letGo: (tables, signal) => this.#letGo(tables, signal),
      claim: (signal) => this.#claim(signal),
      recover: (signal) => this.#recover(signal),
      store: (position, signal) => this.#store(position, signal),
    }
  }

  get #soft(): boolean {
    return this.#context.deletes === 'soft'
  }

  async check(tables: readonly SinkTable[], signal: AbortSignal): Promise<readonly Problem[]> {
    return this.#admin('checking the target', signal, async (session) => {
      const contextOf = async ({ id, schema }: SinkTable): Promise<DdlContext> => {
        const context = await plannedContext(session.connection, schema, this.#soft)
        this.#contexts.set(id, context)
        return context
      }
      return checkTarget(session, { config: this.#config, soft: this.#soft, contextOf }, tables)
    })
  }

  async inspect(table: SinkTable, signal: AbortSignal): Promise<'absent' | 'empty' | 'filled'> {
    return this.#admin(`looking at ${targetSql(table)}`, signal, async ({ connection }) => {
      if ((await readTarget(connection, table)) === null) return 'absent'
      const [row] = await connection.rows(`SELECT EXISTS (SELECT FROM ${targetSql(table)})`)
      return row?.[0] === 't' ? 'filled' : 'empty'
    })
  }

  async misfits(table: SinkTable, signal: AbortSignal): Promise<readonly Misfit[]> {
    return this.#admin(`looking at ${targetSql(table)}`, signal, async ({ connection }) => {
      const target = await readTarget(connection, table)
      return target === null ? [] : findMisfits(table.schema, target, await plannedTypes(connection, table.schema))
    })
  }

  async missingColumns(table: SinkTable, signal: AbortSignal): Promise<readonly string[] | null> {
    return this.#admin(`looking at ${targetSql(table)}`, signal, async ({ connection }) => {
      const target = await readTarget(connection, table)
      return target === null ? null : table.schema.columns.flatMap(({ name }) => (target.columns.has(name) ? [] : [name]))
    })
  }

  describeSchema(table: SinkTable): readonly string[] {
    return describeTable(table, this.#contexts.get(table.id) ?? hopeful(this.#soft))
  }

  async applySchema(
    table: SinkTable,
    previous: SinkTable | null,
    signal: AbortSignal,
    { replace = false, takeOver = false }: ApplyOptions = {},
  ): Promise<void> {
    requireNames(table)
    await this.#admin(`making the table ${targetSql(table)}`, signal, async ({ connection }) => {
      // Before the table is made: unlike the other way round, a crash in between leaves no table that seems to be nobody's.
      if (this.#epoch !== null)
        await this.#fence.run(connection, this.#bookkeeping.noteWriter(placeOf(table), takeOver), `taking ${targetSql(table)}`)
      if (replace) await this.#fence.run(connection, [`DROP TABLE IF EXISTS ${targetSql(table)}`], `replacing ${targetSql(table)}`)
      const exists =
        (await readTarget(connection, table)) !== null || (previous !== null && (await readTarget(connection, previous)) !== null)
      if (previous !== null && exists && previous.schema !== table.schema) await this.#evolve(connection, previous, table)
      else await makeTable(connection, table, { logger: this.#context.logger, soft: this.#soft })
    })
    this.#tables.set(table.id, table)
    if (this.#sealed.has(table.id)) this.#sealed.set(table.id, table)
    this.#writer?.forget()
  }

  async #evolve(connection: PgConnection, previous: SinkTable, table: SinkTable): Promise<void> {
    await makeEnums(connection, newEnums(previous.schema, table.schema))
    // A renamed table may have its new name already, from a start that did not come further.
    const place = (await readTarget(connection, previous)) === null ? { ...previous, target: table.target } : previous
    const evolution = await planEvolution(connection, place, {
      schema: table.schema,
      context: await ddlContext(connection, table.schema, false),
    })
    await this.#fence.run(connection, evolution.statements, `changing the shape of ${table.id}`)
  }

  async clear(table: SinkTable, signal: AbortSignal, { softly = false }: { readonly softly?: boolean } = {}): Promise<void> {
    await this.#admin(`emptying ${targetSql(table)}`, signal, async ({ connection }) => {
      const target = await requireTarget(connection, table)
      const statements = softly
        ? [emptySql(target, table.schema, softly)]
        : truncateSql([target], { restartIdentity: false, bytes: Infinity, soft: false })
      await this.#fence.run(connection, statements, `emptying ${targetSql(table)}`)
    })
  }

  /** Formats that this table's rows may come in, best first: COPY BINARY only where every type is the same on both sides. */
  async formats(table: SinkTable, signal: AbortSignal): Promise<readonly SnapshotFormat[]> {
    const binary = await this.#admin(`looking at ${targetSql(table)}`, signal, async ({ connection }) =>
      acceptsBinary(table.schema, await requireTarget(connection, table)),
    )
    return postgresSinkCapabilities.formats.filter((format) => binary || format !== 'pg-copy-binary')
  }

  async load(request: LoadRequest, signal: AbortSignal): Promise<Loader> {
    if (this.#fenced !== null) throw this.#fenced
    return startLoad(this.#sessions, this.#fence, request, signal)
  }

  async seal(tables: readonly SinkTable[], signal: AbortSignal): Promise<readonly Problem[]> {
    const problems = await this.#admin('making indexes and constraints', signal, (session) =>
      new Sealer(session, this.#fence, this.#soft).seal(tables, [...this.#sealed.values()]),
    )
    for (const table of tables) this.#sealed.set(table.id, table)
    this.#writer?.forget()
    return problems
  }

  async write(batch: StreamBatch, signal: AbortSignal): Promise<void> {
    const writer = this.#requireWriter()
    await this.#guard(writer, signal, () => writer.write(batch))
  }

  async count(table: SinkTable, signal: AbortSignal): Promise<bigint> {
    return this.#admin(`counting ${targetSql(table)}`, signal, async ({ connection }) =>
      BigInt(
        (
          await connection.rows(
            `SELECT count(*) FROM ${targetSql(table)}${this.#soft ? ` WHERE NOT ${quoteIdentifier(DELETED_COLUMN)}` : ''}`,
          )
        )[0]?.[0] ?? 0,
      ),
    )
  }

  async remove(signal: AbortSignal): Promise<readonly string[]> {
    await this.#closeWriter()
    return this.#admin('removing the bookkeeping', signal, ({ connection }) => this.#bookkeeping.remove(connection))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#closeWriter()
    await this.#sessions[Symbol.asyncDispose]()
  }

  #look(signal: AbortSignal): Promise<Checkpoint | null> {
    return this.#admin('looking at the bookkeeping', signal, ({ connection }) => this.#bookkeeping.look(connection))
  }

  #writers(table: SinkTable, signal: AbortSignal): Promise<readonly Writer[]> {
    return this.#admin('looking at the bookkeeping', signal, ({ connection }) => this.#bookkeeping.writers(connection, placeOf(table)))
  }

  async #letGo(tables: readonly SinkTable[], signal: AbortSignal): Promise<void> {
    const statements = tables.map((table) => this.#bookkeeping.forgetWriter(placeOf(table)))
    await this.#admin('letting tables go', signal, ({ connection }) => this.#fence.run(connection, statements, 'letting tables go'))
  }

  async #claim(signal: AbortSignal): Promise<Checkpoint> {
    await this.#closeWriter()
    const session = await this.#sessions.open('stream', signal)
    try {
      const checkpoint = await abortable(session.connection, signal, async () => {
        await this.#bookkeeping.ensure(session.connection)
        return this.#bookkeeping.claim(session.connection, this.#sessions.own())
      })
      this.#epoch = checkpoint.epoch
      this.#writer = this.#newWriter(session, checkpoint.position)
      return checkpoint
    } catch (error) {
      await this.#sessions.discard(session)
      throw translate(error, 'taking the target over', 'sink')
    }
  }

  async #recover(signal: AbortSignal): Promise<Checkpoint> {
    const epoch = this.#epoch
    if (epoch === null) throw new TailraceError('BUG', 'the target was never claimed')
    await this.#closeWriter()
    const session = await this.#sessions.open('stream', signal)
    try {
      const stored = await abortable(session.connection, signal, () => this.#bookkeeping.look(session.connection))
      if (stored === null || stored.epoch !== epoch) throw fencedError(stored?.epoch ?? null, epoch)
      this.#writer = this.#newWriter(session, stored.position)
      return stored
    } catch (error) {
      await this.#sessions.discard(session)
      throw this.#noteFenced(translate(error, 'reading the position stored in the target', 'sink'))
    }
  }

  async #store(position: Position | null, signal: AbortSignal): Promise<void> {
    const writer = this.#requireWriter()
    await this.#guard(writer, signal, () => writer.store(position))
  }

  #requireWriter(): StreamWriter {
    if (this.#fenced !== null) throw this.#fenced
    if (this.#writer !== null) return this.#writer
    if (this.#epoch === null) throw new TailraceError('BUG', 'the target has to be claimed before it is written to')
    throw new TailraceError('SINK_FAILED', 'the target has to be recovered after an error before it is written to')
  }

  async #guard(writer: StreamWriter, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    try {
      await abortable(writer.session.connection, signal, work)
    } catch (error) {
      throw this.#noteFenced(translate(error, 'writing to the target', 'sink'))
    }
  }

  #noteFenced(error: TailraceError): TailraceError {
    if (error.code === 'FENCED') this.#fenced = error
    return error
  }

  #newWriter(session: SinkSession, position: Position | null): StreamWriter {
    const host = {
      bookkeeping: this.#bookkeeping,
      logger: this.#context.logger,
      soft: this.#soft,
      table: (id: TableId) => this.#table(id),
      askedLabels: this.#askedLabels,
      barrier: (barrier: Barrier, stream: SinkSession) => this.#barrier(barrier, stream),
    }
    return new StreamWriter(host, session, this.#epoch ?? 0, position)
  }

  async #barrier(barrier: Barrier, { connection }: SinkSession): Promise<BarrierWork> {
    if (barrier.kind === 'truncate') {
      const targets: TargetTable[] = []
      for (const schema of barrier.tables) targets.push(await requireTarget(connection, this.#table(schema.id)))
      return {
        statements: truncateSql(targets, {
          restartIdentity: barrier.restartIdentity,
          bytes: await sizeOf(connection, targets),
          soft: this.#soft,
        }),
        done: () => {},
      }
    }
    const context = await this.#sessions.admin(this.#context.signal, async (admin) => {
      await makeEnums(admin.connection, newEnums(barrier.previous, barrier.schema))
      return ddlContext(admin.connection, barrier.schema, false)
    })
    const { statements, table } = await planEvolution(
      connection,
      { ...this.#table(barrier.previous.id), schema: barrier.previous },
      { schema: barrier.schema, context },
      barrier.changes,
    )
    return { statements, done: () => this.#renamed(barrier.previous.id, table) }
  }

  #renamed(from: TableId, table: SinkTable): void {
    this.#tables.delete(from)
    if (this.#sealed.delete(from)) this.#sealed.set(table.id, table)
    this.#tables.set(table.id, table)
  }

  #table(id: TableId): SinkTable {
    const table = this.#tables.get(id)
    if (table === undefined) throw new TailraceError('BUG', `rows of ${id} came before its target table was made`)
    return table
  }

  async #admin<T>(what: string, signal: AbortSignal, work: (session: SinkSession) => Promise<T>): Promise<T> {
    try {
      return await this.#sessions.admin(signal, work)
    } catch (error) {
      throw translate(error, what, 'sink')
    }
  }

  async #closeWriter(): Promise<void> {
    const writer = this.#writer
    this.#writer = null
    if (writer !== null) await this.#sessions.discard(writer.session)
  }
}
