import { keyOrder } from '../model/logical-type.ts'
import { columnAt, type TableId } from '../model/schema.ts'
import type { Chunk } from '../sdk/source.ts'
import type { KeyPart } from '../state/store.ts'
import { keepsStrangers, readAgain } from './again.ts'
import { transition } from './machine.ts'
import type { Run } from './run.ts'
import type { PipelineTable } from './tables.ts'

/**
 * Reads parts of a table again, in a new view, and nothing else of it: what `verify` found to differ. It is the way in which
 * an interrupted copy goes on: the parts are chunks that are not done, all between them is, and the stream leaves out what the
 * view has seen of the parts alone (TRAPS rule K). The target keeps all other rows and stays readable.
 */
export async function repair(run: Run, id: TableId, parts: readonly KeyPart[], signal: AbortSignal): Promise<void> {
  const table = run.tables.get(id)
  if (table === undefined || table.state === 'removed') return
  // Read wholly anyway.
  if (table.state === 'pending' || table.state === 'copying') return
  if (keepsStrangers(run, table)) {
    const message = `${id} is not repaired: its target also holds rows of somebody else (--if-exists append)`
    return run.note({ severity: 'warning', code: 'TARGET_NOT_EMPTY', message, path: id })
  }
  const column = orderedKey(table)
  // The fences of a table that still converges are in its ledger.
  if (column === null || parts.length === 0 || table.state === 'converging') return readAgain(run, [id], 'to be repaired', signal)
  // A view that has seen nothing of the stream: what is not read again stays as the stream has made it.
  const untouched = await run.state.saveView({ view: null, viewEnd: null })
  const { snapshotRows, snapshotBytes } = run.tally.of(id)
  const chunks = cut(column, parts)
  // What was counted before counts on: see `resumeTable`.
  const counted = chunks.find(({ asked }) => !asked)
  await run.state.saveChunks(
    id,
    chunks.map((each) => ({
      chunk: each.chunk,
      view: each.asked ? null : untouched,
      done: !each.asked,
      rows: each === counted ? snapshotRows : 0,
      bytes: each === counted ? snapshotBytes : 0,
    })),
  )
  run.repaired.add(id)
  table.rule = 'chunk'
  table.chunks = chunks.length
  table.chunksDone = chunks.filter(({ asked }) => !asked).length
  table.state = transition(transition(table.state, 'read-again'), 'copy')
  await run.saveTable(table)
}

function orderedKey({ source }: PipelineTable): string | null {
  const [first] = source.schema.key
  if (first === undefined) return null
  const column = columnAt(source.schema, first)
  return keyOrder(column.type) === null ? null : column.name
}

/** The whole key space: the parts, in order and apart, and what lies between them. */
function cut(column: string, parts: readonly KeyPart[]): { readonly chunk: Chunk; readonly asked: boolean }[] {
  const pieces: { range: Chunk['range']; asked: boolean }[] = []
  let from: string | null = null
  let isOpen = true
  for (const part of parts) {
    if (part.from !== null) pieces.push({ range: { kind: 'key', column, from, to: part.from }, asked: false })
    pieces.push({ range: { kind: 'key', column, ...part }, asked: true })
    from = part.to
    isOpen = part.to !== null
  }
  if (isOpen) pieces.push({ range: { kind: 'key', column, from, to: null }, asked: false })
  return pieces.map(({ range, asked }, id) => ({ chunk: { id, range, rows: -1, bytes: -1 }, asked }))
}
