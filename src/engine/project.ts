import { UNCHANGED_VALUE, NULL_VALUE, Op, type Slice } from '../model/batch.ts'
import type { TableSchema } from '../model/schema.ts'

/**
 * A slice in another shape of its table (`--schema-changes ignore`): columns are found by their lasting number; one that
 * the rows no longer carry keeps its value in updates and is null in new rows.
 */
export function projectSlice(slice: Slice, schema: TableSchema): Slice {
  const from = slice.schema.columns.length
  const to = schema.columns.length
  const source = schema.columns.map((column) => slice.schema.columns.findIndex((other) => other.ordinal === column.ordinal))
  const starts = new Int32Array(slice.rows * to)
  const lengths = new Int32Array(slice.rows * to)
  const old = slice.oldKinds === null ? 0 : slice.rows * to
  const oldStarts = new Int32Array(old)
  const oldLengths = new Int32Array(old).fill(-3)
  for (let row = 0; row < slice.rows; row++) {
    for (let column = 0; column < to; column++) {
      const cell = row * to + column
      const wire = source[column]!
      if (wire < 0) {
        lengths[cell] = slice.ops[row] === Op.update ? UNCHANGED_VALUE : slice.ops[row] === Op.delete ? -3 : NULL_VALUE
        continue
      }
      starts[cell] = slice.starts[row * from + wire]!
      lengths[cell] = slice.lengths[row * from + wire]!
      if (slice.oldKinds === null) continue
      oldStarts[cell] = slice.oldStarts[row * from + wire]!
      oldLengths[cell] = slice.oldLengths[row * from + wire]!
    }
  }
  return { ...slice, schema, starts, lengths, oldStarts, oldLengths }
}
