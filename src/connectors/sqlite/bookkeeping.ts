import { hostname } from 'node:os'
import type { DatabaseSync } from 'node:sqlite'
import type { Position } from '../../model/position.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Checkpoint, Writer } from '../../sdk/sink.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import { prepareRun, rows, value } from './database.ts'
import { CHECKPOINT_TABLE, DROPPED_TABLE, fold, WRITERS_TABLE } from './identifiers.ts'

const CHECKPOINTS = quote(CHECKPOINT_TABLE)
const DROPPED = quote(DROPPED_TABLE)
const WRITERS = quote(WRITERS_TABLE)

const MAKE = `
  CREATE TABLE IF NOT EXISTS ${CHECKPOINTS} (pipeline TEXT NOT NULL PRIMARY KEY, epoch INTEGER NOT NULL, position TEXT, holder TEXT NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS ${DROPPED} (table_name TEXT NOT NULL, column_name TEXT NOT NULL, PRIMARY KEY (table_name, column_name)) STRICT;
  CREATE TABLE IF NOT EXISTS ${WRITERS} (table_name TEXT NOT NULL, pipeline TEXT NOT NULL, PRIMARY KEY (table_name, pipeline)) STRICT`

/** Who we are, for the message of whoever meets our row: host and process. */
export function holderText(): string {
  return `${hostname()}:${process.pid}`
}

/** Makes the tables and takes the pipeline over. Inside a write transaction. */
export function claimEpoch(db: DatabaseSync, pipeline: string): Checkpoint {
  db.exec(MAKE)
  const row = db
    .prepare(
      `INSERT INTO ${CHECKPOINTS} (pipeline, epoch, position, holder) VALUES (?, 1, NULL, ?)
       ON CONFLICT (pipeline) DO UPDATE SET epoch = epoch + 1, holder = excluded.holder RETURNING epoch, position`,
    )
    .get(pipeline, holderText())
  return checkpointOf(row)
}

/** Null: the pipeline has no row, or the tables are not there. */
export function readCheckpoint(db: DatabaseSync, pipeline: string): Checkpoint | null {
  if (!hasTable(db, CHECKPOINT_TABLE)) return null
  const row = db.prepare(`SELECT epoch, position FROM ${CHECKPOINTS} WHERE pipeline = ?`).get(pipeline)
  return row === undefined ? null : checkpointOf(row)
}

export function readHolder(db: DatabaseSync, pipeline: string): string | null {
  if (!hasTable(db, CHECKPOINT_TABLE)) return null
  const holder = value(db, `SELECT holder FROM ${CHECKPOINTS} WHERE pipeline = ?`, pipeline)
  return typeof holder === 'string' ? holder : null
}

/** Throws FENCED unless the epoch is ours (Invariant 8). Under the write lock of BEGIN IMMEDIATE it stays so until COMMIT. */
export function proveEpoch(db: DatabaseSync, pipeline: string, epoch: number): Checkpoint {
  const found = readCheckpoint(db, pipeline)
  if (found === null || found.epoch !== epoch) throw fenced(pipeline, epoch, found?.epoch ?? null)
  return found
}

export function storePosition(db: DatabaseSync, pipeline: string, epoch: number, position: Position | null): void {
  const result = prepareRun(db, `UPDATE ${CHECKPOINTS} SET position = ? WHERE pipeline = ? AND epoch = ?`).run(position, pipeline, epoch)
  if (Number(result.changes) !== 1) throw fenced(pipeline, epoch, null)
}

/** The pipelines of which the table is. */
export function readWriters(db: DatabaseSync, table: string): readonly Writer[] {
  if (!hasTable(db, WRITERS_TABLE)) return []
  const found = rows(
    db,
    `SELECT w.pipeline, c.position IS NOT NULL AS follows FROM ${WRITERS} w LEFT JOIN ${CHECKPOINTS} c USING (pipeline) WHERE w.table_name = ? ORDER BY 1`,
    fold(table),
  )
  return found.map(({ pipeline, follows }) => ({ pipeline: String(pipeline), follows: Number(follows) === 1 }))
}

/** `alone`: it is nobody else's any more. */
export function noteWriter(db: DatabaseSync, pipeline: string, table: string, alone: boolean): void {
  if (alone) prepareRun(db, `DELETE FROM ${WRITERS} WHERE table_name = ? AND pipeline <> ?`).run(fold(table), pipeline)
  prepareRun(db, `INSERT INTO ${WRITERS} (table_name, pipeline) VALUES (?, ?) ON CONFLICT DO NOTHING`).run(fold(table), pipeline)
}

export function forgetWriter(db: DatabaseSync, pipeline: string, table: string): void {
  prepareRun(db, `DELETE FROM ${WRITERS} WHERE table_name = ? AND pipeline = ?`).run(fold(table), pipeline)
}

/** Forgets the pipeline; the tables go with the last one. Names what went. */
export function removeBookkeeping(db: DatabaseSync, pipeline: string): readonly string[] {
  if (!hasTable(db, CHECKPOINT_TABLE)) return []
  if (hasTable(db, WRITERS_TABLE)) prepareRun(db, `DELETE FROM ${WRITERS} WHERE pipeline = ?`).run(pipeline)
  const removed = Number(prepareRun(db, `DELETE FROM ${CHECKPOINTS} WHERE pipeline = ?`).run(pipeline).changes)
  if (value(db, `SELECT count(*) FROM ${CHECKPOINTS}`) === 0) {
    db.exec(`DROP TABLE ${CHECKPOINTS}; DROP TABLE IF EXISTS ${DROPPED}; DROP TABLE IF EXISTS ${WRITERS}`)
    return [CHECKPOINT_TABLE, DROPPED_TABLE, WRITERS_TABLE].map((name) => `table ${name}`)
  }
  return removed === 0 ? [] : [`row of pipeline ${pipeline} in table ${CHECKPOINT_TABLE}`]
}

export function noteDropped(db: DatabaseSync, table: string, column: string): void {
  prepareRun(db, `INSERT INTO ${DROPPED} (table_name, column_name) VALUES (?, ?) ON CONFLICT DO NOTHING`).run(fold(table), fold(column))
}

/** Whether the column is what the source left behind; forgets it. */
export function takeDropped(db: DatabaseSync, table: string, column: string): boolean {
  return (
    Number(prepareRun(db, `DELETE FROM ${DROPPED} WHERE table_name = ? AND column_name = ?`).run(fold(table), fold(column)).changes) === 1
  )
}

/** The table was dropped with all its columns. */
export function forgetDropped(db: DatabaseSync, table: string): void {
  prepareRun(db, `DELETE FROM ${DROPPED} WHERE table_name = ?`).run(fold(table))
}

function hasTable(db: DatabaseSync, name: string): boolean {
  return rows(db, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", name).length === 1
}

function checkpointOf(row: Record<string, unknown> | undefined): Checkpoint {
  if (row === undefined) throw new TailraceError('BUG', `${CHECKPOINT_TABLE} gave no row for the pipeline`)
  const position = row['position']
  return { epoch: Number(row['epoch']), position: typeof position === 'string' ? (position as Position) : null }
}

function fenced(pipeline: string, ours: number, found: number | null): TailraceError {
  const what = found === null ? 'its bookkeeping is gone from the target' : `epoch ${found} instead of ${ours}`
  return new TailraceError('FENCED', `pipeline ${pipeline} was taken over by another runner (${what})`, {
    hint: 'look for a second process of this pipeline; the later one goes on',
  })
}
