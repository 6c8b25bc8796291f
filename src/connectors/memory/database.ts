import { OldImage } from '../../model/batch.ts'
import type { SchemaChangeDetail } from '../../model/batch.ts'
import type { Position } from '../../model/position.ts'
import { keyNames, type TableId, type TableSchema } from '../../model/schema.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Checkpoint } from '../../sdk/sink.ts'

/** A row as people and tests see it: column → the value's text (PostgreSQL's text form), or null. */
export type Cells = Readonly<Record<string, string | null>>

/** One table: rows by the text of their key; by a running number where there is no key. Rows are never changed in place. */
export class MemoryTable {
  readonly schema: TableSchema
  readonly rows: Map<string, Cells>
  /** Columns that an update sends only when it sets them, as PostgreSQL does with large values. */
  readonly toast: ReadonlySet<string>
  #lastNumber = 0

  constructor(schema: TableSchema, toast: Iterable<string> = [], rows: Iterable<readonly [string, Cells]> = []) {
    this.schema = schema
    this.toast = new Set(toast)
    this.rows = new Map(rows)
  }

  copy(): MemoryTable {
    const copy = new MemoryTable(this.schema, this.toast, this.rows)
    copy.#lastNumber = this.#lastNumber
    return copy
  }

  /** Where the row is: by key, or for a table without one the first row that looks the same. Undefined: nowhere. */
  find(cells: Cells): string | undefined {
    if (this.schema.key.length === 0) return [...this.rows].find(([, row]) => sameCells(row, cells))?.[0]
    const key = this.#keyOf(cells)
    return this.rows.has(key) ? key : undefined
  }

  put(cells: Cells): void {
    this.rows.set(this.schema.key.length === 0 ? String(++this.#lastNumber) : this.#keyOf(cells), cells)
  }

  #keyOf(cells: Cells): string {
    return JSON.stringify(keyNames(this.schema).map((name) => cells[name]))
  }
}

function sameCells(row: Cells, wanted: Cells): boolean {
  return Object.entries(wanted).every(([name, value]) => row[name] === value)
}

/** Tables that may be changed; nobody sees it before `publish`. Short-lived: made, filled and published in one go. */
export class Draft {
  readonly #tables: Map<TableId, MemoryTable>
  readonly #changed = new Map<TableId, MemoryTable>()

  constructor(tables: Map<TableId, MemoryTable>) {
    this.#tables = tables
  }

  get(id: TableId): MemoryTable {
    const known = this.#changed.get(id)
    if (known !== undefined) return known
    const table = this.#tables.get(id)
    if (table === undefined) throw new TailraceError('USAGE', `there is no table ${id} in memory`)
    const copy = table.copy()
    this.#changed.set(id, copy)
    return copy
  }

  has(id: TableId): boolean {
    return this.#changed.has(id) || this.#tables.has(id)
  }

  set(id: TableId, table: MemoryTable): void {
    this.#changed.set(id, table)
  }

  publish(): void {
    for (const [id, table] of this.#changed) this.#tables.set(id, table)
  }
}

/** A change as the log keeps it. `place` is its number in the whole log. */
export type LogEntry = { readonly place: bigint } & (
  | {
      readonly kind: 'row'
      readonly op: 'insert' | 'update' | 'delete'
      readonly schema: TableSchema
      /** A column that is not there is UNCHANGED. */
      readonly after: Cells | null
      readonly before: { readonly kind: 1 | 2; readonly cells: Cells } | null
    }
  | { readonly kind: 'truncate'; readonly schemas: readonly TableSchema[] }
  | {
      readonly kind: 'schema'
      readonly previous: TableSchema
      readonly schema: TableSchema
      readonly changes: readonly SchemaChangeDetail[]
    }
)

export interface LoggedTransaction {
  readonly number: number
  readonly committedAt: number
  readonly entries: readonly LogEntry[]
}

/** A named in-process database with a change log: what `memory:name` opens, and what tests fill and look at. */
export class MemoryDatabase {
  readonly name: string
  readonly tables = new Map<TableId, MemoryTable>()
  /** Of transactional sinks, by pipeline. */
  readonly checkpoints = new Map<string, Checkpoint>()
  /** Pipelines by target table. */
  readonly writers = new Map<TableId, Set<string>>()
  /** What each pipeline has confirmed: the log is kept from the lowest on. */
  readonly slots = new Map<string, number>()
  /** Milliseconds since 1970; a test may set its own. */
  clock: () => number = Date.now
  #log: LoggedTransaction[] = []
  #last = 0
  #pruned = 0
  #places = 0n
  #waiting = new Set<() => void>()

  constructor(name: string) {
    this.name = name
  }

  /** Number of the last transaction. */
  get last(): number {
    return this.#last
  }

  /** Up to this transaction the log is gone. */
  get pruned(): number {
    return this.#pruned
  }

  createTable(schema: TableSchema, options: { readonly toast?: readonly string[] } = {}): void {
    if (this.tables.has(schema.id)) throw new TailraceError('USAGE', `table ${schema.id} exists`)
    this.tables.set(schema.id, new MemoryTable(schema, options.toast))
  }

  rows(id: TableId): readonly Cells[] {
    return [...(this.tables.get(id)?.rows.values() ?? [])]
  }

  /** Commits what `work` does, or nothing of it when it throws. Gives the position after the commit. */
  transaction(work: (transaction: MemoryTransaction) => void): Position {
    const draft = new Draft(this.tables)
    const transaction = new MemoryTransaction(draft, () => ++this.#places)
    work(transaction)
    draft.publish()
    this.#last++
    this.#log.push({ number: this.#last, committedAt: this.clock() * 1000, entries: transaction.entries })
    for (const wake of this.#waiting) wake()
    return formatPosition(this.#last)
  }

  /** The log after a transaction, oldest first. */
  logAfter(number: number): readonly LoggedTransaction[] {
    return this.#log.slice(Math.max(0, number - this.#pruned))
  }

  /** Resolves when there is something after the transaction, or when the signal aborts. */
  async grownPast(number: number, signal: AbortSignal): Promise<void> {
    while (this.#last <= number && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake)
          signal.removeEventListener('abort', wake)
          resolve()
        }
        this.#waiting.add(wake)
        signal.addEventListener('abort', wake, { once: true })
      })
    }
  }

  /** Forgets the log up to a transaction, whoever needs it still. */
  prune(upTo: number): void {
    if (upTo <= this.#pruned) return
    this.#log = this.#log.slice(upTo - this.#pruned)
    this.#pruned = upTo
  }

  /** Forgets what every slot has confirmed. */
  pruneConfirmed(): void {
    if (this.slots.size > 0) this.prune(Math.min(...this.slots.values()))
  }
}

/** Changes of one transaction, seen by it at once and by others at the commit. */
export class MemoryTransaction {
  readonly entries: LogEntry[] = []
  readonly #draft: Draft
  readonly #nextPlace: () => bigint

  constructor(draft: Draft, nextPlace: () => bigint) {
    this.#draft = draft
    this.#nextPlace = nextPlace
  }

  has(id: TableId, key: Cells): boolean {
    return this.#draft.get(id).find(key) !== undefined
  }

  /** The table as the transaction sees it. */
  table(id: TableId): Pick<MemoryTable, 'schema' | 'toast'> {
    return this.#draft.get(id)
  }

  rows(id: TableId): readonly Cells[] {
    return [...this.#draft.get(id).rows.values()]
  }

  insert(id: TableId, cells: Cells): void {
    const table = this.#draft.get(id)
    const row = wholeRow(table.schema, cells)
    if (table.schema.key.length > 0 && table.find(row) !== undefined)
      throw new TailraceError('USAGE', `a row of ${id} with this key exists`)
    table.put(row)
    this.#log({ kind: 'row', op: 'insert', schema: table.schema, after: row, before: null })
  }

  /** `key` names one row: its key, or all of it where there is none. */
  update(id: TableId, key: Cells, set: Cells): void {
    const { table, row } = this.#take(id, key)
    const changed = wholeRow(table.schema, { ...row, ...set })
    table.put(changed)
    const after = Object.fromEntries(Object.entries(changed).filter(([name]) => !table.toast.has(name) || name in set))
    const moved = keyNames(table.schema).some((name) => row[name] !== changed[name])
    this.#log({ kind: 'row', op: 'update', schema: table.schema, after, before: oldImage(table.schema, row, moved) })
  }

  delete(id: TableId, key: Cells): void {
    const { table, row } = this.#take(id, key)
    this.#log({ kind: 'row', op: 'delete', schema: table.schema, after: null, before: oldImage(table.schema, row, true) })
  }

  truncate(...ids: readonly TableId[]): void {
    const schemas = ids.map((id) => {
      const table = this.#draft.get(id)
      table.rows.clear()
      return table.schema
    })
    this.#log({ kind: 'truncate', schemas })
  }

  /** `changes` says what became of the columns; a new column gets its `missing` value. */
  alter(id: TableId, schema: TableSchema, changes: readonly SchemaChangeDetail[]): void {
    const table = this.#draft.get(id)
    const renamed = new Map(
      changes.flatMap(({ kind, before, after }) =>
        kind === 'column-renamed' && before !== null && after !== null ? [[after, before]] : [],
      ),
    )
    const altered = new MemoryTable(schema, table.toast)
    for (const row of table.rows.values()) {
      // Null is a value: `missing` is for rows that were written before the column existed.
      const cell = (value: string | null | undefined, missing: string | undefined): string | null =>
        value === undefined ? (missing ?? null) : value
      altered.put(Object.fromEntries(schema.columns.map(({ name, missing }) => [name, cell(row[renamed.get(name) ?? name], missing)])))
    }
    this.#draft.set(id, altered)
    this.#log({ kind: 'schema', previous: table.schema, schema, changes })
  }

  #take(id: TableId, key: Cells): { table: MemoryTable; row: Cells } {
    const table = this.#draft.get(id)
    const at = table.find(key)
    const row = at === undefined ? undefined : table.rows.get(at)
    if (at === undefined || row === undefined) throw new TailraceError('USAGE', `there is no such row in ${id}`)
    table.rows.delete(at)
    return { table, row }
  }

  #log(entry: DistributiveOmit<LogEntry, 'place'>): void {
    this.entries.push({ ...entry, place: this.#nextPlace() })
  }
}

type DistributiveOmit<T, K extends keyof T> = T extends unknown ? Omit<T, K> : never

function wholeRow(schema: TableSchema, cells: Cells): Cells {
  for (const name of Object.keys(cells)) {
    if (!schema.columns.some((column) => column.name === name)) throw new TailraceError('USAGE', `table ${schema.id} has no column ${name}`)
  }
  return Object.fromEntries(schema.columns.map(({ name }) => [name, cells[name] ?? null]))
}

/** As PostgreSQL's replica identity: the key where it changed or the row goes, or all of the row always. */
function oldImage(schema: TableSchema, row: Cells, needed: boolean): { kind: 1 | 2; cells: Cells } | null {
  if (schema.identity === 'full') return { kind: OldImage.full, cells: row }
  if (schema.key.length === 0 || schema.identity === 'nothing')
    throw new TailraceError('USAGE', `table ${schema.id} has no identity for updates and deletes`)
  if (!needed) return null
  return { kind: OldImage.key, cells: Object.fromEntries(keyNames(schema).map((name) => [name, row[name] ?? null])) }
}

export function formatPosition(number: number): Position {
  return `memory/1:${number}` as Position
}

/** Null when the text is no position of ours. */
export function parsePosition(text: string): number | null {
  const match = /^(?:memory\/1:)?(\d{1,15})$/.exec(text)
  return match === null ? null : Number(match[1])
}

const databases = new Map<string, MemoryDatabase>()

/** The database of this name in this process; made when it is not there. */
export function memoryDatabase(name: string): MemoryDatabase {
  const known = databases.get(name)
  if (known !== undefined) return known
  const database = new MemoryDatabase(name)
  databases.set(name, database)
  return database
}

export function dropMemoryDatabase(name: string): void {
  databases.delete(name)
}
