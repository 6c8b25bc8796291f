import type { TableId } from '../model/schema.ts'
import { throwProblems } from '../sdk/config/problems.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import { tablePattern, unknownTable } from '../sdk/selection.ts'
import type { Purpose, SourceTable } from '../sdk/source.ts'
import { selfCopies, tablesBeside } from './beside.ts'
import { parseCounters, zeroCounters } from './counters.ts'
import { transition } from './machine.ts'
import type { Run } from './run.ts'
import { checkTargets, restoreTable, sinkTable, targetLabel, targetOf, type PipelineTable } from './tables.ts'

/** Finds the tables: those that an earlier run knew in the shape in which their rows will come, and new ones. */
export async function findTables(run: Run, signal: AbortSignal): Promise<void> {
  const found = await run.source.discover(run.options.selection, signal)
  const byId = new Map(found.map((table) => [table.id, table]))
  const byRelation = new Map(found.map((table) => [table.schema.relation, table]))
  for (const record of await run.state.tables()) {
    const now = byId.get(record.id) ?? byRelation.get(record.schema.relation)
    if (record.state === 'removed' && !byId.has(record.id)) continue
    const table = restoreTable(record, now)
    run.tally.load(record.id, parseCounters(record.counters))
    run.tables.set(record.id, table)
    if (now !== undefined && record.state !== 'removed') byId.delete(now.id)
    else await forget(run, table, now)
  }
  for (const source of byId.values()) run.tables.set(source.id, newTable(source, run.options.map))
  if (run.live.length === 0)
    throw new TailraceError('CONFIG', 'there is no table to copy', {
      hint: 'the source has no table that this user can see, or --tables names none',
    })
  checkMap(run)
  checkTargets(run.live)
}

/** CASE 40: a misspelt table in `--map` would be copied under its own name, in silence. */
function checkMap(run: Run): void {
  const schemas = [...run.tables.values()].map((table) => table.source.schema)
  for (const pattern of run.options.map.keys()) if (!schemas.some(tablePattern(pattern))) throw unknownTable(pattern, schemas)
}

export function newTable(source: SourceTable, map: ReadonlyMap<string, string>): PipelineTable {
  return {
    id: source.id,
    source,
    target: targetOf(source.schema, map),
    state: 'pending',
    rule: null,
    chunks: 0,
    chunksDone: 0,
    ours: false,
  }
}

/** A table that is gone from the source or from the selection is not followed any more; the target keeps what it has. */
async function forget(run: Run, table: PipelineTable, now: SourceTable | undefined): Promise<void> {
  if (table.state === 'removed' && now !== undefined) {
    run.tables.delete(table.id)
    return
  }
  run.note({
    severity: 'warning',
    code: 'SCHEMA_CHANGED',
    message: `${table.id} is no longer in the source or the selection: it is not followed any more, the target keeps its rows`,
    path: table.id,
  })
  table.state = transition(table.state, 'remove')
  await run.saveTable(table)
}

/** Both sides' problems at once; warnings go to the report. */
export async function checkBoth(run: Run, signal: AbortSignal): Promise<void> {
  const purpose: Purpose = run.options.mode.kind === 'copy' ? 'copy' : run.options.snapshot === 'never' ? 'stream' : 'follow'
  const tables = run.live
  const sourceTables = tables.map((table) => table.source)
  const sinkTables = tables.map(sinkTable)
  const beside = tablesBeside(run.options, sinkTables)
  const problems = [
    ...(await run.source.check(sourceTables, purpose, signal, beside)),
    ...(await run.sink.check(sinkTables, signal)),
    ...selfCopies(sinkTables, beside),
    ...keylessProblems(run),
  ]
  for (const problem of problems) run.note(problem)
  throwProblems(problems.filter((problem) => problem.severity === 'error'))
}

function keylessProblems(run: Run): Problem[] {
  if (run.options.mode.kind === 'copy' || run.capabilities.commit === 'transactional') return []
  return run.live
    .filter((table) => table.source.schema.key.length === 0)
    .map((table) => ({
      severity: 'warning' as const,
      code: 'SCHEMA_UNSUPPORTED' as const,
      message: `${table.id} has no key and the sink is not transactional: rows may come twice after a crash (at-least-once)`,
      path: table.id,
    }))
}

/** Makes target tables, or shows the sink those that it has. What is there of someone else is dealt with as asked. */
export async function prepareTargets(run: Run, signal: AbortSignal): Promise<void> {
  const known = new Set<TableId>((await run.state.tables()).map((record) => record.id))
  for (const table of run.live) {
    const target = sinkTable(table)
    if (known.has(table.id)) await run.sink.applySchema(target, target, signal)
    else await makeTarget(run, table, signal)
  }
}

async function makeTarget(run: Run, table: PipelineTable, signal: AbortSignal): Promise<void> {
  const target = sinkTable(table)
  const found = await run.sink.inspect(target, signal)
  const { ifExists } = run.options
  if (found === 'filled' && ifExists === 'stop') {
    throw new TailraceError(
      'TARGET_NOT_EMPTY',
      `the target table ${targetLabel(table.target)} holds rows that this pipeline did not write`,
      {
        hint: '--if-exists truncate empties it first, replace makes it anew, append adds to it',
        path: table.id,
      },
    )
  }
  await run.sink.applySchema(target, null, signal, { replace: ifExists === 'replace' && found !== 'absent' })
  if (found === 'filled' && ifExists === 'truncate') await run.sink.clear(target, signal)
  run.tally.load(table.id, zeroCounters())
  await run.saveTable(table)
}
