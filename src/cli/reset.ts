import type { ManageRequest } from '../engine/manage.ts'
import { nameOf, type ManageResult } from '../library/manage.ts'
import { environmentOf, openPipeline, refuseMoreOperands, type CommandContext } from './context.ts'
import { givenEndpoint, managedEndpoint } from './managed-endpoints.ts'
import { listenForInterrupts } from './signals.ts'

export function resetCommand(context: CommandContext): Promise<number> {
  return manage(context, (request) => context.engine.resetPipeline(request), 'starts over at the next sync')
}

export function removeCommand(context: CommandContext): Promise<number> {
  return manage(context, (request) => context.engine.removePipeline(request), 'is removed; the copied tables stay')
}

async function manage(
  context: CommandContext,
  work: (request: ManageRequest) => Promise<readonly string[]>,
  said: string,
): Promise<number> {
  refuseMoreOperands(context, 1)
  const { io, output, line } = context
  const given = { source: await givenEndpoint(context, 'source'), sink: await givenEndpoint(context, 'sink') }
  const name = line.operands[0] ?? context.options.text('name') ?? nameOf(given.source, given.sink)
  const { store, record } = await openPipeline(context, name)
  await using _ = store
  const source = await managedEndpoint(context, 'source', given.source, record)
  const sink = await managedEndpoint(context, 'sink', given.sink, record)
  io.setTitle(`tailrace ${line.command.name} ${name}`)
  using interrupts = listenForInterrupts(io, (text) => output.note(text))
  const dropped = await work({ name, source, sink, environment: await environmentOf(context, store, interrupts) })
  const result: ManageResult = { ok: true, pipeline: name, dropped }
  output.result(result, () => [...dropped, `${name} ${said}`].join('\n'))
  return 0
}
