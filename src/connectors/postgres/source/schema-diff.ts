import type { SchemaChangeDetail } from '../../../model/batch.ts'
import type { LogicalType } from '../../../model/logical-type.ts'
import { keyNames, tableId, type Column, type TableSchema } from '../../../model/schema.ts'
import type { SourceTable } from '../../../sdk/source.ts'

export interface SchemaDiff {
  readonly changes: readonly SchemaChangeDetail[]
  /** Why the stream alone cannot say what the rows look like now; null when it can. */
  readonly ambiguous: string | null
}

/**
 * The catalog's table with the pipeline's choice of columns: those of `before` first and in their order, then new ones,
 * unless the user named the columns.
 */
export function chosenShape(table: SourceTable, before: TableSchema, now: TableSchema): TableSchema {
  const known = new Set(before.columns.map((column) => column.ordinal))
  const added = now.columns.filter((column) => !known.has(column.ordinal) && !table.columnsFixed && !table.excluded.includes(column.name))
  const kept = before.columns.flatMap((column) => now.columns.find((other) => other.ordinal === column.ordinal) ?? [])
  const columns = [...kept, ...added]
  const places = (schema: TableSchema): number[] =>
    schema.key.map((index) => columns.findIndex((column) => column.ordinal === schema.columns[index]?.ordinal))
  const [chosen, catalog] = [places(before).filter((place) => place >= 0), places(now)]
  // Whatever it is called by now, to the pipeline it is the table that was chosen.
  return { ...now, id: before.id, columns, key: table.keyFixed === true || catalog.includes(-1) ? chosen : catalog }
}

/** Whether rows with the columns of one can be taken for rows with the columns of the other. */
export function hasSameColumns(a: TableSchema | undefined, b: TableSchema): boolean {
  const text = (columns: TableSchema['columns']): string =>
    JSON.stringify(columns.map(({ name, ordinal, sourceType }) => [ordinal, name, sourceType]).toSorted())
  return a !== undefined && text(a.columns) === text(b.columns)
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
  if (before.namespace !== after.namespace || before.name !== after.name)
    changes.push({ kind: 'table-renamed', before: tableId(before.namespace, before.name), after: tableId(after.namespace, after.name) })
  if (reasons.length === 0 && changes.some((change) => change.kind === 'column-added') && hadOthers(before, after))
    reasons.push(
      `columns of ${before.id} were added and dropped again, and rows may hold their values under the name of one that is there now`,
    )
  if (reasons.length === 0 && wasRewritten(before, after))
    reasons.push(`the rows of ${before.id} were rewritten in place (ALTER COLUMN … TYPE … USING?)`)
  return { changes, ambiguous: reasons.length === 0 ? null : reasons.join('; ') }
}

/**
 * New files and, for a column that stays, a new catalog row: the rows were written anew by ALTER TABLE. Either alone is
 * TRUNCATE, VACUUM FULL, SET DEFAULT: those change no value.
 */
export function wasRewritten(before: TableSchema, after: TableSchema): boolean {
  if (before.storage === undefined || after.storage === undefined) return false
  const [oldFiles, oldColumns = ''] = before.storage.split('|')
  const [newFiles, newColumns = ''] = after.storage.split('|')
  if (oldFiles === newFiles || before.partitions?.join() !== after.partitions?.join()) return false
  const known = new Map(oldColumns.split(',').map((entry) => entry.split(':') as [string, string]))
  return newColumns.split(',').some((entry) => {
    const [ordinal = '', xid] = entry.split(':')
    return known.has(ordinal) && known.get(ordinal) !== xid
  })
}

/** Whether there were columns in between that neither shape has. */
function hadOthers(before: TableSchema, after: TableSchema): boolean {
  const last = Math.max(0, ...before.columns.map((column) => column.ordinal), ...(before.dropped ?? []))
  return after.dropped?.some((ordinal) => ordinal > last) ?? false
}

function onlyRenamed(before: TableSchema, after: TableSchema): boolean {
  const ordinals = (schema: TableSchema): string => schema.key.map((index) => schema.columns[index]?.ordinal).join(',')
  return ordinals(before) === ordinals(after)
}

function addColumn(before: TableSchema, column: Column, changes: SchemaChangeDetail[], reasons: string[]): void {
  changes.push({ kind: 'column-added', before: null, after: column.name })
  if (before.columns.some((old) => old.name === column.name)) reasons.push(`column ${column.name} was dropped and added again`)
  else if (column.missing === undefined && column.default !== undefined)
    reasons.push(`column ${column.name} was added with a default that may have been computed for each row`)
  else if (column.missing === undefined && column.identity !== 'no')
    reasons.push(`identity column ${column.name} was added and its values are not in the change stream`)
}

function compareColumn(old: Column, column: Column, changes: SchemaChangeDetail[], reasons: string[]): void {
  if (old.name !== column.name) changes.push({ kind: 'column-renamed', before: old.name, after: column.name })
  if (old.sourceType !== column.sourceType) {
    changes.push({ kind: 'type-changed', before: old.name, after: column.name })
    if (!keepsValues(old, column))
      reasons.push(`the type of column ${column.name} changed from ${old.sourceType} to ${column.sourceType}, which rewrites rows`)
  }
  const labels = compareLabels(old.type, column.type)
  if (old.sourceType === column.sourceType && labels !== 'same')
    changes.push({ kind: 'type-changed', before: old.name, after: column.name })
  if (labels === 'lost')
    reasons.push(`labels of the type ${column.sourceType} were renamed, which changes what old rows of column ${column.name} say`)
  if (old.nullable !== column.nullable) changes.push({ kind: 'nullability-changed', before: old.name, after: column.name })
}

function compareLabels(before: LogicalType, after: LogicalType): 'same' | 'added' | 'lost' {
  if (before.kind === 'array' && after.kind === 'array') return compareLabels(before.element, after.element)
  if (before.kind !== 'enum' || after.kind !== 'enum') return 'same'
  if (before.values.some((label) => !after.values.includes(label))) return 'lost'
  return before.values.join('\0') === after.values.join('\0') ? 'same' : 'added'
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
