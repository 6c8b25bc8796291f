import type { DatabaseSync } from 'node:sqlite'
import type { Barrier, Slice } from '../../model/batch.ts'
import type { Position } from '../../model/position.ts'
import type { TableId, TableSchema } from '../../model/schema.ts'
import { TailraceError, type Problem } from '../../sdk/errors.ts'
import type { ApplyOptions, Checkpoint, Misfit, SinkTable, Writer } from '../../sdk/sink.ts'
import type { Chunk } from '../../sdk/source.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import { applySlices } from './apply.ts'
import { forgetDropped, forgetWriter, noteWriter, readCheckpoint, readWriters, removeBookkeeping, storePosition } from './bookkeeping.ts'
import { checkTarget, misfits } from './check.ts'
import { Connection } from './connection.ts'
import { fileIdentity, openReader, rows, value } from './database.ts'
import { createTable, hasColumn, keyIndexName, readTable, writableColumns, type Shape } from './ddl.ts'
import { CellEncoder } from './encode.ts'
import { changesByNumber, evolveTable } from './evolve.ts'
import { tableName } from './identifiers.ts'
import { deleteRange, emptySql } from './load.ts'
import { unpack } from './pack.ts'
import type { LogState, PostedBatch, WorkerCalls, WorkerSetup, Written } from './protocol.ts'
import { makeKeyIndex, sealTable } from './seal.ts'
import { TableStatements } from './statements.ts'
import { TableWriter } from './table-writer.ts'

/** The worker's side of the sink: everything that touches the file, one call after another. */
export class Target implements WorkerCalls {
  readonly #setup: WorkerSetup
  readonly #shape: Shape
  readonly #connection: Connection
  readonly #encoder = new CellEncoder()
  readonly #tables = new Map<TableId, SinkTable>()
  readonly #schemas = new Map<number, TableSchema>()
  readonly #writers = new Map<TableSchema, TableWriter>()
  /** Target tables whose key index was seen or made, outside or inside the transaction that is open. */
  readonly #indexed = new Set<string>()
  /** What the open transaction is for. After a failure `failed`: nothing is written until `recover` (TRAP 41). */
  #state: 'idle' | 'streaming' | 'loading' | 'failed' = 'idle'
  #loaded = 0
  #merges = false

  constructor(setup: WorkerSetup) {
    this.#setup = setup
    this.#shape = { decimals: setup.config.decimals, indexes: setup.config.indexes, softDeletes: setup.softDeletes }
    this.#connection = new Connection(setup)
    for (const table of setup.tables) this.#tables.set(table.id, table)
  }

  check(tables: readonly SinkTable[]): readonly Problem[] {
    return checkTarget(this.#setup, this.#shape, tables)
  }

  inspect(table: SinkTable): 'absent' | 'empty' | 'filled' {
    if (fileIdentity(this.#setup.path) === null) return 'absent'
    return this.#read((db) => {
      const found = readTable(db, tableName(table.target))
      if (found === null) return 'absent'
      return rows(db, `SELECT 1 FROM ${quote(found.name)} LIMIT 1`).length === 0 ? 'empty' : 'filled'
    })
  }

  misfits(table: SinkTable): readonly Misfit[] {
    if (fileIdentity(this.#setup.path) === null) return []
    return this.#read((db) => {
      const found = readTable(db, tableName(table.target))
      return found === null || found.kind !== 'table' ? [] : misfits(found, table, this.#shape)
    })
  }

  missingColumns(table: SinkTable): readonly string[] | null {
    if (fileIdentity(this.#setup.path) === null) return null
    return this.#read((db) => {
      const found = readTable(db, tableName(table.target))
      if (found === null) return null
      return writableColumns(table.schema).flatMap(({ name }) => (hasColumn(found, name) ? [] : [name]))
    })
  }

  /** Committed rows only: a source transaction that is half written does not count. */
  count(table: SinkTable): bigint {
    return this.#read((db) => {
      const name = tableName(table.target)
      const alive = this.#shape.softDeletes ? ` WHERE ${quote(DELETED_COLUMN)} = 0` : ''
      return BigInt(Number(value(db, `SELECT count(*) FROM ${quote(name)}${alive}`)))
    })
  }

  look(): Checkpoint | null {
    if (fileIdentity(this.#setup.path) === null) return null
    return this.#read((db) => readCheckpoint(db, this.#setup.pipeline))
  }

  writers(table: SinkTable): readonly Writer[] {
    if (fileIdentity(this.#setup.path) === null) return []
    return this.#read((db) => readWriters(db, tableName(table.target)))
  }

  letGo(tables: readonly SinkTable[]): void {
    this.#connection.run('letting tables go', (db) => {
      for (const { target } of tables) forgetWriter(db, this.#setup.pipeline, tableName(target))
    })
  }

  claim(): Checkpoint {
    return this.#connection.claim()
  }

  recover(): Checkpoint {
    this.#forget()
    const checkpoint = this.#connection.recover()
    this.#state = 'idle'
    return checkpoint
  }

  store(position: Position | null): void {
    this.#connection.run('storing the position', (db) => storePosition(db, this.#setup.pipeline, this.#connection.epoch ?? 0, position))
  }

  applySchema(table: SinkTable, previous: SinkTable | null, { replace = false, takeOver = false }: ApplyOptions): void {
    const name = tableName(table.target)
    this.#forget()
    this.#connection.run(`making table ${name}`, (db) => {
      if (replace) dropTable(db, name)
      if (readTable(db, name) === null) db.exec(createTable(name, table.schema, this.#shape))
      else
        evolveTable(db, {
          name,
          previous: previous?.schema ?? null,
          schema: table.schema,
          changes: changesByNumber(previous?.schema ?? null, table.schema),
          shape: this.#shape,
        })
      noteWriter(db, this.#setup.pipeline, name, takeOver)
    })
    this.#tables.set(table.id, table)
  }

  clear(table: SinkTable, softly: boolean): void {
    const name = tableName(table.target)
    this.#forget()
    this.#connection.run(`emptying table ${name}`, (db) => {
      db.exec(emptySql(table, softly))
      // Made again when it is needed: loading without it is faster.
      if (!softly) db.exec(`DROP INDEX IF EXISTS ${quote(keyIndexName(name))}`)
    })
  }

  write(batch: PostedBatch): Written {
    const slices = this.#receive(batch)
    const isNothing = slices.length === 0 && batch.barrier === null && batch.position === null
    if (isNothing) return { missed: 0, replaced: 0, log: null }
    this.#enter('streaming')
    try {
      if (batch.barrier !== null) this.#applyBarrier(batch.barrier)
      else applySlices(slices, (slice) => this.#streamWriter(slice.schema))
      return this.#finish(batch.position)
    } catch (error) {
      throw this.#failed(error, 'writing a batch', 'failed')
    }
  }

  beginLoad(table: SinkTable, chunk: Chunk, { replace, merge }: { readonly replace: boolean; readonly merge: boolean }): void {
    this.#tables.set(table.id, table)
    this.#loaded = 0
    this.#merges = merge
    this.#enter('loading')
    if (!replace && !merge) return
    try {
      this.#indexKey(tableName(table.target), table.schema)
      if (replace) deleteRange(this.#connection.db, table, chunk, this.#shape, merge && this.#shape.softDeletes)
    } catch (error) {
      throw this.#failed(error, 'emptying the range of a chunk', 'idle')
    }
  }

  loadRows(batch: PostedBatch): void {
    this.#mustLoad()
    try {
      for (const slice of this.#receive(batch)) {
        const writer = this.#writer(slice.schema, this.#merges ? 'replace' : 'refuse')
        const before = writer.inserted
        writer.apply(slice, 0, slice.rows)
        // What gave way does not come back: it was there before the reading.
        writer.settle()
        this.#loaded += writer.inserted - before
      }
    } catch (error) {
      throw this.#failed(error, 'loading a chunk', 'idle')
    }
  }

  finishLoad(): { readonly rows: number; readonly log: LogState } {
    this.#mustLoad()
    try {
      const log = this.#connection.commit()
      this.#state = 'idle'
      return { rows: this.#loaded, log }
    } catch (error) {
      throw this.#failed(error, 'loading a chunk', 'idle')
    }
  }

  abandonLoad(): void {
    if (this.#state !== 'loading') return
    this.#forget()
    this.#connection.rollback()
    this.#state = 'idle'
  }

  seal(tables: readonly SinkTable[]): readonly Problem[] {
    for (const table of tables)
      this.#connection.run(`making the indexes of table ${tableName(table.target)}`, (db) => sealTable(db, table, this.#shape))
    return []
  }

  remove(): readonly string[] {
    if (fileIdentity(this.#setup.path) === null) return []
    this.#forget()
    this.#connection.rollback()
    this.#state = 'idle'
    const isClaimed = this.#connection.epoch !== null
    const removed = this.#connection.run('removing the bookkeeping', (db) => removeBookkeeping(db, this.#setup.pipeline), isClaimed)
    this.#connection.epoch = null
    return removed
  }

  close(): void {
    this.#connection.rollback()
    this.#connection.close()
  }

  /** A reader of its own, so that nothing uncommitted is seen. */
  #read<T>(work: (db: DatabaseSync) => T): T {
    const db = openReader(this.#setup.path)
    try {
      return work(db)
    } finally {
      db.close()
    }
  }

  /** A transaction is begun, or goes on. Part of a streamed transaction is never begun in the middle. */
  #enter(state: 'streaming' | 'loading'): void {
    if (this.#state === 'failed') throw new TailraceError('SINK_FAILED', 'the last write to SQLite failed and nothing was recovered since')
    if (this.#state === state && state === 'streaming') return
    if (this.#state !== 'idle') throw new TailraceError('BUG', `the SQLite sink is ${this.#state} and was asked to begin ${state}`)
    this.#connection.begin()
    this.#state = state
  }

  /** Frames that were on their way when the chunk failed must not be written outside of its transaction. */
  #mustLoad(): void {
    if (this.#state !== 'loading') throw new TailraceError('SINK_FAILED', 'the chunk was given up, so its rows are not written')
  }

  #failed(error: unknown, doing: string, state: 'idle' | 'failed'): TailraceError {
    this.#forget()
    this.#state = state
    return this.#connection.failed(error, doing)
  }

  #finish(position: Position | null): Written {
    if (position === null) {
      for (const writer of this.#writers.values()) writer.carryOver()
      return { ...this.#takeSigns(), log: null }
    }
    for (const writer of this.#writers.values()) writer.settle()
    storePosition(this.#connection.db, this.#setup.pipeline, this.#connection.epoch ?? 0, position)
    const log = this.#connection.commit()
    this.#state = 'idle'
    return { ...this.#takeSigns(), log }
  }

  #applyBarrier(barrier: Barrier): void {
    const { db } = this.#connection
    if (barrier.kind === 'truncate') {
      for (const schema of barrier.tables)
        db.exec(this.#shape.softDeletes ? softTruncate(this.#nameOf(schema)) : `DELETE FROM ${quote(this.#nameOf(schema))}`)
      return
    }
    // A dropped table stays as it was last, as a dropped column does.
    if (barrier.changes.some((change) => change.kind === 'table-dropped')) return
    const table = this.#tableOf(barrier.previous)
    evolveTable(db, {
      name: tableName(table.target),
      previous: barrier.previous,
      schema: barrier.schema,
      changes: barrier.changes,
      shape: this.#shape,
    })
    this.#forgetStatements()
    this.#tables.set(barrier.schema.id, { id: barrier.schema.id, schema: barrier.schema, target: table.target })
  }

  #receive(batch: PostedBatch): readonly Slice[] {
    for (const { id, schema } of batch.schemas) this.#schemas.set(id, schema)
    return batch.slices.map((slice) => {
      const schema = this.#schemas.get(slice.schema)
      if (schema === undefined) throw new TailraceError('BUG', `the SQLite worker was not told schema ${slice.schema}`)
      return unpack(slice, schema)
    })
  }

  /** Streamed changes find rows by key: the index must be there from the first one on. */
  #streamWriter(schema: TableSchema): TableWriter {
    this.#indexKey(this.#nameOf(schema), schema)
    return this.#writer(schema, 'replace')
  }

  #writer(schema: TableSchema, collisions: TableWriter['collisions']): TableWriter {
    const writer =
      this.#writers.get(schema) ??
      new TableWriter(new TableStatements(this.#connection.db, this.#nameOf(schema), schema, this.#shape), this.#encoder)
    this.#writers.set(schema, writer)
    writer.collisions = collisions
    return writer
  }

  #indexKey(name: string, schema: TableSchema): void {
    if (this.#indexed.has(name)) return
    makeKeyIndex(this.#connection.db, name, schema)
    this.#indexed.add(name)
  }

  #tableOf(schema: TableSchema): SinkTable {
    const table = this.#tables.get(schema.id)
    if (table === undefined) throw new TailraceError('BUG', `the SQLite sink was never told where table ${schema.id} goes`)
    return table
  }

  #nameOf(schema: TableSchema): string {
    return tableName(this.#tableOf(schema).target)
  }

  #takeSigns(): { missed: number; replaced: number } {
    const signs = { missed: 0, replaced: 0 }
    for (const writer of this.#writers.values()) {
      signs.missed += writer.missed
      signs.replaced += writer.replaced
      writer.missed = 0
      writer.replaced = 0
    }
    return signs
  }

  /** What an open transaction made may be undone: statements, parked rows and indexes are looked up anew. */
  #forget(): void {
    this.#forgetStatements()
    this.#indexed.clear()
  }

  #forgetStatements(): void {
    this.#writers.clear()
  }
}

function softTruncate(name: string): string {
  return `UPDATE ${quote(name)} SET ${quote(DELETED_COLUMN)} = 1 WHERE ${quote(DELETED_COLUMN)} = 0`
}

function dropTable(db: DatabaseSync, name: string): void {
  const found = readTable(db, name)
  if (found === null) return
  db.exec(`DROP ${found.kind === 'view' ? 'VIEW' : 'TABLE'} ${quote(found.name)}`)
  forgetDropped(db, name)
}
