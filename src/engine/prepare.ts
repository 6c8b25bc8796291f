import { throwProblems } from '../sdk/config/problems.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import { excludeOption, named, takeTable, termsOf } from '../sdk/selection.ts'
import type { IfExists, Sink, SinkTable } from '../sdk/sink.ts'
import type { Purpose, SourceTable } from '../sdk/source.ts'
import type { KeptTerms, TableRecord } from '../state/store.ts'
import { keepsStrangers, leaveOut, startOver } from './again.ts'
import { selfCopies, tablesBeside } from './beside.ts'
import { chosenTables, emptyTables, keptOn, knownTables, wantedOf, type KnownTable, type Wanted } from './choose.ts'
import { parseCounters, zeroCounters } from './counters.ts'
import { findLosses, lossProblems, readLostAgain, type Loss } from './losses.ts'
import { transition } from './machine.ts'
import type { PipelineOptions } from './options.ts'
import { capabilitiesOf, type Run } from './run.ts'
import { checkTargets, droppedProblem, sinkTable, targetLabel, targetOf, type PipelineTable } from './tables.ts'
import { letGo, othersOf, targetsTaken, writersOf, type Sighted } from './writers.ts'

/** Finds the tables: those that an earlier run knew in the shape in which their rows will come, and new ones. */
export async function findTables(run: Run, signal: AbortSignal): Promise<void> {
  const { selection } = run.options
  const known = await knownTables(run.source, await run.state.tables(), signal)
  const chosen = chosenTables(known, selection)
  for (const problem of emptyTables(known, selection)) run.note(problem)
  checkMap(run, known)
  for (const table of known) {
    if (table.record !== null) recall(run, table, table.record, chosen.has(table))
    else if (chosen.has(table)) run.tables.set(table.id, newTable(run, table, null))
  }
  if (run.live.length === 0)
    throw new TailraceError('CONFIG', 'there is no table to copy', {
      hint: 'the source has no table that this user can see, or --tables names none',
    })
  checkTargets(run.live.map((table) => asWanted(run, table)))
}

/** CASE 40: a misspelt table in `--map` would be copied under its own name, in silence. */
function checkMap(run: Run, known: readonly KnownTable[]): void {
  for (const pattern of run.options.map.keys()) named(pattern, known)
}

export function newTable(run: Run, known: KnownTable, asked: KeptTerms['asked']): PipelineTable {
  const terms = termsOf(known.names, run.options.selection)
  return {
    id: known.id,
    source: takeTable(known.schema, terms),
    target: targetOf(known, run.options.map),
    state: 'pending',
    rule: null,
    chunks: 0,
    chunksDone: 0,
    ours: false,
    terms: { ...terms, asked, strangers: 'none' },
    gone: false,
  }
}

/** A table that an earlier run knew: it goes on, on other terms where they have changed, or it is left out. */
function recall(run: Run, known: KnownTable, record: TableRecord, chosen: boolean): void {
  const table = restoreTable(run, known, record)
  const out = table.terms.asked === 'out'
  if (out && chosen)
    run.note({
      severity: 'warning',
      code: 'CONFIG',
      message: `${table.id} stays left out, as it was asked`,
      hint: `tailrace tables ${run.identity.name} add ${table.id}`,
      path: table.id,
    })
  if (record.state === 'removed' && (out || !chosen || known.gone)) return
  run.tables.set(table.id, table)
  run.tally.load(table.id, parseCounters(record.counters))
  if (out || !chosen) return leaveOut(run, table, deselected(table))
  if (known.gone) return recallGone(run, table)
  const wanted = wantedOf(known, record, run.options)
  if (wanted !== null) want(run, table, wanted)
}

export function restoreTable(run: Run, known: KnownTable, record: TableRecord): PipelineTable {
  const { id, target, state, rule } = record
  return {
    id,
    target,
    state,
    rule,
    chunks: 0,
    chunksDone: 0,
    ours: true,
    gone: known.gone,
    ...keptOn(known, record, run.options.selection),
  }
}

function deselected({ id }: PipelineTable): Problem {
  const message = `${id} is no longer selected: it is not followed any more, the target keeps its rows`
  return { severity: 'warning', code: 'SCHEMA_CHANGED', message, path: id }
}

/** What the log still holds of a table that was dropped is followed; one that is not wholly copied never will be (CASE 31). */
function recallGone(run: Run, table: PipelineTable): void {
  const { mode, schemaChanges } = run.options
  const dropped = droppedProblem(run.identity.name, table.id)
  if (mode.kind !== 'copy' && (table.state === 'streaming' || table.state === 'converging')) return
  if (schemaChanges !== 'stop') return leaveOut(run, table, dropped)
  const { message, hint = '' } = dropped
  throw new TailraceError('SCHEMA_CHANGED', `${message}, and --schema-changes is stop`, { hint, path: table.id })
}

/** Changed terms are obeyed by reading the table again, or refused in words: never ignored. */
export function want(run: Run, table: PipelineTable, wanted: Wanted): void {
  const { name } = run.identity
  const changes = wanted.reasons.join('; ')
  const again = !wanted.moved && wanted.reasons.length > 0 && table.state !== 'pending'
  const refused =
    again && table.state !== 'removed' && run.options.snapshot === 'never'
      ? 'it is followed without a snapshot, so that what is there cannot be read again'
      : again && run.options.mode.kind !== 'copy' && keepsStrangers(run, table)
        ? `its target also holds rows of somebody else (--if-exists append), which would go`
        : null
  if (refused !== null)
    throw new TailraceError('USAGE', `pipeline ${name}: of ${table.id}, ${changes}; ${refused}`, {
      hint: 'give the earlier options again, or choose another --name and another target',
      path: table.id,
    })
  run.wanted.set(table.id, wanted)
  if (table.state === 'removed') table.state = transition(table.state, 'read-again')
  if (wanted.reasons.length === 0) return
  const message = `${table.id} is read from the start: ${changes}`
  run.note({ severity: 'warning', code: 'CONFIG', message, path: table.id })
}

/** Both sides' problems at once; warnings go to the report. */
export async function checkBoth(run: Run, signal: AbortSignal): Promise<void> {
  await wantAnew(run, signal)
  const strays = run.options.mode.kind === 'copy' || run.checkpointer.position !== null ? [] : await run.source.strays?.(signal)
  const problems = [...(await findProblems(run, run.live, signal)), ...(strays ?? [])]
  for (const problem of problems) run.note(problem)
  throwProblems(problems.filter((problem) => problem.severity === 'error'))
}

/** The same for tables that are to join the others. */
export async function checkTables(run: Run, joining: readonly PipelineTable[], signal: AbortSignal): Promise<void> {
  const problems = await findProblems(run, joining, signal)
  throwProblems(problems.filter((problem) => problem.severity === 'error'))
  for (const problem of problems) run.note(problem)
}

async function findProblems(run: Run, tables: readonly PipelineTable[], signal: AbortSignal): Promise<Problem[]> {
  const targetsOf = (some: Iterable<PipelineTable>): SinkTable[] => Array.from(some, (table) => targetNow(run, table))
  const checked = {
    sourceTables: tables.filter((table) => !table.gone).map((table) => asWanted(run, table).source),
    sinkTables: targetsOf(tables),
    all: targetsOf(new Set([...run.live, ...tables])),
    fresh: targetsOf(freshTables(run, tables)),
  }
  return problemsBetween(run, checked, signal)
}

interface Checked {
  readonly sourceTables: readonly SourceTable[]
  readonly sinkTables: readonly SinkTable[]
  /** With those that are written already. */
  readonly all: readonly SinkTable[]
  /** Those that are still to be made. */
  readonly fresh: readonly SinkTable[]
}

/** What source and sink, and the pair of them, have against the tables. */
export async function problemsBetween(
  { options, source, sink }: Pick<Run, 'options' | 'source' | 'sink'>,
  { sourceTables, sinkTables, all, fresh }: Checked,
  signal: AbortSignal,
): Promise<Problem[]> {
  const beside = tablesBeside(options, all)
  return [
    ...(await source.check(sourceTables, purposeOf(options), signal, beside)),
    ...(await sink.check(sinkTables, signal)),
    ...selfCopies(sinkTables, beside),
    ...keylessProblems(options, sinkTables),
    ...(await misfitProblems(sink, options.ifExists, fresh, signal)),
  ]
}

function purposeOf({ mode, snapshot }: PipelineOptions): Purpose {
  if (mode.kind === 'copy') return 'copy'
  return snapshot === 'never' ? 'stream' : 'follow'
}

/** Tables whose targets this run makes: what stands there is somebody else's, or not to stay. */
function freshTables(run: Run, tables: readonly PipelineTable[]): PipelineTable[] {
  return tables.filter((table) => {
    const wanted = run.wanted.get(table.id)
    return !table.ours || wanted?.moved === true || wanted?.anew === true
  })
}

/**
 * With `replace`, what an earlier run made goes as well where it does not hold its rows any more: an option of the sink that
 * changes a column's type asks for just that.
 */
async function wantAnew(run: Run, signal: AbortSignal): Promise<void> {
  if (run.options.ifExists !== 'replace' || run.sink.misfits === undefined) return
  const fresh = freshTables(run, run.live)
  for (const table of run.live.filter((each) => !each.gone && !fresh.includes(each))) {
    const misfits = (await run.sink.misfits(sinkTable(table), signal)).filter(({ bends }) => bends === undefined)
    if (misfits.length === 0) continue
    const { source, target, terms } = table
    const wanted = run.wanted.get(table.id) ?? { source, target, terms, reasons: [], moved: false }
    const reasons = misfits.map((misfit) => `column ${misfit.column} of its target is ${misfit.found} and is to be ${misfit.wanted}`)
    want(run, table, { ...wanted, terms: { ...wanted.terms, strangers: 'none' }, reasons: [...wanted.reasons, ...reasons], anew: true })
  }
}

/** Targets to which rows would be added that their columns do not take, or would change in silence. */
async function misfitProblems(sink: Sink, ifExists: IfExists, fresh: readonly SinkTable[], signal: AbortSignal): Promise<Problem[]> {
  if (ifExists === 'replace' || sink.misfits === undefined) return []
  const problems: Problem[] = []
  for (const table of fresh) {
    for (const { column, found, wanted, bends } of await sink.misfits(table, signal))
      problems.push({
        severity: bends === undefined ? 'error' : 'warning',
        code: 'CONFIG',
        message: `column ${column} of the target table ${targetLabel(table.target)} is ${found}, which does not hold every ${wanted} of ${table.id}.${column} as it is${bends === undefined ? '' : `: ${bends}`}`,
        hint: `change the column to ${wanted} in the target, or --if-exists replace makes the table anew, --map ${table.id}=… names another, ${excludeOption(table.id, column)} leaves it out`,
        path: table.id,
      })
  }
  return problems
}

function keylessProblems(options: PipelineOptions, tables: readonly SinkTable[]): Problem[] {
  if (options.mode.kind === 'copy' || capabilitiesOf(options).commit === 'transactional') return []
  return tables
    .filter((table) => table.schema.key.length === 0)
    .map((table) => ({
      severity: 'warning' as const,
      code: 'SCHEMA_UNSUPPORTED' as const,
      message: `${table.id} has no key and the sink is not transactional: rows may come twice after a crash (at-least-once)`,
      path: table.id,
    }))
}

/** Targets of other pipelines, and those that hold rows of somebody else, where these are neither to go nor to be added to. */
export function targetsInTheWay(ifExists: IfExists, pipeline: string, sighted: readonly Sighted[]): Problem[] {
  const taken = targetsTaken(ifExists, pipeline, sighted)
  if (ifExists !== 'stop') return taken
  const filled = sighted.filter(({ table, found }) => found === 'filled' && !taken.some(({ path }) => path === table.id))
  return [
    ...taken,
    ...filled.map(({ table }) => ({
      severity: 'error' as const,
      code: 'TARGET_NOT_EMPTY' as const,
      message: `the target table ${targetLabel(table.target)} holds rows that this pipeline did not write`,
      hint: '--if-exists truncate empties it first, replace makes it anew, append adds to it',
      path: table.id,
    })),
  ]
}

/** What stands where the tables go. */
interface Sight {
  /** At the places of tables whose targets are still to be made. */
  readonly fresh: ReadonlyMap<PipelineTable, Found>
  readonly losses: readonly Loss[]
}

type Found = Awaited<ReturnType<Sink['inspect']>>

/**
 * Looks at all targets before the first is touched, and refuses what must not be. Changes nothing: at a start it comes before
 * the take-over as well, so that a start that is refused fences nobody off.
 */
export async function lookAtTargets(run: Run, tables: readonly PipelineTable[], signal: AbortSignal): Promise<Sight> {
  const live = tables.filter((table) => table.state !== 'removed')
  const fresh = new Map<PipelineTable, Found>()
  for (const table of freshTables(run, live)) fresh.set(table, await run.sink.inspect(targetNow(run, table), signal))
  const sighted: Sighted[] = []
  for (const table of live) {
    const target = targetNow(run, table)
    const writers = await writersOf(run.sink, target, signal)
    sighted.push({ table: target, found: fresh.get(table) ?? null, writers })
    if (!fresh.has(table) && othersOf(writers, run.identity.name).length > 0) keepOthers(run, table)
  }
  const kept = live.filter((table) => !fresh.has(table))
  const losses = await findLosses(run, kept, signal)
  throwProblems([...targetsInTheWay(run.options.ifExists, run.identity.name, sighted), ...lossProblems(run, losses)])
  return { fresh, losses }
}

/** Another pipeline has added its rows to the target since: they are not to go with ours. */
function keepOthers(run: Run, table: PipelineTable): void {
  table.terms = { ...table.terms, strangers: 'kept' }
  const wanted = run.wanted.get(table.id)
  if (wanted !== undefined) run.wanted.set(table.id, { ...wanted, terms: { ...wanted.terms, strangers: 'kept' } })
}

/** Makes target tables, or shows the sink those that it has. What is there of someone else is dealt with as asked. */
export async function prepareTargets(run: Run, tables: readonly PipelineTable[], signal: AbortSignal): Promise<void> {
  const { fresh, losses } = await lookAtTargets(run, tables, signal)
  const removed = tables.filter((table) => table.state === 'removed')
  await letGo(run, removed.map(sinkTable), signal)
  for (const table of removed) await run.saveTable(table)
  await readLostAgain(run, losses)
  for (const table of tables) if (table.state !== 'removed' && !fresh.has(table)) await showTarget(run, table, signal)
  for (const [table, found] of fresh) await makeTarget(run, table, found, signal)
}

/** A table on the terms and at the place that this run wants for it. */
export function asWanted(run: Run, table: PipelineTable): PipelineTable {
  return { ...table, ...run.wanted.get(table.id) }
}

function targetNow(run: Run, table: PipelineTable): SinkTable {
  return sinkTable(asWanted(run, table))
}

/** A target of an earlier run, on the terms of this one. */
async function showTarget(run: Run, table: PipelineTable, signal: AbortSignal): Promise<void> {
  const wanted = run.wanted.get(table.id)
  await run.sink.applySchema(sinkTable(table), sinkTable(table), signal)
  if (wanted === undefined) return
  table.terms = wanted.terms
  await startOver(run, table, wanted.source, wanted.reasons.join('; '), signal)
  run.wanted.delete(table.id)
}

async function makeTarget(run: Run, table: PipelineTable, found: Found, signal: AbortSignal): Promise<void> {
  const { ifExists, snapshot } = run.options
  const wanted = run.wanted.get(table.id)
  if (wanted !== undefined) {
    if (wanted.moved) await letGo(run, [sinkTable(table)], signal)
    // The rows at the earlier place are not ours to touch any more.
    Object.assign(table, { source: wanted.source, target: wanted.target, terms: wanted.terms, ours: false })
    table.state = transition(table.state, 'read-again')
    await run.state.saveChunks(table.id, [])
  }
  const target = sinkTable(table)
  const takeOver = found === 'absent' || ifExists !== 'append'
  await run.sink.applySchema(target, null, signal, { replace: ifExists === 'replace' && found !== 'absent', takeOver })
  if (found === 'filled' && ifExists === 'append') table.terms = { ...table.terms, strangers: 'kept' }
  if (found === 'filled' && ifExists === 'truncate') {
    // Emptied when the snapshot stands: a copy that turns out to be impossible leaves what is there.
    if (snapshot === 'never') await run.sink.clear(target, signal)
    else table.terms = { ...table.terms, strangers: 'to-go' }
  }
  run.tally.load(table.id, zeroCounters())
  await run.saveTable(table)
  run.wanted.delete(table.id)
}
