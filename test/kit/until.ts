import { setTimeout as sleep } from 'node:timers/promises'

const LOOK_MILLIS = 4
/** Of a test on a slow and shared machine; the runner allows 300 s. */
const DEADLINE_SECONDS = 100

export interface UntilOptions {
  readonly seconds?: number | undefined
  /** Said when the deadline passes. */
  readonly detail?: () => string
}

/** Polls until the condition gives something else than false, null or undefined; fails loudly at the deadline. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  options: UntilOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const seconds = options.seconds ?? DEADLINE_SECONDS
  const deadline = performance.now() + seconds * 1000
  for (;;) {
    const result = await condition()
    if (result !== false && result !== null && result !== undefined) return result as Exclude<T, false | null | undefined>
    if (performance.now() > deadline)
      throw new Error(`Not within ${seconds} s: ${what}.${options.detail === undefined ? '' : `\n${options.detail()}`}`)
    await sleep(LOOK_MILLIS)
  }
}
