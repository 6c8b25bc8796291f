import { readFileSync } from 'node:fs'
import { nearest } from './nearest.ts'
import { usage } from './problems.ts'

/** What references are read from: lent by the caller, so that tests own it. */
export interface ReferenceSources {
  readonly variables: Readonly<Record<string, string | undefined>>
  readonly readFile?: (path: string) => string
}

/** A piece of text, or the value of a reference together with the reference as it was typed. */
export type Piece = { readonly text: string; readonly reference: string | null }

const REFERENCE = /\$\{([^}]*)\}/g

/**
 * Resolves `${env:NAME}` and `${file:/path}`, and remembers every value as a secret: nothing shown may hold it.
 * One per command; `secrets` is the set that the logger and every other writer redact by.
 */
export class References {
  readonly secrets: Set<string>
  readonly #sources: ReferenceSources

  constructor(sources: ReferenceSources, secrets: Set<string> = new Set()) {
    this.#sources = sources
    this.secrets = secrets
  }

  /** A value with its references resolved. */
  expand(text: string): string {
    return this.pieces(text)
      .map((piece) => piece.text)
      .join('')
  }

  /** The same in pieces, for a URI: a value may hold `@` or `/` and must not change how the rest is read. */
  pieces(text: string): readonly Piece[] {
    const pieces: Piece[] = []
    let end = 0
    for (const match of text.matchAll(REFERENCE)) {
      if (match.index > end) pieces.push({ text: text.slice(end, match.index), reference: null })
      pieces.push({ text: this.#resolve(match[1] ?? ''), reference: match[0] })
      end = match.index + match[0].length
    }
    const rest = text.slice(end)
    if (rest.includes('${')) throw usage('a `${` has no closing `}`', 'references are written ${env:NAME} or ${file:/path}')
    if (rest !== '') pieces.push({ text: rest, reference: null })
    return pieces
  }

  /** Keeps a value out of everything that is shown. */
  keep(secret: string): void {
    if (secret !== '') this.secrets.add(secret)
  }

  #resolve(body: string): string {
    const [, kind, name] = /^(env|file):(.+)$/s.exec(body) ?? []
    if (name === undefined) throw usage('a `${…}` is neither ${env:NAME} nor ${file:/path}', 'write $ as %24 where no reference is meant')
    const value = kind === 'env' ? this.#variable(name) : this.#file(name)
    this.keep(value)
    return value
  }

  #variable(name: string): string {
    const value = this.#sources.variables[name]
    if (value !== undefined && value !== '') return value
    const found = nearest(name, Object.keys(this.#sources.variables))
    const hint = found === null ? `export ${name}=… before the command` : `did you mean \${env:${found}}?`
    throw usage(`the environment variable ${name} is ${value === undefined ? 'not set' : 'empty'}`, hint)
  }

  #file(path: string): string {
    const read = this.#sources.readFile ?? ((file: string) => readFileSync(file, 'utf8'))
    let content: string
    try {
      content = read(path)
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
      throw usage(`the file ${path} of a \${file:…} cannot be read (${code})`)
    }
    // Editors and `echo` end files with a line end that is not part of the secret.
    const value = content.replace(/\r?\n$/, '')
    if (value === '') throw usage(`the file ${path} of a \${file:…} is empty`)
    return value
  }
}
