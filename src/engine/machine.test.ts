import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TableState } from '../state/store.ts'
import { derivedState, transition, type TableEvent } from './machine.ts'

/** What a table is, in other words than its state: the model that the machine is held against. */
interface Model {
  readonly removed: boolean
  readonly failed: boolean
  /** How much of it is copied, and of how many views. */
  readonly copy: 'none' | 'begun' | 'several views' | 'one view'
  /** Nothing follows. */
  readonly bounded: boolean
}

const NEW: Model = { removed: false, failed: false, copy: 'none', bounded: false }

/** What happens to a table; null: it cannot happen now. */
const EVENTS: Readonly<Record<TableEvent, (model: Model) => Model | null>> = {
  copy: (model) => (alive(model) && (model.copy === 'none' || model.copy === 'begun') ? { ...model, copy: 'begun' } : null),
  // A table without rows to read need not have begun.
  copied: (model) => (alive(model) && (model.copy === 'none' || model.copy === 'begun') ? { ...model, copy: 'one view' } : null),
  'copied-in-later-view': (model) => (alive(model) && model.copy === 'begun' ? { ...model, copy: 'several views' } : null),
  'bounded-copied': (model) => (alive(model) && model.copy === 'begun' ? { ...model, copy: 'one view', bounded: true } : null),
  'passed-views': (model) =>
    alive(model) && !model.bounded && (model.copy === 'several views' || model.copy === 'one view') ? { ...model, copy: 'one view' } : null,
  'read-again': () => NEW,
  fail: (model) => (model.removed ? null : { ...model, failed: true }),
  remove: (model) => ({ ...model, removed: true }),
}
const NAMES = Object.keys(EVENTS) as TableEvent[]

function alive({ removed, failed }: Model): boolean {
  return !removed && !failed
}

function stateOf({ removed, failed, copy, bounded }: Model): TableState {
  if (removed) return 'removed'
  if (failed) return 'failed'
  if (copy === 'none') return 'pending'
  if (copy === 'begun') return 'copying'
  if (copy === 'several views') return 'converging'
  return bounded ? 'done' : 'streaming'
}

const LONGEST = 7

test(`every sequence of up to ${LONGEST} events ends where the model says, or is refused where it says`, () => {
  const states = new Set<TableState>()
  let sequences = 0
  const walk = (model: Model, state: TableState, path: readonly TableEvent[]): void => {
    sequences++
    states.add(state)
    assert.equal(state, stateOf(model), path.join(', '))
    if (path.length === LONGEST) return
    for (const event of NAMES) {
      const next = EVENTS[event](model)
      if (next === null) {
        assert.throws(() => transition(state, event), { name: 'TailraceError', code: 'BUG' }, [...path, event].join(', '))
        continue
      }
      walk(next, transition(state, event), [...path, event])
    }
  }
  walk(NEW, 'pending', [])
  assert.equal(states.size, 7)
  assert.ok(sequences > 10_000, String(sequences))
})

test('from every state a table can be read again, and then copied to its end', () => {
  for (const state of ['pending', 'copying', 'converging', 'streaming', 'done', 'failed', 'removed'] as const) {
    const path: readonly TableEvent[] = ['read-again', 'copy', 'copied-in-later-view', 'passed-views']
    assert.equal(path.reduce(transition, state), 'streaming', state)
  }
})

/** Worst first: what the whole is called after the worst of its parts. */
const ORDER: readonly (readonly [TableState, string])[] = [
  ['failed', 'failed'],
  ['pending', 'copying'],
  ['copying', 'copying'],
  ['converging', 'converging'],
  ['streaming', 'streaming'],
]

test('the state of a pipeline is that of its worst table, whatever their order; tables that were taken out do not count', () => {
  const all: readonly TableState[] = ['pending', 'copying', 'converging', 'streaming', 'done', 'failed', 'removed']
  const walk = (tables: readonly TableState[]): void => {
    const wanted = ORDER.find(([state]) => tables.includes(state))?.[1] ?? 'done'
    assert.equal(derivedState(tables.map((state) => ({ state }))), wanted, tables.join(', '))
    if (tables.length < 4) for (const state of all) walk([...tables, state])
  }
  walk([])
})
