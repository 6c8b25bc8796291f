import assert from 'node:assert/strict'
import { quote, type Cells } from '../../src/connectors/postgres/sink/test-data/oracle.ts'
import type { Target } from './kit-sinks.ts'
import type { SourceDatabase } from './kit-source.ts'

export interface CompareOptions {
  /** Columns that the target has and the source has no more. */
  readonly kept?: readonly string[]
  /** Columns that the target may have besides: some sinks drop them when the table was emptied. */
  readonly mayKeep?: readonly string[]
  /** Columns of the source that are not copied. */
  readonly without?: readonly string[]
  /** Table of the target, where it is another. */
  readonly as?: string
  readonly where?: string
}

interface ColumnType {
  readonly name: string
  readonly type: string
}

/** Fails unless target and source hold the same rows, duplicates counted, and the same columns. */
export async function assertSame(
  source: SourceDatabase,
  target: Target,
  tables: readonly string[],
  options: CompareOptions = {},
): Promise<void> {
  for (const table of tables) {
    const difference = await compare(source, target, table, options)
    assert.deepEqual(difference.target, difference.source, `${target.name} and the source differ in ${table}`)
  }
}

/** Both sides as sorted lines, ready for `deepEqual`. */
export async function compare(
  source: SourceDatabase,
  target: Target,
  table: string,
  options: CompareOptions,
): Promise<{ source: string[]; target: string[] }> {
  const { namespace, name } = splitName(table)
  const columns = (await columnsOf(source, namespace, name, target.computes)).filter(
    (column) => options.without?.includes(column.name) !== true,
  )
  const list = columns.map((column) => quote(column.name)).join(', ')
  const wanted = await source.run(
    `SELECT ${list} FROM ${quote(namespace)}.${quote(name)}${options.where === undefined ? '' : ` WHERE ${options.where}`}`,
  )
  const found = await target.rows(namespace, options.as ?? name)
  assert.ok(found !== null, `${target.name} has no table for ${table}`)
  assertColumns(target, found, columns, options)
  return { source: lines(wanted, columns, (type, text) => target.expect(type, text)), target: lines(found, columns, (_type, text) => text) }
}

function assertColumns(
  target: Target,
  rows: readonly Cells[],
  columns: readonly ColumnType[],
  { kept = [], mayKeep = [] }: CompareOptions,
): void {
  const [first] = rows
  if (first === undefined) return
  const wanted = [...columns.map((column) => column.name), ...kept].sort()
  // A column that was dropped and made anew is kept under another name.
  assert.deepEqual(
    Object.keys(first)
      .filter((name) => !/_dropped(_\d+)?$/.test(name) && (!mayKeep.includes(name) || wanted.includes(name)))
      .sort(),
    wanted,
    `the columns of ${target.name}`,
  )
}

function lines(rows: readonly Cells[], columns: readonly ColumnType[], form: (type: string, text: string) => string): string[] {
  return rows
    .map((row) =>
      columns
        .map(({ name, type }) => {
          const text = row[name]
          return `${name}=${text === undefined ? '(no such column)' : text === null ? 'NULL' : JSON.stringify(form(type, text))}`
        })
        .join(' '),
    )
    .sort()
}

export function splitName(table: string): { namespace: string; name: string } {
  const dot = table.indexOf('.')
  return dot < 0 ? { namespace: 'public', name: table } : { namespace: table.slice(0, dot), name: table.slice(dot + 1) }
}

/** Columns with the base type's name: domains looked through. */
async function columnsOf(source: SourceDatabase, namespace: string, name: string, computed: boolean): Promise<ColumnType[]> {
  const text = (value: string): string => `'${value.replaceAll("'", "''")}'`
  const rows = await source.run(
    `SELECT a.attname, coalesce(b.typname, t.typname) AS typname
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
      WHERE n.nspname = ${text(namespace)} AND c.relname = ${text(name)} AND a.attnum > 0 AND NOT a.attisdropped ${computed ? '' : `AND a.attgenerated = ''`}
      ORDER BY a.attnum`,
  )
  return rows.map((row) => ({ name: row['attname'] ?? '', type: row['typname'] ?? '' }))
}
