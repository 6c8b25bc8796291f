import { NOTHING_SAID } from '../sdk/selection.ts'
import { readAgain } from './again.ts'
import type { Asked } from './control.ts'
import { addTables } from './join.ts'
import { transition } from './machine.ts'
import type { Run } from './run.ts'

/** Does what people asked of the tables. What cannot be done is said, and the pipeline goes on. */
export async function obey(run: Run, { add, remove, again }: Asked, signal: AbortSignal): Promise<void> {
  for (const id of remove) {
    const table = run.tables.get(id)
    if (table === undefined) continue
    table.terms = { ...table.terms, asked: 'out' }
    table.state = transition(table.state, 'remove')
    await run.saveTable(table)
  }
  if (add.length > 0) await addTables(run, add, signal)
  if (again.length === 0) return
  if (run.options.snapshot !== 'never') return readAgain(run, again, 'as asked', signal)
  run.note({ severity: 'warning', code: 'CONFIG', message: `${again.join(', ')} is not read again: --snapshot never forbids it` })
}

/** Tables that a person took out while nobody ran: before anything is looked at, for they may be what stands in the way. */
export async function removeKept(run: Run, { remove }: Asked): Promise<void> {
  for (const record of await run.state.tables()) {
    if (!remove.includes(record.id)) continue
    const terms = { ...(record.terms ?? { ...NOTHING_SAID, strangers: 'none' as const }), asked: 'out' as const }
    await run.state.saveTable({ ...record, state: 'removed', terms })
  }
}
