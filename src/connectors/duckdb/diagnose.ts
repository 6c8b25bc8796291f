import { formatType } from '../../model/logical-type.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { quoteForShell } from '../../sdk/shell.ts'
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
    hint: hintFor(
      target,
      refused.map((each) => each.column),
    ),
    path: `${target.schema.id}.${first.column.name}`,
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
  readonly column: TargetColumn
  readonly what: string
}

function refusal(target: TargetTable, column: TargetColumn, count: number): Refusal {
  const type = target.schema.columns[column.index]?.type
  const values = count === 1 ? '1 value does' : `${count} values do`
  return {
    column,
    what: `${values} not fit column ${column.name} (${type === undefined ? '' : `${formatType(type)} as `}${column.type.sql})`,
  }
}

function hintFor(target: TargetTable, columns: readonly TargetColumn[]): string {
  const names = columns.map((column) => `${target.schema.id}.${column.name}`).join(',')
  const asText = `--sink.text-columns ${quoteForShell(names)} keeps ${columns.length === 1 ? 'it' : 'them'} as text`
  const decimals = columns.some((column) => column.type.rule.logical === 'decimal')
  return `${decimals ? '--sink.numeric text keeps NaN and Infinity of all decimals; ' : ''}${asText} (with --if-exists replace)`
}
