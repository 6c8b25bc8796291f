import type { TableId } from '../model/schema.ts'
import type { Run } from './run.ts'

const LOOK_MILLIS = 500

/** What a person asked of the running pipeline. */
export type Interruption =
  | { readonly kind: 'pause' }
  | { readonly kind: 'resnapshot'; readonly ids: readonly TableId[] }
  | { readonly kind: 'tables-changed'; readonly add: readonly string[]; readonly remove: readonly TableId[] }

const lookedAt = new WeakMap<Run, number>()

/** Looks for requests, twice a second at most: they are rows in the state store, so they work on any runner. */
export async function takeControl(run: Run): Promise<Interruption | null> {
  const now = run.environment.clock()
  if (now - (lookedAt.get(run) ?? 0) < LOOK_MILLIS) return null
  lookedAt.set(run, now)
  if ((await run.state.desired()) === 'paused') return { kind: 'pause' }
  const ids: TableId[] = []
  const add: string[] = []
  const remove: TableId[] = []
  for (const request of await run.state.takeRequests()) {
    if (request.kind === 'resnapshot') ids.push(...request.tables)
    else if (request.kind === 'add-tables') add.push(...request.tables)
    else if (request.kind === 'remove-tables') remove.push(...request.tables)
  }
  if (add.length > 0 || remove.length > 0) return { kind: 'tables-changed', add, remove }
  return ids.length > 0 ? { kind: 'resnapshot', ids } : null
}
