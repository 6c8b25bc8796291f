import type { DatabaseSync } from 'node:sqlite'
import type { TableSchema } from '../../model/schema.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import { rows } from './database.ts'
import { deletedColumn, keyIndexName, rowidKey, type ExistingColumn, type ExistingTable } from './ddl.ts'
import { fold } from './identifiers.ts'

export interface Rebuild {
  readonly table: ExistingTable
  readonly schema: TableSchema
  /** Folded column name → its new declared type. */
  readonly retyped: ReadonlyMap<string, string>
}

/**
 * Makes a table anew with other types or another key, and copies its rows: SQLite's ALTER TABLE can do neither
 * (https://sqlite.org/lang_altertable.html#otheralter). Indexes and triggers that people made come back.
 *
 * The values of rows written before are converted as far as SQL can; where the source rewrote them otherwise (USING), the
 * engine reads the table again (TRAP 46).
 */
export function rebuildTable(db: DatabaseSync, { table, schema, retyped }: Rebuild): void {
  const name = quote(table.name)
  const fresh = quote(`tailrace_new_${table.name}`)
  const kept = rows(
    db,
    "SELECT name, sql FROM sqlite_schema WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL",
    table.name,
  )
  const columns = table.columns.filter((column) => !column.generated)
  const key = rowidKey(schema)
  const definitions = columns.map((column) =>
    definition(column, retyped.get(fold(column.name)), key !== null && fold(key.name) === fold(column.name)),
  )
  const values = columns.map((column) => converted(column, retyped.get(fold(column.name))))
  // Without this a view that reads the table makes the rename fail while the table is away.
  db.exec('PRAGMA legacy_alter_table = ON')
  try {
    db.exec(`CREATE TABLE ${fresh} (${definitions.join(', ')})${table.strict ? ' STRICT' : ''}`)
    db.exec(`INSERT INTO ${fresh} (${columns.map((column) => quote(column.name)).join(', ')}) SELECT ${values.join(', ')} FROM ${name}`)
    db.exec(`DROP TABLE ${name}; ALTER TABLE ${fresh} RENAME TO ${name}`)
  } finally {
    db.exec('PRAGMA legacy_alter_table = OFF')
  }
  for (const each of kept) if (fold(String(each['name'])) !== fold(keyIndexName(table.name))) db.exec(String(each['sql']))
}

function definition(column: ExistingColumn, retyped: string | undefined, isKey: boolean): string {
  if (fold(column.name) === DELETED_COLUMN) return deletedColumn()
  return `${quote(column.name)} ${retyped ?? column.declared}${isKey ? ' PRIMARY KEY' : ''}`
}

function converted(column: ExistingColumn, retyped: string | undefined): string {
  const name = quote(column.name)
  switch (retyped) {
    case 'TEXT':
      return `CAST(${name} AS TEXT)`
    case 'BLOB':
      return `CAST(${name} AS BLOB)`
    case 'ANY':
      // Numbers that stood as text, but for those that SQLite does not know.
      return `CASE WHEN typeof(${name}) <> 'text' OR ${name} = 'NaN' THEN ${name} WHEN ${name} = 'Infinity' THEN 9e999 WHEN ${name} = '-Infinity' THEN -9e999 ELSE CAST(${name} AS REAL) END`
    default:
      // INTEGER: a STRICT table takes the texts that are integers and refuses the others.
      return name
  }
}
