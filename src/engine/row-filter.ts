import { UNCHANGED, type Change, type Row, type Value } from '../model/change.ts'
import { keyNames, type TableSchema } from '../model/schema.ts'
import { sameValue } from '../model/value-text.ts'

/**
 * TRAPS 45: a transform that gives null for some rows is a filter on values, and an update may take a row out of it or into
 * it. Nobody remembers which rows were let through, so that neither may depend on it.
 */

/** What makes the target forget the row that an update is about, by the key that it had before. */
export function deleteOf(update: Change, schema: TableSchema): Change {
  const { before, beforeKind, after } = update
  const gone = { ...update, op: 'delete', after: null } as const
  if (before !== null) return { ...gone, before, beforeKind }
  return { ...gone, before: Object.fromEntries(keyNames(schema).map((name) => [name, after?.[name] ?? null])), beforeKind: 'key' }
}

/**
 * A change as it can be written whether or not the target holds the row: an update that has all columns becomes an insert,
 * which replaces. One that lacks some stays what it is, and the sink refuses it where the row is not there (TRAPS 34). So does
 * one of a table with deferrable keys, where two rows may have one key for a while (TRAPS 35), and of one without a key.
 */
export function withoutNeedOfRow(change: Change, schema: TableSchema): readonly Change[] {
  if (change.op !== 'update' || schema.key.length === 0 || schema.indexes.some((index) => index.deferrable)) return [change]
  const after = completeRow(change, schema)
  if (after === null) return [change]
  const { before } = change
  const insert = { ...change, op: 'insert', after, before: null, beforeKind: 'none' } as const
  const moved = before !== null && keyNames(schema).some((name) => !sameValue(before[name], after[name]))
  return moved ? [deleteOf(change, schema), insert] : [insert]
}

/** The new row with every column; null where the source did not send one and the old row does not show it either. */
function completeRow({ after, before, beforeKind }: Change, schema: TableSchema): Row | null {
  const filled: [name: string, value: Value][] = []
  for (const { name } of schema.columns) {
    const sent = valueOf(after, name)
    const value = sent === UNCHANGED && beforeKind === 'full' ? valueOf(before, name) : sent
    if (value === undefined || value === UNCHANGED) return null
    if (value !== sent) filled.push([name, value])
  }
  // A column too many is the encoder's to refuse.
  return filled.length === 0 ? after : { ...after, ...Object.fromEntries(filled) }
}

/** A column may be called `constructor`. */
function valueOf(row: Partial<Row> | null, name: string): Value | undefined {
  return row !== null && Object.hasOwn(row, name) ? row[name] : undefined
}
