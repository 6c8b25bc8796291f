import { columnAt, parseTableName, type TableId, type TableSchema } from '../model/schema.ts'
import { chooseTables, EVERYTHING, named, onTerms, takeTable, termsOf, type NamedTable, type TableTerms } from '../sdk/selection.ts'
import type { Problem } from '../sdk/errors.ts'
import type { SinkTable } from '../sdk/sink.ts'
import type { Selection, Source, SourceTable } from '../sdk/source.ts'
import type { KeptTerms, TableRecord } from '../state/store.ts'
import type { PipelineOptions } from './options.ts'
import { isSamePlace, NOTHING_KEPT, targetLabel, targetOf } from './tables.ts'

/** A table that the source has, or had when the pipeline last saw it. */
export interface KnownTable extends NamedTable {
  readonly id: TableId
  /** Whole, as the source has it now, under the pipeline's id; of a table that is gone, as it was last. */
  readonly schema: TableSchema
  /** What an earlier run kept of it. */
  readonly record: TableRecord | null
  readonly gone: boolean
}

/** What is asked of a table that an earlier run copied on other terms, or to another place. */
export interface Wanted {
  readonly source: SourceTable
  readonly target: SinkTable['target']
  readonly terms: KeptTerms
  /** What changed, from what to what. None: only the shape of the table did. */
  readonly reasons: readonly string[]
  /** It goes to another place: what stands at the old one stays. */
  readonly moved: boolean
  /** What stands at the same place is not what its rows are to go into: it is made anew. */
  readonly anew?: boolean
}

/**
 * Everything that the source has, and what it had. A renamed table is found again by its number and keeps the name under
 * which the pipeline knows it, so that the options that named it still do; whoever has that name now comes first: an online
 * migration swaps tables by renaming them (TRAPS 48).
 */
export async function knownTables(source: Source, records: readonly TableRecord[], signal: AbortSignal): Promise<KnownTable[]> {
  const free = new Map((await source.discover(EVERYTHING, signal)).map(({ schema }) => [schema.id, schema]))
  const held = new Map<TableId, TableSchema>()
  const take = (record: TableRecord, schema: TableSchema | undefined): void => {
    if (schema === undefined) return
    held.set(record.id, schema)
    free.delete(schema.id)
  }
  for (const record of records) take(record, free.get(record.id))
  for (const record of records) if (!held.has(record.id)) take(record, sameRelation(free.values(), record.schema.relation))
  const known = records.map((record): KnownTable => {
    const now = held.get(record.id)
    const schema = { ...(now ?? record.schema), id: record.id }
    return { id: record.id, schema, names: [nameOf(record.id), schema], record, gone: now === undefined }
  })
  return [
    ...known,
    ...[...free.values()].map((schema): KnownTable => ({ id: schema.id, schema, names: [schema], record: null, gone: false })),
  ]
}

function sameRelation(schemas: Iterable<TableSchema>, relation: number): TableSchema | undefined {
  return relation === 0 ? undefined : Iterator.from(schemas).find((schema) => schema.relation === relation)
}

function nameOf(id: TableId): { namespace: string; name: string } {
  const { namespace, name } = parseTableName(id) ?? { namespace: null, name: id }
  return { namespace: namespace ?? '', name }
}

/** The tables that the selection names or a person added. What a person removed is among them: see `KeptTerms.asked`. */
export function chosenTables(known: readonly KnownTable[], selection: Selection): ReadonlySet<KnownTable> {
  const added = known.filter(({ record }) => record?.terms?.asked === 'in')
  return new Set(chooseTables(known, selection, added).filter(hasColumns))
}

export function hasColumns({ schema }: KnownTable): boolean {
  return schema.columns.length > 0
}

/** Tables with nothing in them to copy: no reason not to copy the others. */
export function emptyTables(known: readonly KnownTable[], selection: Selection): Problem[] {
  const empty = chooseTables(known, selection).filter((table) => !table.gone && !hasColumns(table))
  return empty.map(({ id, schema }) => ({
    severity: 'warning',
    code: 'SCHEMA_UNSUPPORTED',
    message: `${id} is left out: ${(schema.computed?.length ?? 0) > 0 ? 'all of its columns are generated' : 'it has no columns'}`,
    hint: '--tables names the tables to copy',
    path: id,
  }))
}

/** A table as a run with these options would copy it, for `plan`. */
export interface PlannedTable {
  readonly source: SourceTable
  readonly target: SinkTable['target']
  /** Why it would be read from the start although it was copied before. */
  readonly reasons: readonly string[]
}

export function plannedTables(known: readonly KnownTable[], options: PipelineOptions): PlannedTable[] {
  for (const pattern of options.map.keys()) named(pattern, known)
  const chosen = [...chosenTables(known, options.selection)].filter(({ gone, record }) => !gone && record?.terms?.asked !== 'out')
  return chosen.map((table) => {
    const { record } = table
    if (record === null)
      return { source: takeTable(table.schema, termsOf(table.names, options.selection)), target: targetOf(table, options.map), reasons: [] }
    const wanted = wantedOf(table, record, options) ?? { ...keptOn(table, record, options.selection), target: record.target, reasons: [] }
    const schema = { ...wanted.source.schema, estimate: table.schema.estimate }
    return { source: { ...wanted.source, schema }, target: wanted.target, reasons: wanted.reasons }
  })
}

/** A table on the terms that it was copied on; what changed of them without changing what is copied is taken over. */
export function keptOn(known: KnownTable, record: TableRecord, selection: Selection): { source: SourceTable; terms: KeptTerms } {
  const terms = termsOf(known.names, selection)
  const kept = record.terms ?? { ...terms, ...NOTHING_KEPT }
  const taken = known.gone || changedTerms(known, record, terms) !== null ? kept : terms
  return { source: onTerms(record.schema, taken), terms: { ...kept, ...taken } }
}

/** Null: it is copied as it is wanted. */
export function wantedOf(known: KnownTable, record: TableRecord, options: PipelineOptions): Wanted | null {
  const terms = termsOf(known.names, options.selection)
  const changed = changedTerms(known, record, terms)
  const target = targetOf(known, options.map)
  const moved = !isSamePlace(target, record.target)
  const reasons = [
    ...(changed ?? []),
    ...(moved ? [`its target changed from ${targetLabel(record.target)} to ${targetLabel(target)}`] : []),
    ...(record.state === 'removed' ? ['it had been left out'] : []),
  ]
  // A bounded copy is told of no schema change: it takes the table as it is.
  const reshaped = (): boolean => options.mode.kind === 'copy' && options.schemaChanges !== 'ignore' && isReshaped(known, record, terms)
  if (reasons.length === 0 && !reshaped()) return null
  const { asked, strangers } = record.terms ?? NOTHING_KEPT
  return {
    source: takeTable(known.schema, terms),
    target,
    terms: { ...terms, asked, strangers: moved ? 'none' : strangers },
    reasons,
    moved,
  }
}

/** What changed of the terms, from what to what; null: nothing that makes a difference. */
function changedTerms(known: KnownTable, { terms: kept, schema }: TableRecord, terms: TableTerms): string[] | null {
  if (kept === null) return null
  const changes = [
    said('where', kept.where?.trim() ?? 'none', terms.where?.trim() ?? 'none'),
    said('columns', listed(kept.columns, 'all'), listed(terms.columns, 'all')),
    said('exclude', listed(kept.excluded, 'none'), listed(terms.excluded, 'none')),
    said('key', listed(kept.key, "the table's own"), listed(terms.key, "the table's own")),
  ].flat()
  if (changes.length === 0) return null
  const next = takeTable(known.schema, terms).schema
  const same = (kept.where?.trim() ?? null) === (terms.where?.trim() ?? null) && columnsOf(next) === columnsOf(schema)
  return same ? null : changes
}

function said(option: string, before: string, after: string): string[] {
  return before === after ? [] : [`--${option} changed from ${before} to ${after}`]
}

function listed(names: readonly string[] | null, none: string): string {
  return names === null || names.length === 0 ? none : names.toSorted().join(', ')
}

/** Names and key, whatever their order. */
function columnsOf({ columns, key }: TableSchema): string {
  return JSON.stringify([columns.map(({ name }) => name).sort(), key.map((index) => columns[index]?.name).sort()])
}

function isReshaped(known: KnownTable, record: TableRecord, terms: TableTerms): boolean {
  const next = takeTable(known.schema, terms).schema
  const shape = ({ columns, key }: TableSchema): string =>
    JSON.stringify([
      columns.map(({ name, sourceType, ordinal, nullable }) => [ordinal, name, sourceType, nullable]).sort(),
      key.map((index) => columns[index]?.ordinal).sort(),
    ])
  return shape(next) !== shape(record.schema)
}

/**
 * A table as it is now on the terms on which it is taken already. Columns are told by their lasting numbers, so that one that
 * was renamed since it was named stays the one that was meant; those of another table that took the name, by their names.
 */
export function takenAgain(now: TableSchema, { schema: before, columnsFixed, keyFixed, ...rest }: SourceTable): SourceTable {
  const same = now.relation === before.relation
  const find = (columns: TableSchema['columns'], { ordinal, name }: TableSchema['columns'][number]): number =>
    columns.findIndex((other) => (same ? other.ordinal === ordinal : other.name === name))
  const columns = columnsFixed
    ? before.columns.flatMap((column) => now.columns[find(now.columns, column)] ?? [])
    : now.columns.filter(({ name }) => !rest.excluded.includes(name))
  const wanted = keyFixed === true ? before : now
  const key = wanted.key.map((index) => columns.findIndex((column) => find([column], columnAt(wanted, index)) === 0))
  return {
    ...rest,
    columnsFixed,
    ...(keyFixed === undefined ? {} : { keyFixed }),
    schema: { ...now, columns, key: key.filter((place) => place >= 0) },
  }
}
