import { TailraceError } from '../sdk/errors.ts'
import type { TableState } from '../state/store.ts'
import type { PipelineStateName } from './report.ts'

export type TableEvent = 'copy' | 'copied' | 'copied-in-later-view' | 'bounded-copied' | 'passed-views' | 'read-again' | 'fail' | 'remove'

/** The whole machine: state × event → state; null: cannot happen. TypeScript keeps the table complete. */
const TRANSITIONS: Record<TableState, Record<TableEvent, TableState | null>> = {
  pending: row({ copy: 'copying', 'read-again': 'pending', remove: 'removed', fail: 'failed', copied: 'streaming' }),
  copying: row({
    copy: 'copying',
    copied: 'streaming',
    'copied-in-later-view': 'converging',
    'bounded-copied': 'done',
    'read-again': 'pending',
    fail: 'failed',
    remove: 'removed',
  }),
  converging: row({ 'passed-views': 'streaming', 'read-again': 'pending', fail: 'failed', remove: 'removed' }),
  streaming: row({ 'read-again': 'pending', 'passed-views': 'streaming', fail: 'failed', remove: 'removed' }),
  done: row({ 'read-again': 'pending', fail: 'failed', remove: 'removed' }),
  failed: row({ 'read-again': 'pending', fail: 'failed', remove: 'removed' }),
  removed: row({ 'read-again': 'pending', remove: 'removed' }),
}

function row(entries: Partial<Record<TableEvent, TableState>>): Record<TableEvent, TableState | null> {
  return {
    copy: null,
    copied: null,
    'copied-in-later-view': null,
    'bounded-copied': null,
    'passed-views': null,
    'read-again': null,
    fail: null,
    remove: null,
    ...entries,
  }
}

export function transition(state: TableState, event: TableEvent): TableState {
  const next = TRANSITIONS[state][event]
  if (next === null) throw new TailraceError('BUG', `a table that is ${state} cannot be told "${event}"`)
  return next
}

/** The pipeline's state follows from its tables'. */
export function derivedState(tables: readonly { readonly state: TableState }[]): PipelineStateName {
  const states = new Set(tables.map((table) => table.state))
  if (states.has('failed')) return 'failed'
  if (states.has('pending') || states.has('copying')) return 'copying'
  if (states.has('converging')) return 'converging'
  return states.has('streaming') ? 'streaming' : 'done'
}
