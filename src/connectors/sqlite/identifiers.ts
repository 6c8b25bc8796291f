import type { TableSchema } from '../../model/schema.ts'
import type { SinkTable } from '../../sdk/sink.ts'

export const CHECKPOINT_TABLE = 'tailrace_checkpoints'
/** Columns that the source dropped and the target keeps: a new column of the name must not take over their values. */
export const DROPPED_TABLE = 'tailrace_dropped_columns'
/** Which pipelines write which table. */
export const WRITERS_TABLE = 'tailrace_writers'

/** SQLite compares names without regard to the case of ASCII letters. */
export function fold(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
}

/**
 * SQLite has no schemas. The default ones vanish; any other becomes a prefix, so that `sales.orders` and `hr.orders` do
 * not meet in one table. `check` reports names that still meet; `--map` resolves them.
 */
export function tableName(target: SinkTable['target']): string {
  const { namespace, name } = target
  return namespace === null || namespace === '' || namespace === 'public' || namespace === 'main' ? name : `${namespace}_${name}`
}

export function isReservedName(name: string): boolean {
  const folded = fold(name)
  return folded.startsWith('sqlite_') || [CHECKPOINT_TABLE, DROPPED_TABLE, WRITERS_TABLE].includes(folded)
}

/** A name of the rowid that no column of the table hides. */
export function rowidName(schema: TableSchema): string | null {
  const taken = new Set(schema.columns.map((column) => fold(column.name)))
  return ['rowid', '_rowid_', 'oid'].find((name) => !taken.has(name)) ?? null
}
