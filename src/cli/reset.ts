import type { Role } from '../sdk/config/endpoint.ts'
import type { Endpoint } from '../engine/options.ts'
import type { ManageRequest } from '../engine/manage.ts'
import { nameOf, refuseOther, rememberedEndpoint, type ManageResult } from '../library/manage.ts'
import type { PipelineRecord } from '../state/store.ts'
import { endpointOf, environmentOf, openPipeline, refuseMoreOperands, type CommandContext } from './context.ts'
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

async function givenEndpoint(context: CommandContext, role: Role): Promise<Endpoint | null> {
  return context.line[role] === null ? null : await endpointOf(context, role)
}

async function managedEndpoint(
  context: CommandContext,
  role: Role,
  given: Endpoint | null,
  record: PipelineRecord,
): Promise<Endpoint | null> {
  const { line, registry, references } = context
  if (line.without.has(role)) return null
  // Beside a name, a URI of the environment is only a help: another pipeline may be meant by it.
  const helps = line[role]?.fromVariable === true && line.operands.length > 0
  if (given !== null && (!helps || given.connector.identity(given.config) === record[role])) return refuseOther(role, given, record)
  return await rememberedEndpoint(role, record, line.loose[role], registry, references)
}
