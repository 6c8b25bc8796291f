import type { DatabaseSync, SQLInputValue } from 'node:sqlite'
import { TailraceError } from '../../sdk/errors.ts'
import type { SinkTable } from '../../sdk/sink.ts'
import type { Chunk } from '../../sdk/source.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import { prepareRun } from './database.ts'
import type { Shape } from './ddl.ts'
import { CellEncoder, placeholder } from './encode.ts'
import { tableName } from './identifiers.ts'
import { Encoding, sqliteType, type EncodingCode } from './type-table.ts'

/**
 * Empties what a chunk will be loaded into once more, ghosts of soft deletes included (TRAP 4a). A chunk of blocks can
 * only be repeated by emptying the table, which is the engine's to say (`clear`).
 */
export function deleteRange(db: DatabaseSync, table: SinkTable, chunk: Chunk, shape: Shape): void {
  const name = quote(tableName(table.target))
  const { range } = chunk
  if (range.kind === 'heap') throw new TailraceError('BUG', `a chunk of blocks of table ${table.id} cannot be replaced alone`)
  if (range.kind === 'all') {
    db.exec(`DELETE FROM ${name}`)
    return
  }
  const column = table.schema.columns.find((each) => each.name === range.column)
  if (column === undefined) throw new TailraceError('BUG', `table ${table.id} has no column ${range.column} to cut chunks by`)
  const { encoding } = sqliteType(column.type, shape.decimals)
  const bounds = [bound(column.name, encoding, '>=', range.from), bound(column.name, encoding, '<', range.to)].filter(
    (each) => each !== null,
  )
  const where = bounds.length === 0 ? '' : ` WHERE ${bounds.map((each) => each.sql).join(' AND ')}`
  prepareRun(db, `DELETE FROM ${name}${where}`).run(...bounds.flatMap((each) => each.values))
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
