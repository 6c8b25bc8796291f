import { Op, type Slice } from '../model/batch.ts'
import type { TableId } from '../model/schema.ts'

/** What was done for one table, over all runs of the pipeline. */
export interface Counters {
  read: number
  written: number
  deadLettered: number
  filtered: number
  snapshotRows: number
  snapshotBytes: number
  inserts: number
  updates: number
  deletes: number
  truncates: number
}

export function zeroCounters(): Counters {
  return {
    read: 0,
    written: 0,
    deadLettered: 0,
    filtered: 0,
    snapshotRows: 0,
    snapshotBytes: 0,
    inserts: 0,
    updates: 0,
    deletes: 0,
    truncates: 0,
  }
}

export function parseCounters(text: string | null): Counters {
  return text === null ? zeroCounters() : { ...zeroCounters(), ...(JSON.parse(text) as Partial<Counters>) }
}

function addTo(target: Counters, from: Partial<Counters>): void {
  for (const [name, value] of Object.entries(from) as [keyof Counters, number][]) target[name] += value
}

/**
 * Counts per table. What belongs to a transaction that is not yet durable waits in `pending`, so that a repetition after a
 * lost connection is not counted twice, and rows read = written + dead-lettered + filtered holds at every checkpoint.
 */
export class Tally {
  readonly #totals = new Map<TableId, Counters>()
  readonly #pending = new Map<TableId, Counters>()

  load(table: TableId, counters: Counters): void {
    this.#totals.set(table, counters)
  }

  of(table: TableId): Counters {
    return getOrMake(this.#totals, table)
  }

  /** At once: snapshot rows, whose chunk is durable. */
  add(table: TableId, from: Partial<Counters>): void {
    addTo(this.of(table), from)
  }

  /** Counts when the transaction that they belong to is durable. */
  await(table: TableId, from: Partial<Counters>): void {
    addTo(getOrMake(this.#pending, table), from)
  }

  commit(): void {
    for (const [table, counters] of this.#pending) addTo(this.of(table), counters)
    this.#pending.clear()
  }

  rollback(): void {
    this.#pending.clear()
  }

  /** Tables whose rows do not add up. */
  imbalance(): { table: TableId; read: number; accounted: number }[] {
    return [...this.#totals].flatMap(([table, c]) => {
      const accounted = c.written + c.deadLettered + c.filtered
      return accounted === c.read ? [] : [{ table, read: c.read, accounted }]
    })
  }
}

function getOrMake(map: Map<TableId, Counters>, table: TableId): Counters {
  const found = map.get(table)
  if (found !== undefined) return found
  const fresh = zeroCounters()
  map.set(table, fresh)
  return fresh
}

/** What a slice holds, by operation. */
export function countOps(slice: Slice): Pick<Counters, 'inserts' | 'updates' | 'deletes'> {
  const counts = [0, 0, 0, 0]
  for (let row = 0; row < slice.rows; row++) counts[slice.ops[row]!]!++
  return { inserts: (counts[Op.insert] ?? 0) + (counts[Op.read] ?? 0), updates: counts[Op.update] ?? 0, deletes: counts[Op.delete] ?? 0 }
}
