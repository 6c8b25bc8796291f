import { UNCHANGED_VALUE } from '../../model/batch.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { columnsUnchanged, isPartial, type Compaction } from '../../sdk/sql/compact.ts'
import type { TableWork } from './apply.ts'
import { joinEntries, writeBases, writeBasesAndFinals, writeFinalKeys, writeFinals, writeNumberedBases, writePartials } from './stage.ts'
import { DELETED, sameIdentity, valuesOf, type TargetColumn } from './target-table.ts'

/** Tables of the session, made and dropped within a transaction: nothing of them is in the file. */
const BASES = 'tailrace_bases'
const GRAVES = 'tailrace_graves'

/** Rows found by their key. Gives the number of rows that were deleted or changed. */
export async function applyByKey(work: TableWork, compaction: Compaction): Promise<number> {
  const { deletes, updates, moves, inserts, vanished } = compaction
  const { extras, softDeletes } = work.target
  const lacks = (entry: number): boolean => isPartial(compaction, entry)
  const patched = updates.filter(lacks)
  const replaced = joinEntries(
    updates.filter((entry) => !lacks(entry)),
    moves,
  )
  // Columns that the source does not have keep their values, so with those every such row is built from its base row.
  const built = extras.length > 0 ? replaced : moves.filter(lacks)
  const isBuilt = new Set(built)
  const graves = softDeletes ? joinEntries(deletes, moves, vanished) : new Int32Array(0)
  if (built.length > 0) await fetchBases(work, compaction, built)
  if (graves.length > 0) await dig(work, compaction, graves)
  if (patched.length > 0) await patch(work, compaction, patched)
  const deleted = await deleteTouched(work, compaction, joinEntries(deletes, replaced))
  const complete = replaced.filter((entry) => !isBuilt.has(entry))
  await insertFinals(work, compaction, joinEntries(complete, inserts))
  if (built.length > 0) await insertBuilt(work, compaction, built)
  if (graves.length > 0) await bury(work)
  work.note(deletes.length + replaced.length, deleted)
  return deleted + patched.length
}

/**
 * The one UPDATE in place: rows whose new image lacks columns under an old key. What a source does not send is big (TOAST), and
 * to write such a row anew is to read it: DuckDB scans 2,048 rows of the column for each row wanted (out of memory at 60 MB
 * with values of 4 KB; the UPDATE took 5 ms). Entries that lack the same columns go together, so that no big one is touched.
 */
async function patch(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  const { columns } = work.target
  const { lengths, rows, slice } = compaction
  const isSent = (entry: number, { index }: TargetColumn): boolean =>
    lengths[rows[entry]! * slice.schema.columns.length + index] !== UNCHANGED_VALUE
  await work.expectDeletes(entries.length)
  const groups = Map.groupBy(entries, (entry) => columns.map((column) => (isSent(entry, column) ? 'x' : '-')).join(''))
  for (const group of groups.values()) {
    const sent = columns.filter((column) => !column.isKey && isSent(group[0]!, column))
    await patchGroup(work, compaction, Int32Array.from(group), sent)
  }
}

async function patchGroup(work: TableWork, compaction: Compaction, entries: Int32Array, columns: readonly TargetColumn[]): Promise<void> {
  const { key, softDeletes, sql } = work.target
  const values = valuesOf(columns, 's', key.length).map((value, i) => `${value} AS v${i}`)
  const set = [...columns.map((column, i) => `${column.sql} = k.v${i}`), ...(softDeletes ? [`${DELETED} = false`] : [])]
  // Nothing to set: the row must be there all the same.
  const [first] = key
  if (set.length === 0 && first !== undefined) set.push(`${first.sql} = t.${first.sql}`)
  const changed = await work.staged(
    {
      width: key.length + columns.length,
      columns,
      first: key.length,
      fill: (csv) => writeBasesAndFinals(csv, compaction, entries, columns),
    },
    (from) => `UPDATE ${sql} t SET ${set.join(', ')} FROM ${keysOf(work, from, 0, values)} WHERE ${sameKey(work)}`,
  )
  if (changed !== entries.length) throw work.hole(entries.length - changed)
}

/** The keys of a staged file as rows k: `columns` of CSV columns from number `first` on, named k0, k1, … */
function keysOf(work: TableWork, from: string, first: number, also: readonly string[] = []): string {
  const keys = valuesOf(work.target.key, 's', first).map((value, i) => `${value} AS k${i}`)
  return `(SELECT ${[...also, ...keys].join(', ')} FROM ${from}) k`
}

function sameKey(work: TableWork): string {
  return sameIdentity(
    work.target.key,
    (column) => `t.${column.sql}`,
    (_, i) => `k.k${i}`,
  )
}

/**
 * What final images lack and their base rows have: of the row of the key that the entry had when the batch began, never of
 * the row now at its new key (TRAP 34). A base row that is not there is a hole; no row with NULLs is made of it. Only those
 * columns: with the whole new image in the join it took 60 instead of 16 ms and 100 MB more (1 M rows, measured).
 */
async function fetchBases(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  const { columns, key, extras, sql } = work.target
  const lacking = columnsUnchanged(compaction, entries)
  const wanted = [...columns.filter((column) => lacking.includes(column.index)).map((column) => column.sql), ...extras]
  await work.staged(
    { width: key.length + 1, columns: key, first: 1, fill: (csv) => writeNumberedBases(csv, compaction, entries) },
    (from) =>
      `CREATE OR REPLACE TEMP TABLE ${BASES} AS SELECT ${['k.entry', ...wanted.map((name) => `t.${name}`)].join(', ')} FROM ${sql} t JOIN ${keysOf(work, from, 1, ['CAST(s.c0 AS BIGINT) AS entry'])} ON ${sameKey(work)}`,
  )
  const found = await work.count(`temp.main.${BASES}`)
  if (found !== entries.length) throw work.hole(entries.length - found)
}

/** CSV: number, final image, and for each column that some entry lacks a flag where this one does. */
async function insertBuilt(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  const { columns, names, extras, softDeletes, sql } = work.target
  const lacking = columnsUnchanged(compaction, entries)
  const values = valuesOf(columns, 's', 1).map((value, i) => {
    const flag = lacking.indexOf(columns[i]!.index)
    return flag < 0 ? value : `CASE WHEN s.c${1 + columns.length + flag} IS NULL THEN ${value} ELSE b.${columns[i]!.sql} END`
  })
  const list = [...names, ...extras, ...(softDeletes ? [DELETED] : [])].join(', ')
  const select = work.target.values([...values, ...extras.map((extra) => `b.${extra}`)])
  await work.staged(
    {
      width: 1 + columns.length + lacking.length,
      columns,
      first: 1,
      fill: (csv) => writePartials(csv, compaction, entries, columns, lacking),
    },
    (from) => `INSERT INTO ${sql} (${list}) SELECT ${select} FROM ${from} JOIN temp.main.${BASES} b ON b.entry = CAST(s.c0 AS BIGINT)`,
  )
  await work.run(`DROP TABLE temp.main.${BASES}`)
}

/**
 * Deletes base rows, and what stands at the keys of rows to come: nothing, unless changes come twice (TRAP 4: tables that
 * are read again) or a soft-deleted row comes back. Without a key index DuckDB would take a row twice without a word.
 */
async function deleteTouched(work: TableWork, compaction: Compaction, going: Int32Array): Promise<number> {
  const { moves, inserts, vanished } = compaction
  const bases = joinEntries(going, vanished)
  const finals = joinEntries(moves, inserts)
  if (bases.length + finals.length === 0) return 0
  await work.expectDeletes(bases.length)
  const { key, sql } = work.target
  // A key may be one row's base and another's final one, and a row given twice breaks DuckDB's key index ("Failed to delete
  // all rows from index"). DISTINCT costs a millisecond a batch.
  const distinct = moves.length + vanished.length > 0 ? 'DISTINCT ' : ''
  const fill = (csv: Parameters<typeof writeBases>[0]): void => {
    writeBases(csv, compaction, bases)
    writeFinalKeys(csv, compaction, finals)
  }
  return work.staged(
    { width: key.length, columns: key, first: 0, fill },
    (from) => `DELETE FROM ${sql} t USING (SELECT ${distinct}* FROM ${keysOf(work, from, 0)}) k WHERE ${sameKey(work)}`,
  )
}

export async function insertFinals(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  if (entries.length === 0) return
  const { columns, insertList, schema, sql } = work.target
  const values = work.target.values(valuesOf(columns, 's', 0))
  const inserted = await work.staged(
    { width: columns.length, columns, first: 0, fill: (csv) => writeFinals(csv, compaction, entries, columns) },
    (from) => `INSERT INTO ${sql} (${insertList}) SELECT ${values} FROM ${from}`,
  )
  if (inserted !== entries.length)
    throw new TailraceError('NOT_ACCOUNTED', `${schema.id}: DuckDB took ${inserted} of ${entries.length} rows`, { path: schema.id })
}

/** Soft deletes: rows that go, marked. */
async function dig(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  const { key, sql } = work.target
  await work.staged(
    { width: key.length, columns: key, first: 0, fill: (csv) => writeBases(csv, compaction, entries) },
    (from) =>
      `CREATE OR REPLACE TEMP TABLE ${GRAVES} AS SELECT t.* REPLACE (true AS ${DELETED}) FROM ${sql} t JOIN ${keysOf(work, from, 0)} ON ${sameKey(work)}`,
  )
}

/** Where another row has taken the key, that row is it. */
async function bury(work: TableWork): Promise<void> {
  const { key, sql } = work.target
  const on = sameIdentity(
    key,
    (column) => `t.${column.sql}`,
    (column) => `g.${column.sql}`,
  )
  await work.run(`INSERT INTO ${sql} BY NAME SELECT g.* FROM temp.main.${GRAVES} g WHERE NOT EXISTS (SELECT 1 FROM ${sql} t WHERE ${on})`)
  await work.run(`DROP TABLE temp.main.${GRAVES}`)
}
