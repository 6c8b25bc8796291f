import type { Run } from './run.ts'

const LOOK_MILLIS = 500

/** What a person wants of the running pipeline: that it pauses, or what stands in the store's requests. */
export interface Interruption {
  readonly kind: 'pause' | 'asked'
}

const lookedAt = new WeakMap<Run, number>()

/** Looks for requests, twice a second at most or `atOnce`: they are rows in the state store, so they work on any runner. */
export async function lookForControl(run: Run, atOnce = false): Promise<Interruption | null> {
  const now = run.environment.clock()
  if (!atOnce && now - (lookedAt.get(run) ?? 0) < LOOK_MILLIS) return null
  lookedAt.set(run, now)
  if ((await run.state.desired()) === 'paused') return { kind: 'pause' }
  return (await run.state.requests()).length === 0 ? null : { kind: 'asked' }
}
