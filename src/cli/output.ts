import { problemsOf } from '../sdk/config/problems.ts'
import { asTailraceError, type ExitCode, type Problem } from '../sdk/errors.ts'
import { redact, redactData, type LogLevel } from '../sdk/logger.ts'
import type { Io } from './io.ts'

/** How to speak, known before anything else is: also an error on the command line itself is told in the right form. */
export interface Manner {
  readonly json: boolean
  readonly logFormat: 'text' | 'json'
  readonly logLevel: LogLevel
}

/** The only way out: every text and every object leaves it without secrets. */
export class Output {
  readonly manner: Manner
  readonly #io: Io
  readonly #secrets: ReadonlySet<string>
  #above: ((line: string) => void) | null = null

  constructor(io: Io, manner: Manner, secrets: ReadonlySet<string>) {
    this.#io = io
    this.manner = manner
    this.#secrets = secrets
  }

  /** What the command is for: one JSON object, or text for people, on stdout. */
  result(data: object, text: () => string): void {
    if (this.manner.json) this.json(data)
    else this.#io.stdout.write(ended(redact(text(), this.#secrets)))
  }

  json(data: object): void {
    this.#io.stdout.write(`${JSON.stringify(redactData(data, this.#secrets), bigintAsText)}\n`)
  }

  /** Text for people beside the result, on stderr; silent where only JSON lines are wanted there. */
  note(text: string): void {
    if (this.manner.logFormat === 'text') this.line(redact(text, this.#secrets))
  }

  /** What a user's module printed: for people, or a line of the log where only JSON is wanted. */
  said(text: string): void {
    const message = text.replace(/\n$/, '')
    if (this.manner.logFormat === 'json') this.jsonLine({ level: 'info', message })
    else this.line(redact(message, this.#secrets))
  }

  /** A line for stderr that is redacted already. */
  line(text: string): void {
    if (this.#above !== null) this.#above(text)
    else this.#io.stderr.write(ended(text))
  }

  /** While a live view owns the lower lines of the terminal, others go above it. */
  set above(writer: ((line: string) => void) | null) {
    this.#above = writer
  }

  jsonLine(data: object): void {
    this.line(JSON.stringify(redactData(data, this.#secrets), bigintAsText))
  }

  problems(problems: readonly Problem[]): void {
    for (const problem of problems) {
      if (this.manner.logFormat === 'json') this.jsonLine({ level: problem.severity === 'warning' ? 'warn' : 'error', ...problem })
      else this.line(redact(formatProblem(problem), this.#secrets))
    }
  }

  /** Tells of a failure and gives the exit code. */
  failure(thrown: unknown): ExitCode {
    const error = asTailraceError(thrown)
    const problems = problemsOf(error).map((one) => (error.code === 'BUG' || error.code === 'CLOSED' ? this.#bugProblem(one) : one))
    if (this.manner.json) this.json({ ok: false, problems })
    this.problems(problems)
    if (this.manner.logLevel === 'debug') this.#stack(error)
    return error.exitCode
  }

  #bugProblem(problem: Problem): Problem {
    const hint =
      this.manner.logLevel === 'debug'
        ? 'please report it with the stack below'
        : 'this is a bug of tailrace; run it again with --log-level debug and report the stack'
    return { ...problem, message: `unexpected: ${problem.message}`, hint: problem.hint ?? hint }
  }

  #stack(error: Error): void {
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
      const stack = cause.stack ?? String(cause)
      if (this.manner.logFormat === 'json') this.jsonLine({ level: 'debug', stack })
      else this.line(redact(stack, this.#secrets))
    }
  }
}

export function formatProblem(problem: Omit<Problem, 'severity'> & { readonly severity?: Problem['severity'] }): string {
  const where = problem.path === undefined || problem.message.includes(problem.path) || problem.code === 'USAGE' ? '' : ` (${problem.path})`
  const hint = problem.hint === undefined ? '' : `\n  hint: ${problem.hint}`
  return `${problem.severity ?? 'error'}: ${problem.message}${where}${hint}`
}

function ended(text: string): string {
  return text === '' || text.endsWith('\n') ? text : `${text}\n`
}

function bigintAsText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value
}
