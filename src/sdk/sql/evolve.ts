import type { SchemaChangeDetail } from '../../model/batch.ts'
import type { Column, TableSchema } from '../../model/schema.ts'

/** One step from an old shape of a table to a new one, in an order in which they can be carried out. */
export type EvolutionStep =
  | { readonly kind: 'rename-table'; readonly from: string; readonly to: string }
  | { readonly kind: 'drop-key' }
  | { readonly kind: 'drop'; readonly column: Column }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string; readonly column: Column }
  | { readonly kind: 'add'; readonly column: Column }
  | { readonly kind: 'retype'; readonly before: Column; readonly after: Column }
  | { readonly kind: 'nullability'; readonly column: Column }
  | { readonly kind: 'make-key' }

/**
 * What has to be done to a target to follow `previous` → `next`. Columns are told apart by their lasting number where the
 * source has one, else by name (TRAPS 47): a renamed column keeps its number, a dropped and added one has a new number.
 * Drops come before renames before adds, so that a name given up may be taken at once; the key goes first and comes last.
 */
export function evolutionSteps(previous: TableSchema, next: TableSchema, changes: readonly SchemaChangeDetail[] = []): EvolutionStep[] {
  const pairs = pairColumns(previous, next, changes)
  const kept = new Set(pairs.map(({ before }) => before))
  const known = new Set(pairs.map(({ after }) => after))
  const keyChanged = keyColumns(previous).join(',') !== keyColumns(next, pairs).join(',')
  return [
    ...(previous.name === next.name ? [] : [{ kind: 'rename-table' as const, from: previous.name, to: next.name }]),
    ...(keyChanged && previous.key.length > 0 ? [{ kind: 'drop-key' as const }] : []),
    ...previous.columns.filter((column) => !kept.has(column)).map((column) => ({ kind: 'drop' as const, column })),
    ...pairs
      .filter(({ before, after }) => before.name !== after.name)
      .map(({ before, after }) => ({ kind: 'rename' as const, from: before.name, to: after.name, column: after })),
    ...next.columns.filter((column) => !known.has(column)).map((column) => ({ kind: 'add' as const, column })),
    ...pairs
      .filter(({ before, after }) => hasOtherType(before, after))
      .map(({ before, after }) => ({ kind: 'retype' as const, before, after })),
    ...pairs
      .filter(({ before, after }) => before.nullable !== after.nullable)
      .map(({ after }) => ({ kind: 'nullability' as const, column: after })),
    ...(keyChanged && next.key.length > 0 ? [{ kind: 'make-key' as const }] : []),
  ]
}

interface Pair {
  readonly before: Column
  readonly after: Column
}

function pairColumns(previous: TableSchema, next: TableSchema, changes: readonly SchemaChangeDetail[]): Pair[] {
  const numbered = previous.relation === next.relation && [...previous.columns, ...next.columns].every((column) => column.ordinal > 0)
  const newName = new Map(
    changes.flatMap((change) =>
      change.kind === 'column-renamed' && change.before !== null && change.after !== null ? [[change.before, change.after] as const] : [],
    ),
  )
  const dropped = new Set(changes.flatMap((change) => (change.kind === 'column-dropped' && change.before !== null ? [change.before] : [])))
  return previous.columns.flatMap((before) => {
    const byName = (): Column | undefined =>
      dropped.has(before.name) ? undefined : next.columns.find((column) => column.name === (newName.get(before.name) ?? before.name))
    const after = numbered ? next.columns.find((column) => column.ordinal === before.ordinal) : byName()
    return after === undefined ? [] : [{ before, after }]
  })
}

/** Key columns by the names of `schema`, or, given pairs, by their names before. */
function keyColumns(schema: TableSchema, pairs: readonly Pair[] = []): string[] {
  return schema.key.map((index) => {
    const column = schema.columns[index]
    return pairs.find(({ after }) => after === column)?.before.name ?? column?.name ?? ''
  })
}

function hasOtherType(before: Column, after: Column): boolean {
  return before.sourceType !== after.sourceType || JSON.stringify(before.type) !== JSON.stringify(after.type)
}
