import type { TableId } from '../model/schema.ts'
import { parseTableName, type TableSchema } from '../model/schema.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import { tablePattern, type NamedTable } from '../sdk/selection.ts'
import type { SinkTable } from '../sdk/sink.ts'
import type { SourceTable } from '../sdk/source.ts'
import type { KeptTerms, TableRecord, TableState } from '../state/store.ts'

/** A table of the pipeline while it runs. `source.schema` is the shape in which its rows come now. */
export interface PipelineTable {
  readonly id: TableId
  source: SourceTable
  target: SinkTable['target']
  state: TableState
  rule: 'chunk' | 'table' | null
  chunks: number
  chunksDone: number
  /** An earlier run knew the table: what its target holds is this pipeline's, and goes before a new reading. */
  ours: boolean
  terms: KeptTerms
  /** It is not in the source any more: only what the log still holds of it comes. */
  readonly gone: boolean
}

/** How a table came in where nothing is known of it: an older release did not say. */
export const NOTHING_KEPT: Pick<KeptTerms, 'asked' | 'strangers'> = { asked: null, strangers: 'none' }

export function sinkTable(table: PipelineTable): SinkTable {
  return { id: table.id, schema: table.source.schema, target: table.target }
}

/** Where a source table goes: `--map`, else the same namespace and name, the first of those that it has. */
export function targetOf({ names, schema }: NamedTable, map: ReadonlyMap<string, string>): SinkTable['target'] {
  const [own = schema] = names
  for (const [from, to] of map) {
    if (!names.some(tablePattern(from))) continue
    const parsed = parseTableName(to.replaceAll('*', own.name))
    if (parsed === null) throw new TailraceError('USAGE', `${JSON.stringify(to)} in --map is not a table name`, { path: 'map' })
    return { namespace: parsed.namespace ?? own.namespace, name: parsed.name }
  }
  return { namespace: own.namespace, name: own.name }
}

/** Two tables must not be written into one. */
export function checkTargets(tables: readonly Pick<PipelineTable, 'id' | 'target'>[]): void {
  const taken = new Map<string, TableId>()
  for (const table of tables) {
    const place = `${table.target.namespace ?? ''}\0${table.target.name}`
    const other = taken.get(place)
    if (other !== undefined)
      throw new TailraceError('CONFIG', `${other} and ${table.id} would both be written to ${table.target.name}`, {
        hint: `--map ${table.id}=other_name`,
        path: 'map',
      })
    taken.set(place, table.id)
  }
}

export function targetLabel(target: SinkTable['target']): string {
  return target.namespace === null ? target.name : `${target.namespace}.${target.name}`
}

export function recordOf(table: PipelineTable, counters: string): TableRecord {
  const { id, state, source, target, rule, terms } = table
  return { id, state, schema: source.schema, target, rule, counters, terms }
}

/** A table that is renamed in the source keeps its place in the target, which the pipeline's state holds: no sink is to rename it. */
export function renamedAs(previous: TableSchema, { id, namespace, name }: TableSchema): TableSchema {
  return { ...previous, id, namespace, name }
}

export function droppedProblem(pipeline: string, id: TableId): Problem {
  return {
    severity: 'warning',
    code: 'SCHEMA_CHANGED',
    message: `${id} was dropped in the source: the target keeps its rows`,
    hint: `tailrace tables ${pipeline} remove ${id}`,
    path: id,
  }
}

export function isSamePlace(a: SinkTable['target'], b: SinkTable['target']): boolean {
  return a.namespace === b.namespace && a.name === b.name
}
