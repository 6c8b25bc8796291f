import { qualifiedName } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import type { NewFile } from './publication.ts'

/** Blocks that are looked at: rows that were not touched for long are at the front. */
const BLOCKS = 4096

/**
 * Whether rows stand there from before the file was new, or a later place that is known: ALTER TABLE writes every row anew in its own
 * transaction, VACUUM FULL and CLUSTER take the rows as they were.
 */
export async function hasOlderRow(sql: PgConnection, { table, relation, since }: NewFile, known: bigint): Promise<boolean> {
  const xid = (known > BigInt(since) ? known : BigInt(since)) % (1n << 32n)
  const rows = await sql.rows(
    `SELECT FROM ${qualifiedName(table.schema)} WHERE tableoid = ${relation} AND ctid < '(${BLOCKS},0)' AND age(xmin) > age('${xid}'::xid) LIMIT 1`,
  )
  return rows.length > 0
}

/** Those of the relations whose catalog row was last written by that transaction. */
export async function writtenBy(sql: PgConnection, relations: readonly number[], xid: string): Promise<ReadonlySet<number>> {
  if (relations.length === 0) return new Set()
  const rows = await sql.rows(`SELECT oid FROM pg_class WHERE oid IN (${relations.join(', ')}) AND xmin::text = '${xid}'`)
  return new Set(rows.map(([oid]) => Number(oid)))
}
