/** Resolves after `ms`, or at once when the signal aborts: the caller looks at the signal. Leaves no timer behind. */
export function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done, { once: true })
  })
}

/**
 * Settles as `work` does, or rejects with the signal's reason when it aborts first. Unlike Promise.race against a
 * long-lived promise it holds nothing of `work` after it has settled.
 */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => {})
    return Promise.reject(signal.reason as Error)
  }
  return new Promise<T>((resolve, reject) => {
    const giveUp = (): void => reject(signal.reason as Error)
    signal.addEventListener('abort', giveUp, { once: true })
    work.then(
      (value) => {
        signal.removeEventListener('abort', giveUp)
        resolve(value)
      },
      (error: unknown) => {
        signal.removeEventListener('abort', giveUp)
        reject(error as Error)
      },
    )
  })
}

/**
 * Calls `act` when the signal aborts, until it is disposed. Throws the signal's reason when it has aborted already: no event
 * would come any more.
 */
export function onAbort(signal: AbortSignal, act: () => void): Disposable {
  signal.throwIfAborted()
  signal.addEventListener('abort', act, { once: true })
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', act) }
}
