import { keyNames } from '../../model/schema.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { tablesOption } from '../../sdk/selection.ts'
import type { Connection } from './connection.ts'
import type { TargetTable } from './target-table.ts'

/** Keys that DuckDB tells apart at once: their hash table stays within the memory limit of the smallest tables. */
const KEYS_PER_PASS = 250_000

/**
 * Without a key index DuckDB takes a key twice without a word, and the first change of it would leave one row of the two.
 * So each key is looked for twice where nobody keeps it unique, in as many passes as memory wants.
 */
export async function requireUnique(connection: Connection, target: TargetTable): Promise<void> {
  const { key, schema, sql } = target
  if (target.match !== 'key') return
  const columns = key.map((column) => column.sql).join(', ')
  const [row] = await connection.rows(`SELECT count(*)::VARCHAR FROM ${sql}`)
  const passes = Math.max(1, Math.ceil(Number(row?.[0] ?? 0) / KEYS_PER_PASS))
  for (let pass = 0; pass < passes; pass++) {
    const part = passes === 1 ? '' : `WHERE hash(${columns}) % ${passes} = ${pass}`
    const twice = await connection.rows(`SELECT 'x' FROM ${sql} ${part} GROUP BY ${columns} HAVING count(*) > 1 LIMIT 1`)
    if (twice.length > 0)
      throw new TailraceError('NOT_ACCOUNTED', `the rows of ${schema.id} are not unique by ${keyNames(schema).join(', ')}`, {
        hint: `name a unique key with --key, or leave it out; when the rows are mended: tailrace resnapshot <pipeline> ${tablesOption([schema.id])}`,
        path: schema.id,
      })
  }
}
