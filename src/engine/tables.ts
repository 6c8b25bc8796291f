import type { TableId } from '../model/schema.ts'
import { parseTableName, type TableSchema } from '../model/schema.ts'
import { TailraceError } from '../sdk/errors.ts'
import { tablePattern } from '../sdk/selection.ts'
import type { SinkTable } from '../sdk/sink.ts'
import type { SourceTable } from '../sdk/source.ts'
import type { TableRecord, TableState } from '../state/store.ts'

/** A table of the pipeline while it runs. `source.schema` is the shape in which its rows come now. */
export interface PipelineTable {
  readonly id: TableId
  source: SourceTable
  target: SinkTable['target']
  state: TableState
  rule: 'chunk' | 'table' | null
  chunks: number
  chunksDone: number
  /** An earlier run knew the table: what its target holds is this pipeline's. */
  readonly ours: boolean
}

export function sinkTable(table: PipelineTable): SinkTable {
  return { id: table.id, schema: table.source.schema, target: table.target }
}

/** Where a source table goes: `--map`, else the same namespace and name. */
export function targetOf(schema: TableSchema, map: ReadonlyMap<string, string>): SinkTable['target'] {
  for (const [from, to] of map) {
    if (!tablePattern(from)(schema)) continue
    const parsed = parseTableName(to.replaceAll('*', schema.name))
    if (parsed === null) throw new TailraceError('USAGE', `${JSON.stringify(to)} in --map is not a table name`, { path: 'map' })
    return { namespace: parsed.namespace ?? schema.namespace, name: parsed.name }
  }
  return { namespace: schema.namespace, name: schema.name }
}

/** Two tables must not be written into one. */
export function checkTargets(tables: readonly PipelineTable[]): void {
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
  return { id: table.id, state: table.state, schema: table.source.schema, target: table.target, rule: table.rule, counters }
}

/** A table that an earlier run knew, with what the command line says of it now. */
export function restoreTable(record: TableRecord, found: SourceTable | undefined): PipelineTable {
  const source: SourceTable = {
    id: record.id,
    schema: record.schema,
    where: found?.where ?? null,
    columnsFixed: found?.columnsFixed ?? false,
    keyFixed: found?.keyFixed ?? false,
    excluded: found?.excluded ?? [],
  }
  return { id: record.id, source, target: record.target, state: record.state, rule: record.rule, chunks: 0, chunksDone: 0, ours: true }
}
