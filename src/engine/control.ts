import type { TableId } from '../model/schema.ts'
import type { Run } from './run.ts'

const LOOK_MILLIS = 500

/** What people asked of the pipeline's tables: patterns to take in, tables to leave out and to read again. */
export interface Asked {
  readonly add: readonly string[]
  readonly remove: readonly TableId[]
  readonly again: readonly TableId[]
}

/** What a person asked of the running pipeline. */
export type Interruption = { readonly kind: 'pause' } | { readonly kind: 'asked'; readonly asked: Asked }

const lookedAt = new WeakMap<Run, number>()

/** Looks for requests, twice a second at most or `atOnce`: they are rows in the state store, so they work on any runner. */
export async function takeControl(run: Run, atOnce = false): Promise<Interruption | null> {
  const now = run.environment.clock()
  if (!atOnce && now - (lookedAt.get(run) ?? 0) < LOOK_MILLIS) return null
  lookedAt.set(run, now)
  if ((await run.state.desired()) === 'paused') return { kind: 'pause' }
  const asked = await takeAsked(run)
  return asked === null ? null : { kind: 'asked', asked }
}

/** Each request is taken once; null: there is none. */
export async function takeAsked(run: Run): Promise<Asked | null> {
  const add: string[] = []
  const remove: TableId[] = []
  const again: TableId[] = []
  for (const request of await run.state.takeRequests()) {
    if (request.kind === 'resnapshot') again.push(...request.tables)
    else if (request.kind === 'add-tables') add.push(...request.tables)
    else if (request.kind === 'remove-tables') remove.push(...request.tables)
  }
  return add.length + remove.length + again.length === 0 ? null : { add, remove, again }
}
