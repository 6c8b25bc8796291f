import { usage } from '../sdk/config/problems.ts'
import { splitList } from '../sdk/config/values.ts'
import type { WhyReport } from '../library/why.ts'
import { environmentOf, type CommandContext } from './context.ts'
import { formatProblem } from './output.ts'
import { endedAtOnce, listenForInterrupts } from './signals.ts'
import { idsOf } from './tables.ts'
import { foundPipeline } from './verify.ts'

/** `why <pipeline> <table> <key>`: what became of one row. */
export async function whyCommand(context: CommandContext): Promise<number> {
  const [name, table, ...words] = context.line.operands
  const key = words.flatMap(splitList)
  if (name === undefined || table === undefined || key.length === 0)
    throw usage('why needs a pipeline, a table and the key of a row', 'tailrace why <pipeline> <table> <key>')
  const found = await foundPipeline(context)
  await using _ = found.store
  const { source, sink, pipeline } = found.request
  const [id] = idsOf(name, [table], pipeline.tables)
  const { io, output } = context
  io.setTitle(`tailrace why ${name}`)
  using interrupts = listenForInterrupts(io, (text) => output.note(text))
  const environment = await environmentOf(context, found.store, endedAtOnce(interrupts))
  const report = await context.engine.whyRow(
    { name, source, sink, table: pipeline.tables.find((each) => each.id === id)!, key },
    environment,
  )
  output.result(report, () => whyText(report))
  return report.ok ? 0 : 4
}

function whyText(report: WhyReport): string {
  const key = Object.entries(report.key).map(([name, text]) => `${name}=${text}`)
  const position =
    report.position === null
      ? 'a plain copy, which follows nothing'
      : `${report.position}${report.behind ? `, the source is at ${report.head}` : ', the end of the log'}`
  return [
    `row        ${report.table} ${key.join(', ')} → ${report.target}`,
    `source     ${report.source}${report.where === null ? '' : `, where ${report.where}`}`,
    `target     ${report.sink}${report.columns.length === 0 ? '' : `, other values in ${report.columns.join(', ')}`}`,
    `table      ${report.state}, ${report.runs ? 'somebody runs the pipeline' : 'nobody runs the pipeline'}`,
    `position   ${position}`,
    ...(report.verified === null ? [] : [`verified   ${report.verified}`]),
    ...report.deadLetters.map(
      ({ id, stage, code, reason, at }) => `set aside  ${id}, ${stage}, ${code}, ${new Date(at).toISOString()}: ${reason}`,
    ),
    ...report.problems.map(formatProblem),
    '',
    report.verdict,
  ].join('\n')
}
