import { TailraceError } from '../sdk/errors.ts'
import type { Io } from './io.ts'

/**
 * The first Ctrl-C or SIGTERM drains, the second gives up at once, the third does not even wait for that. Disposed, it goes on
 * to listen: the work is over and the exit code known, and a signal that comes a moment late must not replace it by its own.
 */
export interface Interrupts extends Disposable {
  readonly drain: AbortSignal
  readonly abort: AbortSignal
}

/** Of work that has nothing to drain: the first signal is enough. */
export function endedAtOnce({ drain, abort }: Interrupts): Pick<Interrupts, 'drain' | 'abort'> {
  return { drain, abort: AbortSignal.any([drain, abort]) }
}

export function listenForInterrupts(io: Io, note: (text: string) => void): Interrupts {
  const drain = new AbortController()
  const abort = new AbortController()
  let [over, late] = [false, 0]
  io.onSignal(() => {
    // What still hangs after the work can be ended all the same.
    if (over) return late++ === 0 ? undefined : io.exit(1)
    if (abort.signal.aborted) return io.exit(1)
    if (drain.signal.aborted) {
      note('giving up…')
      return abort.abort(
        new TailraceError('ABORTED', 'the work was given up before it was done', {
          hint: 'start it again: what is followed continues from its last checkpoint, a plain copy begins anew',
        }),
      )
    }
    note('draining… (once more: give up at once)')
    drain.abort()
  })
  return { drain: drain.signal, abort: abort.signal, [Symbol.dispose]: () => void (over = true) }
}
