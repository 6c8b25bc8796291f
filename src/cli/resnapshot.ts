import { splitList } from '../sdk/config/values.ts'
import { usage } from '../sdk/config/problems.ts'
import { openPipeline, pipelineOperand, type CommandContext } from './context.ts'
import { idsOf, whenDone } from './tables.ts'

export async function resnapshotCommand(context: CommandContext): Promise<number> {
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
