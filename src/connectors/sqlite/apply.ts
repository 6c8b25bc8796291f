import type { Slice } from '../../model/batch.ts'
import type { TableWriter } from './table-writer.ts'

/**
 * Applies the slices of a batch in the source's order across tables: the slice whose next row is first goes on until
 * another one's turn comes. Within a slice `order` rises.
 */
export function applySlices(slices: readonly Slice[], writerOf: (slice: Slice) => TableWriter): void {
  const runs = slices.filter((slice) => slice.rows > 0).map((slice) => ({ slice, writer: writerOf(slice), at: 0 }))
  while (runs.length > 1) {
    const first = firstOf(runs)
    const run = runs[first]!
    const limit = nextOrder(runs, first)
    const end = endOfRun(run.slice, run.at, limit)
    run.writer.apply(run.slice, run.at, end)
    run.at = end
    if (end === run.slice.rows) runs.splice(first, 1)
  }
  for (const run of runs) run.writer.apply(run.slice, run.at, run.slice.rows)
}

interface Run {
  readonly slice: Slice
  readonly writer: TableWriter
  at: number
}

function firstOf(runs: readonly Run[]): number {
  let first = 0
  for (let i = 1; i < runs.length; i++) if (orderAt(runs[i]!) < orderAt(runs[first]!)) first = i
  return first
}

/** The lowest order among the other slices. */
function nextOrder(runs: readonly Run[], except: number): number {
  let lowest = Number.POSITIVE_INFINITY
  for (let i = 0; i < runs.length; i++) if (i !== except) lowest = Math.min(lowest, orderAt(runs[i]!))
  return lowest
}

function orderAt(run: Run): number {
  return run.slice.order[run.at]!
}

function endOfRun(slice: Slice, from: number, limit: number): number {
  let row = from + 1
  while (row < slice.rows && slice.order[row]! <= limit) row++
  return row
}
