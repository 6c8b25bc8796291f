/** A PostgreSQL type as format_type spells it: name, modifiers, and what follows them (`timestamp(3) with time zone`, `[]`). */
interface Spelt {
  readonly name: string
  readonly modifiers: readonly number[]
  readonly array: boolean
}

function spell(type: string): Spelt {
  const array = type.endsWith('[]')
  const bare = array ? type.slice(0, -2) : type
  const modifiers = /\(([\d,-]+)\)/.exec(bare)?.[1]
  const name = bare
    .replace(/\([\d,-]+\)/, '')
    .replaceAll(/\s+/g, ' ')
    .trim()
  return { name, modifiers: modifiers === undefined ? [] : modifiers.split(',').map(Number), array }
}

/** Types that hold every value of another, with the text that it had or an equal one. */
const HOLDS: Readonly<Record<string, readonly string[]>> = {
  smallint: ['integer', 'bigint', 'numeric'],
  integer: ['bigint', 'numeric'],
  bigint: ['numeric'],
  real: ['double precision'],
  'character varying': ['text'],
  character: ['character varying', 'text'],
  name: ['text'],
  cidr: ['inet'],
  json: ['jsonb'],
}

/**
 * Whether every value of one type is a value of the other, so that a cast of the rows that the target has gives what the
 * source's ALTER gave (TRAPS 46: rows that a rewrite changed are not in the stream). Anything else is for a person.
 */
export function isWidening(from: string, to: string): boolean {
  const before = spell(from)
  const after = spell(to)
  if (before.array !== after.array) return false
  if (before.name === after.name) return isWider(before, after)
  if (!(HOLDS[before.name] ?? []).includes(after.name)) return false
  if (after.name === 'numeric') return holdsInteger(before.name, after.modifiers)
  return after.modifiers.length === 0 || (after.name === 'character varying' && (before.modifiers[0] ?? 1) <= (after.modifiers[0] ?? 0))
}

function isWider(before: Spelt, after: Spelt): boolean {
  if (after.modifiers.length === 0) return true
  if (before.modifiers.length === 0) return false
  if (before.name === 'bit') return before.modifiers[0] === after.modifiers[0]
  if (before.name !== 'numeric') return (before.modifiers[0] ?? 0) <= (after.modifiers[0] ?? 0)
  const [precision = 0, scale = 0] = before.modifiers
  const [newPrecision = 0, newScale = 0] = after.modifiers
  return newScale >= scale && newPrecision - newScale >= precision - scale
}

const INTEGER_DIGITS: Readonly<Record<string, number>> = { smallint: 5, integer: 10, bigint: 19 }

function holdsInteger(name: string, modifiers: readonly number[]): boolean {
  if (modifiers.length === 0) return true
  const [precision = 0, scale = 0] = modifiers
  return precision - scale >= (INTEGER_DIGITS[name] ?? Infinity)
}
