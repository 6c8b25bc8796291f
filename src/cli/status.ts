import { findState } from '../library/environment.ts'
import { statusOf, type PipelineStatus } from '../library/status.ts'
import type { StateStore } from '../state/store.ts'
import { openPipeline, placeOf, refuseMoreOperands, type CommandContext } from './context.ts'
import { formatExact, formatSeconds, formatTable } from './format.ts'
import { formatProblem } from './output.ts'
import { showLag } from './progress/frame.ts'
import { summaryOf } from './summary.ts'

/** Exit code 0 also for a failed pipeline: the question was answered. */
export async function statusCommand(context: CommandContext): Promise<number> {
  refuseMoreOperands(context, 1)
  const name = context.line.operands[0]
  if (name === undefined) return await listPipelines(context)
  const { store, record } = await openPipeline(context, name)
  await using _ = store
  const status = statusOf(record, await store.tables(record.name))
  context.output.result(status, () => statusText(status, context.io.clock()))
  return 0
}

async function listPipelines(context: CommandContext): Promise<number> {
  const store = await findState(placeOf(context))
  const pipelines = store === null ? [] : await readAll(store)
  context.output.result({ ok: true, pipelines }, () => listText(pipelines, context.io.clock()))
  return 0
}

async function readAll(store: StateStore): Promise<readonly PipelineStatus[]> {
  await using open = store
  const records = await open.list()
  return await Promise.all(records.map(async (record) => statusOf(record, await open.tables(record.name))))
}

const COLUMNS = [
  { title: 'pipeline' },
  { title: 'state' },
  { title: 'runner' },
  { title: 'lag' },
  { title: 'seen' },
  { title: 'source', most: 50 },
  { title: 'sink', most: 50 },
] as const

function listText(pipelines: readonly PipelineStatus[], now: number): string {
  if (pipelines.length === 0) return 'no pipelines'
  return formatTable(
    COLUMNS,
    pipelines.map((status) => [
      status.pipeline,
      showState(status),
      showRunner(status),
      showLag(status),
      `${age(status, now)} ago`,
      status.source,
      status.sink,
    ]),
  ).join('\n')
}

function showState(status: PipelineStatus): string {
  if (status.desired === 'paused' && status.state !== 'paused') return `${status.state} (to pause)`
  return status.ok ? status.state : `${status.state} (${status.problems.length || 1} problem${status.problems.length > 1 ? 's' : ''})`
}

function showVerified({ at, differing, rows }: NonNullable<PipelineStatus['verified']>, now: number): string {
  const found = differing === 0 ? 'equal' : `${formatExact(differing)} rows differed`
  return `${formatSeconds((now - Date.parse(at)) / 1000)} ago: ${found}, of ${formatExact(rows)}`
}

function showRunner({ runner }: PipelineStatus): string {
  return runner === null || !runner.alive ? 'none' : `${runner.pid} on ${runner.host}`
}

function age(status: PipelineStatus, now: number): string {
  return formatSeconds((now - Date.parse(status.updatedAt)) / 1000)
}

function statusText(status: PipelineStatus, now: number): string {
  const lines = [
    `pipeline  ${status.pipeline}`,
    `source    ${status.source}`,
    `sink      ${status.sink}`,
    `state     ${showState(status)}`,
    `runner    ${showRunner(status)}, epoch ${status.epoch}, seen ${age(status, now)} ago`,
    `position  ${status.position ?? 'none'}`,
    ...(status.verified === null ? [] : [`verified  ${showVerified(status.verified, now)}`]),
    '',
    summaryOf(status),
  ]
  return [...lines, ...status.problems.map(formatProblem)].join('\n')
}
