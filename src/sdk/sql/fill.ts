import { NULL_VALUE } from '../../model/batch.ts'
import type { Compaction } from './compact.ts'

/** A value fetched from the target for a cell that the source did not send. */
export interface FilledCell {
  /** Row of the slice and column of its schema. */
  readonly row: number
  readonly column: number
  readonly value: string | null
}

/** The same compaction with the given cells of its final images known: base rows' values, before the base rows go. */
export function fillCells(compaction: Compaction, cells: readonly FilledCell[]): Compaction {
  if (cells.length === 0) return compaction
  const columns = compaction.slice.schema.columns.length
  const starts = compaction.starts.slice()
  const lengths = compaction.lengths.slice()
  const pieces: Buffer[] = [compaction.slice.bytes]
  let end = compaction.slice.bytes.length
  for (const { row, column, value } of cells) {
    const piece = value === null ? null : Buffer.from(value, 'utf8')
    starts[row * columns + column] = end
    lengths[row * columns + column] = piece === null ? NULL_VALUE : piece.length
    if (piece === null) continue
    pieces.push(piece)
    end += piece.length
  }
  return { ...compaction, slice: { ...compaction.slice, bytes: Buffer.concat(pieces, end) }, starts, lengths }
}
