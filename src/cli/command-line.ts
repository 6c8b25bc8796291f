import { loadConnector, type ConnectorRegistry, type GivenOption, type Role } from '../sdk/config/endpoint.ts'
import { nearest } from '../sdk/config/nearest.ts'
import { findOption, isSwitch, optionsOf, type OptionSpec } from '../sdk/config/option-spec.ts'
import { quoteWord, usage } from '../sdk/config/problems.ts'
import type { References } from '../sdk/config/references.ts'
import { parseUriPieces } from '../sdk/uri.ts'
import { Arguments, splitQuotedUri, type Argument } from './arguments.ts'
import { COMMAND_SPECS, looksLikeUri, takesOption, unknownCommand, type CommandSpec } from './commands.ts'
import { OWN_OPTIONS, SHORT_OPTIONS, type OwnOption } from './own-options.ts'

/** A URI as typed, with the flags that belong to it. */
export interface EndpointArgument {
  readonly uri: string
  readonly flags: readonly GivenOption[]
  /** From TAILRACE_SOURCE or TAILRACE_SINK, not from the line. */
  readonly fromVariable: boolean
}

export interface CommandLine {
  readonly command: CommandSpec
  readonly operands: readonly string[]
  readonly source: EndpointArgument | null
  readonly sink: EndpointArgument | null
  /** `--source.x` and `--sink.x` without a URI: it is remembered by the state store. */
  readonly loose: Readonly<Record<Role, readonly GivenOption[]>>
  /** Of `--source none`, `--sink none`: the system is gone. */
  readonly without: ReadonlySet<Role>
  readonly options: ReadonlyMap<string, readonly string[]>
}

export interface Surroundings {
  readonly registry: ConnectorRegistry
  readonly references: References
  readonly variables: Readonly<Record<string, string | undefined>>
}

type OptionArgument = Extract<Argument, { kind: 'option' }>

/** Reads the command line. Throws USAGE for the first thing that is wrong, with the nearest right name. */
export async function readCommandLine(args: readonly string[], surroundings: Surroundings): Promise<CommandLine> {
  const reader = new CommandLineReader(args, surroundings)
  return await reader.read()
}

interface OpenEndpoint {
  readonly uri: string
  /** Null: by place. */
  readonly role: Role | null
  readonly specs: readonly OptionSpec[]
  readonly flags: GivenOption[]
  readonly fromVariable: boolean
}

class CommandLineReader {
  readonly #surroundings: Surroundings
  readonly #arguments: Arguments
  readonly #endpoints: OpenEndpoint[] = []
  readonly #operands: string[] = []
  readonly #options = new Map<string, string[]>()
  readonly #dotted: Record<Role, GivenOption[]> = { source: [], sink: [] }
  readonly #without = new Set<Role>()
  #command: CommandSpec | null = null

  constructor(args: readonly string[], surroundings: Surroundings) {
    this.#arguments = new Arguments(args)
    this.#surroundings = surroundings
  }

  async read(): Promise<CommandLine> {
    for (let argument = this.#arguments.next(); argument !== null; argument = this.#arguments.next()) {
      if (argument.kind === 'positional') await this.#positional(argument.value)
      else await this.#option(argument)
    }
    const command = this.#command
    if (command === null) throw usage('no command is given', 'tailrace --help lists the commands')
    this.#refuseForeignOptions(command)
    this.#refuseTwins()
    if (command.operands !== 'words') await this.#addVariables()
    const source = this.#close('source')
    const sink = this.#close('sink')
    return { command, operands: this.#operands, source, sink, loose: this.#dotted, without: this.#without, options: this.#options }
  }

  async #positional(value: string): Promise<void> {
    if (this.#command === null) {
      this.#command = COMMAND_SPECS.get(value) ?? null
      if (this.#command === null) throw unknownCommand(value)
      return
    }
    if (this.#command.operands === 'words') this.#operands.push(value)
    else if (this.#command.operands === 'either' && !looksLikeUri(value)) this.#operands.push(value)
    else await this.#endpoint(value, null)
  }

  async #endpoint(argument: string, role: Role | null, fromVariable = false): Promise<void> {
    const quoted = splitQuotedUri(argument)
    const uri = quoted?.uri ?? argument
    const endpoint: OpenEndpoint = { uri, role, specs: await this.#specsOf(uri), flags: [], fromVariable }
    this.#endpoints.push(endpoint)
    const unplaced = this.#endpoints.filter((one) => one.role === null).length
    if (unplaced > 2) throw usage('more than two URIs are given', `tailrace ${this.#command?.name ?? 'sync'} <source> <sink>`)
    if (quoted === null) return
    const words = new Arguments(quoted.words)
    for (let word = words.next(); word !== null; word = words.next()) {
      if (word.kind === 'positional') throw usage('a quoted URI is followed by something that is no flag', "write '<uri> --option value'")
      if (!takeFlag(endpoint, word, words)) throw this.#unknownOption(word, endpoint)
    }
  }

  async #specsOf(uri: string): Promise<readonly OptionSpec[]> {
    const parsed = parseUriPieces(this.#surroundings.references.pieces(uri))
    return optionsOf((await loadConnector(parsed.uri.scheme, this.#surroundings.registry)).config)
  }

  async #option(argument: OptionArgument): Promise<void> {
    const dotted = /^(source|sink)\.(.+)$/.exec(argument.name)
    if (dotted !== null) return this.#dottedOption(argument, dotted[1] as Role, dotted[2]!)
    const own = ownOption(argument)
    if (own === null) return await this.#connectorOption(argument)
    if (own.option.name === 'source' || own.option.name === 'sink') {
      const uri = this.#ownValue(own.option, argument)
      return uri === 'none' ? void this.#without.add(own.option.name) : await this.#endpoint(uri, own.option.name)
    }
    const value = own.option.form === 'switch' ? switchValue(argument, own.negated) : this.#ownValue(own.option, argument)
    const present = this.#options.get(own.option.name)
    if (present === undefined) this.#options.set(own.option.name, [value])
    else if (own.option.form === 'list') present.push(value)
    else if (own.option.form === 'value') throw usage(`${argument.rawName} is given twice`, 'leave one of them out')
  }

  #ownValue(option: OwnOption, argument: OptionArgument): string {
    const value = argument.inline ?? this.#arguments.takeValue()
    if (value === null)
      throw usage(`${argument.rawName} needs a value: ${option.placeholder}`, `--${option.name}=… for one that begins with a dash`)
    if (value.trim() === '') throw usage(`${argument.rawName} is empty; it takes ${option.placeholder}`)
    return value
  }

  #dottedOption(argument: OptionArgument, role: Role, name: string): void {
    // The URI may stand further on, so the option's type is not known here: a switch then needs `=true`.
    const spec = this.#specsByRole(role)?.find((one) => one.name === name)
    const value = argument.inline ?? (spec !== undefined && isSwitch(spec) ? true : (this.#arguments.takeValue() ?? true))
    this.#dotted[role].push({ name, value, origin: argument.rawName })
  }

  #specsByRole(role: Role): readonly OptionSpec[] | null {
    const { source, sink } = this.#placed()
    return (role === 'source' ? source : sink)?.specs ?? null
  }

  async #connectorOption(argument: OptionArgument): Promise<void> {
    const before = this.#endpoints.at(-1) ?? (await this.#fromVariable(argument))
    if (before !== null && takeFlag(before, argument, this.#arguments)) return
    throw this.#unknownOption(argument, before)
  }

  /** With TAILRACE_SOURCE set, flags before any URI may be the source's. */
  async #fromVariable(argument: OptionArgument): Promise<OpenEndpoint | null> {
    const uri = this.#surroundings.variables['TAILRACE_SOURCE']
    if (uri === undefined || uri === '' || this.#command === null || this.#command.operands === 'words') return null
    const specs = await this.#specsOf(uri)
    const found = connectorOptionOf(specs, argument.name)
    return found === null ? null : { uri, role: 'source', specs, flags: this.#dotted.source, fromVariable: true }
  }

  #unknownOption(argument: OptionArgument, before: OpenEndpoint | null): Error {
    const command = this.#command
    const own = [...OWN_OPTIONS.keys()].filter((name) => command === null || takesOption(command, name))
    const names = [...own, ...(before?.specs ?? []).map((spec) => spec.name)]
    const elsewhere = this.#endpoints.find((one) => one !== before && connectorOptionOf(one.specs, argument.name) !== null)
    if (elsewhere !== undefined) {
      const role = this.#placed().source === elsewhere ? 'source' : 'sink'
      return usage(
        `${argument.rawName} is no option of the URI before it`,
        `it is one of the ${role}: write it right after that URI, or as --${role}.${argument.name}`,
      )
    }
    const near = nearest(argument.name, names)
    const help =
      command === null
        ? 'tailrace --help lists the options'
        : `tailrace ${command.name} --help lists the options; those of a connector stand after its URI`
    return usage(
      `there is no option ${quoteWord(argument.rawName)}${command === null ? '' : ` for ${command.name}`}`,
      near === null ? help : `did you mean \`--${near}\`?`,
    )
  }

  #refuseForeignOptions(command: CommandSpec): void {
    const given = [...this.#options.keys(), ...this.#endpoints.flatMap((endpoint) => endpoint.role ?? [])]
    for (const name of given) {
      if (takesOption(command, name)) continue
      const others = [...COMMAND_SPECS.values()].filter((one) => takesOption(one, name)).map((one) => one.name)
      throw usage(`--${name} is no option of ${command.name}`, `it belongs to ${others.join(', ')}`)
    }
    const [dotted] = [...this.#dotted.source, ...this.#dotted.sink]
    if (dotted !== undefined && command.operands === 'words') throw usage(`${dotted.origin} means nothing for ${command.name}`)
  }

  /** Which open endpoint has which role, as far as the line was read. */
  #placed(): { readonly source: OpenEndpoint | undefined; readonly sink: OpenEndpoint | undefined } {
    const free = this.#endpoints.filter((one) => one.role === null)
    const known = (role: Role): OpenEndpoint | undefined => this.#endpoints.find((one) => one.role === role)
    const set = (role: Role): boolean =>
      known(role) !== undefined || (this.#surroundings.variables[`TAILRACE_${role.toUpperCase()}`] ?? '') !== ''
    // A single URI is the source, unless the source is known otherwise and the sink is not.
    const onlySink = free.length === 1 && (known('source') !== undefined || (set('source') && !set('sink')))
    const source = known('source') ?? (onlySink ? undefined : free[0])
    return { source, sink: known('sink') ?? free.find((one) => one !== source) }
  }

  #refuseTwins(): void {
    for (const role of ['source', 'sink'] as const) {
      if (this.#endpoints.filter((one) => one.role === role).length > 1) throw usage(`--${role} is given twice`, 'leave one of them out')
    }
    const { source, sink } = this.#placed()
    if (this.#endpoints.every((one) => one === source || one === sink)) return
    throw usage('more than a source and a sink are given', 'leave --source, --sink or the arguments out')
  }

  async #addVariables(): Promise<void> {
    for (const role of ['source', 'sink'] as const) {
      const uri = this.#surroundings.variables[`TAILRACE_${role.toUpperCase()}`] ?? ''
      if (uri !== '' && this.#placed()[role] === undefined && !this.#without.has(role)) await this.#endpoint(uri, role, true)
    }
  }

  #close(role: Role): EndpointArgument | null {
    const endpoint = this.#placed()[role]
    if (endpoint === undefined) return null
    return { uri: endpoint.uri, flags: [...endpoint.flags, ...this.#dotted[role]], fromVariable: endpoint.fromVariable }
  }
}

/** Gives the flag to the endpoint; false when its connector has no such option. */
function takeFlag(endpoint: OpenEndpoint, argument: OptionArgument, from: Arguments): boolean {
  const found = argument.rawName.startsWith('--') ? connectorOptionOf(endpoint.specs, argument.name) : null
  if (found === null) return false
  const value = argument.inline ?? (found.negated ? 'false' : isSwitch(found.spec) ? true : (from.takeValue() ?? true))
  endpoint.flags.push({ name: found.spec.name, value, origin: argument.rawName })
  return true
}

function connectorOptionOf(specs: readonly OptionSpec[], name: string): { readonly spec: OptionSpec; readonly negated: boolean } | null {
  const spec = findOption(specs, name)
  if (spec !== null) return { spec, negated: false }
  const negated = name.startsWith('no-') ? findOption(specs, name.slice(3)) : null
  return negated === null || !isSwitch(negated) ? null : { spec: negated, negated: true }
}

function ownOption(argument: OptionArgument): { readonly option: OwnOption; readonly negated: boolean } | null {
  const short = !argument.rawName.startsWith('--')
  const name = short ? (SHORT_OPTIONS[argument.name] ?? '') : argument.name
  const option = OWN_OPTIONS.get(name)
  if (option !== undefined) return { option, negated: false }
  const negated = name.startsWith('no-') ? OWN_OPTIONS.get(name.slice(3)) : undefined
  return negated?.form === 'switch' ? { option: negated, negated: true } : null
}

function switchValue(argument: OptionArgument, negated: boolean): string {
  const value = argument.inline ?? 'true'
  if (negated && argument.inline !== null) throw usage(`${argument.rawName} takes no value`)
  if (!/^(true|false|yes|no|on|off|1|0)$/i.test(value)) throw usage(`${argument.rawName} is a switch: it takes no value, or true or false`)
  return negated ? 'false' : value
}
