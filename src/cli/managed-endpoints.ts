import type { Endpoint } from '../engine/options.ts'
import { refuseOther, rememberedEndpoint } from '../library/manage.ts'
import type { Role } from '../sdk/config/endpoint.ts'
import type { PipelineRecord } from '../state/store.ts'
import { endpointOf, type CommandContext } from './context.ts'

/** What the line says of a side of a pipeline. */
export async function givenEndpoint(context: CommandContext, role: Role): Promise<Endpoint | null> {
  return context.line[role] === null ? null : await endpointOf(context, role)
}

/** A side of a pipeline that exists: as it is given, or as it is remembered; null where `--source none` leaves it out. */
export async function managedEndpoint(
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
