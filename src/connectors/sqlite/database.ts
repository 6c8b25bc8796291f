import type * as Sqlite from 'node:sqlite'
import type { DatabaseSync, SQLInputValue, SQLOutputValue, StatementSync } from 'node:sqlite'
import { statSync } from 'node:fs'
import { TailraceError } from '../../sdk/errors.ts'
import type { SqliteConfig } from './config.ts'

/** node:sqlite without its ExperimentalWarning (Node 22): a person can do nothing about it. */
export function loadSqlite(): typeof Sqlite {
  const emitWarning = process.emitWarning
  process.emitWarning = () => {}
  try {
    return process.getBuiltinModule('node:sqlite')
  } finally {
    process.emitWarning = emitWarning
  }
}

/** Opens the file for writing, or makes it. */
export function openWriter(path: string, config: SqliteConfig): DatabaseSync {
  const { DatabaseSync } = loadSqlite()
  const db = new DatabaseSync(path, { enableForeignKeyConstraints: false })
  try {
    prepareWriter(db, config)
  } catch (error) {
    db.close()
    throw error
  }
  return db
}

function prepareWriter(db: DatabaseSync, config: SqliteConfig): void {
  db.exec(`PRAGMA busy_timeout = ${Math.round(config.busyTimeout * 1000)}`)
  const mode = value(db, 'PRAGMA journal_mode = WAL')
  if (mode !== 'wal') {
    throw new TailraceError('ENVIRONMENT', `the database stays in journal mode ${String(mode)}, expected wal`, {
      hint: 'put the file on a local file system, which write-ahead logging needs',
    })
  }
  // FULL is what "resolves = durable" means (TRAP 44, Invariant 1). Foreign keys: the source has checked them already, and
  // within a transaction they need not hold (TRAP 39).
  db.exec('PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = OFF')
  db.exec(`PRAGMA cache_size = ${-Math.round(config.cacheMegabytes * 1024)}; PRAGMA wal_autocheckpoint = ${config.walAutocheckpoint}`)
  const encoding = value(db, 'PRAGMA encoding')
  // Text is bound as UTF-8 bytes and cast: in a UTF-16 file the same bytes would be other letters.
  if (encoding !== 'UTF-8')
    throw new TailraceError('SCHEMA_UNSUPPORTED', `the database is encoded in ${String(encoding)}, expected UTF-8`, {
      hint: 'name another file',
    })
}

/**
 * A statement to be run, not read. With BigInts: `run` gives the last rowid along with the count, and Node 26 throws where
 * that is no safe number, after the row was written.
 */
export function prepareRun(db: DatabaseSync, sql: string): StatementSync {
  const statement = db.prepare(sql)
  statement.setReadBigInts(true)
  return statement
}

/** A second connection, which sees committed rows only. The file must exist. */
export function openReader(path: string): DatabaseSync {
  const { DatabaseSync } = loadSqlite()
  const db = new DatabaseSync(path, { readOnly: true })
  db.exec('PRAGMA busy_timeout = 5000')
  return db
}

export function rows(db: DatabaseSync, sql: string, ...parameters: SQLInputValue[]): Record<string, SQLOutputValue>[] {
  return db.prepare(sql).all(...parameters)
}

/** First column of the first row; undefined without a row. */
export function value(db: DatabaseSync, sql: string, ...parameters: SQLInputValue[]): SQLOutputValue | undefined {
  const row = db.prepare(sql).get(...parameters)
  return row === undefined ? undefined : Object.values(row)[0]
}

/** Tells the file from another one at the same path; null when there is none. */
export function fileIdentity(path: string): string | null {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? null : `${stat.dev}:${stat.ino}`
}
