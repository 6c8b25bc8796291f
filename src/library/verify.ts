import { knownTables, plannedTables } from '../engine/choose.ts'
import { pipelineIdentity } from '../engine/name.ts'
import { connectorContext, openSource, readOnlyMemory } from '../engine/open.ts'
import type { Endpoint, Environment, PipelineOptions } from '../engine/options.ts'
import { targetLabel } from '../engine/tables.ts'
import type { ComparisonSide } from '../sdk/compare.ts'
import { quoteWord } from '../sdk/config/problems.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import { NOTHING_SAID, onTerms } from '../sdk/selection.ts'
import type { TableRecord } from '../state/store.ts'
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
  readonly problems: readonly Problem[]
}

/** Compares both sides; changes nothing on either. */
export async function verifyPipeline(request: VerifyRequest, environment: Environment): Promise<VerifyReport> {
  const start = environment.clock()
  const { source, sink, limit } = request
  const signal = environment.abort
  const name = request.pipeline?.name ?? pipelineIdentity({ name: null, source, sink }).name
  const pairs = request.pipeline === null ? await plannedPairs(request, name, environment) : recordedPairs(request.pipeline.tables)
  await using ours = await openSide(source, 'source', name, environment)
  await using theirs = await openSide(sink, 'sink', name, environment)
  const { tables, problems } = await verifyTables(
    {
      source: ours,
      sink: theirs,
      tables: pairs.tables,
      limit,
      clock: environment.clock,
      ...(request.onProgress === undefined ? {} : { onProgress: request.onProgress }),
    },
    signal,
  )
  // What kept us from comparing counts more than what was found: the first problem says how the command ends.
  const all = [...pairs.problems, ...problems, ...tables.filter(({ equal }) => !equal).map(differenceProblem)]
  return {
    ok: !all.some(({ severity }) => severity === 'error'),
    pipeline: request.pipeline?.name ?? null,
    source: source.label,
    sink: sink.label,
    seconds: Math.round(environment.clock() - start) / 1000,
    tables,
    problems: all.toSorted((a, b) => Number(a.code === 'DIFFERENT') - Number(b.code === 'DIFFERENT')),
  }
}

async function openSide(
  { connector, config }: Endpoint,
  side: 'source' | 'sink',
  name: string,
  environment: Environment,
): Promise<ComparisonSide> {
  if (connector.comparison === undefined)
    throw new TailraceError('CONFIG', `${connector.title} cannot be compared`, { hint: 'PostgreSQL, DuckDB and SQLite can', path: side })
  const lent = { pipeline: `verify-${name}`, deletes: 'hard' as const, memory: readOnlyMemory(), environment }
  return connector.comparison.open(config, connectorContext(lent, side))
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
  const lent = { pipeline: name, deletes: options.deletes, memory: readOnlyMemory(), environment }
  await using open = await openSource(source, connectorContext(lent, 'source'))
  const planned = plannedTables(await knownTables(open, [], environment.abort), options)
  if (planned.length === 0) throw new TailraceError('CONFIG', `${quoteWord(source.label)} has no table to compare`)
  return {
    tables: planned.map((table) => ({ id: table.source.id, source: table.source, target: table.target, label: targetLabel(table.target) })),
    problems: [],
  }
}

function differenceProblem({ source, missing, extra, different }: VerifiedTable): Problem {
  const counts = [
    [missing, 'missing'],
    [extra, 'extra'],
    [different, 'different'],
  ] as const
  const said = counts.filter(([count]) => count > 0).map(([count, word]) => `${count.toLocaleString('en-US')} ${word}`)
  return { severity: 'error', code: 'DIFFERENT', message: `${source} differs: ${said.join(', ')}`, path: source }
}
