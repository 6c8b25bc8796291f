import { resolveEndpoint, type ConnectorRegistry, type Role } from '../sdk/config/endpoint.ts'
import { usage } from '../sdk/config/problems.ts'
import type { References } from '../sdk/config/references.ts'
import { TailraceError, type ExitCode } from '../sdk/errors.ts'
import { createLogger, type Logger } from '../sdk/logger.ts'
import type { Connector } from '../sdk/connector.ts'
import type { Endpoint, Environment } from '../engine/options.ts'
import type { Engine } from '../library/engine.ts'
import { environmentOn, statePlace, type StatePlace } from '../library/environment.ts'
import { findPipeline } from '../library/manage.ts'
import type { PipelineRecord, StateStore } from '../state/store.ts'
import type { CommandLine } from './command-line.ts'
import type { Io } from './io.ts'
import type { OptionValues } from './option-values.ts'
import type { Output } from './output.ts'
import type { Interrupts } from './signals.ts'

export interface Registry extends ConnectorRegistry {
  all(): Promise<readonly Connector[]>
}

/** What every command is given. */
export interface CommandContext {
  readonly io: Io
  readonly line: CommandLine
  readonly options: OptionValues
  readonly references: References
  readonly output: Output
  readonly registry: Registry
  readonly engine: Engine
}

function loggerOf({ io, output, references }: CommandContext): Logger {
  const { logLevel: level, logFormat: format } = output.manner
  return createLogger({ level, format, write: (line) => output.line(line), clock: io.clock, secrets: references.secrets })
}

export function placeOf({ io, options }: CommandContext): StatePlace {
  return statePlace(options.text('state'), io.folder)
}

export async function endpointOf(context: CommandContext, role: Role): Promise<Endpoint> {
  const given = context.line[role]
  if (given === null) {
    const how = `tailrace ${context.line.command.name} <source> <sink>, or set TAILRACE_${role.toUpperCase()}`
    throw usage(`no ${role} is given`, how, role)
  }
  const request = { role, uri: given.uri, flags: given.flags, variables: context.io.variables }
  return await resolveEndpoint(request, context.registry, context.references)
}

export async function environmentOf(
  context: CommandContext,
  store: StateStore,
  interrupts: Pick<Interrupts, 'drain' | 'abort'>,
  onProgress?: NonNullable<Environment['onProgress']>,
): Promise<Environment> {
  const { clock, random, folder } = context.io
  const { drain, abort } = interrupts
  const rest = { logger: loggerOf(context), clock, random, drain, abort }
  return await environmentOn(store, placeOf(context), folder, onProgress === undefined ? rest : { ...rest, onProgress })
}

/** The one operand of commands about a pipeline that exists. */
export function pipelineOperand(context: CommandContext, at = 0): string {
  const name = context.line.operands[at]
  if (name !== undefined && name !== '') return name
  throw usage(`${context.line.command.name} needs the name of a pipeline`, 'tailrace status lists them')
}

export function refuseMoreOperands(context: CommandContext, most: number): void {
  if (context.line.operands.length <= most) return
  const { name, usage: form } = context.line.command
  throw usage(
    `${name} takes no more than ${most === 0 ? 'options' : `${most} argument${most === 1 ? '' : 's'}`}`,
    `tailrace ${name} ${form}`,
  )
}

export function openPipeline(context: CommandContext, name: string): Promise<{ store: StateStore; record: PipelineRecord }> {
  return findPipeline(placeOf(context), name)
}

/** The exit code of a report's or plan's problems. */
export function exitCodeOf(result: {
  readonly ok: boolean
  readonly problems: readonly { readonly severity?: string; readonly code: string }[]
}): 0 | ExitCode {
  if (result.ok) return 0
  const first = result.problems.find((one) => one.severity !== 'warning')
  // The catalogue knows the exit code of every code of ours.
  return first === undefined ? 1 : new TailraceError(first.code as TailraceError['code'], '').exitCode
}
