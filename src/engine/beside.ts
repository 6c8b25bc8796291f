import type { Problem } from '../sdk/errors.ts'
import type { SinkTable } from '../sdk/sink.ts'
import type { PipelineOptions } from './options.ts'
import { targetLabel } from './tables.ts'

/** The tables that the pipeline writes in the very place that it reads from; none when source and sink are two places. */
export function tablesBeside(
  options: Pick<PipelineOptions, 'source' | 'sink'>,
  tables: readonly SinkTable[],
): readonly SinkTable['target'][] {
  const { source, sink } = options
  const same = source.connector.identity(source.config) === sink.connector.identity(sink.config)
  return same ? tables.map((table) => table.target) : []
}

/** A table cannot be its own copy, nor the copy of another that is read: rows would be emptied before they are read, or go round for ever. */
export function selfCopies(tables: readonly SinkTable[], beside: readonly SinkTable['target'][]): Problem[] {
  const written = new Set(beside.map((target) => `${target.namespace ?? ''}\0${target.name}`))
  return tables
    .filter(({ schema }) => written.has(`${schema.namespace}\0${schema.name}`))
    .map((table) => ({
      severity: 'error',
      code: 'CONFIG',
      message: `source and sink are the same database, and ${table.id} would be copied onto itself or onto another table that is read`,
      hint: `--map ${table.id}=other_schema.${targetLabel({ namespace: null, name: table.target.name })}`,
      path: table.id,
    }))
}
