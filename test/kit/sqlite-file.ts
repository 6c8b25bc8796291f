import { DatabaseSync } from 'node:sqlite'

/**
 * Opens a SQLite file that a run may be writing to, opening or closing: the last one to close it holds it alone for a
 * moment, and so does who recovers it after a kill. Without a timeout a test would fail there with "database is locked".
 */
export function openSqlite(file: string, access: 'read' | 'write'): DatabaseSync {
  return new DatabaseSync(file, { readOnly: access === 'read', timeout: 30_000 })
}
