import type { DatabaseSync } from 'node:sqlite'
import type { TableSchema } from '../../model/schema.ts'
import type { SinkTable } from '../../sdk/sink.ts'
import { hasKeyIndex, keyIndex, plainIndexes, readIndexes, type Shape } from './ddl.ts'
import { fold, tableName } from './identifiers.ts'
import { isUniqueViolation, notUnique } from './sqlite-errors.ts'

/** Makes what is missing of a table's indexes. */
export function sealTable(db: DatabaseSync, table: SinkTable, shape: Shape): void {
  const name = tableName(table.target)
  makeKeyIndex(db, name, table.schema)
  if (shape.indexes === 'none') return
  const present = readIndexes(db, name)
  for (const index of plainIndexes(name, table.schema)) {
    const exists = present.some(
      (each) => fold(each.name) === fold(index.name) || each.columns?.map(fold).join('\n') === index.columns.map(fold).join('\n'),
    )
    if (!exists) db.exec(index.sql)
  }
}

/** The index by which streamed changes find their row; made before the first of them, or when the snapshot is done. */
export function makeKeyIndex(db: DatabaseSync, name: string, schema: TableSchema): void {
  const sql = hasKeyIndex(db, name, schema) ? null : keyIndex(name, schema)
  if (sql === null) return
  try {
    db.exec(sql)
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    throw notUnique(schema, error)
  }
}
