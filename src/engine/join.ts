import { problemsOf } from '../sdk/config/problems.ts'
import { asTailraceError, TailraceError } from '../sdk/errors.ts'
import { named } from '../sdk/selection.ts'
import { hasColumns, keptOn, knownTables, wantedOf, type KnownTable } from './choose.ts'
import { asWanted, checkTables, newTable, prepareTargets, restoreTable, want } from './prepare.ts'
import type { Run } from './run.ts'
import { checkTargets, type PipelineTable } from './tables.ts'

/**
 * Tables that a person asked to add to the running pipeline. One that cannot join is said and left out, and the others go on:
 * published without an identity it would break the updates of its own application (TRAPS 49), and a misspelt name is no
 * reason to stop following the rest.
 */
export async function addTables(run: Run, names: readonly string[], signal: AbortSignal): Promise<void> {
  const known = await knownTables(run.source, await run.state.tables(), signal)
  for (const name of names)
    await unlessRefused(run, name, async () => {
      for (const table of named(name, known)) await unlessRefused(run, table.id, () => addTable(run, table, signal))
    })
}

async function addTable(run: Run, known: KnownTable, signal: AbortSignal): Promise<void> {
  const { id, record, gone } = known
  if (gone) throw new TailraceError('USAGE', 'it is not in the source any more', { path: id })
  if (!hasColumns(known)) throw new TailraceError('SCHEMA_UNSUPPORTED', 'it has no column that could be copied', { path: id })
  const before = run.tables.get(id)
  if (before !== undefined && before.state !== 'removed') return stay(run, before)
  const asked =
    record === null ? null : { ...record, terms: { ...keptOn(known, record, run.options.selection).terms, asked: 'in' as const } }
  const table = asked === null ? newTable(run, known, 'in') : restoreTable(run, known, asked)
  const wanted = asked === null ? null : wantedOf(known, asked, run.options)
  try {
    if (wanted !== null) want(run, table, wanted)
    await checkTables(run, [table], signal)
    run.tables.set(id, table)
    checkTargets(run.live.map((each) => asWanted(run, each)))
    await prepareTargets(run, [table], signal)
  } catch (error) {
    run.wanted.delete(id)
    if (before === undefined) run.tables.delete(id)
    else run.tables.set(id, before)
    throw error
  }
}

/** It is copied already; from now on also when the selection does not name it any more. */
async function stay(run: Run, table: PipelineTable): Promise<void> {
  table.terms = { ...table.terms, asked: 'in' }
  await run.saveTable(table)
}

/** The error says something of what was asked: it would come again. */
export function isAnswer({ retry, code }: TailraceError): boolean {
  return retry !== 'retry' && code !== 'FENCED' && code !== 'ABORTED'
}

async function unlessRefused(run: Run, what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    const ours = asTailraceError(error)
    if (ours.retry !== 'operator' || !isAnswer(ours)) throw ours
    for (const problem of problemsOf(ours))
      run.note({ ...problem, severity: 'warning', message: `${what} is not added: ${problem.message}` })
  }
}
