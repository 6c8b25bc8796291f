import { findState, openState } from '../library/environment.ts'
import type { VerifyReport, VerifyRequest } from '../library/verification.ts'
import type { DifferingKey, VerifiedTable, VerifyProgress } from '../verify/verify.ts'
import { environmentOf, exitCodeOf, openPipeline, pipelineOperand, placeOf, refuseMoreOperands, type CommandContext } from './context.ts'
import { fit, formatCount, formatElapsed, formatExact, formatSeconds, formatTable, withTargets } from './format.ts'
import { givenEndpoint, managedEndpoint } from './managed-endpoints.ts'
import { LiveLines } from './progress/terminal.ts'
import { progressKind } from './progress/progress.ts'
import { idsOf } from './tables.ts'
import { endedAtOnce, listenForInterrupts } from './signals.ts'
import { readPipeline } from './sync.ts'
import { splitList } from '../sdk/config/values.ts'
import { loadTransform } from '../library/transform-file.ts'
import { usage } from '../sdk/config/problems.ts'
import type { Environment } from '../engine/options.ts'
import type { StateStore } from '../state/store.ts'

const FEW_KEYS = 10

/** `verify <pipeline>`: what its state knows. `verify <source> <sink>`: what sync with the same options would copy. */
export async function verifyCommand(context: CommandContext): Promise<number> {
  refuseMoreOperands(context, 1)
  const found = context.line.operands.length > 0 ? await ofPipeline(context) : await ofEndpoints(context)
  await using _ = found.store
  const repair = context.options.flag('repair')
  // What is repaired under a runner is looked at while it goes on.
  return await compareAndTell(context, found, { repair, live: context.options.flag('live') || (repair && found.runs) })
}

/** Compares, prints the report, gives the exit code. `first`: to be done before, with the same interrupts; what is compared then. */
export async function compareAndTell(
  context: CommandContext,
  { request, store }: Found,
  how: Pick<VerifyRequest, 'repair' | 'live'>,
  first?: (environment: Environment) => Promise<Found['request']>,
): Promise<number> {
  const { io, output, options } = context
  io.setTitle(`tailrace ${context.line.command.name} ${request.pipeline?.name ?? ''}`.trimEnd())
  const transform = options.text('transform')
  const asked = {
    ...how,
    limit: options.count('limit', 0, 1_000_000) ?? FEW_KEYS,
    showValues: options.flag('show-values'),
    transform: transform === null ? null : await loadTransform(transform, io.folder),
  }
  using interrupts = listenForInterrupts(io, () => output.note('giving up…'))
  const environment = await environmentOf(context, store, endedAtOnce(interrupts))
  const now = (await first?.(environment)) ?? request
  const report = await showing(context, (onProgress) => context.engine.verifyPipeline({ ...now, ...asked, onProgress }, environment))
  output.result(report, () => reportText(report))
  output.problems(report.problems)
  return exitCodeOf(report)
}

async function showing<T>(context: CommandContext, work: (onProgress: (progress: VerifyProgress) => void) => Promise<T>): Promise<T> {
  using progress = openVerifyProgress(context)
  return await work((so) => progress.update(so))
}

export interface Found {
  readonly request: Pick<VerifyRequest, 'source' | 'sink' | 'pipeline' | 'options'>
  readonly store: StateStore
  /** Somebody runs the pipeline now. */
  readonly runs: boolean
}

async function ofPipeline(context: CommandContext): Promise<Found> {
  refuseSelection(context, context.line.operands[0]!)
  const found = await foundPipeline(context)
  const { pipeline } = found.request
  const named = context.options.list('tables').flatMap(splitList)
  if (named.length === 0) return found
  const ids = new Set(idsOf(pipeline.name, named, pipeline.tables))
  return { ...found, request: { ...found.request, pipeline: { ...pipeline, tables: pipeline.tables.filter(({ id }) => ids.has(id)) } } }
}

/** A pipeline by its name, with both sides and all of its tables. */
export async function foundPipeline(
  context: CommandContext,
): Promise<Found & { readonly request: Found['request'] & { readonly pipeline: NonNullable<VerifyRequest['pipeline']> } }> {
  const name = pipelineOperand(context)
  const given = { source: await givenEndpoint(context, 'source'), sink: await givenEndpoint(context, 'sink') }
  const { store, record } = await openPipeline(context, name)
  const source = await managedEndpoint(context, 'source', given.source, record)
  const sink = await managedEndpoint(context, 'sink', given.sink, record)
  if (source === null || sink === null) throw usage('both sides are needed to be compared', `tailrace verify ${name}`)
  const tables = (await store.tables(name)).filter(({ state }) => state !== 'removed')
  return { request: { source, sink, pipeline: { name, tables }, options: null }, store, runs: record.alive }
}

const OF_ENDPOINTS = ['map', 'columns', 'exclude', 'where', 'key']

function refuseSelection({ options }: CommandContext, name: string): void {
  const given = OF_ENDPOINTS.find((option) => options.list(option).length > 0)
  if (given !== undefined)
    throw usage(
      `--${given} means nothing for ${name}, which remembers how its tables are copied`,
      'to compare on other terms: tailrace verify <source> <sink>',
    )
}

async function ofEndpoints(context: CommandContext): Promise<Found> {
  const options = await readPipeline(context)
  const { source, sink } = options
  // Looking must not make.
  const store = (await findState(placeOf(context))) ?? (await openState({ file: null }))
  return { request: { source, sink, pipeline: null, options }, store, runs: (await store.find(options.name))?.alive === true }
}

const COLUMNS = [
  { title: 'table', most: 48 },
  { title: 'target', most: 48 },
  { title: 'source rows', align: 'right' },
  { title: 'target rows', align: 'right' },
  { title: 'missing', align: 'right' },
  { title: 'extra', align: 'right' },
  { title: 'different', align: 'right' },
  { title: 'result' },
  { title: 'time', align: 'right' },
] as const

function reportText(report: VerifyReport): string {
  const rows = report.tables.map(({ source, sink, rows: counts, missing, extra, different, equal, seconds }) => [
    source,
    sink,
    formatExact(counts.source),
    formatExact(counts.sink),
    formatExact(missing),
    formatExact(extra),
    formatExact(different),
    equal ? 'equal' : 'DIFFERENT',
    formatElapsed(seconds),
  ])
  const lines = rows.length === 0 ? [] : [...formatTable(...withTargets(COLUMNS, rows))]
  for (const table of report.tables) lines.push(...keysOf(table), ...table.notes.map((note) => `${table.source}: ${note}`))
  if (report.repaired !== null) lines.push(...report.repaired.map(repairedLine))
  const all = report.tables.reduce((sum, { rows: { source } }) => sum + source, 0)
  lines.push(`${report.ok ? 'equal' : 'NOT equal'}: ${formatExact(all)} rows in ${formatElapsed(report.seconds)}`)
  return lines.join('\n')
}

function repairedLine({ source, missing, extra, different }: VerifiedTable): string {
  const [m, e, d] = [missing, extra, different].map(formatExact)
  return `${source} was repaired: ${m} missing, ${e} extra, ${d} different`
}

function keysOf({ source, keys, missing, extra, different }: VerifiedTable): string[] {
  if (keys.length === 0) return []
  const rest = missing + extra + different - keys.length
  const more = rest > 0 ? [`  and ${formatExact(rest)} more; --limit ${rest + keys.length} names them`] : []
  return [`${source}:`, ...keys.flatMap(keyLines), ...more]
}

function keyLines({ kind, key, columns = [], values }: DifferingKey): string[] {
  const named = Object.entries(key).map(([name, text]) => `${name}=${text ?? 'NULL'}`)
  const line = `  ${kind.padEnd(9)}  ${named.join(', ')}`
  if (values === undefined) return [columns.length === 0 ? line : `${line}: ${columns.join(', ')}`]
  return [line, ...Object.entries(values).map(([name, { source, sink }]) => `    ${name}: ${shown(source)} → ${shown(sink)}`)]
}

const MOST_SHOWN = 200

function shown(text: string | null): string {
  return text === null ? 'NULL' : fit(JSON.stringify(text), MOST_SHOWN)
}

const DRAW_MILLIS = 200
const PLAIN_MILLIS = 5000

function openVerifyProgress(context: CommandContext): Disposable & { update(progress: VerifyProgress): void } {
  const { io, output, options } = context
  const kind = progressKind(options.choice('progress', 'auto'), io, output.manner.logFormat)
  const live = kind === 'live' ? new LiveLines(io.stderr) : null
  const start = io.clock()
  let last = kind === 'live' ? -Infinity : start
  return {
    update: (progress) => {
      const now = io.clock()
      if (kind === 'none' || now - last < (live === null ? PLAIN_MILLIS : DRAW_MILLIS)) return
      last = now
      if (kind === 'json') output.jsonLine({ event: 'progress', ...progress })
      else if (live === null) output.note(progressLine(progress, (now - start) / 1000))
      else live.draw([progressLine(progress, (now - start) / 1000)])
    },
    [Symbol.dispose]: () => live?.[Symbol.dispose](),
  }
}

/** `comparing public.orders: 1.20M rows, 40%, about 0:07 left, 3 differences`. */
export function progressLine({ table, rows, expectedRows, doneRows, differences }: VerifyProgress, seconds: number): string {
  const share = expectedRows > 0 ? Math.min(1, doneRows / expectedRows) : 0
  const left = share > 0.02 && seconds > 1 ? [`about ${formatSeconds((seconds * (1 - share)) / share)} left`] : []
  const parts = [`${formatCount(rows.source)} rows`, ...(share > 0 ? [`${Math.floor(share * 100)}%`] : []), ...left]
  return `comparing ${table}: ${[...parts, ...(differences > 0 ? [`${formatExact(differences)} differences`] : [])].join(', ')}`
}
