import { keyOrder } from '../model/logical-type.ts'
import { columnAt, isWritable, type TableId } from '../model/schema.ts'
import type { ComparedTable, ComparisonSide, SideTable } from '../sdk/compare.ts'
import { asTailraceError, type Problem } from '../sdk/errors.ts'
import type { SinkTable } from '../sdk/sink.ts'
import type { SourceTable } from '../sdk/source.ts'
import type { KeyPart } from '../state/store.ts'
import { agree } from './agree.ts'
import { compareRows, type Difference, type LiveComparison, type RowCounts } from './compare-rows.ts'
import { PartCollector } from './parts.ts'

/** A table and where its copy stands. */
export interface TablePair {
  readonly id: TableId
  readonly source: SourceTable
  readonly target: SinkTable['target']
  /** For people. */
  readonly label: string
}

export interface VerifyRequest {
  readonly source: ComparisonSide
  readonly sink: ComparisonSide
  readonly tables: readonly TablePair[]
  /** How many differing keys of a table are named. */
  readonly limit: number
  /** Name the values that differ, too. */
  readonly showValues: boolean
  /** Both sides change meanwhile; null: nobody writes. */
  readonly live: LiveComparison | null
  readonly clock: () => number
  readonly onProgress?: (progress: VerifyProgress) => void
}

export interface VerifyProgress {
  readonly table: TableId
  /** Of this table. */
  readonly rows: RowCounts
  /** Rows of all tables, as estimated, and those of both sides' slower one that were compared. */
  readonly expectedRows: number
  readonly doneRows: number
  readonly differences: number
}

export interface DifferingKey {
  readonly kind: Difference['kind']
  /** The key's columns and their texts. */
  readonly key: Readonly<Record<string, string | null>>
  /** The columns that differ; the values where they are asked for. */
  readonly columns?: readonly string[]
  readonly values?: Readonly<Record<string, { readonly source: string | null; readonly sink: string | null }>>
}

export interface VerifiedTable {
  readonly source: TableId
  readonly sink: string
  readonly equal: boolean
  readonly rows: RowCounts
  /** In the source only. */
  readonly missing: number
  /** In the target only. */
  readonly extra: number
  /** On both sides with other values. */
  readonly different: number
  /** Rows that changed on every look, under `--live`. */
  readonly undecided: number
  /** The first differing keys. */
  readonly keys: readonly DifferingKey[]
  /** What was compared otherwise than as it is in the source. */
  readonly notes: readonly string[]
  readonly seconds: number
}

export interface Verification {
  readonly tables: readonly VerifiedTable[]
  /** What is to be read again of tables that differ. None: the whole table. */
  readonly repairs: ReadonlyMap<TableId, readonly KeyPart[]>
  readonly problems: readonly Problem[]
}

/** Rows of a region whose columns are looked at: what differs everywhere needs no more to be understood. */
const MOST_DETAILS = 200

/** Compares tables one after the other. What cannot be compared is a problem, and the others go on. */
export async function verifyTables(request: VerifyRequest, signal: AbortSignal): Promise<Verification> {
  const tables: VerifiedTable[] = []
  const problems: Problem[] = []
  const repairs = new Map<TableId, readonly KeyPart[]>()
  const expected = request.tables.map(({ source }) => Math.max(0, source.schema.estimate.rows))
  const expectedRows = expected.reduce((sum, rows) => sum + rows, 0)
  let doneRows = 0
  for (const [index, pair] of request.tables.entries()) {
    try {
      const result = await verifyTable(request, pair, { expectedRows, doneRows }, signal)
      if ('problems' in result) problems.push(...result.problems)
      else {
        tables.push(result.table)
        if (result.table.missing + result.table.extra + result.table.different > 0) repairs.set(pair.id, result.parts ?? [])
      }
    } catch (error) {
      if (signal.aborted) throw error
      const { code, message, hint } = asTailraceError(error)
      problems.push({ severity: 'error', code, message, path: pair.id, ...(hint === undefined ? {} : { hint }) })
      // The next would meet the same.
      if (code === 'UNREACHABLE') break
    }
    doneRows += expected[index] ?? 0
  }
  return { tables, repairs, problems }
}

async function verifyTable(
  request: VerifyRequest,
  pair: TablePair,
  before: { readonly expectedRows: number; readonly doneRows: number },
  signal: AbortSignal,
): Promise<{ readonly table: VerifiedTable; readonly parts: readonly KeyPart[] | null } | { readonly problems: readonly Problem[] }> {
  const start = request.clock()
  const compared = comparedTable(pair)
  const [source, sink] = await Promise.all([
    request.source.table(compared, signal),
    request.sink.table({ ...compared, ...pair.target, where: null }, signal),
  ])
  if (source === null || sink === null) return { problems: [absent(pair, source === null)] }
  const { agreement, mismatches, notes } = agree(compared, source, sink)
  if (agreement === null)
    return {
      problems: mismatches.map((what) => ({ severity: 'error', code: 'DIFFERENT', message: `${pair.id}: ${what}`, path: pair.id })),
    }
  const found = new Findings(compared, request)
  let rows: RowCounts = { source: 0, sink: 0 }
  let undecided = 0
  await compareRows(
    {
      source: source.open(agreement),
      sink: sink.open(agreement),
      agreement,
      nulls: compared.key.slice(0, agreement.ranged).some((column) => isNullable(source, column) || isNullable(sink, column)),
      estimate: source.estimate,
      parallel: Math.max(request.source.parallel, request.sink.parallel),
      onDifference: (difference) => found.add(difference),
      details: { rows: () => Math.min(MOST_DETAILS, request.limit - found.keys.length), values: request.showValues },
      live: request.live,
      onUndecided: (more) => {
        undecided += more
      },
      onRows: (more) => {
        rows = { source: rows.source + more.source, sink: rows.sink + more.sink }
        const doneRows = before.doneRows + rows.source
        request.onProgress?.({ table: pair.id, rows, expectedRows: before.expectedRows, doneRows, differences: found.count })
      },
    },
    signal,
  )
  const { missing, extra, different } = found
  const keys = found.keys.toSorted((a, b) => byKey.compare(keyText(a), keyText(b)))
  const seconds = Math.round(request.clock() - start) / 1000
  const table = {
    source: pair.id,
    sink: pair.label,
    equal: found.count === 0 && undecided === 0,
    rows,
    missing,
    extra,
    different,
    undecided,
    keys,
    notes,
    seconds,
  }
  return { table, parts: found.parts }
}

const byKey = new Intl.Collator('en', { numeric: true })

function keyText({ key }: DifferingKey): string {
  return Object.values(key).join(' ')
}

/** Generated columns are not copied. */
export function comparedTable({ source }: TablePair): ComparedTable {
  const { namespace, name, columns, key } = source.schema
  const written = columns.filter(isWritable)
  const indexes = key.map((index) => written.indexOf(columnAt(source.schema, index)))
  return { namespace, name, columns: written, key: indexes.includes(-1) ? [] : indexes, where: source.where }
}

function isNullable(side: SideTable, column: number): boolean {
  return side.columns[column]?.nullable !== false
}

function absent({ id, label }: TablePair, inSource: boolean): Problem {
  return {
    severity: 'error',
    code: 'DIFFERENT',
    message: inSource ? `the source has no table ${id}` : `the target has no table ${label}`,
    path: id,
  }
}

/** Counts differences; keeps the first keys. */
class Findings {
  missing = 0
  extra = 0
  different = 0
  readonly keys: DifferingKey[] = []
  readonly #names: readonly string[]
  readonly #columns: readonly string[]
  readonly #limit: number
  readonly #showValues: boolean
  readonly #collector: PartCollector | null

  constructor({ columns, key }: ComparedTable, { limit, showValues }: Pick<VerifyRequest, 'limit' | 'showValues'>) {
    this.#columns = columns.map(({ name }) => name)
    this.#names = key.map((index) => this.#columns[index]!)
    this.#limit = limit
    this.#showValues = showValues
    const [first] = key
    this.#collector = first === undefined || keyOrder(columns[first]!.type) === null ? null : new PartCollector(columns[first]!.type)
  }

  /** Null: only the whole table holds what differs. */
  get parts(): readonly KeyPart[] | null {
    return this.#collector?.parts ?? null
  }

  get isFull(): boolean {
    return this.keys.length >= this.#limit
  }

  get count(): number {
    return this.missing + this.extra + this.different
  }

  add({ kind, key, count, columns }: Difference): void {
    this[kind] += count
    if (key.length > 0) this.#collector?.add(key[0] ?? null)
    if (key.length === 0 || this.isFull) return
    const named = columns?.map(({ column, source, sink }) => ({ name: this.#columns[column]!, source, sink }))
    this.keys.push({
      kind,
      key: Object.fromEntries(this.#names.map((name, i) => [name, key[i] ?? null])),
      ...(named === undefined ? {} : { columns: named.map(({ name }) => name) }),
      ...(named === undefined || !this.#showValues
        ? {}
        : { values: Object.fromEntries(named.map(({ name, source, sink }) => [name, { source, sink }])) }),
    })
  }
}
