import { formatType } from '../../model/logical-type.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Connection } from './connection.ts'
import { kindOf, translate } from './duckdb-errors.ts'
import { valueOf } from './type-table.ts'
import type { TargetColumn, TargetTable } from './target-table.ts'

/** Rows as text, with the expression for each column's text. */
export interface TextRows {
  readonly from: string
  text(column: TargetColumn, at: number): string
}

/**
 * The error for rows that were refused. DuckDB's own names a value and no column: each column is asked how many values it
 * cannot take. Outside of the failed transaction, which must be rolled back first.
 */

export async function explainRefusal(connection: Connection, error: unknown, target: TargetTable, rows: TextRows): Promise<TailraceError> {
  const doing = `writing to ${target.schema.id}`
  if (error instanceof TailraceError || kindOf(error) !== 'value') return translate(error, doing, target.schema.id)
  const counts = await countRefused(connection, target, rows).catch(() => [])
  const refused = target.columns.flatMap((column, i) => (Number(counts[i] ?? 0) > 0 ? [refusal(target, column, Number(counts[i]))] : []))
  const [first] = refused
  if (first === undefined) return translate(error, doing, target.schema.id)
  return new TailraceError('ROW_REJECTED', `${doing}: ${refused.map((each) => each.what).join('; ')}`, {
    hint: first.hint,
    path: `${target.schema.id}.${first.column}`,
  })
}

async function countRefused(connection: Connection, target: TargetTable, rows: TextRows): Promise<readonly (string | null)[]> {
  const counts = target.columns.map((column, i) => {
    const text = rows.text(column, i)
    return `count(*) FILTER (${text} IS NOT NULL AND TRY(${valueOf(column.type, text)}) IS NULL)::VARCHAR`
  })
  const [found] = await connection.rows(`SELECT ${counts.join(', ')} FROM ${rows.from}`)
  return found ?? []
}

interface Refusal {
  readonly column: string
  readonly what: string
  readonly hint: string
}

function refusal(target: TargetTable, column: TargetColumn, count: number): Refusal {
  const type = target.schema.columns[column.index]?.type
  const values = count === 1 ? '1 value does' : `${count} values do`
  const what = `${values} not fit column ${column.name} (${type === undefined ? '' : `${formatType(type)} as `}${column.type.sql})`
  const asText = `--sink.text-columns ${target.schema.name}.${column.name} keeps it as text`
  const hint = column.type.rule.logical === 'decimal' ? `--sink.numeric text keeps NaN and Infinity of all decimals; ${asText}` : asText
  return { column: column.name, what, hint: `${hint} (with --if-exists replace)` }
}
