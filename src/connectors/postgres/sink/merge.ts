import type { TableSchema } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { DELETED_COLUMN } from '../../../sdk/soft-delete.ts'
import { quoteIdentifier } from '../../../sdk/sql/identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import type { SinkSession } from './session.ts'
import type { TableStatements } from './statements.ts'

/** Where rows wait that are merged into a table; of the session and its transaction only. */
export const STAGE = 'pg_temp.tailrace_load'

/**
 * Rows that come take the place of those at their keys. In place, where nothing but the key is unique: to delete and insert is
 * to cascade without the replica role (TRAPS 36). Where rows could swap other unique values, only that works (TRAPS 33).
 */
export function mergeSql(
  { columns, hasOtherUniques, settable, target }: TableStatements,
  schema: TableSchema,
  { replicaRole }: SinkSession,
): { readonly stage: string; readonly end: readonly string[] } {
  const names = columns.map((column) => column.sql).join(', ')
  const key = columns.filter((column) => schema.key.includes(column.index))
  const same = key.map((column) => `t.${column.sql} ${column.target.equals} s.${column.sql}`).join(' AND ')
  const insert = `INSERT INTO ${target.sql} (${names}) OVERRIDING SYSTEM VALUE SELECT ${names} FROM ${STAGE} s`
  const stage = `CREATE TEMP TABLE tailrace_load ON COMMIT DROP AS SELECT ${names} FROM ${target.sql} WHERE false`
  if (hasOtherUniques && (replicaRole || target.referencedBy.length === 0))
    return { stage, end: [`DELETE FROM ${target.sql} t USING ${STAGE} s WHERE ${same}`, insert] }
  const sets = settable.filter((column) => column.target.identity !== 'always').map((column) => `${column.sql} = s.${column.sql}`)
  if (target.columns.has(DELETED_COLUMN)) sets.push(`${quoteIdentifier(DELETED_COLUMN)} = false`)
  const update = sets.length === 0 ? [] : [`UPDATE ${target.sql} t SET ${sets.join(', ')} FROM ${STAGE} s WHERE ${same}`]
  return { stage, end: [`ANALYZE ${STAGE}`, ...update, `${insert} WHERE NOT EXISTS (SELECT FROM ${target.sql} t WHERE ${same})`] }
}

/** PUBLIC has the right in a new database, and many take it away. */
export async function temporaryRight(connection: PgConnection): Promise<{ held: boolean; missing: string; grant: string }> {
  const [row = []] = await connection.rows(
    `SELECT has_database_privilege(current_database(), 'TEMP'), quote_ident(current_database()), quote_ident(current_user)`,
  )
  const [held, database, role] = row
  return {
    held: held === 't',
    missing: `${role} may not make temporary tables in the database ${database}`,
    grant: `GRANT TEMPORARY ON DATABASE ${database} TO ${role};`,
  }
}

/** That rows of somebody else (`--if-exists append`) are merged into, `check` does not know: the right is looked at here again. */
export async function makeStage(connection: PgConnection, sql: string): Promise<void> {
  const { held, missing, grant } = await temporaryRight(connection)
  if (!held)
    throw new TailraceError('NOT_ALLOWED', `${missing}, from which rows that are read again are merged into the target`, { hint: grant })
  await connection.query(sql)
}
