import { quoteLiteral } from '../../sdk/sql/identifiers.ts'
import type { Connection } from './connection.ts'
import { CATALOG } from './database.ts'
import { fold, type Place } from './target-table.ts'

export interface ExistingColumn {
  readonly name: string
  /** As DuckDB spells it: `DECIMAL(12,2)`, `TIMESTAMP WITH TIME ZONE`. */
  readonly type: string
}

/** What stands at a place of the target, as this transaction sees it. */
export interface Existing {
  readonly kind: 'table' | 'view'
  readonly columns: readonly ExistingColumn[]
}

export async function readExisting(connection: Connection, place: Place): Promise<Existing | null> {
  const [tables, views] = [await find(connection, 'table', place), await find(connection, 'view', place)]
  if (tables === 0 && views === 0) return null
  const rows = await connection.rows(
    `SELECT column_name, data_type FROM duckdb_columns() WHERE ${at(place, 'table_name')} ORDER BY column_index`,
  )
  return { kind: tables > 0 ? 'table' : 'view', columns: rows.map(([name, type]) => ({ name: name ?? '', type: type ?? '' })) }
}

export function findColumn(existing: Existing, name: string): ExistingColumn | undefined {
  return existing.columns.find((column) => fold(column.name) === fold(name))
}

async function find(connection: Connection, kind: 'table' | 'view', place: Place): Promise<number> {
  return (await connection.rows(`SELECT ${kind}_name FROM duckdb_${kind}s() WHERE ${at(place, `${kind}_name`)}`)).length
}

function at(place: Place, nameColumn: string): string {
  return `database_name = '${CATALOG}' AND lower(schema_name) = lower(${quoteLiteral(place.namespace)}) AND lower(${nameColumn}) = lower(${quoteLiteral(place.name)})`
}
