import type { TableId } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { PgConnection } from '../wire/connection.ts'
import type { MessageWriter } from '../wire/message-writer.ts'
import { PgError } from '../wire/pg-error.ts'
import type { ExecuteResult, Parameter, Pipeline, Prepared } from '../wire/pipeline.ts'

/** What a statement of a batch is for: tells what its error means. */
export interface Purpose {
  readonly kind: 'begin' | 'fence' | 'savepoint' | 'fetch' | 'rows' | 'key' | 'ddl' | 'commit'
  readonly table?: TableId
}

/** An error of one statement of a batch, with what the statement was for. */
export class StatementError extends Error {
  readonly error: PgError
  readonly purpose: Purpose

  constructor(error: PgError, purpose: Purpose) {
    super(error.message, { cause: error })
    this.error = error
    this.purpose = purpose
  }
}

/**
 * The statements of a batch on their way to the server in one go (APPLY.md rule 4): a pipeline that knows what each
 * statement is for and prepares each one once per connection.
 */
export class Requests {
  readonly #pipeline: Pipeline
  /** Names of the statements that the connection has prepared. */
  readonly #prepared: Set<string>
  readonly #purposes: Purpose[] = []

  constructor(connection: PgConnection, prepared: Set<string>) {
    this.#pipeline = connection.pipeline()
    this.#prepared = prepared
  }

  get size(): number {
    return this.#purposes.length
  }

  run(purpose: Purpose, sql: string, params: readonly Parameter[] = []): void {
    this.#purposes.push(purpose)
    this.#pipeline.execute(sql, params)
  }

  /** A prepared statement with plain parameters. */
  call(purpose: Purpose, statement: Prepared, params: readonly Parameter[]): void {
    this.#prepare(statement)
    this.#purposes.push(purpose)
    this.#pipeline.bind(statement.name, params)
  }

  /** A prepared statement whose first parameters the `arrays` append in binary; then come `texts`. */
  bind(purpose: Purpose, statement: Prepared, arrays: readonly ((writer: MessageWriter) => void)[], texts: readonly string[] = []): void {
    this.#prepare(statement)
    this.#purposes.push(purpose)
    this.#write(statement.name, arrays, texts)
  }

  /** The same without a name, for what is seldom asked. */
  ask(purpose: Purpose, sql: string, arrays: readonly ((writer: MessageWriter) => void)[]): void {
    this.#pipeline.prepare({ name: '', sql })
    this.#purposes.push(purpose)
    this.#write('', arrays, [])
  }

  copy(purpose: Purpose, sql: string, frames: readonly Buffer[]): void {
    this.#purposes.push(purpose)
    this.#pipeline.copy(sql, frames)
  }

  /** Sends everything and waits for all answers. */
  async send(): Promise<ExecuteResult[]> {
    try {
      const results = await this.#pipeline.run()
      if (results.length === this.#purposes.length) return results
      throw new TailraceError('PROTOCOL', `PostgreSQL answered ${results.length} of ${this.#purposes.length} statements`)
    } catch (error) {
      if (!(error instanceof PgError)) throw error
      throw new StatementError(error, this.#purposes[error.index] ?? { kind: 'commit' })
    }
  }

  #prepare(statement: Prepared): void {
    if (this.#prepared.has(statement.name)) return
    this.#pipeline.prepare(statement)
    this.#prepared.add(statement.name)
  }

  #write(name: string, arrays: readonly ((writer: MessageWriter) => void)[], texts: readonly string[]): void {
    const writer = this.#pipeline.beginBind(name, arrays.length + texts.length, (index) => index < arrays.length)
    for (const array of arrays) array(writer)
    for (const text of texts) {
      const bytes = Buffer.from(text)
      writer.int32(bytes.length).raw(bytes)
    }
    this.#pipeline.finishBind()
  }
}
