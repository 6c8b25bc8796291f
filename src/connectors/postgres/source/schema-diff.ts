import type { SchemaChangeDetail } from '../../../model/batch.ts'
import { keyNames, type Column, type TableSchema } from '../../../model/schema.ts'

export interface SchemaDiff {
  readonly changes: readonly SchemaChangeDetail[]
  /** Why the stream alone cannot say what the rows look like now; null when it can. */
  readonly ambiguous: string | null
}

/**
 * What changed between two shapes of a table. Columns are told apart by their lasting number (attnum), so that a rename is
 * not taken for drop + add (TRAPS 47); rows that were rewritten silently (TRAPS 46) make the change ambiguous.
 */
export function diffSchemas(before: TableSchema, after: TableSchema): SchemaDiff {
  const changes: SchemaChangeDetail[] = []
  const reasons: string[] = []
  const left = new Map(before.columns.map((column) => [column.ordinal, column]))
  for (const column of after.columns) {
    const old = left.get(column.ordinal)
    left.delete(column.ordinal)
    if (old === undefined) addColumn(before, column, changes, reasons)
    else compareColumn(old, column, changes, reasons)
  }
  for (const column of left.values()) changes.push({ kind: 'column-dropped', before: column.name, after: null })
  if (keyNames(before).join('\0') !== keyNames(after).join('\0') && !onlyRenamed(before, after)) {
    changes.push({ kind: 'key-changed', before: keyNames(before).join(', ') || null, after: keyNames(after).join(', ') || null })
  }
  return { changes, ambiguous: reasons.length === 0 ? null : reasons.join('; ') }
}

function onlyRenamed(before: TableSchema, after: TableSchema): boolean {
  const ordinals = (schema: TableSchema): string => schema.key.map((index) => schema.columns[index]?.ordinal).join(',')
  return ordinals(before) === ordinals(after)
}

function addColumn(before: TableSchema, column: Column, changes: SchemaChangeDetail[], reasons: string[]): void {
  changes.push({ kind: 'column-added', before: null, after: column.name })
  if (before.columns.some((old) => old.name === column.name)) reasons.push(`column ${column.name} was dropped and added again`)
  else if (column.missing === undefined && column.default !== undefined) reasons.push(`column ${column.name} was added with a default that may have been computed for each row`)
  else if (column.missing === undefined && column.identity !== 'no') reasons.push(`identity column ${column.name} was added and its values are not in the change stream`)
}

function compareColumn(old: Column, column: Column, changes: SchemaChangeDetail[], reasons: string[]): void {
  if (old.name !== column.name) changes.push({ kind: 'column-renamed', before: old.name, after: column.name })
  if (old.sourceType !== column.sourceType) {
    changes.push({ kind: 'type-changed', before: old.name, after: column.name })
    if (!keepsValues(old, column)) reasons.push(`the type of column ${column.name} changed from ${old.sourceType} to ${column.sourceType}, which rewrites rows`)
  }
  if (old.nullable !== column.nullable) changes.push({ kind: 'nullability-changed', before: old.name, after: column.name })
}

const TEXT_LIKE = new Set([25, 1043])
const NUMERIC = 1700

/** Changes that PostgreSQL makes without touching a row, by type oid and modifier (ATColumnChangeRequiresRewrite). */
function keepsValues(old: Column, column: Column): boolean {
  const [from, to] = [old.sourceTypeModifier ?? -1, column.sourceTypeModifier ?? -1]
  if (TEXT_LIKE.has(old.sourceTypeId) && TEXT_LIKE.has(column.sourceTypeId)) return to < 0 || (from >= 0 && to >= from)
  if (old.sourceTypeId !== column.sourceTypeId) return false
  if (column.sourceTypeId === NUMERIC) return to < 0 || (from >= 0 && ((from - 4) & 0x7ff) === ((to - 4) & 0x7ff) && to >= from)
  return to < 0 || (from >= 0 && to >= from)
}
