import { pipelineOptions } from '../library/settings.ts'
import { openState } from '../library/environment.ts'
import { pipelineIdentity } from '../engine/name.ts'
import type { PipelineOptions } from '../engine/options.ts'
import type { Report, ReportProblem } from '../engine/report.ts'
import { endpointOf, environmentOf, exitCodeOf, placeOf, type CommandContext } from './context.ts'
import { openProgress, progressKind } from './progress/progress.ts'
import { settingsFrom } from './settings-from-options.ts'
import { listenForInterrupts } from './signals.ts'
import { summaryOf } from './summary.ts'

export async function syncCommand(context: CommandContext): Promise<number> {
  const options = await readPipeline(context)
  const { output } = context
  const warned = new Set<string>()
  const report = await runSync(context, options, (so) => output.problems(newWarnings(so, warned)))
  if (output.manner.json) output.json(report)
  output.note(summaryOf(report))
  const problems = report.problems.map((problem) => ({ severity: report.ok ? ('warning' as const) : ('error' as const), ...problem }))
  output.problems(problems.filter((problem) => problem.severity === 'error' || !warned.has(wordsOf(problem))))
  return exitCodeOf(report)
}

/** A pipeline may run for months: what is to be known is said when it is found, and once. Retries are told by the log. */
function newWarnings({ state, problems }: Report, warned: Set<string>): (ReportProblem & { severity: 'warning' })[] {
  if (state === 'retrying') return []
  const found = problems.flatMap((problem) =>
    problem.severity === 'warning' && !warned.has(wordsOf(problem)) ? [{ ...problem, severity: 'warning' as const }] : [],
  )
  for (const problem of found) warned.add(wordsOf(problem))
  return found
}

function wordsOf({ path, message }: ReportProblem): string {
  return `${path ?? ''} ${message}`
}

/** What sync and plan are asked to do; the name is made here when none is given. Touches nothing outside. */
export async function readPipeline(context: CommandContext): Promise<PipelineOptions & { readonly name: string }> {
  const settings = settingsFrom(context.options)
  const source = await endpointOf(context, 'source')
  const sink = await endpointOf(context, 'sink')
  const options = await pipelineOptions(settings, { source, sink }, context.io.folder)
  return { ...options, name: pipelineIdentity(options).name }
}

async function runSync(
  context: CommandContext,
  options: PipelineOptions & { readonly name: string },
  warn: (report: Report) => void,
): Promise<Report> {
  const { io, output, references } = context
  const kind = progressKind(context.options.choice('progress', 'auto'), io, output.manner.logFormat)
  // Opened here and not before: a mistake on the command line leaves no state file behind.
  await using store = await openState(placeOf(context))
  io.setTitle(`tailrace sync ${options.name}`)
  using interrupts = listenForInterrupts(io, (text) => output.note(text))
  output.note(`pipeline ${options.name}: ${options.source.label} → ${options.sink.label}`)
  using progress = openProgress(kind, { io, output, secrets: references.secrets })
  const environment = await environmentOf(context, store, interrupts, (report) => {
    warn(report)
    progress.update(report)
  })
  return await context.engine.runPipeline(options, environment)
}
