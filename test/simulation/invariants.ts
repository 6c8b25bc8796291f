import type { Position } from '../../src/model/position.ts'
import { keyNames, type TableId, type TableSchema } from '../../src/model/schema.ts'
import type { Report } from '../../src/engine/report.ts'
import { parsePosition, type Cells, type MemoryTable } from '../../src/connectors/memory/database.ts'
import { targetId } from '../../src/connectors/memory/sink.ts'
import type { TableRecord } from '../../src/state/store.ts'
import { PIPELINE, type Life, type World } from './world.ts'

/** Something that must never be, in words. */
export class Violation extends Error {
  override readonly name = 'Violation'
}

/** What must hold at every moment of a history (ARCHITECTURE.md), and what it is judged by. */
export class Invariants {
  readonly #world: World
  /** The source's tables after each transaction. */
  readonly #states = new Map<number, ReadonlyMap<TableId, MemoryTable>>()
  /** As the state store has them. */
  readonly tables = new Map<TableId, TableRecord>()
  #saved: Position | null = null
  #violation: Violation | null = null
  /** Pairs of versions that were found equal. */
  readonly #equal = new WeakMap<MemoryTable, MemoryTable>()
  /** Comparisons of tables that were made. */
  compared = 0

  constructor(world: World) {
    this.#world = world
  }

  get violation(): Violation | null {
    return this.#violation
  }

  /** The first one counts: what follows from it is of no interest. */
  violate(message: string): void {
    this.#world.note(`violated: ${message}`)
    this.#violation ??= new Violation(message)
  }

  committed(): void {
    this.#states.set(this.#world.source.last, new Map(this.#world.source.tables))
  }

  /** Invariant 1: what is saved, the sink holds. The origin alone is saved first (Invariant 3). */
  saved(position: Position | null): void {
    this.#saved = position
    const held = this.held()
    if (held !== null && numberOf(position) > numberOf(held))
      this.violate(`Invariant 1: ${position} was saved while the sink holds ${held}`)
  }

  /** Invariant 1: what is confirmed, is saved. */
  confirmed(position: Position): void {
    if (numberOf(position) > numberOf(this.#saved)) this.violate(`Invariant 1: ${position} was confirmed while ${this.#saved} is saved`)
  }

  /** Invariant 8: after a newer claim nothing of an older run is committed. */
  wrote(life: Life, name: string): void {
    const { claimant } = this.#world
    if (claimant !== null && claimant !== life)
      this.violate(`Invariant 8: ${name} of run ${life.number} had an effect after run ${claimant.number} had claimed`)
  }

  /** Invariants 4 and 5: every table that streams is what the source was at the position that the sink holds. */
  compareAtPosition(): void {
    const held = this.held()
    const state = held === null ? undefined : this.#states.get(numberOf(held))
    if (state === undefined) return
    for (const record of this.tables.values()) if (record.state === 'streaming') this.#compare(record, state, String(held))
  }

  /** The pipeline has come to rest: everything is there. */
  compareAtEnd(): void {
    const held = this.held()
    if (numberOf(held) !== this.#world.source.last)
      return this.violate(`caught up at ${held}, and the source is at ${this.#world.source.last}`)
    for (const id of this.#world.source.tables.keys())
      if (this.tables.get(id)?.state !== 'streaming')
        this.violate(`${id} is ${this.tables.get(id)?.state ?? 'unknown'} when all is caught up`)
    this.compareAtPosition()
  }

  /** Invariant 6. */
  account(report: Report): void {
    for (const { source, read, written, deadLettered, filtered } of report.tables)
      if (read !== written + deadLettered + filtered)
        this.violate(
          `Invariant 6: of ${source} ${read} rows were read, ${written} written, ${deadLettered} dead-lettered, ${filtered} filtered`,
        )
  }

  /** What the sink holds. */
  held(): Position | null {
    return this.#world.sink.checkpoints.get(PIPELINE)?.position ?? null
  }

  #compare(record: TableRecord, state: ReadonlyMap<TableId, MemoryTable>, where: string): void {
    const wanted = state.get(record.id)
    const found = this.#world.sink.tables.get(targetId(record))
    if (wanted === undefined || found === undefined) return this.violate(`${record.id} is missing at ${where}`)
    if (this.#equal.get(found) === wanted) return
    this.compared++
    const difference = differenceOf(wanted, found)
    if (difference === null) this.#equal.set(found, wanted)
    else this.violate(`Invariant 4: ${record.id} at ${where}: ${difference}`)
  }
}

export function numberOf(position: Position | null): number {
  return position === null ? -1 : (parsePosition(position) ?? -1)
}

/** The first difference, in words; null: equal. Columns that the source has no more are not looked at. */
function differenceOf(wanted: MemoryTable, found: MemoryTable): string | null {
  const columns = wanted.schema.columns.map(({ name }) => name)
  const names = new Set(found.schema.columns.map(({ name }) => name))
  const missing = columns.find((name) => !names.has(name))
  if (missing !== undefined) return `the target has no column ${missing}`
  const [left, right] = [counted(wanted.schema, columns, wanted), counted(wanted.schema, columns, found)]
  for (const [row, count] of left)
    if (right.get(row) !== count) return `source ${count} × ${row}, target ${near(right, row, wanted.schema)}`
  for (const [row, count] of right) if (!left.has(row)) return `target ${count} × ${row}, source ${near(left, row, wanted.schema)}`
  return null
}

function counted(schema: TableSchema, columns: readonly string[], table: MemoryTable): Map<string, number> {
  const rows = new Map<string, number>()
  for (const cells of table.rows.values()) {
    const row = textOf(schema, columns, cells)
    rows.set(row, (rows.get(row) ?? 0) + 1)
  }
  return rows
}

function textOf(schema: TableSchema, columns: readonly string[], cells: Cells): string {
  const key = keyNames(schema).map((name) => cells[name])
  return JSON.stringify([key, Object.fromEntries(columns.map((name) => [name, cells[name] ?? null]))])
}

/** What the other side has at the key. */
function near(rows: ReadonlyMap<string, number>, row: string, schema: TableSchema): string {
  const keyOf = (text: string): string => JSON.stringify((JSON.parse(text) as unknown[])[0])
  const same = schema.key.length === 0 ? undefined : [...rows.keys()].find((other) => keyOf(other) === keyOf(row))
  return same ?? 'none'
}
