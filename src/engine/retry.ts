import { delay } from '../async/abort.ts'
import { Backoff } from '../async/backoff.ts'
import { asTailraceError, type TailraceError } from '../sdk/errors.ts'
import type { Run } from './run.ts'
import { adoptShapes } from './shapes.ts'

const FIRST_MILLIS = 200
const MOST_MILLIS = 30_000
/** Attempts after which it is no longer a hiccup: the log level rises. */
const QUIET_ATTEMPTS = 5

/**
 * Repeats what failed in a way that may pass, with growing delays, for as long as it takes; between two attempts the sink
 * says what it really holds. Null: a drain was asked for meanwhile. `progressed` resets the delays.
 */
export async function retrying<T>(run: Run, signal: AbortSignal, attempt: (progressed: () => void) => Promise<T>): Promise<T | null> {
  const backoff = new Backoff({ first: FIRST_MILLIS, most: MOST_MILLIS, random: run.environment.random })
  for (;;) {
    try {
      return await attempt(() => backoff.reset())
    } catch (error) {
      const ours = asTailraceError(error)
      if (signal.aborted || ours.retry !== 'retry') throw ours
      if (run.environment.drain.aborted) return null
      await pauseBeforeRetry(run, ours, backoff, signal)
      if (run.environment.drain.aborted) return null
    }
  }
}

/** Waits, then asks the sink; that too is tried until it works. */
async function pauseBeforeRetry(run: Run, error: TailraceError, backoff: Backoff, signal: AbortSignal): Promise<void> {
  for (let failure = error; ;) {
    const wait = backoff.next()
    run.note({
      severity: 'warning',
      code: failure.code,
      message: failure.message,
      ...(failure.hint === undefined ? {} : { hint: failure.hint }),
    })
    const level = backoff.attempt > QUIET_ATTEMPTS ? 'warn' : 'info'
    run.environment.logger[level](`${failure.message}; trying again in ${(wait / 1000).toFixed(1)} s`, { attempt: backoff.attempt })
    run.doing = 'retrying'
    await run.persist(true)
    await delay(wait, AbortSignal.any([signal, run.environment.drain]))
    if (signal.aborted) throw failure
    if (run.environment.drain.aborted) return
    try {
      await recover(run, signal)
      run.clear(error.code)
      return
    } catch (next) {
      failure = asTailraceError(next)
      if (failure.retry !== 'retry') throw failure
    }
  }
}

/** TRAPS 41, 58: after anything failed the sink's own position is the truth. */
export async function recover(run: Run, signal: AbortSignal): Promise<void> {
  if (run.sink.checkpoints === undefined) return
  const { position } = await run.sink.checkpoints.recover(signal)
  run.checkpointer.rewind(position)
  await adoptShapes(run)
}
