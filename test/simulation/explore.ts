import { simulate, type Outcome } from './history.ts'
import type { Plant } from './plants.ts'

export interface Exploration {
  /** Of the first history; the others follow it. */
  readonly seed: number
  readonly seconds: number
  /** The most histories. */
  readonly most?: number
  readonly plant?: Plant
}

export interface Found {
  histories: number
  seconds: number
  transactions: number
  crashes: number
  runs: number
  compared: number
  /** Seconds of one processor: on a busy machine it says more than the time that passed. */
  busy: number
  /** The first history in which something was violated ends it. */
  failed: Outcome | null
}

/** Plays random histories, one after the other, for a time or until one of them fails. */
export async function explore({ seed, seconds, most = Infinity, plant }: Exploration): Promise<Found> {
  const began = performance.now()
  const usage = process.cpuUsage()
  const found: Found = { histories: 0, seconds: 0, transactions: 0, crashes: 0, runs: 0, compared: 0, busy: 0, failed: null }
  while (found.histories < most && found.seconds < seconds && found.failed === null) {
    const outcome = await simulate(seed + found.histories, plant === undefined ? {} : { plant })
    found.histories++
    found.transactions += outcome.transactions
    found.crashes += outcome.crashes
    found.runs += outcome.runs
    found.compared += outcome.compared
    if (outcome.violation !== null) found.failed = outcome
    found.seconds = (performance.now() - began) / 1000
    const { user, system } = process.cpuUsage(usage)
    found.busy = (user + system) / 1_000_000
  }
  return found
}

/** A seed that nobody has used, short enough to be typed. */
export function freshSeed(): number {
  return Math.floor(Math.random() * 1_000_000_000)
}

/** What failed and how to see it again. */
export function complaint({ seed, violation }: Outcome): string {
  return `seed ${seed}: ${violation}\nevery event of this history: npm run soak -- --seed ${seed} --trace`
}

export function summary({ histories, seconds, busy, transactions, crashes, runs, compared }: Found): string {
  const rate = (time: number): number => Math.round((histories / Math.max(time, 0.001)) * 60)
  return `${histories} histories in ${Math.round(seconds)} s (${rate(seconds)} a minute, ${rate(busy)} of one processor alone): ${transactions} transactions, ${runs} runs, ${crashes} crashes, ${compared} comparisons of tables`
}
