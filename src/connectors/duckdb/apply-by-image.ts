import type { Compaction } from '../../sdk/sql/compact.ts'
import type { StagedFile, TableWork } from './apply.ts'
import { insertFinals } from './apply-by-key.ts'
import type { CsvEncoder } from './csv-encoder.ts'
import { joinEntries, writeNumberedBases, writeNumberedFinals } from './stage.ts'
import { asCompared, DELETED, sameIdentity, valuesOf } from './target-table.ts'

const PICKED = 'tailrace_picked'

/**
 * Without a key a row is found by all of it, one row for each change (TRAP 40). Gives the number of rows that were deleted.
 * An entry whose image did not change (`updates`) leaves everything as it is.
 */
export async function applyByImage(work: TableWork, compaction: Compaction): Promise<number> {
  const { deletes, moves, inserts } = compaction
  const { extras, softDeletes, sql } = work.target
  const going = joinEntries(deletes, moves)
  await work.expectDeletes(going.length)
  if (going.length > 0) await pick(work, compaction, going)
  const deleted = going.length === 0 ? 0 : await work.run(`DELETE FROM ${sql} WHERE rowid IN (SELECT id FROM temp.main.${PICKED})`)
  // What the picked rows had besides is to come along: where none was picked, nothing is.
  if (extras.length > 0 && moves.length > 0)
    await insertWithExtras(
      work,
      numbered(work, (csv) => writeNumberedFinals(csv, compaction, moves, work.target.columns)),
      deletes.length,
      false,
    )
  else await insertFinals(work, compaction, moves)
  if (softDeletes && going.length > 0)
    await insertWithExtras(
      work,
      numbered(work, (csv) => writeNumberedBases(csv, compaction, going)),
      0,
      true,
    )
  await insertFinals(work, compaction, inserts)
  if (going.length > 0) await work.run(`DROP TABLE temp.main.${PICKED}`)
  return deleted
}

/** A number, then all columns. */
function numbered(work: TableWork, fill: (csv: CsvEncoder) => void): StagedFile {
  const { columns } = work.target
  return { width: columns.length + 1, columns, first: 1, fill }
}

/** The nth equal image of the batch picks the nth equal row of the table; marked rows are not there any more. */
async function pick(work: TableWork, compaction: Compaction, entries: Int32Array): Promise<void> {
  const { columns, extras, softDeletes, sql } = work.target
  const images = valuesOf(columns, 's', 1)
    .map((value, i) => `${value} AS k${i}`)
    .join(', ')
  const all = columns.map((column, i) => asCompared(column, `k.k${i}`)).join(', ')
  const same = sameIdentity(
    columns,
    (column) => `t.${column.sql}`,
    (_, i) => `k.k${i}`,
  )
  const kept = (alias: string): string => extras.map((extra) => `, ${alias}.${extra}`).join('')
  await work.staged(
    numbered(work, (csv) => writeNumberedBases(csv, compaction, entries)),
    (from) => `CREATE OR REPLACE TEMP TABLE ${PICKED} AS
      WITH images AS (SELECT CAST(s.c0 AS BIGINT) AS entry, ${images} FROM ${from}),
      wanted AS MATERIALIZED (SELECT k.*, row_number() OVER (PARTITION BY ${all} ORDER BY k.entry) AS nth, dense_rank() OVER (ORDER BY ${all}) AS alike FROM images k),
      present AS (SELECT t.rowid AS id${kept('t')}, k.alike, row_number() OVER (PARTITION BY k.alike ORDER BY t.rowid) AS nth
        FROM ${sql} t JOIN (FROM wanted WHERE nth = 1) k ON ${same}${softDeletes ? ` AND NOT t.${DELETED}` : ''})
      SELECT w.entry, p.id${kept('p')} FROM wanted w JOIN present p ON p.alike = w.alike AND p.nth = w.nth`,
  )
  const found = await work.count(`temp.main.${PICKED}`)
  if (found !== entries.length) throw work.hole(entries.length - found)
}

/** Images with what the picked rows had besides. */
async function insertWithExtras(work: TableWork, file: StagedFile, firstEntry: number, marked: boolean): Promise<void> {
  const { columns, names, extras, softDeletes, sql } = work.target
  const list = [...names, ...extras, ...(softDeletes ? [DELETED] : [])].join(', ')
  const values = [...valuesOf(columns, 's', 1), ...extras.map((extra) => `p.${extra}`), ...(softDeletes ? [String(marked)] : [])].join(', ')
  await work.staged(
    file,
    (from) =>
      `INSERT INTO ${sql} (${list}) SELECT ${values} FROM ${from} JOIN temp.main.${PICKED} p ON p.entry = CAST(s.c0 AS BIGINT) + ${firstEntry}`,
  )
}
