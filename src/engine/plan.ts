import { formatType } from '../model/logical-type.ts'
import { keyNames } from '../model/schema.ts'
import type { Problem } from '../sdk/errors.ts'
import type { Sink, SinkTable } from '../sdk/sink.ts'
import type { Source } from '../sdk/source.ts'
import type { PipelineIdentity } from '../state/store.ts'
import { emptyTables, knownTables, plannedTables, type PlannedTable } from './choose.ts'
import { inNameOf, pipelineIdentity, withName } from './name.ts'
import { connectorContext, lentToLook, openSink, openSource } from './open.ts'
import type { Environment, PipelineOptions, Plan } from './options.ts'
import { problemsBetween, targetsInTheWay } from './prepare.ts'
import { capabilitiesOf, guaranteeOf } from './run.ts'
import { chooseFormat } from './snapshot-phase.ts'
import { targetLabel } from './tables.ts'
import { namedPosition } from './until.ts'
import { writersOf, type Sighted } from './writers.ts'

type TablePlan = Plan['tables'][number]

/** What `sync` with the same options would do. Takes no lease, makes nothing on either side. */
export async function planPipeline(options: PipelineOptions, environment: Environment): Promise<Plan> {
  const identity = pipelineIdentity(options)
  return inNameOf(identity.name, () => lookAhead(options, environment, identity))
}

async function lookAhead(options: PipelineOptions, environment: Environment, identity: PipelineIdentity): Promise<Plan> {
  const lent = lentToLook(identity.name, environment, options.deletes)
  await using source = await openSource(options.source, connectorContext(lent, 'source'))
  await using sink = await openSink(options.sink, connectorContext(lent, 'sink'))
  const signal = environment.abort
  await namedPosition(source, options.mode, signal)
  const records = await environment.store.tables(identity.name)
  const all = await knownTables(source, records, signal)
  const tables = plannedTables(all, options)
  const capabilities = capabilitiesOf(options)
  const known = await environment.store.find(identity.name)
  const problems = [
    ...emptyTables(all, options.selection),
    ...(await allProblems(options, { source, sink, pipeline: identity.name }, tables, known !== null, signal)),
    ...(options.mode.kind === 'copy' || known !== null ? [] : ((await source.strays?.(signal)) ?? [])),
  ]
  const ok = !problems.some((problem) => problem.severity === 'error')
  return {
    ok,
    pipeline: identity.name,
    source: identity.sourceLabel,
    sink: identity.sinkLabel,
    guarantee: guaranteeOf(capabilities),
    format: chooseFormat(options, capabilities.formats),
    // What may not be read, or not as it is, cannot be cut into chunks either: the problems are the answer.
    tables: await planTables(options, source, sink, tables, ok, signal),
    // A pipeline that has a position has its origin, which is never made anew.
    upstream: options.mode.kind === 'copy' || (known?.position ?? null) !== null ? [] : (source.plannedUpstream?.() ?? []),
    limits: source.limits?.() ?? [],
    problems: problems.map((problem) => withName(problem, identity.name)),
  }
}

async function allProblems(
  options: PipelineOptions,
  { source, sink, pipeline }: { readonly source: Source; readonly sink: Sink; readonly pipeline: string },
  tables: readonly PlannedTable[],
  known: boolean,
  signal: AbortSignal,
): Promise<Problem[]> {
  const sinkTables = tables.map(plannedTarget)
  const fresh = known ? [] : sinkTables
  const checked = { sourceTables: tables.map((table) => table.source), sinkTables, all: sinkTables, fresh }
  const problems = await problemsBetween({ options, source, sink }, checked, signal)
  const sighted: Sighted[] = []
  for (const table of sinkTables) {
    const found = known ? null : await sink.inspect(table, signal)
    sighted.push({ table, found, writers: await writersOf(sink, table, signal) })
  }
  return [...problems, ...targetsInTheWay(options.ifExists, pipeline, sighted)]
}

async function planTables(
  options: PipelineOptions,
  source: Source,
  sink: Sink,
  tables: readonly PlannedTable[],
  ok: boolean,
  signal: AbortSignal,
): Promise<TablePlan[]> {
  if (!ok || options.snapshot === 'never' || source.openSnapshot === undefined || tables.length === 0)
    return tables.map((table) =>
      describe(sink, table, { chunks: 0, rule: 'table', reason: ok ? 'no snapshot' : 'not planned: see the problems' }),
    )
  await using snapshot = await source.openSnapshot({ tables: tables.map((table) => table.source), mode: 'bounded', workers: 1 }, signal)
  const byId = new Map(tables.map((table) => [table.source.id, table]))
  const plans: TablePlan[] = []
  for (const fresh of snapshot.tables()) {
    const { chunks, rule, reason } = await snapshot.plan(fresh, signal)
    const table = byId.get(fresh.id)
    if (table !== undefined) plans.push(describe(sink, { ...table, source: fresh }, { chunks: chunks.length, rule, reason }))
  }
  return plans
}

function plannedTarget({ source, target }: PlannedTable): SinkTable {
  return { id: source.id, schema: source.schema, target }
}

function describe(sink: Sink, table: PlannedTable, cut: Pick<TablePlan, 'chunks' | 'rule' | 'reason'>): TablePlan {
  const { schema } = table.source
  const again = table.reasons.length === 0 ? [] : [`read from the start: ${table.reasons.join('; ')}`]
  const computed =
    schema.computed?.map((column) => `generated column ${column.name} is not copied: a PostgreSQL target computes it, others go without`) ??
    []
  const unknown = schema.columns
    .filter((column) => column.type.kind === 'other')
    .map((column) => `column ${column.name} of type ${column.sourceType} travels as text (${formatType(column.type)})`)
  return {
    source: table.source.id,
    sink: targetLabel(table.target),
    rows: schema.estimate.rows,
    bytes: schema.estimate.bytes,
    ...cut,
    key: keyNames(schema),
    ddl: sink.describeSchema?.(plannedTarget(table)) ?? [],
    notes: [...again, ...(sink.describeTypes?.(plannedTarget(table)) ?? []), ...unknown, ...computed],
  }
}
