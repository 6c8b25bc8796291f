import type { TableSchema } from '../model/schema.ts'

/** A table must be read again: the stream stops at its last checkpoint and a new snapshot of the table is taken. */
export class ReadAgain extends Error {
  readonly table: TableSchema
  readonly reason: string

  constructor(table: TableSchema, reason: string) {
    super(`${table.id} must be read again: ${reason}`)
    this.name = 'ReadAgain'
    this.table = table
    this.reason = reason
  }
}
