import { OldImage, Op, type Slice } from '../../model/batch.ts'
import { pickRows } from '../../model/slice-builder.ts'

/**
 * Soft deletes leave a row as it was last, but a batch is compacted to what it comes to. So a slice is cut before each change
 * that makes a row go (delete, new key) which was touched since the last cut: within a piece, the row that goes is the one in
 * the target.
 */
export function softRuns(slice: Slice, identity: readonly number[]): readonly Slice[] {
  const pieces: Slice[] = []
  let touched = new Set<string>()
  let start = 0
  for (let row = 0; row < slice.rows; row++) {
    const before = goes(slice, row) ? keyText(slice, row, identity, true) : null
    if (before !== null && touched.has(before)) {
      pieces.push(piece(slice, start, row))
      touched = new Set()
      start = row
    }
    if (before !== null) touched.add(before)
    if (slice.ops[row] !== Op.delete) touched.add(keyText(slice, row, identity, false))
  }
  return start === 0 ? [slice] : [...pieces, piece(slice, start, slice.rows)]
}

function piece(slice: Slice, from: number, to: number): Slice {
  return pickRows(
    slice,
    Array.from({ length: to - from }, (_, i) => from + i),
  )
}

/** An update with an old image may bring a new key; that it did not is no harm. */
function goes(slice: Slice, row: number): boolean {
  if (slice.ops[row] === Op.delete) return true
  return slice.ops[row] === Op.update && slice.oldKinds !== null && slice.oldKinds[row] !== OldImage.none
}

function keyText(slice: Slice, row: number, identity: readonly number[], old: boolean): string {
  const first = row * slice.schema.columns.length
  const hasOld = old && slice.oldKinds !== null && slice.oldKinds[row] !== OldImage.none
  const cell = (column: number): string => {
    const fromOld = hasOld && slice.oldLengths[first + column]! >= -1
    const [starts, lengths] = fromOld ? [slice.oldStarts, slice.oldLengths] : [slice.starts, slice.lengths]
    const length = lengths[first + column]!
    return length < 0
      ? String(length)
      : `${length}:${slice.bytes.toString('latin1', starts[first + column]!, starts[first + column]! + length)}`
  }
  return identity.map(cell).join()
}
