import type { Report, TableReport } from '../../engine/report.ts'

export interface Rate {
  /** Rows of the snapshot or changes of the stream. */
  readonly rows: number
  readonly bytes: number
}

interface Sample {
  readonly at: number
  readonly tables: ReadonlyMap<string, Rate>
}

/** Rates over the last few seconds, from the totals of successive reports. */
export class Rates {
  readonly #window: number
  #samples: Sample[] = []

  constructor(windowMs = 5000) {
    this.#window = windowMs
  }

  add(report: Report, at: number): void {
    this.#samples.push({ at, tables: new Map(report.tables.map((table) => [table.source, totals(table)])) })
    // One sample older than the window stays: the window is then always full.
    while (this.#samples.length > 2 && this.#samples[1]!.at <= at - this.#window) this.#samples.shift()
  }

  /** Per second. */
  of(table: string): Rate {
    const first = this.#samples[0]
    const last = this.#samples.at(-1)
    const to = last?.tables.get(table)
    if (first === undefined || last === undefined || to === undefined || last.at <= first.at) return { rows: 0, bytes: 0 }
    const from = first.tables.get(table) ?? { rows: 0, bytes: 0 }
    const seconds = (last.at - first.at) / 1000
    // Totals fall when a table is read again.
    return { rows: Math.max(0, to.rows - from.rows) / seconds, bytes: Math.max(0, to.bytes - from.bytes) / seconds }
  }

  total(report: Report): Rate {
    return report.tables.reduce(
      (sum, table) => {
        const rate = this.of(table.source)
        return { rows: sum.rows + rate.rows, bytes: sum.bytes + rate.bytes }
      },
      { rows: 0, bytes: 0 },
    )
  }
}

function totals(table: TableReport): Rate {
  return { rows: table.snapshot.rows + changesOfStream(table), bytes: table.snapshot.bytes }
}

export function changesOfStream(table: TableReport): number {
  return table.stream.inserts + table.stream.updates + table.stream.deletes
}

/** 0 to 1 of the snapshot; null when nobody knows how much there is. Below 1 until it is done: estimates are too small at times. */
export function shareDone(table: TableReport): number | null {
  const { snapshot, state } = table
  if (state !== 'copying' && state !== 'pending') return 1
  if (snapshot.chunks > 0 && snapshot.done === snapshot.chunks) return 1
  if (snapshot.expectedRows > 0) return Math.min(0.99, snapshot.rows / snapshot.expectedRows)
  return snapshot.chunks > 0 ? snapshot.done / snapshot.chunks : null
}

/** Seconds until the snapshot of the table is done at this rate; null when that cannot be said. */
export function secondsLeft(table: TableReport, rowsPerSecond: number): number | null {
  const { expectedRows, rows } = table.snapshot
  if (table.state !== 'copying' || expectedRows <= 0 || rowsPerSecond <= 0) return null
  return Math.max(0, expectedRows - rows) / rowsPerSecond
}
