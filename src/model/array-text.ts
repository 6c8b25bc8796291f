/**
 * PostgreSQL's text form of arrays: `{1,NULL,"a \"b\""}`, nested `{{1,2},{3,4}}`, with lower bounds `[0:1]={1,2}`.
 * https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
 */
export type Nested<T> = T | null | readonly Nested<T>[]

/** PostgreSQL allows six. Deeper than this it is no array, but somebody who wants our stack. */
const MOST_DIMENSIONS = 64
const BOUNDS = /^(?:\[-?\d+:-?\d+\])+=/
const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN = 0x7b
const CLOSE = 0x7d
/** What an unquoted element may not hold, besides the delimiter. The spaces are those of `array_isspace`. */
const SPECIAL = /[{}"\\ \t\n\r\v\f]/

/** Null when the text is no array. Lower bounds are left out: a JavaScript array has none. */
export function parseArray<T>(text: string, element: (text: string) => T, delimiter = ','): readonly Nested<T>[] | null {
  const reader = new ArrayReader(text, BOUNDS.exec(text)?.[0].length ?? 0, element, delimiter.charCodeAt(0))
  return reader.whole()
}

class ArrayReader<T> {
  readonly #text: string
  readonly #element: (text: string) => T
  readonly #delimiter: number
  #at: number
  #depth = 0

  constructor(text: string, start: number, element: (text: string) => T, delimiter: number) {
    this.#text = text
    this.#at = start
    this.#element = element
    this.#delimiter = delimiter
  }

  whole(): readonly Nested<T>[] | null {
    if (this.#text.charCodeAt(this.#at) !== OPEN) return null
    const items = this.#list()
    return this.#at === this.#text.length ? items : null
  }

  /** From an opening brace past its closing one; null when something else stands there. */
  #list(): Nested<T>[] | null {
    if (++this.#depth > MOST_DIMENSIONS) return null
    const items: Nested<T>[] = []
    this.#at++
    if (this.#text.charCodeAt(this.#at) === CLOSE) {
      this.#at++
      this.#depth--
      return items
    }
    for (;;) {
      const item = this.#item()
      if (item === undefined) return null
      items.push(item)
      const next = this.#text.charCodeAt(this.#at++)
      if (next === CLOSE) {
        this.#depth--
        return items
      }
      if (next !== this.#delimiter) return null
    }
  }

  #item(): Nested<T> | undefined {
    const first = this.#text.charCodeAt(this.#at)
    if (first === OPEN) return this.#list() ?? undefined
    if (first === QUOTE) return this.#quoted()
    const word = this.#word()
    if (word === '') return undefined
    return word.toUpperCase() === 'NULL' ? null : this.#element(word)
  }

  #quoted(): T | undefined {
    let value = ''
    let start = ++this.#at
    for (; this.#at < this.#text.length; this.#at++) {
      const code = this.#text.charCodeAt(this.#at)
      if (code !== QUOTE && code !== BACKSLASH) continue
      value += this.#text.slice(start, this.#at)
      start = this.#at + 1
      if (code === BACKSLASH) this.#at++
      else {
        this.#at++
        return this.#element(value)
      }
    }
    return undefined
  }

  #word(): string {
    const start = this.#at
    for (; this.#at < this.#text.length; this.#at++) {
      const code = this.#text.charCodeAt(this.#at)
      if (code === this.#delimiter || code === CLOSE || code === OPEN || code === QUOTE) break
    }
    return this.#text.slice(start, this.#at)
  }
}

/** The inverse, with lower bound 1. */
export function formatArray<T>(items: readonly Nested<T>[], element: (value: T) => string, delimiter = ','): string {
  const parts = items.map((item) => {
    if (item === null) return 'NULL'
    if (isList(item)) return formatArray(item, element, delimiter)
    return quoteElement(element(item), delimiter)
  })
  return `{${parts.join(delimiter)}}`
}

function isList<T>(item: Nested<T>): item is readonly Nested<T>[] {
  return Array.isArray(item)
}

function quoteElement(text: string, delimiter: string): string {
  const plain = text !== '' && text.toUpperCase() !== 'NULL' && !SPECIAL.test(text) && !text.includes(delimiter)
  return plain ? text : `"${text.replaceAll(/["\\]/g, '\\$&')}"`
}
