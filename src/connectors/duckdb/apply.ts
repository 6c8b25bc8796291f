import type { Slice } from '../../model/batch.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Logger } from '../../sdk/logger.ts'
import { tablesOption } from '../../sdk/selection.ts'
import { compact } from '../../sdk/sql/compact.ts'
import { applyByImage } from './apply-by-image.ts'
import { applyByKey } from './apply-by-key.ts'
import type { Connection } from './connection.ts'
import type { CsvEncoder } from './csv-encoder.ts'
import type { Database } from './database.ts'
import { explainRefusal } from './diagnose.ts'
import { softRuns } from './soft-runs.ts'
import type { Stage } from './stage.ts'
import type { TargetColumn, TargetTable } from './target-table.ts'

export interface ApplyParts {
  readonly database: Database
  readonly connection: Connection
  readonly stage: Stage
  readonly logger: Logger
  readonly signal: AbortSignal
}

/**
 * Writes the changes of one table in the transaction that is open: base rows that are needed are fetched, all touched rows
 * deleted, final rows inserted (TRAP 34). No MERGE, no ON CONFLICT, and UPDATE only where a row lacks columns: they rewrite
 * scattered vectors, 17 to 25 times slower at 1 k changes of 1 M rows, and double the file (APPLY B). Gives the number of
 * rows that were deleted or updated.
 */
export async function applySlice(parts: ApplyParts, target: TargetTable, slice: Slice): Promise<number> {
  const identity = target.identity.map((column) => column.index)
  const pieces = target.softDeletes ? softRuns(slice, identity) : [slice]
  const work = new TableWork(parts, target)
  let deleted = 0
  for (const piece of pieces) {
    const compaction = compact(piece, target.match)
    deleted += target.match === 'key' ? await applyByKey(work, compaction) : await applyByImage(work, compaction)
  }
  return deleted
}

/** CSV columns c0, c1, … of a staged file and what they hold, to trace a refused value to its column. */
export interface StagedFile {
  /** All of them. */
  readonly width: number
  /** The columns of the table among them, the first of which is number `first`. */
  readonly columns: readonly TargetColumn[]
  readonly first: number
  fill(csv: CsvEncoder): void
}

/** One table's statements within the stream's transaction. */
export class TableWork {
  readonly target: TargetTable
  readonly #parts: ApplyParts

  constructor(parts: ApplyParts, target: TargetTable) {
    this.#parts = parts
    this.target = target
  }

  run(sql: string): Promise<number> {
    return this.#parts.connection.run(sql, this.#parts.signal)
  }

  /** Before so many rows are deleted. */
  expectDeletes(rows: number): Promise<void> {
    return this.#parts.database.expectDeletes(rows)
  }

  async count(table: string): Promise<number> {
    const [row] = await this.#parts.connection.rows(`SELECT count(*)::VARCHAR FROM ${table}`)
    return Number(row?.[0] ?? 0)
  }

  /** Runs a statement over a staged file. When it is refused, the transaction is rolled back and the columns are named. */
  staged(file: StagedFile, sql: (from: string) => string): Promise<number> {
    return this.#parts.stage.with(file.width, file.fill, async (table) => {
      const from = `${table} s`
      try {
        return await this.run(sql(from))
      } catch (error) {
        await this.#parts.connection.rollback()
        const number = (column: TargetColumn): number => file.columns.indexOf(column)
        const text = (column: TargetColumn): string => (number(column) < 0 ? 'CAST(NULL AS VARCHAR)' : `s.c${file.first + number(column)}`)
        throw await explainRefusal(this.#parts.connection, error, this.target, { from, text })
      }
    })
  }

  /** Rows were deleted that should be as many as the changes say; those of deletes may be gone already. */
  note(expected: number, deleted: number): void {
    if (deleted < expected)
      this.#parts.logger.debug('changes of rows that are not in the target', { table: this.target.schema.id, missing: expected - deleted })
  }

  hole(missing: number): TailraceError {
    const { schema } = this.target
    const what = missing > 0 ? `changes ${missing} rows that are not in the target` : 'changes a row that is in the target more than once'
    return new TailraceError('NOT_ACCOUNTED', `${schema.id}: the change log ${what}`, {
      hint: `somebody else writes to the target, or the copy was not complete; tailrace resnapshot <pipeline> ${tablesOption([schema.id])}`,
      path: schema.id,
    })
  }
}
