import { z } from 'zod'
import type { ConfigSchema, Connector } from '../connector.ts'
import { RESERVED_OPTIONS } from './reserved.ts'
import type { Unit, ValueShape } from './values.ts'

/** One option of a connector in every spelling, made from its field in the schema and from nothing else. */
export interface OptionSpec {
  /** In the schema and in the library: `slotName`. */
  readonly key: string
  /** As a flag (`--slot-name`) and as a parameter of the URI. */
  readonly name: string
  /** End of the environment variable's name: `SLOT_NAME` in `TAILRACE_SOURCE_SLOT_NAME`. */
  readonly variable: string
  readonly shape: ValueShape
  readonly required: boolean
  readonly default: unknown
  readonly secret: boolean
  /** The side on which the option means something, by `.meta({ role })`; null: both. */
  readonly role: 'source' | 'sink' | null
  readonly description: string
}

/** What zod's JSON Schema of a field holds, as far as we read it. `.meta()` entries stand beside the schema's own. */
interface FieldSchema {
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly items?: FieldSchema
  readonly anyOf?: readonly FieldSchema[]
  readonly default?: unknown
  readonly description?: string
  readonly secret?: unknown
  readonly unit?: unknown
  readonly role?: unknown
}

const known = new WeakMap<ConfigSchema, readonly OptionSpec[]>()

/** The options of a connector, in the order of its schema. */
export function optionsOf(schema: ConfigSchema): readonly OptionSpec[] {
  let specs = known.get(schema)
  if (specs === undefined) {
    specs = readOptions(schema)
    known.set(schema, specs)
  }
  return specs
}

function readOptions(schema: ConfigSchema): readonly OptionSpec[] {
  const json = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  const required = new Set(json.required ?? [])
  const fields = (json.properties ?? {}) as unknown as Readonly<Record<string, FieldSchema>>
  return Object.entries(fields).map(([key, field]) => ({
    key,
    name: kebabCase(key),
    variable: kebabCase(key).replaceAll('-', '_').toUpperCase(),
    shape: shapeOf(field, unitOf(field)),
    required: required.has(key),
    default: field.default,
    secret: metaOf(field, 'secret') === true,
    role: roleOf(field),
    description: String(metaOf(field, 'description') ?? ''),
  }))
}

/** What `.meta()` said at any layer of the field: `.nullable()` and `.or()` put it on a member. */
function metaOf(field: FieldSchema, key: 'secret' | 'unit' | 'role' | 'description'): unknown {
  if (field[key] !== undefined) return field[key]
  for (const member of field.anyOf ?? []) {
    const found = metaOf(member, key)
    if (found !== undefined) return found
  }
  return undefined
}

function unitOf(field: FieldSchema): Unit | null {
  const unit = metaOf(field, 'unit')
  return unit === 'bytes' || unit === 'ms' || unit === 's' ? unit : null
}

function roleOf(field: FieldSchema): 'source' | 'sink' | null {
  const role = metaOf(field, 'role')
  return role === 'source' || role === 'sink' ? role : null
}

function shapeOf(field: FieldSchema, unit: Unit | null): ValueShape {
  if (field.anyOf !== undefined) return unionOf(field.anyOf, unit)
  if (field.enum !== undefined) return { kind: 'enum', values: field.enum.map(String) }
  if (field.const !== undefined) return { kind: 'enum', values: [String(field.const)] }
  const types = (typeof field.type === 'string' ? [field.type] : (field.type ?? [])).filter((type) => type !== 'null')
  if (types.length > 1)
    return unionOf(
      types.map((type) => ({ ...field, type })),
      unit,
    )
  switch (types[0]) {
    case 'string':
      return { kind: 'string' }
    case 'boolean':
      return { kind: 'boolean' }
    case 'integer':
    case 'number':
      return { kind: types[0], unit }
    case 'array':
      return { kind: 'list', element: field.items === undefined ? { kind: 'string' } : shapeOf(field.items, unit) }
    default:
      return { kind: 'json' }
  }
}

function unionOf(fields: readonly FieldSchema[], unit: Unit | null): ValueShape {
  const members = fields.filter((field) => field.type !== 'null').map((field) => shapeOf(field, unit))
  const [only] = members
  return members.length === 1 && only !== undefined ? only : { kind: 'union', members }
}

export function kebabCase(key: string): string {
  return key
    .replace(/([a-z0-9])([A-Z])/g, '$1-$2')
    .replace(/([A-Z])([A-Z][a-z])/g, '$1-$2')
    .toLowerCase()
}

/** `ssl-mode`, `sslMode`, `ssl_mode` and `sslmode` are one option: URIs come from other tools, which spell as they like. */
export function findOption(specs: readonly OptionSpec[], name: string): OptionSpec | null {
  const wanted = foldName(name)
  return specs.find((spec) => foldName(spec.name) === wanted) ?? null
}

export function foldName(name: string): string {
  return name.replace(/[-_]/g, '').toLowerCase()
}

/** Whether the flag may stand without a value. */
export function isSwitch(spec: OptionSpec): boolean {
  return spec.shape.kind === 'boolean' || (spec.shape.kind === 'union' && spec.shape.members.some((member) => member.kind === 'boolean'))
}

/** What is wrong with a connector's declaration: asked for every one of the registry, and of others when they are loaded. */
export function declarationFaults(connector: Connector): readonly string[] {
  const faults: string[] = []
  const seen = new Map<string, string>()
  const reserved = new Map([...RESERVED_OPTIONS].map((name) => [foldName(name), name]))
  for (const spec of optionsOf(connector.config)) {
    const folded = foldName(spec.name)
    const global = reserved.get(folded)
    if (global !== undefined) faults.push(`option ${spec.name} has the name of the global option --${global}`)
    const twin = seen.get(folded)
    if (twin !== undefined) faults.push(`options ${twin} and ${spec.name} cannot be told apart`)
    if (spec.description === '') faults.push(`option ${spec.name} has no description`)
    seen.set(folded, spec.name)
  }
  if (connector.source === undefined && connector.sink === undefined) faults.push('it is neither a source nor a sink')
  if (connector.schemes.length === 0) faults.push('it has no scheme')
  return faults
}
