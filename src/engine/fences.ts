import type { Position, View } from '../model/position.ts'
import { TailraceError } from '../sdk/errors.ts'
import { tablesOption } from '../sdk/selection.ts'
import { forgetHoles, recallHoles } from './holes.ts'
import { transition } from './machine.ts'
import type { Run } from './run.ts'
import { sinkTable, type PipelineTable } from './tables.ts'

/** Rebuilds, from ledger and views, the fences of tables that were read in views later than the stream's origin. */
export async function loadFences(run: Run): Promise<void> {
  run.fences.clear()
  const converging = run.live.filter((table) => table.state === 'converging')
  if (converging.length === 0) return
  const views = new Map((await run.state.views()).map((view) => [view.id, view]))
  for (const table of converging) {
    const ledger = await run.state.chunks(table.id)
    const ends: Position[] = []
    const chunks = ledger.map(({ chunk, view: id }) => {
      const view = id === null ? undefined : views.get(id)
      if (view === undefined)
        throw new TailraceError('STATE_DAMAGED', `the ledger of ${table.id} names a view that the state store does not hold`, {
          hint: `tailrace resnapshot ${run.identity.name} ${tablesOption([table.id])} reads the table again`,
        })
      if (view.viewEnd !== null) ends.push(view.viewEnd)
      return { range: chunk.range, view: view.view }
    })
    const end = newest(run, ends)
    if (end === null) {
      await release(run, table)
      continue
    }
    const fence = { table: table.id, chunks, keys: new Map(), end }
    await recallHoles(run, fence)
    run.fences.set(table.id, fence)
  }
}

function newest(run: Run, positions: readonly Position[]): Position | null {
  let best: Position | null = null
  for (const position of positions) if (best === null || run.source.comparePositions?.(position, best) === 1) best = position
  return best
}

/** The view that counts for a table's shape in the stream: that of a table read whole. */
export function viewsOf(run: Run): Map<PipelineTable['id'], View> {
  const views = new Map<PipelineTable['id'], View>()
  for (const fence of run.fences.values()) {
    const all = new Set(fence.chunks.map((chunk) => chunk.view))
    const [only] = all
    if (all.size === 1 && only !== null && only !== undefined) views.set(fence.table, only)
  }
  return views
}

/** Drops the fences that the position has passed; their tables stream from now on (TRAPS 5). */
export async function passFences(run: Run, position: Position, signal: AbortSignal): Promise<void> {
  if (run.fences.size === 0) return
  const passed: PipelineTable[] = []
  for (const [id, fence] of run.fences) {
    const order = run.source.comparePositions?.(position, fence.end)
    if (order !== 0 && order !== 1) continue
    run.fences.delete(id)
    const table = run.tables.get(id)
    if (table !== undefined) passed.push(table)
  }
  for (const table of passed) await release(run, table)
  if (passed.length > 0) await seal(run, passed, signal)
}

async function release(run: Run, table: PipelineTable): Promise<void> {
  table.state = transition(table.state, 'passed-views')
  await run.saveTable(table)
  await forgetHoles(run, table.id)
}

/** Indexes, constraints and sequences of tables whose copy is consistent. */
export async function seal(run: Run, tables: readonly PipelineTable[], signal: AbortSignal): Promise<void> {
  if (run.sink.seal === undefined || tables.length === 0) return
  for (const problem of await run.sink.seal(tables.map(sinkTable), signal)) run.note(problem)
}
