import { TailraceError } from '../errors.ts'

/** Standard SQL quoting, as PostgreSQL, DuckDB and SQLite read it. Always quotes: a reserved word needs no list then. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function qualify(namespace: string | null, name: string): string {
  return namespace === null ? quoteIdentifier(name) : `${quoteIdentifier(namespace)}.${quoteIdentifier(name)}`
}

export function quoteList(names: readonly string[]): string {
  return names.map(quoteIdentifier).join(', ')
}

/** A text literal for systems where a backslash is a plain character (PostgreSQL: standard_conforming_strings on). */
export function quoteLiteral(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** Why the target cannot hold the name, or null. PostgreSQL would cut a long name silently and two could become one. */
export function identifierProblem(name: string, maxBytes: number): string | null {
  if (name === '') return 'is empty'
  if (name.includes('\0')) return 'contains a NUL character'
  const bytes = Buffer.byteLength(name, 'utf8')
  return bytes > maxBytes ? `has ${bytes} bytes, the target holds ${maxBytes}` : null
}

/** Throws for names that the target cannot hold. `what` says what is named: `table`, `column of public.t`. */
export function requireIdentifier(name: string, maxBytes: number, what: string): void {
  const problem = identifierProblem(name, maxBytes)
  if (problem === null) return
  throw new TailraceError('SCHEMA_UNSUPPORTED', `the name of ${what} ${problem}: ${JSON.stringify(name)}`, {
    hint: 'give it another name in the target with --map, or leave the column out with --exclude',
  })
}

/** A name that fits, the same each time: cut at a character, with a hash of the whole at the end when it was too long. */
export function fitIdentifier(name: string, maxBytes: number): string {
  if (Buffer.byteLength(name, 'utf8') <= maxBytes) return name
  const suffix = `_${hash(name)}`
  let cut = ''
  for (const character of name) {
    if (Buffer.byteLength(cut + character, 'utf8') > maxBytes - suffix.length) break
    cut += character
  }
  return cut + suffix
}

/** FNV-1a as eight hex digits. Names only: not for anything that an opponent chooses. */
function hash(text: string): string {
  let value = 0x811c9dc5
  for (const byte of Buffer.from(text, 'utf8')) value = Math.imul(value ^ byte, 0x01000193)
  return (value >>> 0).toString(16).padStart(8, '0')
}
