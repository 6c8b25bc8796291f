import { formatType } from '../model/logical-type.ts'
import { keyNames } from '../model/schema.ts'
import type { Problem } from '../sdk/errors.ts'
import type { Memory } from '../sdk/connector.ts'
import type { Sink } from '../sdk/sink.ts'
import type { Purpose, Source, SourceTable } from '../sdk/source.ts'
import { selfCopies, tablesBeside } from './beside.ts'
import { pipelineIdentity } from './name.ts'
import { connectorContext, openSink, openSource } from './open.ts'
import type { Environment, PipelineOptions, Plan } from './options.ts'
import { capabilitiesOf, guaranteeOf } from './run.ts'
import { chooseFormat } from './snapshot-phase.ts'
import { targetLabel, targetOf } from './tables.ts'

type TablePlan = Plan['tables'][number]

/** A memory that reads what an earlier run remembered and forgets what is written: a plan changes nothing. */
function readOnlyMemory(): Memory {
  const own = new Map<string, string | null>()
  return {
    get: async (key) => own.get(key) ?? null,
    set: async (key, value) => {
      own.set(key, value)
    },
  }
}

/** What `sync` with the same options would do. Takes no lease, makes nothing on either side. */
export async function planPipeline(options: PipelineOptions, environment: Environment): Promise<Plan> {
  const identity = pipelineIdentity(options)
  const lent = { pipeline: identity.name, deletes: options.deletes, memory: readOnlyMemory(), environment }
  await using source = await openSource(options.source, connectorContext(lent, 'source'))
  await using sink = await openSink(options.sink, connectorContext(lent, 'sink'))
  const signal = environment.abort
  const tables = await source.discover(options.selection, signal)
  const capabilities = capabilitiesOf(options)
  const known = await environment.store.find(identity.name)
  const problems = await allProblems(options, source, sink, tables, known !== null, signal)
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
    upstream: options.mode.kind === 'copy' ? [] : upstreamPlan(source),
    limits: source.limits?.() ?? [],
    problems,
  }
}

async function allProblems(
  options: PipelineOptions,
  source: Source,
  sink: Sink,
  tables: readonly SourceTable[],
  known: boolean,
  signal: AbortSignal,
): Promise<Problem[]> {
  const purpose: Purpose = options.mode.kind === 'copy' ? 'copy' : options.snapshot === 'never' ? 'stream' : 'follow'
  const sinkTables = tables.map((table) => ({ id: table.id, schema: table.schema, target: targetOf(table.schema, options.map) }))
  const beside = tablesBeside(options, sinkTables)
  const problems = [
    ...(await source.check(tables, purpose, signal, beside)),
    ...(await sink.check(sinkTables, signal)),
    ...selfCopies(sinkTables, beside),
  ]
  if (known || options.ifExists !== 'stop') return problems
  for (const table of sinkTables) {
    if ((await sink.inspect(table, signal)) !== 'filled') continue
    problems.push({
      severity: 'error',
      code: 'TARGET_NOT_EMPTY',
      message: `the target table ${targetLabel(table.target)} holds rows already`,
      hint: '--if-exists truncate, replace or append',
      path: table.id,
    })
  }
  return problems
}

async function planTables(
  options: PipelineOptions,
  source: Source,
  sink: Sink,
  tables: readonly SourceTable[],
  ok: boolean,
  signal: AbortSignal,
): Promise<TablePlan[]> {
  if (!ok || options.snapshot === 'never' || source.openSnapshot === undefined || tables.length === 0)
    return tables.map((table) =>
      describe(options, sink, table, { chunks: 0, rule: 'table', reason: ok ? 'no snapshot' : 'not planned: see the problems' }),
    )
  await using snapshot = await source.openSnapshot({ tables, mode: 'bounded', workers: 1 }, signal)
  const plans: TablePlan[] = []
  for (const table of snapshot.tables()) {
    const { chunks, rule, reason } = await snapshot.plan(table, signal)
    plans.push(describe(options, sink, table, { chunks: chunks.length, rule, reason }))
  }
  return plans
}

function describe(options: PipelineOptions, sink: Sink, table: SourceTable, cut: Pick<TablePlan, 'chunks' | 'rule' | 'reason'>): TablePlan {
  const { schema } = table
  const target = { id: table.id, schema, target: targetOf(schema, options.map) }
  const computed =
    schema.computed?.map((column) => `generated column ${column.name} is not copied: a PostgreSQL target computes it, others go without`) ??
    []
  const unknown = schema.columns
    .filter((column) => column.type.kind === 'other')
    .map((column) => `column ${column.name} of type ${column.sourceType} travels as text (${formatType(column.type)})`)
  return {
    source: table.id,
    sink: targetLabel(target.target),
    rows: schema.estimate.rows,
    bytes: schema.estimate.bytes,
    ...cut,
    key: keyNames(schema),
    ddl: sink.describeSchema?.(target) ?? [],
    notes: [...unknown, ...computed],
  }
}

function upstreamPlan(source: Source): Plan['upstream'] {
  return source.upstream?.() ?? []
}
