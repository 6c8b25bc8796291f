import type { Position } from '../../model/position.ts'
import { keyNames, type TableSchema } from '../../model/schema.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Checkpoint, SinkTable, Writer } from '../../sdk/sink.ts'
import { quoteIdentifier, quoteLiteral } from '../../sdk/sql/identifiers.ts'
import type { Connection } from './connection.ts'
import { CATALOG } from './database.ts'
import { placeOf, type Place } from './target-table.ts'

/**
 * What commits with the rows: epoch and position per pipeline (Invariant 8), which pipelines write which table, and the shape in which each target table was
 * left, so that a schema change that is repeated finds itself done. Here the key of each table is kept, too, which has no
 * index in the table (APPLY B); null as long as nobody has seen that it is unique.
 */
export class Bookkeeping {
  readonly schema: string
  readonly #pipeline: string
  readonly #checkpoints: string
  readonly #tables: string
  readonly #writers: string

  constructor(schema: string, pipeline: string) {
    this.schema = schema
    this.#pipeline = pipeline
    this.#checkpoints = `${CATALOG}.${quoteIdentifier(schema)}.checkpoints`
    this.#tables = `${CATALOG}.${quoteIdentifier(schema)}.tables`
    this.#writers = `${CATALOG}.${quoteIdentifier(schema)}.writers`
  }

  /** What tells the pipelines of one file apart. */
  get name(): string {
    return `${this.schema}/${this.#pipeline}`
  }

  get #where(): string {
    return `WHERE pipeline = ${quoteLiteral(this.#pipeline)}`
  }

  /** Epoch + 1. In a transaction. */
  async claim(connection: Connection): Promise<Checkpoint> {
    await connection.run(`CREATE SCHEMA IF NOT EXISTS ${CATALOG}.${quoteIdentifier(this.schema)}`)
    await connection.run(
      `CREATE TABLE IF NOT EXISTS ${this.#checkpoints} (pipeline VARCHAR, epoch BIGINT, position VARCHAR, updated_at TIMESTAMPTZ)`,
    )
    await connection.run(
      `CREATE TABLE IF NOT EXISTS ${this.#tables} (pipeline VARCHAR, source VARCHAR, target_schema VARCHAR, target_table VARCHAR, key VARCHAR[], shape VARCHAR)`,
    )
    await connection.run(`CREATE TABLE IF NOT EXISTS ${this.#writers} (target_schema VARCHAR, target_table VARCHAR, pipeline VARCHAR)`)
    const found = await this.look(connection)
    const epoch = (found?.epoch ?? 0) + 1
    if (found === null)
      await connection.run(`INSERT INTO ${this.#checkpoints} VALUES (${quoteLiteral(this.#pipeline)}, ${epoch}, NULL, now())`)
    else await connection.run(`UPDATE ${this.#checkpoints} SET epoch = ${epoch}, updated_at = now() ${this.#where}`)
    return { epoch, position: found?.position ?? null }
  }

  /** Null: the pipeline has no row, or there is no bookkeeping. */
  async look(connection: Connection): Promise<Checkpoint | null> {
    if (!(await this.#exists(connection, 'checkpoints'))) return null
    const [row] = await connection.rows(`SELECT epoch::VARCHAR, position FROM ${this.#checkpoints} ${this.#where}`)
    return row === undefined ? null : { epoch: Number(row[0]), position: (row[1] ?? null) as Position | null }
  }

  /** Throws FENCED unless the epoch is ours. */
  async prove(connection: Connection, epoch: number): Promise<Checkpoint> {
    const found = await this.look(connection)
    if (found?.epoch !== epoch) throw this.fenced(epoch, found?.epoch ?? null)
    return found
  }

  /** Last statement of a transaction that has its position with it; proves the epoch. */
  async advance(connection: Connection, epoch: number, position: Position | null): Promise<void> {
    const text = position === null ? 'NULL' : quoteLiteral(position)
    const moved = await connection.run(
      `UPDATE ${this.#checkpoints} SET position = ${text}, updated_at = now() ${this.#where} AND epoch = ${epoch}`,
    )
    if (moved !== 1) throw this.fenced(epoch, null)
  }

  /** The pipelines of which the table is. */
  async writers(connection: Connection, place: Place): Promise<readonly Writer[]> {
    if (!(await this.#exists(connection, 'writers'))) return []
    const rows = await connection.rows(
      `SELECT w.pipeline, (c.position IS NOT NULL)::VARCHAR FROM ${this.#writers} w LEFT JOIN ${this.#checkpoints} c USING (pipeline) WHERE ${samePlace(place)} ORDER BY 1`,
    )
    return rows.map(([pipeline, follows]) => ({ pipeline: pipeline ?? '', follows: follows === 'true' }))
  }

  /** `alone`: it is nobody else's any more. */
  async noteWriter(connection: Connection, place: Place, alone: boolean): Promise<void> {
    const writers = (await this.writers(connection, place)).map(({ pipeline }) => pipeline)
    const others = writers.some((pipeline) => pipeline !== this.#pipeline)
    if (alone && others)
      await connection.run(`DELETE FROM ${this.#writers} WHERE ${samePlace(place)} AND pipeline <> ${quoteLiteral(this.#pipeline)}`)
    if (writers.includes(this.#pipeline)) return
    await connection.run(
      `INSERT INTO ${this.#writers} VALUES (${[place.namespace, place.name, this.#pipeline].map(quoteLiteral).join(', ')})`,
    )
  }

  async forgetWriter(connection: Connection, place: Place): Promise<void> {
    await connection.run(`DELETE FROM ${this.#writers} ${this.#where} AND ${samePlace(place)}`)
  }

  /** The shape that the target table was left in; null when nobody noted it. */
  async shape(connection: Connection, place: Place): Promise<TableSchema | null> {
    if (!(await this.#exists(connection, 'tables'))) return null
    const [row] = await connection.rows(`SELECT shape FROM ${this.#tables} WHERE ${samePlace(place)}`)
    const text = row?.[0]
    return typeof text === 'string' ? (JSON.parse(text) as TableSchema) : null
  }

  /** `isUnique`: the rows are known to be apart by the key. */
  async keepShape(connection: Connection, table: SinkTable, isUnique: boolean): Promise<void> {
    const place = placeOf(table)
    await connection.run(`DELETE FROM ${this.#tables} WHERE ${samePlace(place)}`)
    const texts = [this.#pipeline, table.id, place.namespace, place.name].map(quoteLiteral).join(', ')
    await connection.run(
      `INSERT INTO ${this.#tables} VALUES (${texts}, ${keyOf(table, isUnique)}, ${quoteLiteral(JSON.stringify(table.schema))})`,
    )
  }

  async keepKey(connection: Connection, table: SinkTable, isUnique: boolean): Promise<void> {
    await connection.run(`UPDATE ${this.#tables} SET key = ${keyOf(table, isUnique)} WHERE ${samePlace(placeOf(table))}`)
  }

  /** The columns that are known to tell the rows apart; null: it is not known yet. */
  async uniqueKey(connection: Connection, place: Place): Promise<readonly string[] | null> {
    const [row] = await connection.rows(`SELECT to_json(key)::VARCHAR FROM ${this.#tables} WHERE ${samePlace(place)}`)
    const text = row?.[0]
    return typeof text === 'string' ? (JSON.parse(text) as string[]) : null
  }

  /** Forgets the pipeline; tables and schema go with the last one. Names what went. */
  async remove(connection: Connection): Promise<readonly string[]> {
    if (!(await this.#exists(connection, 'checkpoints'))) return []
    await connection.run(`DELETE FROM ${this.#tables} ${this.#where}`)
    const hasWriters = await this.#exists(connection, 'writers')
    if (hasWriters) await connection.run(`DELETE FROM ${this.#writers} ${this.#where}`)
    const removed = await connection.run(`DELETE FROM ${this.#checkpoints} ${this.#where}`)
    const [left] = await connection.rows(`SELECT count(*)::VARCHAR FROM ${this.#checkpoints}`)
    if (left?.[0] !== '0') return removed === 0 ? [] : [`row of ${this.#pipeline} in ${this.schema}.checkpoints`]
    await connection.run(`DROP TABLE ${this.#checkpoints}`)
    await connection.run(`DROP TABLE ${this.#tables}`)
    if (hasWriters) await connection.run(`DROP TABLE ${this.#writers}`)
    const tables = ['checkpoints', 'tables', ...(hasWriters ? ['writers'] : [])].map((name) => `table ${this.schema}.${name}`)
    const [others] = await connection.rows(
      `SELECT count(*)::VARCHAR FROM duckdb_tables() WHERE database_name = '${CATALOG}' AND schema_name = ${quoteLiteral(this.schema)}`,
    )
    if (others?.[0] !== '0') return tables
    await connection.run(`DROP SCHEMA ${CATALOG}.${quoteIdentifier(this.schema)}`)
    return [...tables, `schema ${this.schema}`]
  }

  fenced(ours: number, found: number | null): TailraceError {
    const what = found === null ? 'epoch and position in the target are not ours any more' : `epoch ${found} instead of ${ours}`
    return new TailraceError('FENCED', `pipeline ${this.#pipeline} was taken over by another runner (${what}); nothing was written`, {
      hint: 'only one runner of a pipeline can write; the later one goes on',
    })
  }

  async #exists(connection: Connection, table: string): Promise<boolean> {
    const rows = await connection.rows(
      `SELECT table_name FROM duckdb_tables() WHERE database_name = '${CATALOG}' AND schema_name = ${quoteLiteral(this.schema)} AND table_name = '${table}'`,
    )
    return rows.length > 0
  }
}

function keyOf({ schema }: SinkTable, isUnique: boolean): string {
  return isUnique ? `[${keyNames(schema).map(quoteLiteral).join(', ')}]::VARCHAR[]` : 'NULL'
}

function samePlace({ namespace, name }: Place): string {
  return `lower(target_schema) = lower(${quoteLiteral(namespace)}) AND lower(target_table) = lower(${quoteLiteral(name)})`
}
