/**
 * One error class and one catalogue. A code's entry says what it means (this becomes docs/errors.md), what to do about
 * it, and the exit code of the command line. Messages are one sentence: what failed, for which table or option, what was
 * expected; never a row value or a secret.
 */

/**
 * What the engine may do about an error: `retry` with backoff; stop and ask the `operator`; blame the `row` (dead letter
 * or stop, as configured); `bug` stops with a stack.
 */
export type RetryClass = 'retry' | 'operator' | 'row' | 'bug'
export type ExitCode = 1 | 2 | 3 | 4

interface ErrorKind {
  readonly retry: RetryClass
  readonly exit: ExitCode
  readonly doc: string
}

const kind = (retry: RetryClass, exit: ExitCode, doc: string): ErrorKind => ({ retry, exit, doc })

export const ERRORS = {
  USAGE: kind('operator', 2, 'The command line, a URI, an option or a file is not well formed, or names something that does not exist.'),
  CONFIG: kind('operator', 2, 'The configuration cannot work as it is: options contradict each other or the pair of systems.'),
  UNREACHABLE: kind(
    'retry',
    3,
    'A system could not be reached or the connection was lost. Retried with growing delay once a pipeline runs; at the start it ends the command.',
  ),
  NOT_ALLOWED: kind(
    'operator',
    3,
    'The system refused: wrong password, missing privilege, TLS demanded or not trusted. The hint holds the exact GRANT where there is one.',
  ),
  HELD: kind('operator', 3, 'Another runner owns the pipeline, its target file or its slot. The message names it.'),
  ENVIRONMENT: kind(
    'operator',
    3,
    'Something on the machine or server is missing or set otherwise than needed: a peer package, wal_level, free slots, disk.',
  ),
  FENCED: kind('operator', 1, 'A newer runner of the same pipeline took over the target; this one stopped without writing.'),
  HISTORY_LOST: kind(
    'operator',
    1,
    'The change log no longer holds what follows the saved position, or belongs to another server or timeline; or the target was restored to an earlier state. Nothing is made anew silently: `tailrace reset <pipeline>` starts over, with a new slot and a new copy; `tailrace resnapshot <pipeline> --diff` makes a new slot and reads again only what differs.',
  ),
  TARGET_NOT_EMPTY: kind(
    'operator',
    1,
    'A target table holds rows that are not of this pipeline, or another pipeline writes it. `--if-exists append|truncate|replace` says what to do with the rows; only `append` shares a table that another pipeline goes on writing, `--map` names another one.',
  ),
  SCHEMA_CHANGED: kind('operator', 1, 'A table changed in a way that the policy forbids or that cannot be followed exactly.'),
  SCHEMA_UNSUPPORTED: kind(
    'operator',
    1,
    'A table cannot be copied as it is: no identity for updates, a type or name that the target cannot hold.',
  ),
  ROW_REJECTED: kind('row', 1, 'The target refused a row: it goes to the dead letters or stops the pipeline, as configured.'),
  TRANSFORM_FAILED: kind('row', 1, 'The transform threw or returned something that is no change: dead letter or stop, as configured.'),
  SINK_FAILED: kind(
    'retry',
    1,
    'The target failed in a way that may pass: deadlock, serialisation, restart. Repeated from the last checkpoint.',
  ),
  SOURCE_FAILED: kind('retry', 1, 'The source failed in a way that may pass. Repeated from the last checkpoint.'),
  PROTOCOL: kind('operator', 1, 'The other side sent bytes that the protocol does not allow, or a message that we do not know.'),
  NOT_ACCOUNTED: kind('operator', 1, 'Rows read differ from rows written, dead-lettered and filtered. Nothing is confirmed for them.'),
  SNAPSHOT_TOO_OLD: kind('operator', 1, 'A limit that protects the source was reached: age of the snapshot transaction or retained log.'),
  STATE_DAMAGED: kind('operator', 3, 'The state store cannot be read or was written by a newer release.'),
  DIFFERENT: kind('operator', 4, 'Both sides were compared and differ.'),
  CLOSED: kind('bug', 1, 'A connector was used after it was closed.'),
  ABORTED: kind('operator', 1, 'The work was given up on request before it was done.'),
  BUG: kind('bug', 1, 'Something that should not be possible. Please report it with the stack.'),
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof ERRORS

export interface ErrorDetails {
  /** What to type, or where to look. `<pipeline>` stands for the pipeline's name, which the engine fills in. */
  readonly hint?: string
  readonly cause?: unknown
  /** Path into the configuration or the table that it is about. */
  readonly path?: string
  /** Overrides the catalogue's class, where the edge of a driver knows better. */
  readonly retry?: RetryClass
}

export class TailraceError extends Error {
  readonly code: ErrorCode
  readonly retry: RetryClass
  readonly hint: string | undefined
  readonly path: string | undefined

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'TailraceError'
    this.code = code
    this.retry = details.retry ?? ERRORS[code].retry
    this.hint = details.hint
    this.path = details.path
  }

  get exitCode(): ExitCode {
    return ERRORS[this.code].exit
  }
}

/** Anything thrown, as ours: what is not ours is a bug until an edge has translated it. */
export function asTailraceError(error: unknown): TailraceError {
  if (error instanceof TailraceError) return error
  const message = error instanceof Error ? error.message : String(error)
  // Of a signal that was aborted somewhere below: nobody's mistake.
  const isAbort = error instanceof Error && error.name === 'AbortError'
  return new TailraceError(isAbort ? 'ABORTED' : 'BUG', message, { cause: error })
}

/** One finding of `check`: reported all at once, each with what to type. */
export interface Problem {
  readonly severity: 'error' | 'warning'
  readonly code: ErrorCode
  readonly message: string
  readonly hint?: string
  readonly path?: string
}
