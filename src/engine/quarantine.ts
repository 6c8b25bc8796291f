import type { TableId } from '../model/schema.ts'

/**
 * Keys of rows that are dead letters. Later changes of such a row follow it (TRAPS 45): applied, they would meet a hole now,
 * and a replay of the letter would overwrite newer data later.
 */
export class Quarantine {
  readonly #keys = new Map<TableId, Set<string>>()

  get empty(): boolean {
    return this.#keys.size === 0
  }

  add(table: TableId, key: string): void {
    const keys = this.#keys.get(table) ?? new Set()
    this.#keys.set(table, keys.add(key))
  }

  has(table: TableId, key: string): boolean {
    return this.#keys.get(table)?.has(key) ?? false
  }
}
