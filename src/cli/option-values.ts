import { didYouMean, nearest } from '../sdk/config/nearest.ts'
import { usage } from '../sdk/config/problems.ts'
import { describeShape, parseValue } from '../sdk/config/values.ts'
import { OWN_OPTIONS, variableOf, type OwnOption } from './own-options.ts'

/** The command line's own options with their values: flag, else environment variable, else null. */
export class OptionValues {
  readonly #given: ReadonlyMap<string, readonly string[]>
  readonly #variables: Readonly<Record<string, string | undefined>>
  readonly #expand: (text: string) => string

  constructor(
    given: ReadonlyMap<string, readonly string[]>,
    variables: Readonly<Record<string, string | undefined>>,
    expand: (text: string) => string,
  ) {
    this.#given = given
    this.#variables = variables
    this.#expand = expand
  }

  text(name: string): string | null {
    return this.#find(name)?.values.at(-1) ?? null
  }

  /** Every occurrence of a repeatable option, as typed. */
  list(name: string): readonly string[] {
    return this.#find(name)?.values ?? []
  }

  flag(name: string): boolean {
    return this.#parsed(name) === true
  }

  choice<T extends string>(name: string, otherwise: T): T {
    // The option's shape lists exactly the values of T.
    return (this.#parsed(name) as T | null) ?? otherwise
  }

  count(name: string, least: number, most: number): number | null {
    const value = this.#parsed(name) as number | null
    if (value === null || (value >= least && value <= most)) return value
    throw usage(`${this.#find(name)!.origin} must be between ${least} and ${most}`)
  }

  #parsed(name: string): unknown {
    const found = this.#find(name)
    if (found === null) return null
    const { shape } = found.option
    const text = found.values.at(-1)!
    const parsed = parseValue(text, shape)
    if (parsed.ok) return parsed.value
    throw usage(`${found.origin} must be ${describeShape(shape)}`, shape.kind === 'enum' ? nearHint(text, shape.values) : null)
  }

  #find(name: string): { readonly option: OwnOption; readonly values: readonly string[]; readonly origin: string } | null {
    const option = OWN_OPTIONS.get(name)
    if (option === undefined) throw new RangeError(`the command line declares no option ${name}`)
    const flags = this.#given.get(name)
    if (flags !== undefined) return { option, values: flags.map(this.#expand), origin: `--${name}` }
    const variable = variableOf(option)
    const value = variable === null ? undefined : this.#variables[variable]
    return variable === null || value === undefined || value === '' ? null : { option, values: [this.#expand(value)], origin: variable }
  }
}

function nearHint(text: string, values: readonly string[]): string | null {
  const near = nearest(text, values)
  return near === null ? null : `did you mean \`${near}\`?`
}

/** Variables of the test suite and its servers, which the command inherits from it. */
const NOT_OURS = /^TAILRACE_(TEST|PG|CRASH|BENCH)_/

/**
 * A misspelt TAILRACE_ variable would be ignored in silence. Names of connectors' options are judged with their
 * endpoint; what resembles nothing of ours is somebody else's.
 */
export function checkVariables(variables: Readonly<Record<string, string | undefined>>): void {
  const known = [...OWN_OPTIONS.values()].flatMap((option) => variableOf(option) ?? [])
  for (const name of Object.keys(variables)) {
    if (!name.startsWith('TAILRACE_') || /^TAILRACE_(SOURCE|SINK)_/.test(name) || known.includes(name) || NOT_OURS.test(name)) continue
    const near = nearest(name, known)
    if (near !== null) throw usage(`the environment variable ${name} means nothing to tailrace`, didYouMean(name, [near]))
  }
}
