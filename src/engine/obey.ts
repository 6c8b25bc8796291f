import type { TableId } from '../model/schema.ts'
import { asTailraceError } from '../sdk/errors.ts'
import { NOTHING_SAID } from '../sdk/selection.ts'
import type { ControlRequest } from '../state/store.ts'
import { readAgain } from './again.ts'
import { addTables, isAnswer } from './join.ts'
import { transition } from './machine.ts'
import { repair } from './repair.ts'
import type { Run } from './run.ts'
import { NOTHING_KEPT } from './tables.ts'
import { letGo } from './writers.ts'

/**
 * Does what people asked of the tables, in their order. A request is forgotten when its effect is saved: after a crash
 * before that it is obeyed once more, which changes nothing. What cannot be done is said, and the pipeline goes on.
 */
export async function obey(run: Run, signal: AbortSignal): Promise<void> {
  for (const { id, request } of await run.state.requests()) {
    try {
      await obeyOne(run, request, signal)
    } catch (error) {
      // Refused, and not given up: obeyed again, it would stop every later start as well.
      if (isAnswer(asTailraceError(error))) await run.state.forgetRequest(id)
      throw error
    }
    await run.state.forgetRequest(id)
  }
}

async function obeyOne(run: Run, request: ControlRequest, signal: AbortSignal): Promise<void> {
  switch (request.kind) {
    case 'add-tables':
      return addTables(run, request.tables, signal)
    case 'remove-tables':
      return removeTables(run, request.tables, signal)
    case 'resnapshot':
      return readTables(run, request.tables, signal)
    case 'repair':
      return repairParts(run, request, signal)
    case 'pause':
    case 'resume':
      // Wishes that stay: the store keeps them apart.
      return
    default:
      return request satisfies never
  }
}

async function removeTables(run: Run, ids: readonly TableId[], signal: AbortSignal): Promise<void> {
  const records = (await run.state.tables()).filter(({ id }) => ids.includes(id))
  await letGo(run, records, signal)
  for (const id of ids) {
    const table = run.tables.get(id)
    if (table === undefined) continue
    table.terms = { ...table.terms, asked: 'out' }
    table.state = transition(table.state, 'remove')
    await run.saveTable(table)
  }
}

async function readTables(run: Run, ids: readonly TableId[], signal: AbortSignal): Promise<void> {
  if (run.options.snapshot !== 'never') return readAgain(run, ids, 'as asked', signal)
  run.note({ severity: 'warning', code: 'CONFIG', message: `${ids.join(', ')} is not read again: --snapshot never forbids it` })
}

async function repairParts(run: Run, { table, parts }: Extract<ControlRequest, { kind: 'repair' }>, signal: AbortSignal): Promise<void> {
  return run.options.snapshot === 'never' ? readTables(run, [table], signal) : repair(run, table, parts, signal)
}

/** Tables that a person took out while nobody ran: before anything is looked at, for they may be what stands in the way. */
export async function removeKept(run: Run): Promise<void> {
  const requests = (await run.state.requests()).map(({ request }) => request)
  const out = new Set(requests.flatMap((request) => (request.kind === 'remove-tables' ? request.tables : [])))
  if (out.size === 0) return
  for (const record of await run.state.tables()) {
    if (!out.has(record.id)) continue
    const terms = { ...(record.terms ?? { ...NOTHING_SAID, ...NOTHING_KEPT }), asked: 'out' as const }
    await run.state.saveTable({ ...record, state: 'removed', terms })
  }
}
