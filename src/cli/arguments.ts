import { parseArgs } from 'node:util'
import { usage } from '../sdk/config/problems.ts'

export type Argument =
  | { readonly kind: 'positional'; readonly value: string }
  /** `inline`: what follows `=`; null without one. */
  | { readonly kind: 'option'; readonly name: string; readonly rawName: string; readonly inline: string | null }

type Token = NonNullable<ReturnType<typeof parseArgs<{ tokens: true; strict: false }>>['tokens']>[number]

/**
 * The command line from left to right. `node:util` cuts it up; whether an option takes the next argument is asked for
 * one by one (`takeValue`), because what an option of a connector means depends on the URI that it follows: a parser
 * that wants all options declared beforehand cannot say that. See docs/decisions/command-line-parsing.md.
 */
export class Arguments {
  readonly #args: readonly string[]
  readonly #tokens: readonly Token[]
  #next = 0
  /** Place of the argument last given, and of the value last taken. */
  #index = -1
  #taken = -1

  constructor(args: readonly string[]) {
    this.#args = args
    this.#tokens = parseArgs({ args: [...args], options: {}, strict: false, allowPositionals: true, tokens: true }).tokens
  }

  next(): Argument | null {
    for (;;) {
      const token = this.#tokens[this.#next++]
      if (token === undefined) return null
      // What was taken as a value is not read again, also when it was cut into several tokens (`-15`).
      if (token.index <= this.#taken || token.kind === 'option-terminator') continue
      this.#index = token.index
      if (token.kind === 'positional') return { kind: 'positional', value: token.value }
      return { kind: 'option', name: token.name, rawName: token.rawName, inline: token.inlineValue === true ? (token.value ?? '') : null }
    }
  }

  /** The argument after the option last given, as its value; null when there is none or it is an option itself. */
  takeValue(): string | null {
    const value = this.#args[this.#index + 1]
    if (value === undefined || /^--?[a-z]/i.test(value) || value === '--') return null
    this.#taken = this.#index + 1
    return value
  }
}

/** Cuts a quoted string of a URI with flags into words as a shell would: blanks, single and double quotes, backslash. */
export function splitWords(text: string): readonly string[] {
  const words: string[] = []
  let word: string | null = null
  let quote = ''
  for (let i = 0; i < text.length; i++) {
    const sign = text[i]!
    if (quote !== '' && sign === quote) quote = ''
    else if (sign === '\\' && quote !== "'" && i + 1 < text.length) word = (word ?? '') + text[++i]!
    else if (quote !== '') word = (word ?? '') + sign
    else if (sign === '"' || sign === "'") {
      quote = sign
      word ??= ''
    } else if (/\s/.test(sign)) {
      if (word !== null) words.push(word)
      word = null
    } else word = (word ?? '') + sign
  }
  if (quote !== '') throw usage('a quote inside a quoted URI is not closed')
  return word === null ? words : [...words, word]
}

/** `"postgres://h/db --slot x"` → the URI and its words; null when the argument is a URI alone. */
export function splitQuotedUri(argument: string): { readonly uri: string; readonly words: readonly string[] } | null {
  const match = /^(\S.*?)\s+(--?[a-z].*)$/is.exec(argument.trim())
  return match === null ? null : { uri: match[1]!, words: splitWords(match[2]!) }
}
