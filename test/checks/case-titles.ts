import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..', '..')

export interface CaseTest {
  /** `CASE 6` or `TRAP 24`. */
  readonly name: string
  readonly file: string
  readonly title: string
}

/** Files whose strings are titles of tests; the suites for connectors keep theirs in tables. */
function titleFiles(): readonly string[] {
  const all = ['src', 'test', 'demo'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  )
  return all.filter((name) => /\.test\.ts$|^src\/testing\/sink-.*-cases\.ts$/.test(name)).sort()
}

const STRING = /(['"`])((?:\\.|(?!\1).)*)\1/g
/** `CASE 7`, `TRAPS 24`, `TRAP 12, 13`, `TRAP 4c`, `CASES 1–3`. */
const MENTION = /\b(CASE|TRAP)S? (\d+[a-z]?(?:(?:, | and |–|-)\d+[a-z]?)*)/g

function numbersOf(text: string): number[] {
  return text.split(/, | and /).flatMap((part) => {
    const [from = 0, to = from] = part.split(/[–-]/).map((each) => Number.parseInt(each, 10))
    return Array.from({ length: to - from + 1 }, (_, i) => from + i)
  })
}

function namesIn(title: string): string[] {
  return [...title.matchAll(MENTION)].flatMap(([, kind, numbers = '']) => numbersOf(numbers).map((number) => `${kind} ${number}`))
}

/** Every test of a case or trap that says so in its title. */
export function caseTests(): readonly CaseTest[] {
  return titleFiles().flatMap((file) =>
    readFileSync(join(ROOT, file), 'utf8')
      .split('\n')
      // A suite's own title names what its tests name again.
      .filter((line) => !/^\s*(\/\/|\*|\/\*)|\b(describe|cases)\(/.test(line))
      .flatMap((line) => [...line.matchAll(STRING)].map(([, , title = '']) => title.replaceAll(/\$\{[^}]*\}/g, '…').replaceAll("\\'", "'")))
      .flatMap((title) => namesIn(title).map((name) => ({ name, file, title }))),
  )
}
