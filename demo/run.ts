/**
 * `npm run demo`: real data in a real PostgreSQL, a writer that changes all of it, and the ordinary command that copies it
 * into a DuckDB file and follows; then both sides are compared row by row. Exits 0 only if all is equal.
 *
 *   npm run demo -- [--seconds 20] [--seed 1]
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startPostgres } from '../src/testing/postgres-server.ts'
import { compare } from './compare.ts'
import { DemoError, startSync, startWriter, untilDrained, type Sync, type Writer } from './processes.ts'
import { loadTables } from './load.ts'
import { formatResults, say } from './show.ts'
import { TABLES, TARGET_SCHEMA } from './tables.ts'

const PROJECT = join(import.meta.dirname, '..')
const FOLDER = join(PROJECT, '.demo')
const TARGET = join(FOLDER, 'copy.duckdb')
/** How an ordinary server is set, with more memory than the default. */
const SETTINGS = {
  fsync: 'on',
  full_page_writes: 'on',
  shared_buffers: '512MB',
  max_wal_size: '8GB',
  maintenance_work_mem: '256MB',
}

interface Options {
  readonly major: number
  readonly seconds: number
  readonly seed: number
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '20' }, seed: { type: 'string', default: '1' }, pg: { type: 'string', default: '18' } },
  })
  const options = { major: Number(values.pg), seconds: Number(values.seconds), seed: Number(values.seed) }
  if (!Object.values(options).every((value) => value > 0)) throw new DemoError('Usage: npm run demo -- [--seconds 20] [--seed 1] [--pg 18]')
  return options
}

/** The first Ctrl-C ends the writing, and what was written is compared; a second one gives up. */
function listenForInterrupts(stopWriting: AbortController, giveUp: AbortController): void {
  let last = 0
  const interrupt = (): void => {
    // Through npm one key press can arrive twice.
    if (performance.now() - last < 500) return
    last = performance.now()
    if (stopWriting.signal.aborted) abandon(giveUp)
    stopWriting.abort()
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, interrupt)
}

/** What waits for something stops waiting; what computes is not asked. Children end with this process. */
function abandon(giveUp: AbortController): void {
  giveUp.abort(new DemoError('Interrupted.'))
  setTimeout(() => process.exit(130), 2000).unref()
}

async function demo({ major, seconds, seed }: Options): Promise<boolean> {
  const stopWriting = new AbortController()
  const giveUp = new AbortController()
  listenForInterrupts(stopWriting, giveUp)
  await rm(FOLDER, { recursive: true, force: true })
  await mkdir(join(FOLDER, 'scratch'), { recursive: true })
  await using server = await startPostgres({ major, settings: SETTINGS })
  const uri = server.uri()
  say(`PostgreSQL ${major} runs at ${uri}`)
  await timed('loaded the tables of vega-datasets', () => loadTables(uri, TABLES, join(FOLDER, 'scratch')))
  giveUp.signal.throwIfAborted()

  await using writer = startWriter(uri, seconds, seed)
  await using sync = startSync({ project: PROJECT, folder: FOLDER, source: uri, target: TARGET })
  await Promise.race([writer.failure, sync.failure, pause(seconds * 1000, stopWriting.signal)]).finally(() => stopWriting.abort())
  const report = await settle(writer, sync, uri, giveUp.signal)

  const sourceSchema = 'public'
  const tables = TABLES.map(({ name }) => name)
  const comparisons = await timed('compared both sides row by row', () =>
    compare({ sourceUri: uri, sourceSchema, tables, targetFile: TARGET, targetSchema: TARGET_SCHEMA, folder: join(FOLDER, 'scratch') }),
  )
  say(formatResults(comparisons, report))
  await rm(join(FOLDER, 'scratch'), { recursive: true, force: true })
  return comparisons.every(({ equal }) => equal)
}

/** The writer ends, the pipeline catches up, and the command ends as it does on Ctrl-C. */
async function settle(writer: Writer, sync: Sync, uri: string, giveUp: AbortSignal): ReturnType<Writer['stop']> {
  const report = await Promise.race([writer.stop(), sync.failure])
  await timed('the copy caught up', () => Promise.race([untilDrained(uri, giveUp), sync.failure]))
  await sync.stop(giveUp)
  return report
}

async function timed<T>(what: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now()
  const result = await work()
  say(`${what} in ${((performance.now() - started) / 1000).toFixed(1)} s`)
  return result
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}

try {
  const isEqual = await demo(readOptions())
  console.log(isEqual ? 'equal' : 'different')
  process.exitCode = isEqual ? 0 : 4
} catch (error) {
  console.error(error instanceof DemoError ? `demo: ${error.message}` : error)
  process.exitCode = 1
}
