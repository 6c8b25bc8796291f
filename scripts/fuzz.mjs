// Runs the tests with random input for as long as one likes: decoders, verify, streamed schema changes.
//   npm run fuzz -- [--seconds 60] [--seed 1] [path…]
// `--seconds` is what each test of test/fuzz gets; the property tests get a run for every 10 of them.

import { spawnSync } from 'node:child_process'
import { ROOT } from './bootstrap.mjs'

const SECONDS_PER_RUN = 10
const FILES = [
  'test/fuzz/texts.test.ts',
  'test/fuzz/wire.pg.test.ts',
  'test/pipeline/verify-random.pg.test.ts',
  'test/pipeline/random.pg.test.ts',
]

function parseArguments(args) {
  let [seconds, seed] = [60, Date.now() % 1_000_000]
  const paths = []
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--seconds') seconds = Number(args[++i])
    else if (args[i] === '--seed') seed = Number(args[++i])
    else if (args[i].startsWith('-')) throw new Error(`"${args[i]}" is not understood; usage: fuzz.mjs [--seconds 60] [--seed 1] [path…]`)
    else paths.push(args[i])
  }
  if (!(seconds >= 0) || !Number.isInteger(seed)) throw new Error('--seconds and --seed take numbers')
  return { seconds, seed, paths }
}

const { seconds, seed, paths } = parseArguments(process.argv.slice(2))
const files = FILES.filter((file) => paths.length === 0 || paths.some((path) => file.includes(path)))
if (files.length === 0) throw new Error(`no file of ${FILES.join(', ')} matches ${paths.join(' ')}`)
console.log(`--seed ${seed}`)
const env = {
  ...process.env,
  TAILRACE_SEED: String(seed),
  TAILRACE_FUZZ_SECONDS: String(seconds),
  TAILRACE_RUNS: String(Math.max(1, Math.ceil(seconds / SECONDS_PER_RUN))),
}
const args = ['--disable-warning=ExperimentalWarning', '--test', '--test-concurrency=2', '--test-reporter=spec', ...files]
process.exitCode = spawnSync(process.execPath, args, { cwd: ROOT, env, stdio: 'inherit' }).status ?? 1
