import { existsSync } from 'node:fs'
import type { Barrier, StreamBatch } from '../../model/batch.ts'
import type { Position } from '../../model/position.ts'
import { isKeptUnique, keyNames, type TableId, type TableSchema } from '../../model/schema.ts'
import type { ConnectorContext } from '../../sdk/connector.ts'
import { asTailraceError, TailraceError, type Problem } from '../../sdk/errors.ts'
import type { ApplyOptions, Checkpoint, Loader, LoadRequest, Misfit, Sink, SinkCheckpoints, SinkTable, Writer } from '../../sdk/sink.ts'
import { applySlice } from './apply.ts'
import { Bookkeeping } from './bookkeeping.ts'
import { readExisting } from './catalog.ts'
import { checkWithoutOpening } from './check.ts'
import type { DuckDbConfig } from './config.ts'
import { Conflicts } from './conflicts.ts'
import { inTransaction, type Connection } from './connection.ts'
import { canonicalPath, scratchOf, type Database } from './database.ts'
import { createStatements, describeTarget, describeTypes, dropWhatStands, evolveTable, findMisfits, findMissing } from './ddl.ts'
import { kindOf, translate } from './duckdb-errors.ts'
import { requireUnique } from './key.ts'
import { ChunkLoader, emptySql } from './load.ts'
import { Stage } from './stage.ts'
import { DELETED, placeOf, placeSql, type ShapeOptions, type TargetTable } from './target-table.ts'
import { Turnstile } from './turnstile.ts'

/** Takes of a claim that met another transaction's commit. */
const CLAIM_ATTEMPTS = 5

export class DuckDbSink implements Sink {
  readonly #context: ConnectorContext
  readonly #config: DuckDbConfig
  readonly #path: string
  readonly #shape: ShapeOptions
  readonly #bookkeeping: Bookkeeping
  readonly #scratch: () => string
  readonly #file: Turnstile
  readonly #tables = new Map<TableId, SinkTable>()
  /** The targets as they stand, made when first needed and after each change of shape. */
  readonly #targets = new Map<TableId, TargetTable>()
  /** Tables whose rows were seen to be apart by their key. */
  readonly #unique = new Set<TableId>()
  /** Tables that rows were deleted from in the stream's transaction. */
  readonly #deletedFrom = new Set<string>()
  readonly #conflicts = new Conflicts()
  /** Of the database as it is open now: it is another one after it was released or given up. */
  #stage: Stage | null = null
  #epoch: number | null = null
  /** What ended the last write; nothing is written until `recover`. */
  #failure: TailraceError | null = null
  readonly checkpoints: SinkCheckpoints

  constructor(config: DuckDbConfig, context: ConnectorContext) {
    this.#context = context
    this.#config = config
    this.#path = canonicalPath(config.path)
    this.#shape = {
      softDeletes: context.deletes === 'soft',
      primaryKeys: config.primaryKeys,
      numeric: config.numeric,
      textColumns: config.textColumns,
    }
    this.#bookkeeping = new Bookkeeping(config.schema, context.pipeline)
    this.#scratch = scratchOf(context)
    this.#file = new Turnstile({
      path: this.#path,
      memoryLimit: config.memoryLimit ?? null,
      threads: config.threads,
      scratch: this.#scratch,
      logger: context.logger,
      idleMillis: config.releaseIdle * 1000,
    })
    this.checkpoints = {
      look: () => this.#look(),
      writers: (table) => this.#writers(table),
      letGo: (tables) => this.#letGo(tables),
      claim: () => this.#claim(),
      recover: () => this.#recover(),
      store: (position) => this.#store(position),
    }
  }

  async check(tables: readonly SinkTable[]): Promise<readonly Problem[]> {
    const problems = checkWithoutOpening({ path: this.#path, schema: this.#config.schema, shape: this.#shape }, tables)
    if (problems.some((problem) => problem.severity === 'error') || !existsSync(this.#path)) return problems
    try {
      await this.#file.use(async () => {})
      return problems
    } catch (error) {
      const { code, message, hint } = asTailraceError(error)
      return [...problems, { severity: 'error', code, message, path: 'path', ...(hint === undefined ? {} : { hint }) }]
    }
  }

  async inspect(table: SinkTable): Promise<'absent' | 'empty' | 'filled'> {
    if (!existsSync(this.#path)) return 'absent'
    return this.#file.use(async ({ control }) => {
      if ((await readExisting(control, placeOf(table))) === null) return 'absent'
      return (await hasRows(control, table)) ? 'filled' : 'empty'
    })
  }

  async misfits(table: SinkTable): Promise<readonly Misfit[]> {
    return existsSync(this.#path) ? this.#file.use(({ control }) => findMisfits(control, table, this.#shape)) : []
  }

  async missingColumns(table: SinkTable): Promise<readonly string[] | null> {
    return existsSync(this.#path) ? this.#file.use(({ control }) => findMissing(control, table, this.#shape)) : null
  }

  /** Committed rows: the stream's open transaction does not count. */
  async count(table: SinkTable): Promise<bigint> {
    const alive = this.#shape.softDeletes ? ` WHERE NOT ${DELETED}` : ''
    const [row] = await this.#file.use(({ control }) => control.rows(`SELECT count(*)::VARCHAR FROM ${placeSql(placeOf(table))}${alive}`))
    return BigInt(row?.[0] ?? 0)
  }

  describeSchema(table: SinkTable): readonly string[] {
    return createStatements(table, this.#shape).map((statement) => statement.replaceAll(/\btarget\./g, ''))
  }

  describeTypes(table: SinkTable): readonly string[] {
    return describeTypes(table, this.#shape)
  }

  async applySchema(
    table: SinkTable,
    previous: SinkTable | null,
    _signal: AbortSignal,
    { replace = false, takeOver = false }: ApplyOptions = {},
  ): Promise<void> {
    await this.#file.use(async ({ database, control }) => {
      const target = await inTransaction(control, `making the target of ${table.id}`, async () => {
        await this.#prove(control)
        if (replace) await dropWhatStands(control, table)
        await this.#makeOrEvolve(control, table, previous)
        await this.#bookkeeping.noteWriter(control, placeOf(table), takeOver)
        return describeTarget(control, table, this.#shape)
      })
      this.#tables.set(table.id, table)
      this.#targets.set(table.id, target)
      database.memory.widen(target.columns.length + target.extras.length)
      await database.applyMemory()
    })
  }

  async clear(table: SinkTable, _signal: AbortSignal, { softly = false }: { readonly softly?: boolean } = {}): Promise<void> {
    await this.#file.use(({ control }) =>
      inTransaction(control, `emptying the target of ${table.id}`, async () => {
        await this.#prove(control)
        await control.run(emptySql(placeSql(placeOf(table)), table.schema, softly))
        if (softly) return
        await this.#bookkeeping.keepKey(control, table, isKeptUnique(table.schema))
        this.#unique.delete(table.id)
      }),
    )
  }

  async load(request: LoadRequest, signal: AbortSignal): Promise<Loader> {
    const { table, chunk, replace, merge = false } = request
    const epoch = this.#requireEpoch()
    const hold = await this.#file.hold()
    try {
      const target = await this.#targetOf(hold.control, table.schema, table)
      return await ChunkLoader.open({
        database: hold.database,
        bookkeeping: this.#bookkeeping,
        conflicts: this.#conflicts,
        epoch,
        target,
        chunk,
        replace,
        merge,
        scratch: this.#scratch(),
        signal,
        closed: hold.letGo,
      })
    } catch (error) {
      hold.letGo()
      throw error
    }
  }

  async write(batch: StreamBatch, signal: AbortSignal): Promise<void> {
    if (this.#failure?.code === 'FENCED') throw this.#failure
    if (this.#failure !== null)
      throw new TailraceError('SINK_FAILED', 'the last write to DuckDB failed; the checkpoint has to be read again')
    if (batch.slices.length === 0 && batch.barrier === null && batch.position === null) return
    const epoch = this.#requireEpoch()
    await this.#file.use(async ({ database, stream }) => {
      try {
        if (!stream.inTransaction) await this.#begin(stream)
        if (batch.barrier === null) await this.#applySlices(database, stream, batch, signal)
        else await this.#applyBarrier(stream, batch.barrier)
        if (batch.position === null) return
        await this.#bookkeeping.advance(stream, epoch, batch.position)
        await stream.commit()
        this.#conflicts.passed()
      } catch (error) {
        await stream.rollback()
        this.#failure = this.#conflicts.settle(await database.settle(translate(error, 'writing a batch'), error))
        throw this.#failure
      }
      await database.letGoOfVersions()
    }, batch.position === null)
  }

  /** Nothing is made after the snapshot: keys are looked at, and the file is brought to its final form. */
  async seal(tables: readonly SinkTable[]): Promise<readonly Problem[]> {
    await this.#file.use(async ({ database, control }) => {
      for (const table of tables) {
        const target = await this.#targetOf(control, table.schema, table)
        await inTransaction(control, `looking at the key of ${table.id}`, () => this.#requireUnique(control, table, target))
      }
      await database.checkpoint()
    })
    return []
  }

  async remove(): Promise<readonly string[]> {
    if (!existsSync(this.#path)) return []
    const removed = await this.#file.use(async ({ stream, control }) => {
      await stream.rollback()
      return inTransaction(control, 'removing the bookkeeping', () => this.#bookkeeping.remove(control))
    })
    this.#epoch = null
    return removed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close()
  }

  async #look(): Promise<Checkpoint | null> {
    return existsSync(this.#path) ? this.#file.use(({ control }) => this.#bookkeeping.look(control)) : null
  }

  async #writers(table: SinkTable): Promise<readonly Writer[]> {
    return existsSync(this.#path) ? this.#file.use(({ control }) => this.#bookkeeping.writers(control, placeOf(table))) : []
  }

  async #letGo(tables: readonly SinkTable[]): Promise<void> {
    await this.#file.use(({ control }) =>
      inTransaction(control, 'letting tables go', async () => {
        await this.#prove(control)
        for (const table of tables) await this.#bookkeeping.forgetWriter(control, placeOf(table))
      }),
    )
  }

  async #claim(): Promise<Checkpoint> {
    const checkpoint = await this.#file.use(async ({ database, control, stream }) => {
      await stream.rollback()
      const claimed = await this.#tryClaim(control, CLAIM_ATTEMPTS)
      database.epochs.set(this.#bookkeeping.name, claimed.epoch)
      return claimed
    })
    this.#epoch = checkpoint.epoch
    this.#failure = null
    return checkpoint
  }

  /** The earlier runner may commit between our look and our commit: then one of the two transactions fails, perhaps ours. */
  async #tryClaim(control: Connection, attempts: number): Promise<Checkpoint> {
    try {
      return await inTransaction(control, 'taking the pipeline over', () => this.#bookkeeping.claim(control))
    } catch (error) {
      if (attempts <= 1 || kindOf(asTailraceError(error).cause) !== 'conflict') throw error
      return this.#tryClaim(control, attempts - 1)
    }
  }

  async #recover(): Promise<Checkpoint> {
    const epoch = this.#requireEpoch()
    await this.#file.renewIfBroken()
    const checkpoint = await this.#file.use(async ({ stream, control }) => {
      await stream.rollback()
      // Shapes may have been of the transaction that was rolled back.
      this.#targets.clear()
      return this.#bookkeeping.prove(control, epoch)
    })
    this.#failure = null
    return checkpoint
  }

  async #store(position: Position | null): Promise<void> {
    const epoch = this.#requireEpoch()
    await this.#file.use(async ({ control }) => {
      await inTransaction(control, 'storing the position', () => this.#bookkeeping.advance(control, epoch, position))
    })
  }

  async #begin(stream: Connection): Promise<void> {
    await stream.begin()
    this.#deletedFrom.clear()
  }

  async #applySlices(database: Database, connection: Connection, batch: StreamBatch, signal: AbortSignal): Promise<void> {
    if (this.#stage?.database !== database) this.#stage = new Stage(database, this.#scratch())
    const stage = this.#stage
    const slices = [...batch.slices].filter((slice) => slice.rows > 0).sort((a, b) => (a.order[0] ?? 0) - (b.order[0] ?? 0))
    for (const slice of slices) {
      const table = this.#tableOf(slice.schema)
      const target = await this.#targetOf(connection, slice.schema, table)
      await this.#requireUnique(connection, { ...table, schema: slice.schema }, target)
      const deleted = await applySlice({ database, connection, stage, logger: this.#context.logger, signal }, target, slice)
      if (deleted > 0) this.#deletedFrom.add(target.sql)
    }
  }

  async #applyBarrier(connection: Connection, barrier: Barrier): Promise<void> {
    if (barrier.kind === 'truncate') {
      for (const schema of barrier.tables) await this.#truncate(connection, placeSql(placeOf(this.#tableOf(schema))))
      return
    }
    const { target } = this.#tableOf(barrier.previous)
    const table: SinkTable = { id: barrier.schema.id, schema: barrier.schema, target }
    const noted = await this.#bookkeeping.shape(connection, placeOf(table))
    const previous = noted ?? barrier.previous
    await evolveTable(connection, {
      table,
      previous,
      changes: barrier.changes,
      options: this.#shape,
      noted: noted !== null,
      deletedFrom: this.#deletedFrom.has(placeSql(placeOf(table))),
    })
    await this.#keepShape(connection, table, noted)
    this.#tables.set(table.id, table)
    this.#targets.set(table.id, await describeTarget(connection, table, this.#shape))
  }

  /** In DuckDB both ways are O(1) in memory for whole tables, and seen by others only at COMMIT. */
  async #truncate(connection: Connection, table: string): Promise<void> {
    const sql = this.#shape.softDeletes ? `UPDATE ${table} SET ${DELETED} = true WHERE NOT ${DELETED}` : `DELETE FROM ${table}`
    if ((await connection.run(sql)) > 0) this.#deletedFrom.add(table)
  }

  async #makeOrEvolve(connection: Connection, table: SinkTable, previous: SinkTable | null): Promise<void> {
    const place = placeOf(table)
    if ((await readExisting(connection, place)) === null) {
      for (const statement of createStatements(table, this.#shape)) await connection.run(statement)
      return this.#bookkeeping.keepShape(connection, table, isKeptUnique(table.schema))
    }
    const noted = await this.#bookkeeping.shape(connection, place)
    await evolveTable(connection, {
      table,
      previous: noted ?? previous?.schema ?? table.schema,
      changes: [],
      options: this.#shape,
      noted: noted !== null,
      deletedFrom: false,
    })
    if (noted === null || shapeText(noted) !== shapeText(table.schema)) await this.#keepShape(connection, table, noted)
  }

  /** Rows that are apart by the key stay so when the key stays, or when the source keeps the new one unique. */
  async #keepShape(connection: Connection, table: SinkTable, noted: TableSchema | null): Promise<void> {
    const before = noted === null ? null : await this.#bookkeeping.uniqueKey(connection, placeOf(table))
    const wasUnique = before !== null || (noted === null && !(await hasRows(connection, table)))
    const isUnique = wasUnique && (isKeptUnique(table.schema) || before?.join('\0') === keyNames(table.schema).join('\0'))
    await this.#bookkeeping.keepShape(connection, table, isUnique)
    if (!isUnique) this.#unique.delete(table.id)
  }

  /** When a table's copy is complete, and before its first change. */
  async #requireUnique(connection: Connection, table: SinkTable, target: TargetTable): Promise<void> {
    if (this.#unique.has(table.id)) return
    if ((await this.#bookkeeping.uniqueKey(connection, target.place)) === null) {
      await requireUnique(connection, target)
      await this.#bookkeeping.keepKey(connection, table, true)
    }
    this.#unique.add(table.id)
  }

  /** The target for rows of this shape. Transforms may make a schema object per batch: the same shape keeps its target. */
  async #targetOf(connection: Connection, schema: TableSchema, table: SinkTable): Promise<TargetTable> {
    const known = this.#targets.get(schema.id)
    if (known !== undefined && (known.schema === schema || shapeText(known.schema) === shapeText(schema))) return known
    const target = await describeTarget(connection, { ...table, schema }, this.#shape)
    this.#targets.set(schema.id, target)
    return target
  }

  #tableOf(schema: TableSchema): SinkTable {
    const table = this.#tables.get(schema.id)
    if (table === undefined) throw new TailraceError('BUG', `the DuckDB sink was never told where table ${schema.id} goes`)
    return table
  }

  #requireEpoch(): number {
    if (this.#epoch === null) throw new TailraceError('BUG', 'the DuckDB sink was written to before it was claimed')
    return this.#epoch
  }

  async #prove(connection: Connection): Promise<void> {
    await this.#bookkeeping.prove(connection, this.#requireEpoch())
  }
}

async function hasRows(connection: Connection, table: SinkTable): Promise<boolean> {
  return (await connection.rows(`SELECT 'x' FROM ${placeSql(placeOf(table))} LIMIT 1`)).length > 0
}

/** What of a schema the target depends on. */
function shapeText(schema: TableSchema): string {
  return JSON.stringify([
    schema.columns.map(({ name, type, ordinal, generated, nullable, sourceType }) => [
      name,
      type,
      ordinal,
      generated,
      nullable,
      sourceType,
    ]),
    schema.key,
    schema.identity,
  ])
}
