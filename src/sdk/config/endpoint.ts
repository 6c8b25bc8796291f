import type { z } from 'zod'
import type { Connector, ConnectorUri } from '../connector.ts'
import type { Problem } from '../errors.ts'
import { parseUriPieces, redactedUri } from '../uri.ts'
import { didYouMean } from './nearest.ts'
import { declarationFaults, findOption, foldName, isSwitch, optionsOf, type OptionSpec } from './option-spec.ts'
import { problem, quoteWord, throwProblems, usage } from './problems.ts'
import type { References } from './references.ts'
import { describeShape, parseValue } from './values.ts'

export type Role = 'source' | 'sink'

/** Where connectors come from: the registry, or a few in a test. */
export interface ConnectorRegistry {
  /** Every scheme, canonical ones first in each connector's group. */
  readonly schemes: readonly string[]
  /** Null when no connector has the scheme. */
  load(scheme: string): Promise<Connector | null>
}

/** An option as somebody gave it. `value` true: a flag without a value. */
export interface GivenOption {
  readonly name: string
  readonly value: string | true
  /** For messages: `--slot`, `TAILRACE_SOURCE_SLOT`, `the parameter slot`. */
  readonly origin: string
}

export interface EndpointRequest {
  readonly role: Role
  /** May hold references. */
  readonly uri: string
  /** Flags that follow the URI, and `--source.x`: they win over everything else. */
  readonly flags: readonly GivenOption[]
  readonly variables: Readonly<Record<string, string | undefined>>
}

/** A connector with its validated configuration; structurally the engine's `Endpoint`. */
export interface ResolvedEndpoint {
  readonly connector: Connector
  readonly config: z.infer<z.ZodObject>
  readonly label: string
}

/** The scheme's connector, or USAGE with the nearest scheme. */
export async function loadConnector(scheme: string, registry: ConnectorRegistry): Promise<Connector> {
  const connector = await registry.load(scheme)
  if (connector === null) throw usage(`no connector has the scheme ${quoteWord(scheme)}`, didYouMean(scheme, registry.schemes))
  const [fault] = declarationFaults(connector)
  if (fault !== undefined) throw usage(`the connector ${connector.schemes[0] ?? scheme} cannot be used: ${fault}`)
  return connector
}

/**
 * From a URI and options to a configuration that the connector can be opened with. Precedence: flag, parameter of the
 * URI, what the URI says otherwise, environment variable, the schema's default. Opens nothing. Throws every problem at
 * once.
 */
export async function resolveEndpoint(
  request: EndpointRequest,
  registry: ConnectorRegistry,
  references: References,
): Promise<ResolvedEndpoint> {
  const { uri, shown, rawPassword } = parseUriPieces(references.pieces(request.uri))
  const connector = await loadConnector(uri.scheme, registry)
  demandRole(connector, request.role, uri.scheme)
  const specs = optionsOf(connector.config)
  keepUriSecrets(uri, rawPassword, specs, references)
  const collected = new OptionCollector(connector, specs, request.role, references)
  for (const flag of request.flags) collected.add('flag', flag)
  for (const [name, value] of uri.parameters) collected.add('parameter', { name, value, origin: `the parameter ${name}` })
  collected.addPlain(connector.fromUri(uri))
  for (const option of variablesOf(request.role, request.variables)) collected.add('variable', option)
  const config = collected.validate()
  const isShown = (name: string): boolean => findOption(specs, name)?.secret === false
  return { connector, config, label: redactedUri(shown, isShown) }
}

export function demandRole(connector: Connector, role: Role, scheme: string): void {
  if (connector[role] !== undefined) return
  const can = role === 'source' ? 'written to' : 'read from'
  throw usage(`\`${scheme}\` cannot be a ${role}: it can only be ${can}`, 'tailrace connectors shows what each can be', role)
}

function keepUriSecrets(uri: ConnectorUri, rawPassword: string | null, specs: readonly OptionSpec[], references: References): void {
  // A word that the label shows anyway (postgres://postgres:postgres@…) is not made a secret by being a password too:
  // hiding it everywhere would hide nothing and make every message unreadable.
  const open = new Set([uri.scheme, uri.user, uri.host, uri.path, uri.path.replace(/^\//, '')])
  if (uri.password !== null && !open.has(uri.password)) references.keep(uri.password)
  if (rawPassword !== null && !open.has(rawPassword)) references.keep(rawPassword)
  for (const [name, value] of uri.parameters) {
    const spec = findOption(specs, name)
    // A parameter that nobody declares may be a misspelt `password`.
    if (spec === null ? /pass|pwd|secret|token|key/i.test(name) : spec.secret) references.keep(value)
  }
}

function variablesOf(role: Role, variables: EndpointRequest['variables']): readonly GivenOption[] {
  const prefix = `TAILRACE_${role.toUpperCase()}_`
  return Object.entries(variables).flatMap(([origin, value]) =>
    origin.startsWith(prefix) && value !== undefined && value !== ''
      ? [{ name: origin.slice(prefix.length).toLowerCase(), value, origin }]
      : [],
  )
}

type Layer = 'flag' | 'parameter' | 'variable'

/** Gathers options from the strongest layer to the weakest: the first to give a value keeps it. */
class OptionCollector {
  readonly #connector: Connector
  readonly #specs: readonly OptionSpec[]
  readonly #role: Role
  readonly #references: References
  readonly #values = new Map<string, { readonly value: unknown; readonly layer: Layer | 'uri'; readonly origin: string }>()
  readonly #problems: Problem[] = []

  constructor(connector: Connector, specs: readonly OptionSpec[], role: Role, references: References) {
    this.#connector = connector
    this.#specs = specs
    this.#role = role
    this.#references = references
  }

  add(layer: Layer, given: GivenOption): void {
    const spec = findOption(this.#specs, given.name)
    if (spec === null) return this.#unknown(layer, given)
    if (spec.role !== null && spec.role !== this.#role) {
      return this.#fail(`${given.origin} means nothing for a ${this.#role}: it is an option of a ${spec.role}`, null, spec)
    }
    const present = this.#values.get(spec.key)
    if (present !== undefined && !(present.layer === layer && spec.shape.kind === 'list')) {
      if (present.layer === layer) this.#fail(`${given.origin} is given twice`, 'leave one of them out', spec)
      return
    }
    const value = this.#parse(spec, layer, given)
    if (value === undefined) return
    const all = present === undefined ? value : [...(present.value as unknown[]), ...(value as unknown[])]
    this.#values.set(spec.key, { value: all, layer, origin: given.origin })
  }

  addPlain(values: Readonly<Record<string, unknown>>): void {
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined || value === null || this.#values.has(key)) continue
      this.#values.set(key, { value, layer: 'uri', origin: 'the URI' })
    }
  }

  /** The configuration, or every problem thrown at once. */
  validate(): z.infer<z.ZodObject> {
    throwProblems(this.#problems)
    const plain = Object.fromEntries([...this.#values].map(([key, { value }]) => [key, value]))
    return validateConfig(this.#connector, plain, this.#role, (key) => this.#values.get(key)?.origin)
  }

  #parse(spec: OptionSpec, layer: Layer, given: GivenOption): unknown {
    if (given.value === true) {
      if (isSwitch(spec)) return true
      return this.#fail(`${given.origin} needs a value: ${describeShape(spec.shape)}`, null, spec)
    }
    // Parameters were resolved with their URI.
    const text = layer === 'parameter' ? given.value : this.#references.expand(given.value)
    if (spec.secret) this.#references.keep(text)
    if (text === '' && spec.shape.kind !== 'string')
      return this.#fail(`${given.origin} is empty; it must be ${describeShape(spec.shape)}`, null, spec)
    const parsed = parseValue(text, spec.shape)
    if (parsed.ok) return parsed.value
    const near = spec.shape.kind === 'enum' ? didYouMean(text, spec.shape.values) : null
    return this.#fail(`${given.origin} must be ${parsed.expected}`, near, spec)
  }

  #unknown(layer: Layer, given: GivenOption): void {
    const spell = (spec: OptionSpec): string => {
      if (layer === 'variable') return `TAILRACE_${this.#role.toUpperCase()}_${spec.variable}`
      return layer === 'flag' ? `--${given.origin.startsWith(`--${this.#role}.`) ? `${this.#role}.` : ''}${spec.name}` : spec.name
    }
    const byName = new Map(this.#specs.map((spec) => [layer === 'variable' ? spec.variable : spec.name, spec]))
    const typed = layer === 'variable' ? given.name.toUpperCase() : given.name
    const near = didYouMean(typed, [...byName.keys()], (name) => spell(byName.get(name)!))
    const all = `tailrace connectors ${this.#connector.schemes[0]} lists its options`
    this.#problems.push(
      problem('USAGE', `${given.origin} is no option of ${this.#connector.title}`, near ?? all, `${this.#role}.${foldName(given.name)}`),
    )
  }

  #fail(message: string, hint: string | null, spec: OptionSpec): undefined {
    this.#problems.push(problem('USAGE', message, hint, `${this.#role}.${spec.key}`))
  }
}

/** Checks plain values by the connector's schema and its own `validate`; throws every problem at once. */
export function validateConfig(
  connector: Connector,
  values: Readonly<Record<string, unknown>>,
  role: Role,
  originOf: (key: string) => string | undefined = () => undefined,
): z.infer<z.ZodObject> {
  const specs = optionsOf(connector.config)
  throwProblems(unknownKeys(connector, specs, values, role))
  const result = connector.config.safeParse(values)
  if (!result.success) {
    throwProblems(result.error.issues.map((issue) => issueProblem(issue, specs, values, role, originOf)))
    throw usage(`the options of ${connector.title} are not valid`)
  }
  throwProblems((connector.validate?.(result.data) ?? []).filter((found) => found.severity === 'error'))
  return result.data
}

/** Not left to the schema: a plain `z.object` drops what it does not know. */
function unknownKeys(
  connector: Connector,
  specs: readonly OptionSpec[],
  values: Readonly<Record<string, unknown>>,
  role: Role,
): readonly Problem[] {
  const keys = specs.map((spec) => spec.key)
  return Object.keys(values)
    .filter((key) => !keys.includes(key))
    .map((key) => problem('USAGE', `${quoteWord(key)} is no option of ${connector.title}`, didYouMean(key, keys), `${role}.${key}`))
}

function issueProblem(
  issue: z.core.$ZodIssue,
  specs: readonly OptionSpec[],
  values: Readonly<Record<string, unknown>>,
  role: Role,
  originOf: (key: string) => string | undefined,
): Problem {
  const key = String(issue.path[0] ?? '')
  const spec = specs.find((one) => one.key === key)
  if (spec === undefined) return problem('USAGE', `the ${role}'s options contradict each other: ${issue.message}`, null, role)
  const path = [role, ...issue.path.map(String)].join('.')
  const missing = values[key] === undefined
  if (missing && issue.code !== 'custom') {
    const ways = `give it in the URI, as --${role}.${spec.name}, or in TAILRACE_${role.toUpperCase()}_${spec.variable}`
    return problem(
      'USAGE',
      `the ${role} needs the option ${spec.name}${spec.description === '' ? '' : ` (${spec.description})`}`,
      ways,
      path,
    )
  }
  return problem(
    'USAGE',
    `${originOf(key) ?? spec.name} is not valid: ${lowerFirst(issue.message)}`,
    `${spec.name} is ${describeShape(spec.shape)}`,
    path,
  )
}

function lowerFirst(text: string): string {
  return text.slice(0, 1).toLowerCase() + text.slice(1)
}
