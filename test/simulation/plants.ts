/**
 * Faults that the simulation can plant in its own source, sink or store, each of which breaks an invariant: they show that it
 * would notice.
 */
export const PLANTS = {
  'row-forgotten': 'the sink leaves out one row of a batch',
  'confirmed-early': 'the source is told to forget what it has only just given',
  'checkpoint-inside': 'a position is given inside a transaction',
  'epoch-ignored': 'the sink takes commits of a run that was taken over from',
  'covered-twice': 'changes that a later view has seen are applied again',
  'chunk-early': 'a chunk is said to be durable a moment before it is',
  'truncate-lost': 'the sink leaves a truncated table as it is',
  'unchanged-as-null': 'columns that did not change become null',
  'position-ahead': 'an idle batch brings the end of the log before what comes before it was given',
  'saved-ahead': 'the store saves the position of what the sink does not hold yet',
  hangs: 'a lost connection is never noticed',
} as const

export type Plant = keyof typeof PLANTS
