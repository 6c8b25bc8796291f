import type { Change } from '../model/change.ts'

export interface TransformContext {
  readonly pipeline: string
  readonly signal: AbortSignal
}

/**
 * What a transform gives: the change (changed or not), several, or null: filtered, and counted. Null for an update also deletes
 * the row in the target, where an earlier change may have put it.
 */
export type TransformResult = Change | readonly Change[] | null

/** A user's function, from a TypeScript or JavaScript module that exports `transform`. Sync or async; order is kept. */
export type Transform = (change: Change, context: TransformContext) => TransformResult | Promise<TransformResult>
