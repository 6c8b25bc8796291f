import { columnAt, keyNames, parseTableName, type Column, type TableSchema } from '../model/schema.ts'
import { TailraceError } from './errors.ts'
import { nearest } from './config/nearest.ts'
import type { Selection, SourceTable } from './source.ts'

/** Applies a selection to the tables that there are. Whatever names nothing is a USAGE error with the nearest right name. */
export function selectTables(all: readonly TableSchema[], selection: Selection): SourceTable[] {
  const chosen = chooseTables(all, selection.tables)
  checkNames(selection, chosen)
  return chosen.map((schema) => ({
    id: schema.id,
    schema: project(schema, selection),
    where: lookUp(selection.where, schema) ?? null,
    columnsFixed: lookUp(selection.columns, schema) !== undefined,
    ...(lookUp(selection.keys, schema) === undefined ? {} : { keyFixed: true }),
    excluded: [...excludedColumns(schema, selection.exclude)],
  }))
}

/** A pattern `name`, `schema.name`, with `*` for any run of characters, as a test on tables. */
export function tablePattern(pattern: string): (schema: { readonly namespace: string; readonly name: string }) => boolean {
  const parsed = parseTableName(pattern)
  if (parsed === null)
    throw new TailraceError('USAGE', `${JSON.stringify(pattern)} is not a table name or pattern`, {
      hint: 'name, schema.name, schema.* or "Mixed Case"."name"',
    })
  const name = glob(parsed.name)
  const namespace = parsed.namespace === null ? null : glob(parsed.namespace)
  return (schema) => name.test(schema.name) && (namespace === null || namespace.test(schema.namespace))
}

function glob(text: string): RegExp {
  const escaped = text.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${escaped.join('.*')}$`, 's')
}

function chooseTables(all: readonly TableSchema[], patterns: readonly string[]): readonly TableSchema[] {
  if (patterns.length === 0) return all
  const chosen = new Set<TableSchema>()
  for (const pattern of patterns) {
    const fits = tablePattern(pattern)
    const found = all.filter(fits)
    if (found.length === 0) throw unknownTable(pattern, all)
    for (const schema of found) chosen.add(schema)
  }
  return all.filter((schema) => chosen.has(schema))
}

/** For a name of a table that is none of these: the nearest right one. */
export function unknownTable(pattern: string, all: readonly TableSchema[]): TailraceError {
  const guess = nearest(
    pattern,
    all.flatMap((schema) => [schema.id, schema.name]),
  )
  const hint =
    guess !== null
      ? `did you mean ${guess}?`
      : all.length === 0
        ? 'the source has no table that this user can see'
        : `there are: ${all
            .slice(0, 8)
            .map((schema) => schema.id)
            .join(', ')}${all.length > 8 ? ', …' : ''}`
  return new TailraceError('USAGE', `no table of the source matches ${JSON.stringify(pattern)}`, { hint, path: 'tables' })
}

function lookUp<T>(entries: ReadonlyMap<string, T>, schema: TableSchema): T | undefined {
  for (const [pattern, value] of entries) if (tablePattern(pattern)(schema)) return value
  return undefined
}

function checkNames(selection: Selection, chosen: readonly TableSchema[]): void {
  for (const entries of [selection.columns, selection.where, selection.keys]) {
    for (const pattern of (entries as ReadonlyMap<string, unknown>).keys())
      if (!chosen.some(tablePattern(pattern))) throw unknownTable(pattern, chosen)
  }
}

function project(schema: TableSchema, selection: Selection): TableSchema {
  const wanted = lookUp(selection.columns, schema)
  const excluded = excludedColumns(schema, selection.exclude)
  const kept =
    wanted === undefined ? schema.columns.filter((column) => !excluded.has(column.name)) : wanted.map((name) => findColumn(schema, name))
  const keyColumns = lookUp(selection.keys, schema) ?? keyNames(schema)
  if (kept.length === 0) throw new TailraceError('USAGE', `no column of ${schema.id} is left to copy`, { path: 'columns' })
  const key = keyColumns.map((name) => {
    const position = kept.findIndex((column) => column.name === findColumn(schema, name).name)
    if (position < 0)
      throw new TailraceError('USAGE', `column ${name} of ${schema.id} identifies its rows and cannot be left out`, {
        hint: `choose another identity with --key ${schema.id}=…`,
        path: 'columns',
      })
    return position
  })
  return { ...schema, columns: kept, key }
}

function excludedColumns(schema: TableSchema, patterns: readonly string[]): Set<string> {
  const names = new Set<string>()
  for (const pattern of patterns) {
    const dot = pattern.lastIndexOf('.')
    const [table, column] = dot < 0 ? ['*', pattern] : [pattern.slice(0, dot), pattern.slice(dot + 1)]
    if (!tablePattern(table)(schema)) continue
    names.add(findColumn(schema, column.replace(/^"(.*)"$/, '$1')).name)
  }
  return names
}

function findColumn(schema: TableSchema, name: string): Column {
  const index = schema.columns.findIndex((column) => column.name === name)
  if (index >= 0) return columnAt(schema, index)
  const guess = nearest(
    name,
    schema.columns.map((column) => column.name),
  )
  throw new TailraceError('USAGE', `table ${schema.id} has no column ${JSON.stringify(name)}`, {
    hint: guess === null ? `it has: ${schema.columns.map((column) => column.name).join(', ')}` : `did you mean ${guess}?`,
    path: 'columns',
  })
}
