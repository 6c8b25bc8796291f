import type { TableId } from '../../src/model/schema.ts'
import type { Cells, MemoryTable } from '../../src/connectors/memory/database.ts'
import { differing } from './workload.ts'
import type { World } from './world.ts'

/** A transaction that stands in the log and that new views do not see yet (TRAPS 12). */
interface Unseen {
  readonly number: number
  until: number
  /** What it changed, as it was before. */
  readonly rows: ReadonlyMap<TableId, ReadonlyMap<string, Cells | undefined>>
}

/** What a new view shows. */
export interface Seen {
  readonly upTo: number
  readonly except: readonly number[]
  rows(id: TableId): readonly Cells[]
}

/**
 * A view is not a prefix of the log: a commit may be logged a moment before others can see it, and transactions that have
 * nothing to do with it become visible before. Whoever changes the same rows has waited for it.
 */
export class Hidden {
  readonly #world: World
  #unseen: Unseen[] = []

  constructor(world: World) {
    this.#world = world
  }

  /** The transaction just committed stays unseen for a while; 0: what it changed can be seen at once, and all before it. */
  committed(before: ReadonlyMap<TableId, MemoryTable>, millis: number): void {
    const { source, time } = this.#world
    this.#unseen = this.#unseen.filter(({ until }) => until > time.now)
    const all = [...source.tables].map(([id, table]) => [id, differing(before.get(id)!, table)] as const)
    const rows = new Map(all.filter(([, changed]) => changed.size > 0))
    const reshaped = [...source.tables].some(([id, table]) => before.get(id)!.schema !== table.schema)
    const changed = [...source.tables].filter(([id]) => rows.has(id))
    const emptied = changed.some(([id, table]) => table.rows.size === 0 && before.get(id)!.rows.size > 0)
    this.#unseen = this.#unseen.filter((each) => !reshaped && !emptied && !overlaps(each.rows, rows))
    const keyed = changed.every(([, table]) => table.schema.key.length > 0)
    if (millis > 0 && keyed && !reshaped) this.#unseen.push({ number: source.last, until: time.now + millis, rows })
  }

  /** What can be seen now. What was committed up to `after` can, in any case. */
  seen(after = 0): Seen {
    const { source, time } = this.#world
    const unseen = this.#unseen.filter(({ until, number }) => until > time.now && number > after)
    return { upTo: source.last, except: unseen.map(({ number }) => number), rows: (id) => this.#rows(id, unseen) }
  }

  #rows(id: TableId, unseen: readonly Unseen[]): readonly Cells[] {
    const rows = new Map(this.#world.source.tables.get(id)?.rows)
    for (const { rows: changed } of unseen.toReversed()) {
      for (const [at, row] of changed.get(id) ?? []) {
        if (row === undefined) rows.delete(at)
        else rows.set(at, row)
      }
    }
    return [...rows.values()]
  }
}

function overlaps(a: Unseen['rows'], b: Unseen['rows']): boolean {
  return [...a].some(([id, rows]) => [...rows.keys()].some((at) => b.get(id)?.has(at) === true))
}
