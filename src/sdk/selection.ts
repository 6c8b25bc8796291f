import { columnAt, keyNames, parseTableName, type Column, type TableId, type TableSchema } from '../model/schema.ts'
import { TailraceError } from './errors.ts'
import { nearest } from './config/nearest.ts'
import { splitOutsideQuotes } from './config/values.ts'
import { quoteForShell } from './shell.ts'
import type { Selection, SourceTable } from './source.ts'

/** Every table that a person made, whole. */
export const EVERYTHING: Selection = { tables: [], columns: new Map(), exclude: [], where: new Map(), keys: new Map() }

/** Before a pattern: the tables that it means are not taken. A name that begins so stands in double quotes. */
export const LEAVE_OUT = '!'

/** What a selection says of one table, as it was typed. */
export interface TableTerms {
  readonly where: string | null
  /** Null: all but the excluded. */
  readonly columns: readonly string[] | null
  readonly excluded: readonly string[]
  /** Null: the table's own. */
  readonly key: readonly string[] | null
}

export const NOTHING_SAID: TableTerms = { where: null, columns: null, excluded: [], key: null }

interface Name {
  readonly namespace: string
  readonly name: string
}

/** A table and the names by which a person may mean it: its own, and the one under which a pipeline came to know it. */
export interface NamedTable {
  readonly schema: TableSchema
  readonly names: readonly Name[]
}

/** Applies a selection to the tables that there are. Whatever names nothing is a USAGE error with the nearest right name. */
export function selectTables(all: readonly TableSchema[], selection: Selection): SourceTable[] {
  const chosen = chooseTables(
    all.map((schema) => ({ schema, names: [schema] })),
    selection,
  )
  return chosen.map(({ schema, names }) => takeTable(schema, termsOf(names, selection)))
}

/** The tables that the patterns name, without those that `!pattern` leaves out, besides those that are taken anyway. */
export function chooseTables<T extends NamedTable>(all: readonly T[], selection: Selection, anyway: readonly T[] = []): readonly T[] {
  const wishes = selection.tables.filter((pattern) => !pattern.startsWith(LEAVE_OUT))
  const refusals = selection.tables.filter((pattern) => pattern.startsWith(LEAVE_OUT))
  const chosen = new Set<T>(wishes.length === 0 ? all : wishes.flatMap((pattern) => named(pattern, all)))
  for (const pattern of refusals) for (const table of leftOut(pattern.slice(LEAVE_OUT.length), all)) chosen.delete(table)
  for (const table of anyway) chosen.add(table)
  const wanted = all.filter((table) => chosen.has(table))
  for (const entries of [selection.columns, selection.where, selection.keys])
    for (const pattern of (entries as ReadonlyMap<string, unknown>).keys()) named(pattern, wanted)
  return wanted
}

/** A misspelt name would let a table in that was to stay out; a pattern may be for tables that come and go. */
function leftOut<T extends NamedTable>(pattern: string, all: readonly T[]): readonly T[] {
  return pattern.includes('*') ? all.filter(({ names }) => names.some(tablePattern(pattern))) : named(pattern, all)
}

/** The tables that the pattern means: at least one. */
export function named<T extends NamedTable>(pattern: string, all: readonly T[]): readonly T[] {
  const fits = tablePattern(pattern)
  const found = all.filter(({ names }) => names.some(fits))
  if (found.length > 0) return found
  throw unknownTable(
    pattern,
    all.map((table) => table.schema),
  )
}

export function termsOf(names: readonly Name[], selection: Selection): TableTerms {
  return {
    where: lookUp(selection.where, names) ?? null,
    columns: lookUp(selection.columns, names) ?? null,
    excluded: selection.exclude.flatMap((pattern) => excludedColumn(pattern, names)),
    key: lookUp(selection.keys, names) ?? null,
  }
}

/** The table on these terms. A column that is not there is a USAGE error. */
export function takeTable(schema: TableSchema, terms: TableTerms): SourceTable {
  return onTerms(project(schema, terms), terms)
}

/** A schema that was cut to the terms before. */
export function onTerms(schema: TableSchema, terms: TableTerms): SourceTable {
  return {
    id: schema.id,
    schema,
    where: terms.where,
    columnsFixed: terms.columns !== null,
    ...(terms.key === null ? {} : { keyFixed: true }),
    excluded: terms.excluded,
  }
}

/** The selection that says these terms of these tables, and names no other. */
export function selectionOf(tables: readonly { readonly id: TableId; readonly terms: TableTerms }[]): Selection {
  const said = <T>(of: (terms: TableTerms) => T | null): Map<string, T> =>
    new Map(
      tables.flatMap(({ id, terms }) => {
        const value = of(terms)
        return value === null ? [] : [[id, value] as const]
      }),
    )
  return {
    tables: tables.map(({ id }) => id),
    columns: said(({ columns }) => columns),
    exclude: tables.flatMap(({ id, terms }) => terms.excluded.map((column) => `${id}.${quotePart(column)}`)),
    where: said(({ where }) => where),
    keys: said(({ key }) => key),
  }
}

/** What leaves columns out, to be typed in a shell. */
export function excludeOption(table: TableId, ...columns: readonly string[]): string {
  return `--exclude ${quoteForShell(columns.map((column) => `${table}.${quotePart(column)}`).join(','))}`
}

/** Only where the name would be taken apart: any other stands for itself. */
function quotePart(column: string): string {
  return /[",.]|^\s|\s$/.test(column) ? `"${column.replaceAll('"', '""')}"` : column
}

/** What names the tables, to be typed in a shell. */
export function tablesOption(tables: readonly TableId[]): string {
  return `--tables ${quoteForShell(tables.join(','))}`
}

/** What leaves the table out, to be typed in a shell. */
export function leaveOutOption(table: TableId): string {
  return `--tables ${quoteForShell(`${LEAVE_OUT}${table}`)}`
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

/** For a name of a table that is none of these: the nearest right one. */
function unknownTable(pattern: string, all: readonly TableSchema[]): TailraceError {
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

function lookUp<T>(entries: ReadonlyMap<string, T>, names: readonly Name[]): T | undefined {
  for (const [pattern, value] of entries) if (names.some(tablePattern(pattern))) return value
  return undefined
}

function project(schema: TableSchema, { columns: wanted, excluded, key }: TableTerms): TableSchema {
  const left = new Set(excluded.map((name) => findColumn(schema, name).name))
  const kept = wanted === null ? schema.columns.filter((column) => !left.has(column.name)) : wanted.map((name) => findColumn(schema, name))
  const keyColumns = key ?? keyNames(schema)
  if (kept.length === 0 && schema.columns.length > 0)
    throw new TailraceError('USAGE', `no column of ${schema.id} is left to copy`, { path: 'columns' })
  const positions = keyColumns.map((name) => {
    const position = kept.findIndex((column) => column.name === findColumn(schema, name).name)
    if (position < 0)
      throw new TailraceError('USAGE', `column ${name} of ${schema.id} identifies its rows and cannot be left out`, {
        hint: `choose another identity with --key ${schema.id}=…`,
        path: 'columns',
      })
    return position
  })
  return { ...schema, columns: kept, key: positions }
}

function excludedColumn(pattern: string, names: readonly Name[]): string[] {
  const parts = splitOutsideQuotes(pattern, '.')
  const [table, column] = [parts.slice(0, -1).join('.') || '*', parts.at(-1) ?? '']
  if (!names.some(tablePattern(table))) return []
  return [/^".*"$/s.test(column) ? column.slice(1, -1).replaceAll('""', '"') : column]
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
