import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import { TailraceError } from '../../sdk/errors.ts'
import type { SinkTable } from '../../sdk/sink.ts'
import type { Chunk } from '../../sdk/source.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import { prepareRun } from './database.ts'
import type { Shape } from './ddl.ts'
import { CellEncoder, placeholder } from './encode.ts'
import { tableName } from './identifiers.ts'
import { Encoding, sqliteType, type EncodingCode } from './type-table.ts'

/** Takes rows away before they are read again. Softly: those with a key are marked and stay, of the others only the marked do. */
export function emptySql(table: SinkTable, softly: boolean): string {
  const name = quote(tableName(table.target))
  const mark = quote(DELETED_COLUMN)
  if (!softly) return `DELETE FROM ${name} WHERE true`
  return table.schema.key.length > 0 ? `UPDATE ${name} SET ${mark} = 1 WHERE ${mark} = 0` : `DELETE FROM ${name} WHERE ${mark} = 0`
}

/**
 * Empties what a chunk will be loaded into once more; not softly, ghosts of soft deletes go too (TRAP 4a). A chunk of blocks
 * can only be repeated by emptying the table, which is the engine's to say (`clear`).
 */
export function deleteRange(db: DatabaseSync, table: SinkTable, chunk: Chunk, shape: Shape, softly: boolean): void {
  const empty = emptySql(table, softly)
  const { range } = chunk
  if (range.kind === 'heap') throw new TailraceError('BUG', `a chunk of blocks of table ${table.id} cannot be replaced alone`)
  if (range.kind === 'all') {
    db.exec(empty)
    return
  }
  const column = table.schema.columns.find((each) => each.name === range.column)
  if (column === undefined) throw new TailraceError('BUG', `table ${table.id} has no column ${range.column} to cut chunks by`)
  const { encoding } = sqliteType(column.type, shape.decimals)
  const bounds = [bound(column.name, encoding, '>=', range.from), bound(column.name, encoding, '<', range.to)].filter(
    (each) => each !== null,
  )
  prepareRun(db, [empty, ...bounds.map((each) => each.sql)].join(' AND ')).run(...bounds.flatMap((each) => each.values))
}

function bound(
  column: string,
  encoding: EncodingCode,
  comparison: '>=' | '<',
  text: string | null,
): { sql: string; values: readonly SQLInputValue[] } | null {
  if (text === null) return null
  const bytes = Buffer.from(text, 'utf8')
  const value = new CellEncoder().encode(encoding, bytes, 0, bytes.length)
  const name = quote(column)
  if (encoding !== Encoding.unsigned) return { sql: `${name} ${comparison} ${placeholder(encoding)}`, values: [value] }
  // Above 2^63 the column holds text, which sorts after all integers, but among itself by its letters: by length first.
  const length = typeof value === 'string' ? value.length : 0
  return { sql: `(iif(typeof(${name}) = 'text', length(${name}), 0), ${name}) ${comparison} (?, ?)`, values: [length, value] }
}
