/** What an option's value may be, read from its schema: enough to parse a text, describe it and complete it. */
export type ValueShape =
  | { readonly kind: 'string' | 'boolean' | 'json' }
  | { readonly kind: 'number' | 'integer'; readonly unit: Unit | null }
  | { readonly kind: 'enum'; readonly values: readonly string[] }
  | { readonly kind: 'list'; readonly element: ValueShape }
  | { readonly kind: 'union'; readonly members: readonly ValueShape[] }

/** Given to a field by `.meta({ unit })`: sizes are typed as 64MB, durations as 5m, and arrive as a number of the unit. */
export type Unit = 'bytes' | 'ms' | 's'

export type Parsed = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly expected: string }

const TRUE = new Set(['true', 'yes', 'on', '1'])
const FALSE = new Set(['false', 'no', 'off', '0'])

/** A value typed as text, as the schema wants it; says what was expected, never what was given: it may be a secret. */
export function parseValue(text: string, shape: ValueShape): Parsed {
  switch (shape.kind) {
    case 'string':
      return { ok: true, value: text }
    case 'boolean':
      return parseBoolean(text)
    case 'json':
      return parseJson(text)
    case 'enum':
      return shape.values.includes(text) ? { ok: true, value: text } : { ok: false, expected: oneOf(shape.values) }
    case 'number':
    case 'integer':
      return parseNumber(text, shape)
    case 'list':
      return parseList(text, shape.element)
    case 'union':
      return parseUnion(text, shape.members)
    default:
      return shape satisfies never
  }
}

function parseBoolean(text: string): Parsed {
  const lower = text.toLowerCase()
  if (TRUE.has(lower)) return { ok: true, value: true }
  return FALSE.has(lower) ? { ok: true, value: false } : { ok: false, expected: 'true or false' }
}

function parseJson(text: string): Parsed {
  try {
    return { ok: true, value: JSON.parse(text) as unknown }
  } catch {
    return { ok: true, value: text }
  }
}

function parseNumber(text: string, shape: { readonly kind: 'number' | 'integer'; readonly unit: Unit | null }): Parsed {
  const value = shape.unit === null ? plainNumber(text) : shape.unit === 'bytes' ? parseSize(text) : parseDuration(text, shape.unit)
  const fits = value !== null && (shape.kind === 'number' || Number.isSafeInteger(value))
  return fits ? { ok: true, value } : { ok: false, expected: describeShape(shape) }
}

function plainNumber(text: string): number | null {
  return /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : null
}

function parseList(text: string, element: ValueShape): Parsed {
  const values: unknown[] = []
  for (const item of splitList(text)) {
    const parsed = parseValue(item, element)
    if (!parsed.ok) return { ok: false, expected: `a list of ${parsed.expected}` }
    values.push(parsed.value)
  }
  return { ok: true, value: values }
}

function parseUnion(text: string, members: readonly ValueShape[]): Parsed {
  // A string takes anything, so the narrower members have the first word.
  for (const member of members.toSorted((a, b) => breadth(a) - breadth(b))) {
    const parsed = parseValue(text, member)
    if (parsed.ok) return parsed
  }
  return { ok: false, expected: members.map(describeShape).join(' or ') }
}

function breadth(shape: ValueShape): number {
  return shape.kind === 'string' ? 2 : shape.kind === 'json' || shape.kind === 'list' ? 1 : 0
}

/** Splits at commas that stand outside double quotes; quotes stay, so that names can be parsed further. Drops blanks. */
export function splitList(text: string): readonly string[] {
  return splitOutsideQuotes(text, ',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
}

/** Splits at every `mark` outside double quotes. */
export function splitOutsideQuotes(text: string, mark: string): readonly string[] {
  const parts: string[] = []
  let begin = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '"') quoted = !quoted
    else if (text[i] === mark && !quoted) {
      parts.push(text.slice(begin, i))
      begin = i + 1
    }
  }
  parts.push(text.slice(begin))
  return parts
}

const SIZE_UNITS: Readonly<Record<string, number>> = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }

/** `64MB`, `1.5 GiB`, `512k`, `1048576`. As in PostgreSQL, k, M and G are powers of 1,024 with and without the `i`. */
export function parseSize(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|(b))?$/i.exec(text.trim())
  if (match === null) return null
  return Math.round(Number(match[1]) * SIZE_UNITS[(match[2] ?? 'b').toLowerCase()]!)
}

const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `5m`, `250ms`, `1h30m`, or a bare number of `unit`. */
export function parseDuration(text: string, unit: 'ms' | 's'): number | null {
  const clean = text.trim().toLowerCase()
  if (/^\d+(\.\d+)?$/.test(clean)) return Number(clean)
  if (!/^(\d+(\.\d+)?\s*(ms|s|m|h|d)\s*)+$/.test(clean)) return null
  let total = 0
  for (const match of clean.matchAll(/(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)/g)) total += Number(match[1]) * DURATION_MS[match[2]!]!
  return unit === 'ms' ? total : total / 1000
}

/** For `--help` and error messages: `a size such as 64MB`, `one of a, b`. */
export function describeShape(shape: ValueShape): string {
  switch (shape.kind) {
    case 'string':
      return 'text'
    case 'boolean':
      return 'true or false'
    case 'json':
      return 'JSON or text'
    case 'enum':
      return oneOf(shape.values)
    case 'integer':
    case 'number':
      return describeNumber(shape)
    case 'list':
      return `a comma-separated list of ${describeShape(shape.element)}`
    case 'union':
      return shape.members.map(describeShape).join(' or ')
    default:
      return shape satisfies never
  }
}

function describeNumber(shape: { readonly kind: 'number' | 'integer'; readonly unit: Unit | null }): string {
  if (shape.unit === 'bytes') return 'a size such as 64MB'
  if (shape.unit !== null) return 'a duration such as 30s or 5m'
  return shape.kind === 'integer' ? 'a whole number' : 'a number'
}

function oneOf(values: readonly string[]): string {
  return values.length === 1 ? `\`${values[0]}\`` : `one of ${values.map((value) => `\`${value}\``).join(', ')}`
}

/** The short form for tables: `size`, `a|b`, `text,…`. */
export function shortShape(shape: ValueShape): string {
  switch (shape.kind) {
    case 'string':
      return 'text'
    case 'boolean':
      return 'boolean'
    case 'json':
      return 'json'
    case 'enum':
      return shape.values.join('|')
    case 'integer':
    case 'number':
      return shape.unit === null ? shape.kind : shape.unit === 'bytes' ? 'size' : 'duration'
    case 'list':
      return `${shortShape(shape.element)},…`
    case 'union':
      return shape.members.map(shortShape).join('|')
    default:
      return shape satisfies never
  }
}

/** A default as a person would type it. */
export function formatValue(value: unknown, shape: ValueShape): string {
  if (typeof value === 'number' && (shape.kind === 'integer' || shape.kind === 'number')) return formatNumber(value, shape.unit)
  if (Array.isArray(value)) return value.map((item) => (typeof item === 'string' ? item : JSON.stringify(item))).join(',')
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function formatNumber(value: number, unit: Unit | null): string {
  if (unit === null || value === 0) return String(value)
  const steps = unit === 'bytes' ? SIZE_STEPS : DURATION_STEPS
  const base = unit === 's' ? value * 1000 : value
  const step = steps.find(([size]) => base >= size && base % size === 0)
  return step === undefined ? `${value}${unit === 'bytes' ? 'B' : unit}` : `${base / step[0]}${step[1]}`
}

const SIZE_STEPS: readonly (readonly [number, string])[] = [
  [2 ** 40, 'TB'],
  [2 ** 30, 'GB'],
  [2 ** 20, 'MB'],
  [2 ** 10, 'kB'],
  [1, 'B'],
]
const DURATION_STEPS: readonly (readonly [number, string])[] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'm'],
  [1000, 's'],
  [1, 'ms'],
]
