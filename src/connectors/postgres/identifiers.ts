/** Quotes an identifier of PostgreSQL. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** Quotes a text as a literal; standard_conforming_strings is on in every supported server, and E'' is not used. */
export function quoteText(text: string): string {
  const escaped = text.replaceAll("'", "''")
  return text.includes('\\') ? ` E'${escaped.replaceAll('\\', '\\\\')}'` : `'${escaped}'`
}

export function qualifiedName(table: { readonly namespace: string; readonly name: string }): string {
  return `${quoteName(table.namespace)}.${quoteName(table.name)}`
}
