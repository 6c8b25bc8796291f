import type { Problem } from '../sdk/errors.ts'
import { keepsStrangers, leaveOut } from './again.ts'
import { transition } from './machine.ts'
import type { Run } from './run.ts'
import { rememberedShape } from './shapes.ts'
import { sinkTable, targetLabel, type PipelineTable } from './tables.ts'

/** What was taken out of a target since the pipeline last knew it: made again empty, it would miss rows in silence. */
export interface Loss {
  readonly table: PipelineTable
  /** In words, of the target. */
  readonly what: string
  /** The whole target table. */
  readonly whole: boolean
}

/** Looks at the targets of tables that an earlier run copied, wholly or in part. A plain copy writes all of them anew anyway. */
export async function findLosses(run: Run, tables: readonly PipelineTable[], signal: AbortSignal): Promise<Loss[]> {
  if (run.options.mode.kind === 'copy') return []
  const losses: Loss[] = []
  for (const table of tables) {
    const loss = table.state === 'pending' || table.state === 'removed' ? null : await findLoss(run, table, signal)
    if (loss !== null) losses.push(loss)
  }
  return losses
}

async function findLoss(run: Run, table: PipelineTable, signal: AbortSignal): Promise<Loss | null> {
  const label = targetLabel(table.target)
  const missing = await run.sink.missingColumns?.(sinkTable(table), signal)
  if (missing === undefined) return null
  if (missing === null) return { table, whole: true, what: `the target table ${label} is gone` }
  if (missing.length === 0) return null
  // After a crash the sink may hold a shape that is not saved yet: its columns have other names then.
  const remembered = await rememberedShape(run, table)
  const other = remembered === null ? null : await run.sink.missingColumns?.({ ...sinkTable(table), schema: remembered }, signal)
  if (other?.length === 0) return null
  return { table, whole: false, what: `the target table ${label} has lost ${missing.map((name) => `column ${name}`).join(', ')}` }
}

/** Losses that reading again must not, or cannot, make good. */
export function lossProblems(run: Run, losses: readonly Loss[]): Problem[] {
  const { name } = run.identity
  return losses.flatMap((loss): Problem[] => {
    const { id } = loss.table
    const [why, hint] =
      run.options.snapshot === 'never'
        ? [
            '--snapshot never forbids it',
            `start again with --snapshot initial to read it whole, or leave it out: tailrace tables ${name} remove ${id}`,
          ]
        : !loss.whole && keepsStrangers(run, loss.table)
          ? [
              'it also holds rows of somebody else (--if-exists append), which would go',
              `start ${name} again with --if-exists truncate to empty it of them, too, or with --map ${id}=another_table`,
            ]
          : [null, '']
    if (why === null) return []
    return [
      { severity: 'error', code: 'SCHEMA_CHANGED', message: `${loss.what}: ${id} would have to be read again, and ${why}`, hint, path: id },
    ]
  })
}

/**
 * The tables are to be read from the start. Saved before their targets are made again: a crash in between would else leave
 * targets that look whole.
 */
export async function readLostAgain(run: Run, losses: readonly Loss[]): Promise<void> {
  for (const { table, what, whole } of losses) {
    const { id } = table
    if (table.gone) {
      const message = `${what}, and ${id} was dropped in the source: it is not followed any more`
      leaveOut(run, table, { severity: 'warning', code: 'SCHEMA_CHANGED', message, path: id })
    } else {
      const message = `${id} is read from the start: ${what}`
      run.environment.logger.info(message)
      run.note({ severity: 'warning', code: 'SCHEMA_CHANGED', message, path: id })
      // Rows of somebody else went with the table.
      if (whole) table.terms = { ...table.terms, strangers: 'none' }
      table.state = transition(table.state, 'read-again')
    }
    await run.saveTable(table)
  }
}
