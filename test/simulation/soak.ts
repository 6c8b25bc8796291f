// npm run soak: random histories for as long as one likes. CONTRIBUTING.md says more.

import { parseArgs } from 'node:util'
import { complaint, explore, freshSeed, summary } from './explore.ts'
import { simulate } from './history.ts'

const USAGE = 'usage: npm run soak -- [--minutes N] [--seed S] [--trace]'

function numberFrom(text: string): number {
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number) || number < 0) throw new TypeError(`"${text}" is no number`)
  return number
}

/** One history, event by event. */
async function show(seed: number): Promise<boolean> {
  const outcome = await simulate(seed, { trace: true })
  for (const event of outcome.events) console.log(event)
  console.log(outcome.violation === null ? `seed ${seed}: nothing is violated` : complaint(outcome))
  return outcome.violation === null
}

async function soak(seed: number, minutes: number): Promise<boolean> {
  console.log(`from seed ${seed} on, for ${minutes} minutes`)
  const end = performance.now() + minutes * 60_000
  let [next, failures] = [seed, 0]
  while (performance.now() < end) {
    const found = await explore({ seed: next, seconds: Math.min(60, (end - performance.now()) / 1000) })
    console.log(summary(found))
    next += found.histories
    if (found.failed === null) continue
    failures++
    console.log(complaint(found.failed))
  }
  console.log(failures === 0 ? 'no history failed' : `${failures} histories failed`)
  return failures === 0
}

async function main(): Promise<number> {
  const options = {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
  } as const
  let given: { seed: number; minutes: number; trace: boolean }
  try {
    const { values } = parseArgs({ options })
    given = {
      seed: values.seed === undefined ? freshSeed() : numberFrom(values.seed),
      minutes: numberFrom(values.minutes),
      trace: values.trace,
    }
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`)
    return 2
  }
  const ok = given.trace ? await show(given.seed) : await soak(given.seed, given.minutes)
  return ok ? 0 : 1
}

process.exitCode = await main()
