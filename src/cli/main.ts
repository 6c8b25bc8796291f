import { connectors } from '../connectors/index.ts'
import { References } from '../sdk/config/references.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { LogLevel } from '../sdk/logger.ts'
import { engine as realEngine, type Engine } from '../library/engine.ts'
import { Arguments } from './arguments.ts'
import { COMMAND_SPECS, unknownCommand } from './commands.ts'
import type { Registry } from './context.ts'
import { processIo, type Io } from './io.ts'
import { checkVariables, OptionValues } from './option-values.ts'
import { Output, type Manner } from './output.ts'
import { OWN_OPTIONS, SHORT_OPTIONS } from './own-options.ts'

/** What tests put in place of the real thing. */
export interface Parts {
  readonly engine?: Engine
  readonly registry?: Registry
}

/** Runs one command; gives the exit code, which the caller sets. Never throws. */
export async function main(args: readonly string[], io: Io = processIo(), parts: Parts = {}): Promise<number> {
  // Before anything else: arguments may hold a password, and `ps` shows them to everybody.
  io.setTitle('tailrace')
  const references = new References({ variables: io.variables })
  keepSecretVariables(io.variables, references)
  const glance = glanceAt(args, io.variables)
  const output = new Output(io, glance.manner, references.secrets)
  let told = false
  const fail = (error: unknown): void => {
    if (told) return
    told = true
    io.exit(output.failure(error))
  }
  using _crash = io.onCrash(fail)
  // When nothing is left to wait for, Node ends in silence and with success, whatever we still wait for.
  using _end = io.onExit(() => fail(new TailraceError('ABORTED', 'the process ended before the work was done')))
  using _console = io.divertConsole((text) => output.said(text))
  const ended = await run(args, { io, parts, references, glance, output })
  const lost = await io.stdout.flushed()
  told = true
  const lostCode = lost === null ? 0 : output.failure(lostResult(lost))
  // The code of a command that failed by itself tells more.
  const code = ended === 0 ? lostCode : ended
  io.finish(code)
  return code
}

function lostResult(cause: Error): TailraceError {
  return new TailraceError('ENVIRONMENT', `what the command gave could not be written to standard output: ${cause.message}`, {
    hint: 'what it did is done all the same; tailrace status shows it',
    cause,
  })
}

interface Prepared {
  readonly io: Io
  readonly parts: Parts
  readonly references: References
  readonly glance: Glance
  readonly output: Output
}

async function run(args: readonly string[], { io, parts, references, glance, output }: Prepared): Promise<number> {
  try {
    if (glance.version) return await printVersion(output)
    if (glance.help || args.length === 0) return await printHelp({ io, output }, glance.command, args.length > 0)
    checkVariables(io.variables)
    // Here and not above: it brings the schema library, which --help does without.
    const { readCommandLine } = await import('./command-line.ts')
    const registry = parts.registry ?? connectors
    const line = await readCommandLine(args, { registry, references, variables: io.variables })
    const options = new OptionValues(line.options, io.variables, (text) => references.expand(text))
    checkManner(options)
    io.setTitle(`tailrace ${line.command.name}`)
    const command = await line.command.load()
    return await command({ io, line, options, references, output, registry, engine: parts.engine ?? realEngine })
  } catch (error) {
    return output.failure(error)
  }
}

interface Glance {
  readonly help: boolean
  readonly version: boolean
  readonly command: string | null
  readonly manner: Manner
}

/**
 * What must be known even when the command line cannot be read: whether help is wanted and in which form to speak.
 * Looks at names only, judges nothing.
 */
function glanceAt(args: readonly string[], variables: Io['variables']): Glance {
  const seen = new Map<string, string>()
  let command: string | null = null
  const reader = new Arguments(args)
  for (let next = reader.next(); next !== null; next = reader.next()) {
    if (next.kind === 'positional') {
      command ??= next.value
      if (command === 'help' && next.value !== 'help') command = next.value
      if (next.value === 'help' && command === 'help') seen.set('help', 'true')
      continue
    }
    const name = next.rawName.startsWith('--') ? next.name : SHORT_OPTIONS[next.name]
    const form = name === undefined ? undefined : OWN_OPTIONS.get(name)?.form
    if (name === undefined || form === undefined) continue
    seen.set(name, next.inline ?? (form === 'switch' ? 'true' : (reader.takeValue() ?? '')))
  }
  const word = (name: string): string => seen.get(name) ?? variables[`TAILRACE_${name.replace('-', '_').toUpperCase()}`] ?? ''
  const on = (name: string): boolean => /^(true|yes|on|1)$/i.test(word(name))
  const level = word('log-level') as LogLevel
  const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error', 'silent']
  // Who wants progress as JSON lines wants nothing else between them.
  const logFormat = word('log-format') === 'json' || (word('log-format') === '' && word('progress') === 'json') ? 'json' : 'text'
  return {
    help: seen.has('help'),
    version: seen.has('version'),
    command: command === 'help' ? null : command,
    manner: { json: on('json'), logFormat, logLevel: levels.includes(level) ? level : 'info' },
  }
}

/** The glance took what it could read; now it is judged. */
function checkManner(options: OptionValues): void {
  options.flag('json')
  options.choice('log-level', 'info')
  options.choice('log-format', 'text')
}

/** Passwords that other programs are given by environment: connectors read them too, and their errors may repeat them. */
function keepSecretVariables(variables: Io['variables'], references: References): void {
  for (const [name, value] of Object.entries(variables)) {
    const secret = /(PASSWORD|PASSWD|SECRET|TOKEN|SECRET_KEY|ACCESS_KEY)$/i.test(name)
    if (secret && value !== undefined && value.length >= 6) references.keep(value)
  }
}

async function printVersion(output: Output): Promise<number> {
  const { version } = await import('./version.ts')
  output.result({ ok: true, version: version() }, version)
  return 0
}

/** Help that was asked for is the result; without any argument it is a usage error. */
async function printHelp({ io, output }: Pick<Prepared, 'io' | 'output'>, command: string | null, asked: boolean): Promise<number> {
  const { helpData, helpText } = await import('./help.ts')
  const spec = command === null ? null : COMMAND_SPECS.get(command)
  if (spec === undefined) throw unknownCommand(command ?? '')
  if (asked) output.result({ ok: true, ...helpData(spec) }, () => helpText(spec))
  else io.stderr.write(helpText(spec))
  return asked ? 0 : 2
}
