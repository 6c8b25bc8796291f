import { TailraceError } from '../../sdk/errors.ts'
import { kindOf } from './duckdb-errors.ts'

/** So many in a row are no coincidence. */
const MOST = 5

/**
 * A conflict passes when it is of two pipelines of this process that commit at the same moment. One that comes again however
 * often the work is repeated has a cause that no repeating takes away.
 */
export class Conflicts {
  #inARow = 0

  /** The error for the engine: one conflict too many is not repeated any more. */
  settle(error: TailraceError): TailraceError {
    if (kindOf(error.cause) !== 'conflict') return error
    this.#inARow++
    if (this.#inARow < MOST) return error
    return new TailraceError(error.code, `${error.message}, ${this.#inARow} times in a row`, {
      retry: 'operator',
      hint: 'end the other pipelines that write to this table and start again',
      cause: error.cause,
      ...(error.path === undefined ? {} : { path: error.path }),
    })
  }

  /** A commit went through. */
  passed(): void {
    this.#inARow = 0
  }
}
