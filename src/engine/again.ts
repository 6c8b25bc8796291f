import type { TableId } from '../model/schema.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import { quoteForShell } from '../sdk/shell.ts'
import type { SinkTable } from '../sdk/sink.ts'
import type { SourceTable } from '../sdk/source.ts'
import { knownTables, takenAgain } from './choose.ts'
import { zeroCounters } from './counters.ts'
import { transition } from './machine.ts'
import type { Run } from './run.ts'
import { droppedProblem, renamedAs, sinkTable, targetLabel, type PipelineTable } from './tables.ts'

/** Tables that are to be read again, as the source has them now. One that was dropped meanwhile is left as it is. */
export async function readAgain(run: Run, ids: readonly TableId[], reason: string, signal: AbortSignal): Promise<void> {
  const known = new Map((await knownTables(run.source, await run.state.tables(), signal)).map((table) => [table.id, table]))
  for (const id of ids) {
    const [table, now] = [run.tables.get(id), known.get(id)]
    if (table === undefined || table.state === 'removed' || now === undefined) continue
    if (now.gone) {
      leaveOut(run, table, droppedProblem(run.identity.name, id))
      await run.saveTable(table)
    } else await startOver(run, table, takenAgain(now.schema, table.source), reason, signal)
  }
}

/** It is not followed any more; the target keeps its rows. The caller saves it. */
export function leaveOut(run: Run, table: PipelineTable, problem: Problem): void {
  run.note(problem)
  table.state = transition(table.state, 'remove')
}

/** A table that was read before is to be read from the start: its target makes room and takes the shape in which its rows will come. */
export async function startOver(run: Run, table: PipelineTable, next: SourceTable, reason: string, signal: AbortSignal): Promise<void> {
  const before = { ...sinkTable(table), schema: renamedAs(table.source.schema, next.schema) }
  // Values that a new type would not take are to be read again anyway.
  if (run.options.snapshot !== 'never') await makeRoom(run, table, before, { keyed: next.schema.key.length > 0, reason }, signal)
  await run.sink.applySchema({ ...before, schema: next.schema }, before, signal)
  table.source = next
  table.state = transition(table.state, 'read-again')
  await run.saveTable(table)
}

/**
 * Rows of an earlier reading make room for a new one. True: something stands there that must stay, rows marked `_deleted` or
 * rows of somebody else, and the new reading is merged into it.
 */
export async function makeRoom(
  run: Run,
  table: PipelineTable,
  target: SinkTable,
  { keyed, reason }: { readonly keyed: boolean; readonly reason: string },
  signal: AbortSignal,
): Promise<boolean> {
  const { mode, deletes } = run.options
  if (keepsStrangers(run, table)) {
    // One view has no deletes to be followed: rows that are gone from the source stay, as `append` says.
    if (mode.kind !== 'copy') throw mixedRows(run, table, `would have to be read again (${reason})`)
    if (!keyed) throw noSecondAppend(run, table)
    run.tally.load(table.id, zeroCounters())
    return true
  }
  const softly = deletes === 'soft' && table.terms.strangers === 'none'
  await run.sink.clear(target, signal, { softly })
  table.terms = { ...table.terms, strangers: 'none' }
  run.tally.load(table.id, zeroCounters())
  return softly
}

/** Rows of somebody else are in the target, and nobody has said since that they may go. */
export function keepsStrangers(run: Run, { terms }: Pick<PipelineTable, 'terms'>): boolean {
  const { ifExists } = run.options
  return terms.strangers === 'kept' && ifExists !== 'truncate' && ifExists !== 'replace'
}

/** Its target would have to be emptied, and must not be. */
export function mixedRows(run: Run, table: PipelineTable, what: string): TailraceError {
  return new TailraceError(
    'TARGET_NOT_EMPTY',
    `${table.id} ${what}, and its target ${targetLabel(table.target)} also holds rows of somebody else (--if-exists append), which nothing tells apart from ours`,
    {
      hint: `start ${run.identity.name} again with --if-exists truncate to empty the target of them, too, or with --map ${table.id}=another_table`,
      path: table.id,
    },
  )
}

/** A row is refused that is added to rows of somebody else: most likely one of theirs has its key. */
export function amongStrangers(run: Run, { id, target }: PipelineTable, error: TailraceError): TailraceError {
  return new TailraceError(
    error.code,
    `${error.message}; ${targetLabel(target)} also holds rows of somebody else (--if-exists append), which keep their keys`,
    {
      hint: `start ${run.identity.name} again with --if-exists truncate to empty the target of them, or with --map ${quoteForShell(`${id}=…`)}`,
      path: id,
      cause: error,
    },
  )
}

function noSecondAppend(run: Run, table: PipelineTable): TailraceError {
  return new TailraceError(
    'TARGET_NOT_EMPTY',
    `${run.identity.name} has appended ${table.id} to ${targetLabel(table.target)} before, and without a key its rows cannot be found there again: they would come twice`,
    { hint: `--key ${table.id}=… names one; --if-exists truncate empties the target first`, path: table.id },
  )
}
