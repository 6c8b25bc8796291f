import { delay } from '../async/abort.ts'
import { knownTables, plannedTables } from '../engine/choose.ts'
import { pipelineIdentity } from '../engine/name.ts'
import { connectorContext, lentToLook, openSource } from '../engine/open.ts'
import type { Endpoint, Environment, PipelineOptions } from '../engine/options.ts'
import { targetLabel } from '../engine/tables.ts'
import type { ComparisonSide } from '../sdk/compare.ts'
import { quoteWord } from '../sdk/config/problems.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import { NOTHING_SAID, onTerms } from '../sdk/selection.ts'
import type { Transform } from '../sdk/transform.ts'
import type { TableRecord } from '../state/store.ts'
import { repairPipeline } from './repair.ts'
import { verifyTables, type TablePair, type VerifiedTable, type VerifyProgress } from '../verify/verify.ts'

/** What is compared: the tables of a pipeline as its state knows them, or what `sync` with the options would copy. */
export interface VerifyRequest {
  readonly source: Endpoint
  readonly sink: Endpoint
  /** Null without a pipeline: `options` say which tables. */
  readonly pipeline: { readonly name: string; readonly tables: readonly TableRecord[] } | null
  readonly options: PipelineOptions | null
  /** How many differing keys of a table are named. */
  readonly limit: number
  /** Name the values that differ, too. */
  readonly showValues: boolean
  /** The pipeline runs and both sides change: what differs is looked at again at a common position. */
  readonly live: boolean
  /** Have what differs read again by the pipeline that made the copy, then compare once more. */
  readonly repair: boolean
  /** Of the pipeline, for `repair`. */
  readonly transform: Transform | null
  readonly onProgress?: (progress: VerifyProgress) => void
}

export interface VerifyReport {
  /** Everything was compared and is equal. */
  readonly ok: boolean
  readonly pipeline: string | null
  readonly source: string
  readonly sink: string
  readonly seconds: number
  readonly tables: readonly VerifiedTable[]
  /** What was found before it was repaired, of the tables that differed; null: nothing was repaired. */
  readonly repaired: readonly VerifiedTable[] | null
  readonly problems: readonly Problem[]
}

/** Compares both sides, and repairs what differs where that is asked for. */
export async function verifyPipeline(request: VerifyRequest, environment: Environment): Promise<VerifyReport> {
  const start = environment.clock()
  const name =
    request.pipeline?.name ?? pipelineIdentity({ name: request.options?.name ?? null, source: request.source, sink: request.sink }).name
  const compare = (): Promise<Compared> => comparePipeline(request, name, environment)
  let compared = await compare()
  let repaired: readonly VerifiedTable[] | null = null
  if (request.repair && compared.repairs.size > 0) {
    repaired = compared.tables.filter(({ equal }) => !equal)
    const { source, sink, transform } = request
    await repairPipeline({ name, source, sink, transform, repairs: compared.repairs }, environment)
    compared = await compare()
  }
  await noteDrift(name, compared, request, environment)
  // What kept us from comparing counts more than what was found: the first problem says how the command ends.
  const problems = [...compared.problems, ...compared.tables.filter(({ equal }) => !equal).map(differenceProblem)]
  return {
    ok: !problems.some(({ severity }) => severity === 'error'),
    pipeline: request.pipeline?.name ?? null,
    source: request.source.label,
    sink: request.sink.label,
    seconds: Math.round(environment.clock() - start) / 1000,
    tables: compared.tables,
    repaired,
    problems: problems.toSorted((a, b) => Number(a.code === 'DIFFERENT') - Number(b.code === 'DIFFERENT')),
  }
}

/** For `status`: how far the sides are apart, where all tables of a pipeline were compared. */
async function noteDrift(
  name: string,
  { tables, problems }: Compared,
  { pipeline }: VerifyRequest,
  { store, clock }: Environment,
): Promise<void> {
  const known = (await store.tables(name)).filter(({ state }) => state !== 'removed')
  if (problems.length > 0 || tables.length < known.length || pipeline === null) return
  const differing = tables.reduce((sum, { missing, extra, different }) => sum + missing + extra + different, 0)
  const rows = tables.reduce((sum, table) => sum + table.rows.source, 0)
  await store.noteVerified(name, { at: clock(), tables: tables.length, rows, differing })
}

type Compared = Awaited<ReturnType<typeof verifyTables>>

/** Compares both sides; changes nothing on either. */
async function comparePipeline(request: VerifyRequest, name: string, environment: Environment): Promise<Compared> {
  const { source, sink, limit, showValues } = request
  const pairs = request.pipeline === null ? await plannedPairs(request, name, environment) : recordedPairs(request.pipeline.tables)
  await using live = request.live ? await openLive(source, name, environment) : null
  await using ours = await openSide(source, 'source', name, environment)
  await using theirs = await openSide(sink, 'sink', name, environment)
  const { tables, repairs, problems } = await verifyTables(
    {
      source: ours,
      sink: theirs,
      tables: pairs.tables,
      limit,
      showValues,
      live,
      clock: environment.clock,
      ...(request.onProgress === undefined ? {} : { onProgress: request.onProgress }),
    },
    environment.abort,
  )
  return { tables, repairs, problems: [...pairs.problems, ...problems] }
}

export async function openSide(
  { connector, config }: Endpoint,
  side: 'source' | 'sink',
  name: string,
  environment: Environment,
): Promise<ComparisonSide> {
  if (connector.comparison === undefined)
    throw new TailraceError('CONFIG', `${connector.title} cannot be compared`, { hint: 'PostgreSQL, DuckDB and SQLite can', path: side })
  return connector.comparison.open(config, connectorContext(lentToLook(`verify-${name}`, environment), side))
}

const LOOK_MILLIS = 50

/** Waits for the pipeline that runs: until it has saved a position at or past the end of the source's log. */
async function openLive(
  endpoint: Endpoint,
  name: string,
  environment: Environment,
): Promise<AsyncDisposable & { caughtUp(signal: AbortSignal): Promise<void> }> {
  const source = await openSource(endpoint, connectorContext(lentToLook(name, environment), 'source'))
  return {
    caughtUp: async (signal) => {
      const head = await source.head?.(signal)
      for (;;) {
        const record = await environment.store.find(name)
        const order =
          record?.position === null || record === null || head === undefined ? undefined : source.comparePositions?.(record.position, head)
        if (order === 0 || order === 1) return
        if (record?.alive !== true)
          throw new TailraceError('CONFIG', `${name} does not run, so it will not come to a common position with its source`, {
            hint: 'without --live both sides are compared as they are',
            path: 'live',
          })
        await delay(LOOK_MILLIS, signal)
        signal.throwIfAborted()
      }
    },
    [Symbol.asyncDispose]: () => source[Symbol.asyncDispose](),
  }
}

interface Pairs {
  readonly tables: readonly TablePair[]
  readonly problems: readonly Problem[]
}

/** What an earlier run copied, and where to. */
function recordedPairs(records: readonly TableRecord[]): Pairs {
  const live = records.filter(({ state }) => state !== 'removed')
  const isWhole = ({ state }: TableRecord): boolean => state === 'streaming' || state === 'done'
  const problems = live
    .filter((record) => !isWhole(record))
    .map(({ id, state }): Problem => ({
      severity: 'error',
      code: 'CONFIG',
      message: `${id} is not wholly copied yet (${state}), so there is nothing to compare`,
      hint: 'let the pipeline run until it streams, then verify again',
      path: id,
    }))
  const tables = live.filter(isWhole).map(({ id, schema, target, terms }): TablePair => {
    return { id, source: onTerms(schema, terms ?? NOTHING_SAID), target, label: targetLabel(target) }
  })
  return { tables, problems }
}

async function plannedPairs({ options, source }: VerifyRequest, name: string, environment: Environment): Promise<Pairs> {
  if (options === null) throw new TailraceError('BUG', 'without a pipeline, the options say what is compared')
  await using open = await openSource(source, connectorContext(lentToLook(name, environment, options.deletes), 'source'))
  const planned = plannedTables(await knownTables(open, [], environment.abort), options)
  if (planned.length === 0) throw new TailraceError('CONFIG', `${quoteWord(source.label)} has no table to compare`)
  return {
    tables: planned.map((table) => ({ id: table.source.id, source: table.source, target: table.target, label: targetLabel(table.target) })),
    problems: [],
  }
}

function differenceProblem({ source, missing, extra, different, undecided }: VerifiedTable): Problem {
  const counts = [
    [missing, 'missing'],
    [extra, 'extra'],
    [different, 'different'],
    [undecided, 'not decided, as they change all the time'],
  ] as const
  const said = counts.filter(([count]) => count > 0).map(([count, word]) => `${count.toLocaleString('en-US')} ${word}`)
  return { severity: 'error', code: 'DIFFERENT', message: `${source} differs: ${said.join(', ')}`, path: source }
}
