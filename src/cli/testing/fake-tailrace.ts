// The command as a process of its own, with toy connectors and an engine that reports progress until it is stopped:
// for what only a process shows. Argument 1 of the script is how the engine behaves, the rest is the command line.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Environment, PipelineOptions } from '../../engine/options.ts'
import type { Report } from '../../engine/report.ts'
import { main } from '../main.ts'
import { fakeEngine, fakeReport, fakeTable } from './fake-engine.ts'
import { toyRegistry } from './toy-connectors.ts'

const [behaviour, ...args] = process.argv.slice(2)

async function runUntilDrained(options: PipelineOptions, environment: Environment): Promise<Report> {
  const report = (rows: number): Report =>
    fakeReport({
      state: 'streaming',
      pipeline: options.name ?? '',
      source: options.source.label,
      tables: [fakeTable('public.a', { state: 'copying', snapshot: { rows, bytes: rows * 100, chunks: 4, done: 1, expectedRows: 10_000 } })],
    })
  environment.logger.info('started', { password: JSON.stringify(options.source.config) })
  for (let rows = 0; !environment.drain.aborted; rows += 100) {
    environment.onProgress?.(report(rows))
    await sleep(20, null, { signal: environment.drain }).catch(() => {})
  }
  if (behaviour === 'stubborn') await new Promise((_, reject) => environment.abort.addEventListener('abort', () => reject(environment.abort.reason as Error)))
  return fakeReport({ state: 'stopped', pipeline: options.name ?? '' })
}

// A handle that a connector forgot.
if (behaviour === 'leaky') setInterval(() => {}, 1000)
const run = behaviour === 'follow' || behaviour === 'stubborn' ? { run: runUntilDrained } : {}
process.exitCode = await main(args, undefined, { registry: toyRegistry, engine: fakeEngine(run) })
