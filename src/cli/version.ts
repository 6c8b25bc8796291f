import { readFileSync } from 'node:fs'

/** The package's version, two folders up from here in the sources and in what is published. */
export function version(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}
