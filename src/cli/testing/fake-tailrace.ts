// The command as a process of its own, with toy connectors and an engine that reports progress until it is stopped:
// for what only a process shows. Argument 1 of the script is how the engine behaves, the rest is the command line.
import { existsSync, writeFileSync } from 'node:fs'
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
      tables: [
        fakeTable('public.a', { state: 'copying', snapshot: { rows, bytes: rows * 100, chunks: 4, done: 1, expectedRows: 10_000 } }),
      ],
    })
  environment.logger.info('started', { password: JSON.stringify(options.source.config) })
  for (let rows = 0; !environment.drain.aborted; rows += 100) {
    environment.onProgress?.(report(rows))
    await sleep(20, null, { signal: environment.drain }).catch(() => {})
  }
  // Work that cannot be drained, with a socket or the like that keeps the process alive.
  if (behaviour === 'stubborn') await sleep(60_000, null, { signal: environment.abort }).catch(() => environment.abort.throwIfAborted())
  return fakeReport({ state: 'stopped', pipeline: options.name ?? '' })
}

/** Logs all the time; shows that it still does, once the test has closed its pipes. */
async function chat(options: PipelineOptions, environment: Environment): Promise<Report> {
  for (let after = 0; !environment.drain.aborted; after += existsSync('closed') ? 1 : 0) {
    environment.logger.info('tick')
    if (after === 5) writeFileSync('still-alive', '')
    await sleep(10, null, { signal: environment.drain }).catch(() => {})
  }
  return fakeReport({ state: 'stopped', pipeline: options.name ?? '' })
}

/** A transform that is being debugged. */
async function print(options: PipelineOptions): Promise<Report> {
  console.log('seen', { id: 1 }, 'hunter2')
  console.info('two\nlines')
  console.table([{ id: 1 }])
  console.error('and that')
  return fakeReport({ pipeline: options.name ?? '' })
}

/** A connector's forgotten promise. */
async function crash(options: PipelineOptions): Promise<Report> {
  void Promise.reject(new Error(`spilt ${JSON.stringify(options.source.config)}`))
  await sleep(1000)
  return fakeReport()
}

// A handle that a connector forgot.
if (behaviour === 'leaky') setInterval(() => {}, 1000)
const behaviours: Readonly<Record<string, (options: PipelineOptions, environment: Environment) => Promise<Report>>> = {
  follow: runUntilDrained,
  stubborn: runUntilDrained,
  chat,
  print,
  crash,
  vanish: () => new Promise(() => {}),
}
const work = behaviours[behaviour ?? '']
process.exitCode = await main(args, undefined, { registry: toyRegistry, engine: fakeEngine(work === undefined ? {} : { run: work }) })
