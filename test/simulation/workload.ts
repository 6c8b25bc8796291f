import type { SchemaChangeDetail } from '../../src/model/batch.ts'
import { keyNames, type Column, type TableId, type TableSchema } from '../../src/model/schema.ts'
import type { Cells, MemoryTable, MemoryTransaction } from '../../src/connectors/memory/database.ts'
import { schemaOf, type TableSpec } from '../../src/testing/sink-batches.ts'
import { Random } from '../kit/random.ts'
import type { Hidden } from './hidden.ts'
import type { World } from './world.ts'

const int = { kind: 'int32' } as const
const text = { kind: 'string' } as const

/** A table of each kind that the engine treats differently. */
const KINDS: readonly (Omit<TableSpec, 'name'> & { readonly toast: readonly string[] })[] = [
  { key: ['id'], toast: ['body'], columns: [c('id', int), c('name', text), c('body', text)] },
  { key: ['a', 'b'], toast: ['doc'], columns: [c('a', int), c('b', int), c('doc', text), c('n', text)] },
  { toast: [], columns: [c('what', text), c('n', int)] },
  { key: ['id'], identity: 'full', toast: ['body'], columns: [c('n', text), c('id', int), c('body', text)] },
  { key: ['code'], toast: [], columns: [c('code', text), c('n', int)] },
]

function c(name: string, type: TableSpec['columns'][number]['type']): TableSpec['columns'][number] {
  return { name, type }
}

/** Few keys, so that changes meet. */
const KEYS = 24

/** The application: it fills the source, then commits random transactions until it has done its number. */
export class Workload {
  readonly #world: World
  readonly #hidden: Hidden
  readonly #random: Random
  readonly #ids: TableId[] = []
  /** Numbers of columns are never used twice. */
  #lastColumn = 100
  #lastValue = 0
  done = false

  constructor(world: World, hidden: Hidden) {
    this.#world = world
    this.#hidden = hidden
    this.#random = new Random(world.seed ^ 0x5bd1e995)
  }

  get tables(): readonly TableId[] {
    return this.#ids
  }

  fill(): void {
    const database = this.#world.source
    for (let i = 0, count = this.#random.between(3, 5); i < count; i++) {
      const { toast, ...spec } = KINDS[(i + this.#world.seed) % KINDS.length]!
      const schema = { ...schemaOf({ ...spec, name: `t${i}` }), relation: 1000 + i, storage: '1' }
      database.createTable(schema, { toast })
      this.#ids.push(schema.id)
    }
    database.transaction((transaction) => {
      for (const id of this.#ids) for (let i = this.#random.between(0, KEYS); i > 0; i--) this.#insert(transaction, id)
    })
    this.#world.invariants.committed()
  }

  async run(): Promise<void> {
    const transactions = this.#random.between(50, 80)
    const gap = this.#pick([2, 15, 50])
    const alterations = new Set(this.#random.numbers(this.#random.between(1, 4), 2, transactions - 5))
    for (let i = 0; i < transactions; i++) {
      await this.#world.sleep(this.#random.between(0, gap))
      if (this.#chance(0.05)) await this.#world.sleep(400)
      this.#commit(alterations.has(i))
    }
    this.done = true
  }

  #commit(alters: boolean): void {
    const database = this.#world.source
    const before = new Map(database.tables)
    let rewritten: (() => void) | null = null
    let plain = !alters
    database.transaction((transaction) => {
      const changes = this.#chance(0.1) ? this.#random.between(8, 25) : this.#random.between(alters ? 0 : 1, 5)
      for (let i = 0; i < changes; i++) this.#change(transaction, this.#pick(this.#ids))
      if (this.#chance(0.03)) {
        transaction.truncate(...this.#ids.filter(() => this.#chance(0.4)))
        plain = false
        for (let i = this.#random.between(0, 3); i > 0; i--) this.#change(transaction, this.#pick(this.#ids))
      }
      if (alters) rewritten = this.#alter(transaction, this.#pick(this.#ids))
      if (alters && rewritten === null)
        for (let i = this.#random.between(0, 3); i > 0; i--) this.#change(transaction, this.#pick(this.#ids))
    })
    ;(rewritten as (() => void) | null)?.()
    this.#hidden.committed(before, plain && this.#chance(0.3) ? this.#random.between(1, 80) : 0)
    this.#world.invariants.committed()
    this.#world.note(`commit ${database.last}`)
  }

  /** A random change of a table, where there is something to be changed. */
  #change(transaction: MemoryTransaction, id: TableId): void {
    const rows = transaction.rows(id)
    const dice = this.#random.next()
    if (rows.length === 0 || dice < 0.3) return this.#insert(transaction, id)
    const row = this.#pick(rows)
    const { schema, toast } = transaction.table(id)
    const names = keyNames(schema)
    const key = names.length === 0 ? row : Object.fromEntries(names.map((name) => [name, row[name] ?? null]))
    if (dice < 0.5) return transaction.delete(id, key)
    if (dice < 0.7 && names.length > 0) return this.#move(transaction, id, key)
    const others = schema.columns.filter(({ name }) => !names.includes(name) && (!toast.has(name) || this.#chance(0.2)))
    if (others.length > 0) transaction.update(id, key, this.#values(others.filter(() => this.#chance(0.7))))
  }

  #insert(transaction: MemoryTransaction, id: TableId): void {
    const { schema } = transaction.table(id)
    const cells = this.#values(schema.columns)
    const names = keyNames(schema)
    const key = Object.fromEntries(names.map((name) => [name, cells[name] ?? null]))
    if (names.length === 0 || !transaction.has(id, key)) transaction.insert(id, cells)
  }

  /** The row gets another key, most often without its large values being sent. */
  #move(transaction: MemoryTransaction, id: TableId, key: Cells): void {
    const { schema } = transaction.table(id)
    const keys = schema.key.map((index) => schema.columns[index]!)
    const next = this.#values(keys)
    if (transaction.has(id, next)) return
    const others = schema.columns.filter((column) => !keys.includes(column) && this.#chance(0.1))
    transaction.update(id, key, { ...this.#values(others), ...next })
  }

  #values(columns: readonly Column[]): Cells {
    return Object.fromEntries(columns.map(({ name, type, nullable }) => [name, this.#value(type.kind, nullable)]))
  }

  #value(kind: string, nullable: boolean): string | null {
    if (!nullable) return String(this.#random.between(1, KEYS))
    if (this.#chance(0.15)) return null
    return kind === 'string' ? `v${++this.#lastValue}` : String(++this.#lastValue)
  }

  /** Adds, drops or renames a column. Gives what remains to be done when rows are written anew without being logged. */
  #alter(transaction: MemoryTransaction, id: TableId): (() => void) | null {
    const { schema } = transaction.table(id)
    const free = schema.columns.filter((_, index) => !schema.key.includes(index))
    const dice = this.#random.next()
    if (dice < 0.35 || free.length < 2) return this.#add(transaction, id, schema)
    const column = this.#pick(free)
    const others = schema.columns.filter((each) => each !== column)
    if (dice < 0.55) {
      alter(transaction, id, withColumns(schema, others), [{ kind: 'column-dropped', before: column.name, after: null }])
      return null
    }
    if (dice < 0.85) {
      const renamed = { ...column, name: `r${++this.#lastColumn}` }
      const columns = schema.columns.map((each) => (each === column ? renamed : each))
      alter(transaction, id, withColumns(schema, columns), [{ kind: 'column-renamed', before: column.name, after: renamed.name }])
      return null
    }
    return this.#rewrite(transaction, id, schema)
  }

  #add(transaction: MemoryTransaction, id: TableId, schema: TableSchema): null {
    const ordinal = ++this.#lastColumn
    const constant = this.#chance(0.5) ? { missing: `d${ordinal}` } : {}
    const column = { ...textColumn(`c${ordinal}`, ordinal), ...constant }
    alter(transaction, id, withColumns(schema, [...schema.columns, column]), [{ kind: 'column-added', before: null, after: column.name }])
    return null
  }

  /** A column with a default of its own for each row: the log tells nothing of the values (TRAPS 46). */
  #rewrite(transaction: MemoryTransaction, id: TableId, schema: TableSchema): () => void {
    const ordinal = ++this.#lastColumn
    const column = textColumn(`c${ordinal}`, ordinal)
    const next = { ...withColumns(schema, [...schema.columns, column]), storage: String(ordinal) }
    alter(transaction, id, next, [{ kind: 'column-added', before: null, after: column.name }])
    return () => {
      const table = this.#world.source.tables.get(id)
      if (table === undefined) return
      const rows = [...table.rows].map(([at, row]) => [at, { ...row, [column.name]: `w${++this.#lastValue}` }] as const)
      const written = table.copy()
      for (const [at, row] of rows) written.rows.set(at, row)
      this.#world.source.tables.set(id, written)
    }
  }

  #chance(share: number): boolean {
    return this.#random.next() < share
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#random.between(0, values.length - 1)]!
  }
}

function alter(transaction: MemoryTransaction, id: TableId, schema: TableSchema, changes: readonly SchemaChangeDetail[]): void {
  transaction.alter(id, schema, changes)
}

/** The key is where it was: by number, for columns before it may go. */
function withColumns(schema: TableSchema, columns: readonly Column[]): TableSchema {
  const ordinals = schema.key.map((index) => schema.columns[index]!.ordinal)
  return { ...schema, columns, key: ordinals.map((ordinal) => columns.findIndex((column) => column.ordinal === ordinal)) }
}

function textColumn(name: string, ordinal: number): Column {
  const [column] = schemaOf({ name: 'any', columns: [{ name, type: text, ordinal }] }).columns
  return column!
}

/** The rows of both versions of a table that are not the same, as they were before; undefined: not there. */
export function differing(before: MemoryTable, after: MemoryTable): Map<string, Cells | undefined> {
  const rows = new Map<string, Cells | undefined>()
  for (const [at, row] of before.rows) if (after.rows.get(at) !== row) rows.set(at, row)
  for (const at of after.rows.keys()) if (!before.rows.has(at)) rows.set(at, undefined)
  return rows
}
