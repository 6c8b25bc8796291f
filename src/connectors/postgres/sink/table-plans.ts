import type { TableId, TableSchema } from '../../../model/schema.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import type { MatchBy } from '../../../sdk/sql/compact.ts'
import type { PgConnection } from '../wire/connection.ts'
import { TableStatements } from './statements.ts'
import { requireTarget } from './target-table.ts'

/** The statements of each table in the shape that its rows have now; made when first needed, again after a schema change. */
export class TablePlans {
  readonly #connection: PgConnection
  readonly #table: (id: TableId) => SinkTable
  readonly #plans = new Map<TableId, { schema: TableSchema; shape: string; statements: TableStatements }>()
  readonly #soft: boolean
  #made = 0

  constructor(connection: PgConnection, table: (id: TableId) => SinkTable, soft: boolean) {
    this.#soft = soft
    this.#connection = connection
    this.#table = table
  }

  forget(): void {
    this.#plans.clear()
  }

  async of(schema: TableSchema): Promise<TableStatements> {
    const known = this.#plans.get(schema.id)
    if (known?.schema === schema) return known.statements
    // Transforms may make a schema object per batch: the same shape keeps its statements.
    const shape = shapeOf(schema)
    if (known?.shape === shape) {
      this.#plans.set(schema.id, { ...known, schema })
      return known.statements
    }
    const target = await requireTarget(this.#connection, this.#table(schema.id))
    const statements = new TableStatements(schema, target, { match: matchOf(schema), soft: this.#soft, prefix: `t${this.#made++}` })
    this.#plans.set(schema.id, { schema, shape, statements })
    return statements
  }
}

function shapeOf(schema: TableSchema): string {
  return JSON.stringify([schema.columns.map((column) => [column.name, column.generated]), schema.key, matchOf(schema)])
}

/**
 * By image without a key, and with a deferrable one whose log carries full old rows: there two rows can have one key for
 * a while, also across the parts of one transaction (TRAPS 35).
 */
export function matchOf(schema: TableSchema): MatchBy {
  if (schema.key.length === 0) return 'image'
  const names = schema.key.map((index) => schema.columns[index]?.name)
  const own = schema.indexes.filter(
    (index) => index.unique && index.columns?.length === names.length && index.columns.every((name) => names.includes(name)),
  )
  const deferrable = own.length > 0 && own.every((index) => index.deferrable)
  return deferrable && schema.identity === 'full' ? 'image' : 'key'
}
