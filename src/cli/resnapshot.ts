import { splitList } from '../sdk/config/values.ts'
import { usage } from '../sdk/config/problems.ts'
import { openPipeline, pipelineOperand, refuseMoreOperands, type CommandContext } from './context.ts'
import { idsOf, whenDone } from './tables.ts'

export async function resnapshotCommand(context: CommandContext): Promise<number> {
  if (context.options.flag('diff')) return mendGap(context)
  const name = pipelineOperand(context)
  const { store, record } = await openPipeline(context, name)
  await using _ = store
  const known = (await store.tables(name)).filter((table) => table.state !== 'removed')
  const named = [...context.line.operands.slice(1), ...context.options.list('tables')].flatMap(splitList)
  const tables = named.length === 0 ? known.map((table) => table.id) : idsOf(name, named, known)
  if (tables.length === 0) throw usage(`${name} has no tables yet`, 'the first sync copies them')
  await store.request(name, { kind: 'resnapshot', tables })
  context.output.result(
    { ok: true, pipeline: name, tables, runner: record.alive },
    () => `${whenDone(record)}: read again ${tables.join(', ')}`,
  )
  return 0
}

/** After lost history: the stream begins anew, and only what differs is read again. */
async function mendGap(context: CommandContext): Promise<number> {
  refuseMoreOperands(context, 1)
  if (context.options.list('tables').length > 0) throw usage('--diff looks at all tables of the pipeline', 'leave --tables out')
  const { compareAndTell, foundPipeline } = await import('./verify.ts')
  const found = await foundPipeline(context)
  await using _ = found.store
  const { source, sink, pipeline } = found.request
  const { name } = pipeline
  if (found.runs)
    throw usage(`${name} runs, so its history is not lost`, `to mend what differs while it runs: tailrace verify ${name} --live --repair`)
  return await compareAndTell(context, found, { repair: true, live: false }, async (environment) => {
    const dropped = await context.engine.anchorPipeline({ name, source, sink, environment })
    context.output.note([...dropped, `${name} follows its source from now on; what differs is read again`].join('\n'))
    return { ...found.request, pipeline: { name, tables: await found.store.tables(name) } }
  })
}
