import { TailraceError } from '../../sdk/errors.ts'
import { columnsUnchanged, isPartial, type Compaction } from '../../sdk/sql/compact.ts'
import type { TableWork } from './apply.ts'
import { joinEntries, writeBases, writeFinalKeys, writeFinals, writePartials } from './stage.ts'
import { DELETED, sameIdentity, valuesOf } from './target-table.ts'

/** Tables of the session, made and dropped within a transaction: nothing of them is in the file. */
const PARTIAL = 'tailrace_partial'
const GRAVES = 'tailrace_graves'

/** Rows found by their key. Gives the number of rows that were deleted. */
export async function applyByKey(work: TableWork, compaction: Compaction): Promise<number> {
  const { deletes, updates, moves, inserts } = compaction
  const { extras, softDeletes } = work.target
  const kept = joinEntries(updates, moves)
  // Columns that the source does not have keep their values, so with those every row that stays is built from its base row.
  const partial = extras.length > 0 ? kept : kept.filter((entry) => isPartial(compaction, entry))
  const isPatched = new Set(partial)
  const graves = softDeletes ? joinEntries(deletes, moves) : new Int32Array(0)
  if (partial.length > 0) await fetchPartial(work, compaction, partial)
  if (graves.length > 0) await dig(work, compaction, graves)
  const deleted = await deleteTouched(work, compaction)
  const complete = kept.filter((entry) => !isPatched.has(entry))
  await insertFinals(work, compaction, joinEntries(complete, inserts))
  if (partial.length > 0) await insertPartial(work)
  if (graves.length > 0) await bury(work)
  work.note(deletes.length + kept.length, deleted)
  return deleted
}

/**
 * Final images whose unknown columns come from the base row: the row of the key that the entry had when the batch began,
 * never the row now at its new key (TRAP 34). A base row that is not there is a hole; no row with NULLs is made of it.
 */
async function fetchPartial(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  const { columns, key, extras, sql } = work.target
  const lacking = columnsUnchanged(compaction, entries)
  const flags = key.length + columns.length
  const values = valuesOf(columns, 's', key.length).map((value, i) => {
    const column = columns[i]!
    const flag = lacking.indexOf(column.index)
    return `${flag < 0 ? value : `CASE WHEN s.c${flags + flag} IS NULL THEN ${value} ELSE t.${column.sql} END`} AS ${column.sql}`
  })
  const select = [...values, ...extras.map((extra) => `t.${extra}`)].join(', ')
  const bases = valuesOf(key, 's', 0)
  const on = sameIdentity(key, (column) => `t.${column.sql}`, (_, i) => bases[i]!)
  await work.staged(
    { width: flags + lacking.length, columns, first: key.length, fill: (csv) => writePartials(csv, compaction, entries, columns, lacking) },
    (from) => `CREATE OR REPLACE TEMP TABLE ${PARTIAL} AS SELECT ${select} FROM ${from} JOIN ${sql} t ON ${on}`,
  )
  const found = await work.count(`temp.main.${PARTIAL}`)
  if (found !== entries.length) throw work.hole(entries.length - found)
}

async function insertPartial(work: TableWork): Promise<void> {
  const { names, extras, softDeletes, sql } = work.target
  const columns = [...names, ...extras]
  const list = [...columns, ...(softDeletes ? [DELETED] : [])].join(', ')
  await work.run(`INSERT INTO ${sql} (${list}) SELECT ${work.target.values(columns)} FROM temp.main.${PARTIAL}`)
  await work.run(`DROP TABLE temp.main.${PARTIAL}`)
}

/**
 * Deletes base rows, and what stands at the keys of rows to come: nothing, unless changes come twice (TRAP 4: tables that
 * are read again) or a soft-deleted row comes back. Without a key index DuckDB would take a row twice without a word.
 */
async function deleteTouched(work: TableWork, compaction: Compaction): Promise<number> {
  const { deletes, updates, moves, inserts, vanished } = compaction
  const bases = joinEntries(deletes, updates, moves, vanished)
  const finals = joinEntries(moves, inserts)
  if (bases.length + finals.length === 0) return 0
  await work.expectDeletes(bases.length)
  const { key, sql } = work.target
  const keys = valuesOf(key, 's', 0).map((value, i) => `${value} AS k${i}`)
  const on = sameIdentity(key, (column) => `t.${column.sql}`, (_, i) => `k.k${i}`)
  // DISTINCT: a key may be one row's base and another's final one, and a row given twice breaks DuckDB's key index ("Failed to
  // delete all rows from index").
  const fill = (csv: Parameters<typeof writeBases>[0]): void => {
    writeBases(csv, compaction, bases)
    writeFinalKeys(csv, compaction, finals)
  }
  return work.staged({ width: key.length, columns: key, first: 0, fill }, (from) => `DELETE FROM ${sql} t USING (SELECT DISTINCT ${keys.join(', ')} FROM ${from}) k WHERE ${on}`)
}

export async function insertFinals(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  if (entries.length === 0) return
  const { columns, insertList, schema, sql } = work.target
  const values = work.target.values(valuesOf(columns, 's', 0))
  const inserted = await work.staged(
    { width: columns.length, columns, first: 0, fill: (csv) => writeFinals(csv, compaction, entries, columns) },
    (from) => `INSERT INTO ${sql} (${insertList}) SELECT ${values} FROM ${from}`,
  )
  if (inserted !== entries.length) throw new TailraceError('NOT_ACCOUNTED', `${schema.id}: DuckDB took ${inserted} of ${entries.length} rows`, { path: schema.id })
}

/** Soft deletes: rows that go, marked. */
async function dig(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  const { key, sql } = work.target
  const bases = valuesOf(key, 's', 0)
  const on = sameIdentity(key, (column) => `t.${column.sql}`, (_, i) => bases[i]!)
  await work.staged(
    { width: key.length, columns: key, first: 0, fill: (csv) => writeBases(csv, compaction, entries) },
    (from) => `CREATE OR REPLACE TEMP TABLE ${GRAVES} AS SELECT t.* REPLACE (true AS ${DELETED}) FROM ${from} JOIN ${sql} t ON ${on}`,
  )
}

/** Where another row has taken the key, that row is it. */
async function bury(work: TableWork): Promise<void> {
  const { key, sql } = work.target
  const on = sameIdentity(key, (column) => `t.${column.sql}`, (column) => `g.${column.sql}`)
  await work.run(`INSERT INTO ${sql} BY NAME SELECT g.* FROM temp.main.${GRAVES} g WHERE NOT EXISTS (SELECT 1 FROM ${sql} t WHERE ${on})`)
  await work.run(`DROP TABLE temp.main.${GRAVES}`)
}
