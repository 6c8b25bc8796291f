import { TailraceError, type ErrorCode, type Problem } from '../errors.ts'

/** Several findings thrown as one: the first speaks for all, `problems` has every one of them. */
export class ProblemsError extends TailraceError {
  readonly problems: readonly Problem[]

  constructor(problems: readonly [Problem, ...Problem[]]) {
    const [first, ...rest] = problems
    const more = rest.length === 0 ? '' : ` (and ${rest.length} more problem${rest.length === 1 ? '' : 's'})`
    super(first.code, `${first.message}${more}`, {
      ...(first.hint === undefined ? {} : { hint: first.hint }),
      ...(first.path === undefined ? {} : { path: first.path }),
    })
    this.problems = problems
  }
}

export function throwProblems(problems: readonly Problem[]): void {
  const [first, ...rest] = problems
  if (first !== undefined) throw new ProblemsError([first, ...rest])
}

/** Every finding in anything thrown. */
export function problemsOf(error: TailraceError): readonly Problem[] {
  if (error instanceof ProblemsError) return error.problems
  return [
    {
      severity: 'error',
      code: error.code,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(error.path === undefined ? {} : { path: error.path }),
    },
  ]
}

export function problem(code: ErrorCode, message: string, hint?: string | null, path?: string): Problem {
  return {
    severity: 'error',
    code,
    message,
    ...(hint === undefined || hint === null ? {} : { hint }),
    ...(path === undefined ? {} : { path }),
  }
}

/** A USAGE error; `hint` may be null so that `didYouMean` can be passed as it is. */
export function usage(message: string, hint?: string | null, path?: string): TailraceError {
  return new TailraceError('USAGE', message, {
    ...(hint === undefined || hint === null ? {} : { hint }),
    ...(path === undefined ? {} : { path }),
  })
}

/**
 * A word that was typed, for an error message. What is not plainly a name may hold a secret (a mistyped URI, a
 * key=value string, a password after a wrong flag) and is not repeated.
 */
export function quoteWord(text: string): string {
  return /^[\p{L}\p{N}_.*$/-]{1,60}$/u.test(text) ? `\`${text}\`` : '`…` (not shown: it may hold a secret)'
}
