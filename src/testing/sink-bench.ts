import assert from 'node:assert/strict'
import { idleBatch, type Barrier, type StreamBatch } from '../model/batch.ts'
import type { LogicalType } from '../model/logical-type.ts'
import type { TableSchema } from '../model/schema.ts'
import type { Checkpoint, Sink, SinkCapabilities, SinkCheckpoints, SinkTable } from '../sdk/sink.ts'
import { at, barrierBatch, batchOf, sinkTable, type RowChange } from './sink-batches.ts'

/** A row of the target as text: the value's text in PostgreSQL's form where the target has no better one, or null. */
export type TargetRow = Readonly<Record<string, string | null>>

export interface SinkUnderTest {
  readonly sink: Sink
  /** Committed rows of the target table as any other reader sees them now, every column; order does not matter. */
  rows(table: SinkTable): Promise<readonly TargetRow[]>
  /** Another runner on the same target, by default of the same pipeline. The first sink goes on living; `close` ends both. */
  reopen(pipeline?: string): Promise<Sink>
  close(): Promise<void>
}

export interface SinkSuiteOptions {
  /** A sink on an empty target of its own. */
  open(options: { readonly deletes: 'hard' | 'soft' }): Promise<SinkUnderTest>
  readonly capabilities: SinkCapabilities
  /** Namespace of target tables; null by default. */
  readonly namespace?: string
  /** Kinds whose values must come back as the very text that went in. By default those that no system needs to rewrite. */
  readonly exact?: readonly LogicalType['kind'][]
  /** Titles of cases that this sink cannot pass, each with the reason. A title that does not exist fails. */
  readonly skip?: Readonly<Record<string, string>>
}

export interface SinkCase {
  readonly title: string
  /** Why the case does not apply to a sink of these capabilities, or null. */
  unfit?(capabilities: SinkCapabilities): string | null
  readonly deletes?: 'soft'
  run(bench: SinkBench): Promise<void>
}

export const onlyTransactional: NonNullable<SinkCase['unfit']> = ({ commit }) => (commit === 'transactional' ? null : `commit is ${commit}`)
export const onlySchemaChanges: NonNullable<SinkCase['unfit']> = ({ schemaChanges }) =>
  schemaChanges ? null : 'it follows no schema changes'
export const onlyTruncate: NonNullable<SinkCase['unfit']> = ({ truncate }) => (truncate ? null : 'it does not truncate')

/** A sink with the calls that an engine makes, in few words. */
export class SinkBench {
  readonly target: SinkUnderTest
  readonly options: SinkSuiteOptions
  readonly signal: AbortSignal = new AbortController().signal
  #number = 0

  constructor(target: SinkUnderTest, options: SinkSuiteOptions) {
    this.target = target
    this.options = options
  }

  get sink(): Sink {
    return this.target.sink
  }

  get checkpoints(): SinkCheckpoints {
    assert.ok(this.sink.checkpoints, 'a transactional sink has checkpoints')
    return this.sink.checkpoints
  }

  table(schema: TableSchema): SinkTable {
    return sinkTable(schema, this.options.namespace ?? null)
  }

  /** The start of a pipeline: check, claim, tables, position before the first row. */
  async start(...schemas: readonly TableSchema[]): Promise<Checkpoint | null> {
    const tables = schemas.map((schema) => this.table(schema))
    const problems = await this.sink.check(tables, this.signal)
    assert.deepEqual(
      problems.filter((problem) => problem.severity === 'error'),
      [],
    )
    const claimed = (await this.sink.checkpoints?.claim(this.signal)) ?? null
    for (const table of tables) await this.sink.applySchema(table, null, this.signal)
    await this.sink.checkpoints?.store(at(0), this.signal)
    return claimed
  }

  /** The start of a later run on the same target, by another sink. */
  async restart(sink: Sink, ...schemas: readonly TableSchema[]): Promise<Checkpoint | null> {
    const claimed = (await sink.checkpoints?.claim(this.signal)) ?? null
    for (const table of schemas.map((schema) => this.table(schema))) await sink.applySchema(table, table, this.signal)
    return claimed
  }

  /** A number for a transaction, rising. */
  next(): number {
    return ++this.#number
  }

  /** The position after the newest transaction. */
  get position(): ReturnType<typeof at> {
    return at(this.#number)
  }

  /** One whole transaction in one batch. */
  async commit(...changes: readonly RowChange[]): Promise<void> {
    await this.write(batchOf([{ number: this.next(), changes }]))
  }

  /** Several whole transactions in one batch. */
  async commitAll(...transactions: readonly (readonly RowChange[])[]): Promise<void> {
    await this.write(batchOf(transactions.map((changes) => ({ number: this.next(), changes }))))
  }

  /** A piece of transaction `number`, which goes on. */
  async part(number: number, ...changes: readonly RowChange[]): Promise<void> {
    await this.write(batchOf([{ number, changes }], true))
  }

  /** A barrier, by default a whole transaction. */
  async barrier(barrier: Barrier, number = this.next(), open = false): Promise<void> {
    await this.write(barrierBatch(barrier, number, open))
  }

  async idle(number = this.next()): Promise<void> {
    await this.write(idleBatch(at(number)))
  }

  write(batch: StreamBatch): Promise<void> {
    return this.sink.write(batch, this.signal)
  }

  async expect(schema: TableSchema, rows: readonly TargetRow[], message?: string): Promise<void> {
    assert.deepEqual(sorted(await this.target.rows(this.table(schema))), sorted(rows), message)
  }

  async expectPosition(position: Checkpoint['position'], message?: string): Promise<void> {
    assert.equal((await this.checkpoints.recover(this.signal)).position, position, message)
  }
}

/** In one order, whatever order the target gives and its columns have. */
export function sorted(rows: readonly TargetRow[]): readonly TargetRow[] {
  const plain = rows.map((row) => Object.fromEntries(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1))))
  return plain.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
}

/** For `assert.rejects`: a TailraceError of this code. */
export function isError(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.equal((error as { code?: string }).code, code, (error as Error).message)
    return true
  }
}
