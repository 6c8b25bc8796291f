import { keysOfLetter, lettersOf } from '../engine/dead-letters.ts'
import { keyText } from '../engine/fence.ts'
import { connectorContext, lentToLook, openSource } from '../engine/open.ts'
import type { Endpoint, Environment } from '../engine/options.ts'
import { targetLabel } from '../engine/tables.ts'
import { keyNames } from '../model/schema.ts'
import { usage } from '../sdk/config/problems.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import { NOTHING_SAID, onTerms } from '../sdk/selection.ts'
import type { DeadLetter, TableRecord } from '../state/store.ts'
import { compareKey, type KeyComparison } from '../verify/compare-key.ts'
import { openSide } from './verification.ts'

export interface WhyRequest {
  readonly name: string
  readonly source: Endpoint
  readonly sink: Endpoint
  readonly table: TableRecord
  /** Texts of the key's columns. */
  readonly key: readonly string[]
}

/** The story of one row. */
export interface WhyReport {
  /** Both sides have it alike, or neither has it. */
  readonly ok: boolean
  readonly pipeline: string
  readonly table: string
  readonly target: string
  readonly key: Readonly<Record<string, string>>
  /** One sentence: what became of the row, and what to type where it is not as it should be. */
  readonly verdict: string
  readonly source: 'present' | 'left out' | 'absent'
  readonly sink: 'present' | 'absent'
  /** Columns that differ. */
  readonly columns: readonly string[]
  /** The pipeline's condition on rows of the table. */
  readonly where: string | null
  readonly state: TableRecord['state']
  /** Somebody runs the pipeline. */
  readonly runs: boolean
  /** Where the pipeline is, and where the source's log ends; null where it does not follow. */
  readonly position: string | null
  readonly head: string | null
  readonly behind: boolean
  readonly deadLetters: readonly Omit<DeadLetter, 'record' | 'table'>[]
  /** What the source has against the table: privileges, identity, publication. */
  readonly problems: readonly Problem[]
  readonly verified: string | null
}

export async function whyRow(request: WhyRequest, environment: Environment): Promise<WhyReport> {
  const { name, table, key } = request
  const { store, abort: signal } = environment
  const names = keyNames(table.schema)
  if (names.length === 0)
    throw usage(`${table.id} has no key, so no row of it can be told from the others`, `what differs is counted: tailrace verify ${name}`)
  if (key.length !== names.length)
    throw usage(
      `the key of ${table.id} is ${names.join(', ')}: ${names.length} values are needed, ${key.length} given`,
      'tailrace why <pipeline> <table> <key>',
    )
  const record = await store.find(name)
  if (record === null) throw new TailraceError('BUG', `there is no pipeline ${name}`)
  const taken = onTerms(table.schema, table.terms ?? NOTHING_SAID)
  await using source = await openSource(request.source, connectorContext(lentToLook(name, environment), 'source'))
  await using ours = await openSide(request.source, 'source', name, environment)
  await using theirs = await openSide(request.sink, 'sink', name, environment)
  const compared = await compareKey(
    ours,
    theirs,
    { id: table.id, source: taken, target: table.target, label: targetLabel(table.target) },
    key,
    signal,
  )
  const head = record.position === null ? null : ((await source.head?.(signal)) ?? null)
  const order = record.position === null || head === null ? undefined : source.comparePositions?.(record.position, head)
  const facts = {
    ...compared,
    state: table.state,
    where: taken.where,
    runs: record.alive,
    behind: order === -1,
    deadLetters: await lettersOfRow(request, environment),
  }
  return {
    ok: facts.sink === 'absent' ? facts.source !== 'present' : facts.source === 'present' && facts.columns.length === 0,
    pipeline: name,
    table: table.id,
    target: targetLabel(table.target),
    key: Object.fromEntries(names.map((column, i) => [column, key[i] ?? ''])),
    verdict: verdictOf(facts, name),
    ...facts,
    position: record.position,
    head,
    problems: (await source.check([taken], record.position === null ? 'copy' : 'follow', signal)).filter(
      ({ path }) => path === undefined || path === table.id,
    ),
    verified: record.verified === null ? null : new Date(record.verified.at).toISOString(),
  }
}

async function lettersOfRow({ name, table, key }: WhyRequest, { store }: Environment): Promise<WhyReport['deadLetters']> {
  const wanted = keyText(key)
  const found: Omit<DeadLetter, 'record' | 'table'>[] = []
  for await (const letter of lettersOf(store, name)) {
    if (letter.table !== table.id || !keysOfLetter(table.schema, letter).includes(wanted)) continue
    const { record: _record, table: _table, ...told } = letter
    found.push(told)
  }
  return found
}

type Facts = KeyComparison & Pick<WhyReport, 'state' | 'where' | 'runs' | 'behind' | 'deadLetters'>

function verdictOf(facts: Facts, name: string): string {
  const { source, sink, columns, state, behind, runs, deadLetters } = facts
  const isRight = sink === 'absent' ? source !== 'present' : source === 'present' && columns.length === 0
  const late = runs ? 'the pipeline has not come so far yet' : 'the pipeline does not run: start it by tailrace sync <source> <sink>'
  if (isRight && source === 'present') return 'both sides have the row, and it is equal'
  if (isRight && source === 'left out')
    return 'the source has the row, the condition of the pipeline leaves it out, and the target does not have it'
  if (isRight) return 'neither side has the row'
  const last = deadLetters.at(-1)
  if (last !== undefined) return `the row was set aside as dead letter ${last.id} (${last.reason}): tailrace dlq show ${name} ${last.id}`
  if (state !== 'streaming' && state !== 'done') return `the table is not wholly copied yet (${state})`
  const what =
    source === 'present'
      ? sink === 'absent'
        ? 'the target does not have the row'
        : `the row differs in ${columns.join(', ')}`
      : source === 'left out'
        ? 'the target has the row, which the condition of the pipeline leaves out'
        : 'the target has the row, and the source does not'
  return behind ? `${what}: ${late}` : `${what}, although the pipeline has read everything: tailrace verify ${name} --repair`
}
