declare const positionBrand: unique symbol
/**
 * A place in a source's change log from which the stream can go on. Written by the source, versioned, stored by engine
 * and sink as it is, compared only by the source's `comparePositions` (Invariant 8).
 */
export type Position = string & { readonly [positionBrand]: true }

declare const viewBrand: unique symbol
/** What one snapshot saw, as plain data that the source wrote; decides by `covers` what the stream need not repeat. */
export type View = string & { readonly [viewBrand]: true }

/** One source transaction of a batch. */
export interface Transaction {
  /** The source's number for it, as text. */
  readonly id: string
  /**
   * Where its commit stands in the log: known from its first change on and the same on every replay, so it begins `sequence`.
   * Always before `end`; it may be where the commit before ends.
   */
  readonly position: Position
  /** Where its commit ends: the resume position after it. Null while the transaction goes on in a later batch. */
  readonly end: Position | null
  /** Commit time, microseconds since 1970-01-01 UTC. */
  readonly committedAt: number
}
