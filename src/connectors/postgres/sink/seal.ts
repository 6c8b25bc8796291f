import type { ForeignKey, Index, TableId } from '../../../model/schema.ts'
import { TailraceError, type Problem } from '../../../sdk/errors.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import { quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { amongLiving, foreignKeySql, indexSql, keyIndex } from './ddl.ts'
import type { Fence } from './fenced.ts'
import { freeName, keyStatements, notUniqueError } from './key.ts'
import type { SinkSession } from './session.ts'
import { requireTarget, targetSql, type TargetTable } from './target-table.ts'

/**
 * Makes what is dearer to keep than to make afterwards: key, indexes, constraints, sequences. Each step looks first
 * whether it was done, each is a transaction of its own, and only a missing key stops the run.
 */
export class Sealer {
  readonly #connection: PgConnection
  readonly #fence: Fence
  readonly #replicaRole: boolean
  readonly #soft: boolean

  constructor(session: SinkSession, fence: Fence, soft: boolean) {
    this.#connection = session.connection
    this.#fence = fence
    this.#replicaRole = session.replicaRole
    this.#soft = soft
  }

  async makeKey(table: SinkTable): Promise<void> {
    const statements = await keyStatements(this.#connection, table)
    try {
      await this.#fence.run(this.#connection, statements, `making the key of ${table.id}`)
    } catch (error) {
      if (error instanceof TailraceError && error.code === 'ROW_REJECTED') throw notUniqueError(table)
      throw error
    }
  }

  /** `sealed`: those that were sealed before; foreign keys may join them with the new ones. */
  async seal(tables: readonly SinkTable[], sealed: readonly SinkTable[]): Promise<Problem[]> {
    const problems: Problem[] = []
    for (const table of tables) {
      await this.makeKey(table)
      problems.push(...(await this.#indexes(table)))
      problems.push(...(await this.#sequences(table)))
      await this.#analyze(table)
    }
    const byId = new Map([...sealed, ...tables].map((table) => [table.id, table]))
    for (const table of byId.values()) problems.push(...(await this.#foreignKeys(table, byId)))
    return problems
  }

  async #indexes(table: SinkTable): Promise<Problem[]> {
    const problems: Problem[] = []
    const key = keyIndex(table)
    for (const index of table.schema.indexes) {
      if (index.name === key?.name || (table.schema.dialect !== 'postgres' && index.columns === null)) continue
      const target = await requireTarget(this.#connection, table)
      const name = await freeName(this.#connection, table, index)
      const second = index.primary && target.indexes.some((each) => each.primary)
      if (second || hasIndex(target, index, name)) continue
      const wanted = this.#soft ? amongLiving(index) : index
      if (wanted === null) {
        problems.push({
          severity: 'warning',
          code: 'SCHEMA_UNSUPPORTED',
          path: table.id,
          message: `the constraint ${index.name} of ${table.id} is left out: rows marked as deleted would count`,
        })
        continue
      }
      const statements = indexSql(table, wanted, name)
      const problem = await this.#try(table, statements, `index ${index.name} of ${table.id}`)
      if (problem !== null) problems.push(problem)
    }
    return problems
  }

  async #foreignKeys(table: SinkTable, tables: ReadonlyMap<TableId, SinkTable>): Promise<Problem[]> {
    if (table.schema.dialect !== 'postgres') return []
    const target = await requireTarget(this.#connection, table)
    const problems: Problem[] = []
    for (const key of table.schema.foreignKeys) {
      const referenced = tables.get(key.references.table)
      if (referenced === undefined || target.references.some((each) => each.name === key.name)) continue
      const problem = await this.#foreignKey(table, key, referenced)
      if (problem !== null) problems.push(problem)
    }
    return problems
  }

  /** Without the replica role a foreign key would be checked row by row and would cascade a second time (TRAPS 36). */
  async #foreignKey(table: SinkTable, key: ForeignKey, referenced: SinkTable): Promise<Problem | null> {
    const sql = foreignKeySql(table, key, referenced)
    if (this.#replicaRole) return this.#try(table, [sql], `foreign key ${key.name} of ${table.id}`)
    return {
      severity: 'warning',
      code: 'NOT_ALLOWED',
      path: table.id,
      message: `foreign key ${key.name} of ${table.id} was left out: this role may not set session_replication_role`,
      hint: `when the copy is no longer written to: ${sql};`,
    }
  }

  /** Values never go back: a person may have used the target's sequence already. */
  async #sequences(table: SinkTable): Promise<Problem[]> {
    const problems: Problem[] = []
    for (const { column, last, increment } of table.schema.sequences) {
      if (last === null) continue
      const value = BigInt(last).toString()
      const further = BigInt(increment) > 0n ? 'greatest' : 'least'
      const problem = await this.#try(
        table,
        [
          `SELECT setval(q.name::regclass, ${further}(${value}, coalesce(pg_sequence_last_value(q.name::regclass), ${value})))
             FROM pg_get_serial_sequence(${quoteLiteral(targetSql(table))}, ${quoteLiteral(column)}) AS q(name) WHERE q.name IS NOT NULL`,
        ],
        `the sequence of ${table.id}.${column}`,
      )
      if (problem !== null) problems.push(problem)
    }
    return problems
  }

  /** Statistics for whoever reads the copy first; autovacuum would come a minute later. */
  async #analyze(table: SinkTable): Promise<void> {
    const [row] = await this.#connection.rows(
      `SELECT reltuples < 0 FROM pg_class WHERE oid = to_regclass(${quoteLiteral(targetSql(table))})`,
    )
    if (row?.[0] === 't') await this.#connection.query(`ANALYZE ${targetSql(table)}`)
  }

  async #try(table: SinkTable, statements: readonly string[], what: string): Promise<Problem | null> {
    try {
      await this.#fence.run(this.#connection, statements, `making ${what}`)
      return null
    } catch (error) {
      if (!(error instanceof TailraceError) || error.retry === 'retry' || error.code === 'FENCED') throw error
      return { severity: 'warning', code: 'SCHEMA_UNSUPPORTED', path: table.id, message: error.message, hint: `${statements.join('; ')};` }
    }
  }
}

function hasIndex(target: TargetTable, index: Index, name: string): boolean {
  return target.indexes.some((each) => each.name === index.name || each.name === name)
}
