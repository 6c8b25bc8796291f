import { closeSync, existsSync, fsyncSync, linkSync, mkdirSync, openSync, renameSync, rmSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { TailraceError } from '../sdk/errors.ts'

/**
 * The state file: making it, knowing it again, migrating it. A file that is there is never made anew, whatever is wrong
 * with it: it holds the only record of slots, positions and dead letters.
 */

/** A step from one schema version to the next. */
export interface Migration {
  readonly to: number
  readonly sql: string
}

export interface StateSchema {
  readonly version: number
  /** Makes the newest version in an empty file. */
  readonly create: string
  /** Every step since version 1, in order. */
  readonly migrations: readonly Migration[]
}

export const STATE_SCHEMA: StateSchema = {
  version: 2,
  create: `
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE pipelines (
      id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
      source TEXT NOT NULL, sink TEXT NOT NULL, source_label TEXT NOT NULL, sink_label TEXT NOT NULL,
      epoch INTEGER NOT NULL, holder_host TEXT, holder_pid INTEGER, holder_started TEXT,
      held_since INTEGER NOT NULL, heartbeat INTEGER NOT NULL, desired TEXT NOT NULL, position TEXT, report TEXT,
      created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) STRICT;
    CREATE TABLE memory (
      pipeline TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
      PRIMARY KEY (pipeline, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE tables (
      pipeline TEXT NOT NULL, id TEXT NOT NULL, state TEXT NOT NULL, schema TEXT NOT NULL, target TEXT NOT NULL,
      rule TEXT, counters TEXT, terms TEXT,
      PRIMARY KEY (pipeline, id)) STRICT;
    CREATE TABLE chunks (
      pipeline TEXT NOT NULL, table_id TEXT NOT NULL, id INTEGER NOT NULL, chunk TEXT NOT NULL, view INTEGER,
      done INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
      PRIMARY KEY (pipeline, table_id, id)) STRICT, WITHOUT ROWID;
    CREATE TABLE views (
      id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, view TEXT, view_end TEXT) STRICT;
    CREATE INDEX views_of_pipeline ON views (pipeline);
    CREATE TABLE dead_letters (
      id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, table_id TEXT NOT NULL, place TEXT NOT NULL,
      op TEXT NOT NULL, stage TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL, at INTEGER NOT NULL,
      UNIQUE (pipeline, table_id, place)) STRICT;
    CREATE INDEX dead_letters_of_pipeline ON dead_letters (pipeline, id);
    CREATE TABLE requests (
      id INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, request TEXT NOT NULL) STRICT;
    CREATE INDEX requests_of_pipeline ON requests (pipeline, id);
  `,
  migrations: [{ to: 2, sql: 'ALTER TABLE tables ADD COLUMN terms TEXT' }],
}

/** How long a statement waits for another process's transaction; ours are single rows. */
const BUSY_MILLISECONDS = 10_000
/**
 * SQLite's own wait soon looks only every 100 ms, and whoever commits without a pause holds the lock for all but moments: on a disk
 * with slow syncs such a neighbour was never found at rest in 10 s. So it waits in short turns, each of which looks three times.
 */
const TURN_MILLISECONDS = 5
/** Up to here every page is checked at the start; above, damage is found by the statement that meets it. */
const CHECKED_BYTES = 64 * 1024 * 1024

export function openStateFile(path: string, schema: StateSchema = STATE_SCHEMA): DatabaseSync {
  const file = resolve(path)
  return translated(file, () => {
    if (!existsSync(file)) createFile(file, schema)
    // SQLite takes an empty file for a new database and writes to it.
    if (statSync(file).size === 0) throw damaged(file, 'it is empty')
    const database = connect(file)
    try {
      // Before anything is written: it may be somebody else's database.
      verify(database, file, schema)
      // Kept in the file, but not in a copy that VACUUM made and a person put back.
      database.exec('PRAGMA journal_mode = WAL')
      migrate(database, file, schema)
      database.exec(`PRAGMA busy_timeout = ${TURN_MILLISECONDS}`)
      return database
    } catch (error) {
      database.close()
      throw error
    }
  })
}

/** Runs one statement on an open state file; waits for other processes in short turns. */
export function patiently<T>(file: string, statement: () => T): T {
  const until = performance.now() + BUSY_MILLISECONDS
  return translated(file, () => {
    for (;;) {
      try {
        return statement()
      } catch (error) {
        if (!isBusy(error) || performance.now() > until) throw error
      }
    }
  })
}

/** Runs work on the file and says what SQLite's refusals mean. */
export function translated<T>(file: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw translate(file, error)
  }
}

function connect(file: string): DatabaseSync {
  const database = new DatabaseSync(file)
  database.exec(`PRAGMA busy_timeout = ${BUSY_MILLISECONDS}; PRAGMA synchronous = FULL`)
  return database
}

/**
 * Makes the file under another name and links it into place when it is whole, so that an empty or half-made state file
 * can only mean damage, and two processes that start at once agree on one.
 */
function createFile(file: string, schema: StateSchema): void {
  if (existsSync(`${file}-wal`)) throw damaged(file, 'its write-ahead log is there, but the file itself is gone')
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
  const draft = `${file}.${process.pid}.new`
  rmSync(draft, { force: true })
  closeSync(openSync(draft, 'wx', 0o600))
  const database = connect(draft)
  try {
    database.exec(
      `PRAGMA journal_mode = WAL; BEGIN; ${schema.create}; INSERT INTO meta VALUES ('kind', 'tailrace state'), ('version', '${schema.version}'); COMMIT`,
    )
  } finally {
    database.close()
  }
  publish(draft, file)
}

function publish(draft: string, file: string): void {
  try {
    linkSync(draft, file)
    rmSync(draft)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') rmSync(draft)
    // A file system without hard links.
    else renameSync(draft, file)
  }
  syncFolder(dirname(file))
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, 'r')
  try {
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}

function verify(database: DatabaseSync, file: string, schema: StateSchema): void {
  const meta = database.prepare(`SELECT 1 FROM sqlite_schema WHERE name = 'meta'`).get()
  if (meta === undefined || readMeta(database, 'kind') !== 'tailrace state') throw damaged(file, 'it is a database of something else')
  if (statSync(file).size <= CHECKED_BYTES) {
    const result = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check']
    if (result !== 'ok') throw damaged(file, String(result))
  }
  const version = versionOf(database)
  if (!Number.isInteger(version) || version < 1) throw damaged(file, 'its schema version cannot be read')
  if (version > schema.version) throw tooNew(file, version, schema.version)
}

function readMeta(database: DatabaseSync, key: string): unknown {
  return database.prepare('SELECT value FROM meta WHERE key = ?').get(key)?.['value']
}

function versionOf(database: DatabaseSync): number {
  return Number(readMeta(database, 'version'))
}

/** Keeps a copy beside the file, then brings it to the newest version in one transaction. */
function migrate(database: DatabaseSync, file: string, schema: StateSchema): void {
  const version = versionOf(database)
  if (version === schema.version) return
  keepCopy(database, `${file}.v${version}`)
  database.exec('BEGIN IMMEDIATE')
  try {
    // Another process may have done it while we waited.
    const now = versionOf(database)
    for (const step of schema.migrations) if (step.to > now) database.exec(step.sql)
    database.prepare(`UPDATE meta SET value = ? WHERE key = 'version'`).run(String(schema.version))
    database.exec('COMMIT')
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function keepCopy(database: DatabaseSync, copy: string): void {
  if (existsSync(copy)) return
  const draft = `${copy}.${process.pid}.new`
  rmSync(draft, { force: true })
  closeSync(openSync(draft, 'wx', 0o600))
  database.prepare('VACUUM INTO ?').run(draft)
  publish(draft, copy)
}

function damaged(file: string, what: string, cause?: unknown): TailraceError {
  return new TailraceError('STATE_DAMAGED', `the state store ${file} cannot be used: ${what}`, {
    hint: 'restore it from a backup, or move it away to start anew: the pipelines in it then start over, and what they keep upstream (replication slots) must be dropped by hand',
    path: file,
    cause,
  })
}

function tooNew(file: string, version: number, known: number): TailraceError {
  return new TailraceError(
    'STATE_DAMAGED',
    `the state store ${file} was written by a newer release: schema ${version}, this one knows ${known}`,
    {
      hint: `run the newer release, or put back the copy that it kept: ${file}.v${known}`,
      path: file,
    },
  )
}

/** Primary result codes of SQLite: https://www.sqlite.org/rescode.html */
const SQLITE = { perm: 3, busy: 5, readonly: 8, ioerr: 10, corrupt: 11, full: 13, cantopen: 14, notadb: 26 } as const

function isBusy(error: unknown): boolean {
  const { errcode } = error as { errcode?: number }
  return errcode !== undefined && (errcode & 0xff) === SQLITE.busy
}

function translate(file: string, error: unknown): unknown {
  if (error instanceof TailraceError) return error
  const { code, errcode, message } = error as { code?: string; errcode?: number; message?: string }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return notAllowed(file, error)
  if (code === 'ENOSPC') return diskFull(file, error)
  if (code !== 'ERR_SQLITE_ERROR' || errcode === undefined) return error
  switch (errcode & 0xff) {
    case SQLITE.corrupt:
    case SQLITE.notadb:
      return damaged(file, message ?? 'it is damaged', error)
    case SQLITE.full:
      return diskFull(file, error)
    case SQLITE.perm:
    case SQLITE.readonly:
    case SQLITE.cantopen:
      return notAllowed(file, error)
    case SQLITE.busy:
      return new TailraceError('ENVIRONMENT', `the state store ${file} is locked by another process`, {
        hint: 'another program holds a transaction on it; close it',
        retry: 'retry',
        path: file,
        cause: error,
      })
    case SQLITE.ioerr:
      return new TailraceError('ENVIRONMENT', `the state store ${file} cannot be read or written: ${message}`, { path: file, cause: error })
    default:
      return error
  }
}

function notAllowed(file: string, cause: unknown): TailraceError {
  return new TailraceError('ENVIRONMENT', `the state store ${file} cannot be opened for writing`, {
    hint: 'give this user read and write rights on the file and its folder, or choose another place with --state',
    path: file,
    cause,
  })
}

function diskFull(file: string, cause: unknown): TailraceError {
  return new TailraceError('ENVIRONMENT', `no space is left for the state store ${file}`, {
    hint: 'free some space on its disk',
    path: file,
    cause,
  })
}
