import type { Plan } from '../engine/options.ts'
import { findState, openState } from '../library/environment.ts'
import { environmentOf, exitCodeOf, placeOf, type CommandContext } from './context.ts'
import { formatBytes, formatExact, formatTable, withTargets } from './format.ts'
import { endedAtOnce, listenForInterrupts } from './signals.ts'
import { readPipeline } from './sync.ts'

export async function planCommand(context: CommandContext): Promise<number> {
  const { io, output } = context
  const options = await readPipeline(context)
  // A plan changes nothing: where there is no state yet, none is made.
  await using store = (await findState(placeOf(context))) ?? (await openState({ file: null }))
  io.setTitle(`tailrace plan ${options.name}`)
  using interrupts = listenForInterrupts(io, (text) => output.note(text))
  const environment = await environmentOf(context, store, endedAtOnce(interrupts))
  const plan = await context.engine.planPipeline(options, environment)
  output.result(plan, () => planText(plan))
  output.problems(plan.problems.map((problem) => ({ ...problem, code: problem.code as 'CONFIG' })))
  return exitCodeOf(plan)
}

function planText(plan: Plan): string {
  const lines = [
    `pipeline   ${plan.pipeline}`,
    `source     ${plan.source}`,
    `sink       ${plan.sink}`,
    `guarantee  ${plan.guarantee}`,
    `format     ${plan.format}`,
    '',
  ]
  lines.push(...formatTable(...withTargets(TABLE_COLUMNS, plan.tables.map(tableRow))))
  lines.push(totalLine(plan.tables))
  for (const table of plan.tables) lines.push(...detailsOf(table))
  if (plan.upstream.length > 0)
    lines.push('', 'to be made upstream:', ...plan.upstream.map(({ what, drop }) => `  ${what}; dropped by: ${drop}`))
  if (plan.limits.length > 0) lines.push('', 'limits:', ...plan.limits.map((limit) => `  ${limit}`))
  return lines.join('\n')
}

/** Rows are estimates of the source; a PostgreSQL table that was never analysed has none. */
function totalLine(tables: Plan['tables']): string {
  const known = tables.filter((table) => table.rows >= 0)
  const rows = `about ${formatExact(known.reduce((sum, table) => sum + table.rows, 0))} rows`
  const unknown = `unknown in ${manyTables(tables.length - known.length)} (never analysed)`
  const bytes = formatBytes(tables.reduce((sum, table) => sum + Math.max(0, table.bytes), 0))
  const counted = tables.length === known.length ? rows : known.length === 0 ? 'rows unknown (never analysed)' : `${rows}, ${unknown}`
  return `${manyTables(tables.length)}, ${counted}, ${bytes}`
}

function manyTables(count: number): string {
  return `${count} table${count === 1 ? '' : 's'}`
}

const TABLE_COLUMNS = [
  { title: 'table', most: 48 },
  { title: 'target', most: 48 },
  { title: 'key', most: 40 },
  { title: 'rows', align: 'right' },
  { title: 'size', align: 'right' },
  { title: 'chunks', align: 'right' },
] as const

type PlannedTable = Plan['tables'][number]

function tableRow(table: PlannedTable): readonly string[] {
  const rows = table.rows < 0 ? '?' : formatExact(table.rows)
  return [
    table.source,
    table.sink,
    table.key.join(', ') || 'none',
    rows,
    table.bytes < 0 ? '?' : formatBytes(table.bytes),
    String(table.chunks),
  ]
}

function detailsOf(table: PlannedTable): readonly string[] {
  const lines = [...table.notes]
  if (table.rule === 'table') lines.push(`read again whole after a crash: ${table.reason}`)
  const ddl = table.ddl.flatMap((statement) => statement.split('\n').map((line) => `    ${line}`))
  if (lines.length + ddl.length === 0) return []
  return ['', `${table.source}:`, ...lines.map((line) => `  ${line}`), ...ddl]
}
