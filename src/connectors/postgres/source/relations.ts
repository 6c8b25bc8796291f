import type { Barrier } from '../../../model/batch.ts'
import type { View } from '../../../model/position.ts'
import { keyNames, type TableId, type TableSchema } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { quoteForShell } from '../../../sdk/shell.ts'
import type { SourceTable } from '../../../sdk/source.ts'
import type { PgConnection } from '../wire/connection.ts'
import { catalogOf, readCatalog, readStorage, type CatalogTable } from './catalog.ts'
import type { Relation } from './pgoutput.ts'
import { chosenShape, diffSchemas } from './schema-diff.ts'
import type { Question } from './stream-reader.ts'
import { covers } from './view.ts'

/** How a relation's rows are taken from now on. */
export interface Resolution {
  /** Null: the relation is none of the pipeline's. */
  readonly schema: TableSchema | null
  /** Wire column → column of `schema`, −1 = not taken. */
  readonly columns: Int16Array
  readonly barrier: Barrier | null
}

const NOT_OURS: Resolution = { schema: null, columns: new Int16Array(0), barrier: null }

/**
 * Knows which relation ids are which table (partitions' rows come under their leaf, TRAPS 52) and in which shape each table
 * is in the stream now. Asks the catalog only when a shape changed or may have.
 */
export class Relations {
  readonly #connection: PgConnection
  readonly #ownSchema: string
  readonly #views: ReadonlyMap<TableId, View>
  readonly #tables = new Map<TableId, SourceTable>()
  readonly #byOid = new Map<number, TableId>()
  readonly #leaves = new Map<TableId, readonly number[]>()
  readonly #schemas = new Map<TableId, TableSchema>()
  /** Relations described in this session, and tables whose columns are not those that we know although the names are. */
  readonly #seen = new Set<number>()
  readonly #suspects = new Set<TableId>()
  /** The catalog's mark of each table when we last compared it with what we know. */
  readonly #marks = new Map<TableId, string>()
  /** The mark that was looked at and found to tell of no rewrite. */
  readonly #looked = new Map<TableId, string>()

  private constructor(connection: PgConnection, ownSchema: string, views: ReadonlyMap<TableId, View>) {
    this.#connection = connection
    this.#ownSchema = ownSchema
    this.#views = views
  }

  static async load(
    connection: PgConnection,
    ownSchema: string,
    tables: readonly SourceTable[],
    views: ReadonlyMap<TableId, View>,
  ): Promise<Relations> {
    const relations = new Relations(connection, ownSchema, views)
    const catalog = await catalogOf(connection, ownSchema, tables)
    for (const table of tables) relations.#add(table, catalog.get(table.schema.relation))
    return relations
  }

  /** What we know of a table, with the mark of the last look: TRUNCATE then and SET DEFAULT now are no rewrite. */
  #marked(schema: TableSchema): TableSchema {
    const storage = this.#looked.get(schema.id)
    return storage === undefined ? schema : { ...schema, storage }
  }

  #add(table: SourceTable, now: CatalogTable | undefined): void {
    this.#tables.set(table.id, table)
    this.#schemas.set(table.id, table.schema)
    const leaves = now === undefined || now.leaves.length === 0 ? [table.schema.relation] : now.leaves
    this.#leaves.set(table.id, leaves)
    for (const oid of leaves) this.#byOid.set(oid, table.id)
    this.#marks.set(table.id, now?.schema.storage ?? '')
    if (now === undefined) return
    const { changes, ambiguous } = diffSchemas(table.schema, chosenShape(table, table.schema, now.schema))
    if (changes.length > 0 || ambiguous !== null) this.#suspects.add(table.id)
  }

  async resolve(question: Extract<Question, { kind: 'relation' }>): Promise<Resolution> {
    const { relation } = question
    const id = this.#byOid.get(relation.id) ?? (await this.#adopt(relation))
    if (id === null) return NOT_OURS
    const table = this.#tables.get(id)
    const schema = this.#schemas.get(id)
    if (table === undefined || schema === undefined) return NOT_OURS
    const again = this.#seen.has(relation.id)
    this.#seen.add(relation.id)
    const same = sameShape(table, schema, relation)
    if (same && !again && !this.#suspects.has(id) && (await this.#isMarked(table)))
      return { schema, columns: mapColumns(schema, relation), barrier: null }
    // The copy is younger than these rows, which will be left out: their shape is no change of the table's.
    const view = this.#views.get(id)
    if (!same && view !== undefined && question.transaction !== null && covers(view, question.transaction)) return NOT_OURS
    return this.#changed(table, schema, relation)
  }

  /** The shape in which a table's rows come now. */
  schemaOf(id: TableId): TableSchema | undefined {
    return this.#schemas.get(id)
  }

  /**
   * What the catalog says of a table that the change log has not said, and may never say: rows rewritten silently. Changes
   * that rows will tell of are left to them.
   */
  async inspect(table: SourceTable): Promise<Barrier | null> {
    const before = this.#schemas.get(table.id) ?? table.schema
    const [now] = await readCatalog(this.#connection, this.#ownSchema, [table.schema.relation])
    if (now === undefined) return null
    const { changes, ambiguous } = diffSchemas(this.#marked(before), chosenShape(table, before, now.schema))
    if (ambiguous === null) this.#looked.set(table.id, now.schema.storage ?? '')
    const labels =
      changes.length > 0 &&
      changes.every((change) => change.kind === 'type-changed' && change.before === change.after) &&
      sameTypes(before, now.schema)
    if (ambiguous === null && !labels) return null
    const schema = ambiguous === null ? withPartitions(chosenShape(table, before, now.schema), before) : before
    if (ambiguous === null) this.#schemas.set(table.id, schema)
    return { kind: 'schema', previous: before, schema, changes, ambiguous }
  }

  /** New leaf partitions, which were empty: their rows are the table's from now on. */
  adopt(id: TableId, partitions: readonly number[]): Barrier | null {
    const previous = this.#schemas.get(id)
    if (previous === undefined) return null
    const schema = { ...previous, partitions }
    this.#schemas.set(id, schema)
    this.#leaves.set(id, partitions)
    for (const oid of partitions) this.#byOid.set(oid, id)
    return { kind: 'schema', previous, schema, changes: [], ambiguous: null }
  }

  /** The barrier of a TRUNCATE; null when none of our tables is in it. */
  truncate(question: Extract<Question, { kind: 'truncate' }>): Barrier | null {
    const oids = new Set(question.relations)
    const hit = new Set(question.relations.map((oid) => this.#byOid.get(oid)).filter((id) => id !== undefined))
    const tables: TableSchema[] = []
    for (const id of hit) {
      const schema = this.#schemas.get(id)
      if (schema === undefined) continue
      const whole = (this.#leaves.get(id) ?? []).every((oid) => oids.has(oid))
      if (!whole)
        return {
          kind: 'schema',
          previous: schema,
          schema,
          changes: [],
          ambiguous: `a partition of ${id} was truncated, which rows went is not in the stream`,
        }
      tables.push(schema)
    }
    return tables.length === 0 ? null : { kind: 'truncate', tables, cascade: question.cascade, restartIdentity: question.restartIdentity }
  }

  /** A relation that we do not know may be a partition made after the start. */
  async #adopt(relation: Relation): Promise<TableId | null> {
    const [row] = await this.#connection.rows(`SELECT pg_partition_root(${relation.id})::oid`)
    const root = row?.[0] === null || row === undefined ? null : Number(row[0])
    for (const table of this.#tables.values()) {
      if (table.schema.relation !== root) continue
      this.#byOid.set(relation.id, table.id)
      this.#leaves.set(table.id, [...(this.#leaves.get(table.id) ?? []), relation.id])
      return table.id
    }
    return null
  }

  /** Whether the catalog holds of the table what it held when we read it: a first row may come long after. */
  async #isMarked(table: SourceTable): Promise<boolean> {
    const marks = await readStorage(this.#connection, [table.schema.relation])
    return marks.get(table.schema.relation) === this.#marks.get(table.id)
  }

  async #changed(table: SourceTable, before: TableSchema, relation: Relation): Promise<Resolution> {
    const [now] = await readCatalog(this.#connection, this.#ownSchema, [table.schema.relation])
    if (now === undefined) {
      // Dropped by now; its last rows still come in the shape that the message says.
      if (sameShape(table, before, relation)) return { schema: before, columns: mapColumns(before, relation), barrier: null }
      throw new TailraceError('SCHEMA_CHANGED', `table ${table.id} changed and was then dropped: its last rows cannot be followed`, {
        hint: `tailrace tables <pipeline> remove ${quoteForShell(table.id)}`,
      })
    }
    const after = chosenShape(table, before, now.schema)
    this.#marks.set(table.id, now.schema.storage ?? '')
    const agrees = sameShape(table, after, relation)
    if (!agrees) return this.#movedOn(table, before, relation)
    this.#suspects.delete(table.id)
    const { changes, ambiguous } = diffSchemas(this.#marked(before), after)
    if (ambiguous === null) this.#looked.set(table.id, now.schema.storage ?? '')
    const shape = withPartitions(after, before)
    this.#schemas.set(table.id, shape)
    const columns = mapColumns(after, relation)
    if (changes.length === 0 && ambiguous === null) return { schema: before, columns: mapColumns(before, relation), barrier: null }
    return { schema: shape, columns, barrier: { kind: 'schema', previous: before, schema: shape, changes, ambiguous } }
  }

  /**
   * The catalog is further than the stream: what lies between cannot be told apart by names alone (TRAPS 47). Rows still in
   * the old shape go on in it; anything else needs a new reading of the table.
   */
  #movedOn(table: SourceTable, before: TableSchema, relation: Relation): Resolution {
    if (sameShape(table, before, relation)) return { schema: before, columns: mapColumns(before, relation), barrier: null }
    this.#suspects.add(table.id)
    const reason = `${table.id} was changed several times before its changes were read, so columns cannot be told apart`
    return {
      schema: before,
      columns: mapColumns(before, relation),
      barrier: { kind: 'schema', previous: before, schema: before, changes: [], ambiguous: reason, blind: true },
    }
  }
}

/** The partitions stay those that we know, until the watch has seen to the others. */
function withPartitions(after: TableSchema, { partitions }: TableSchema): TableSchema {
  return partitions === undefined ? after : { ...after, partitions }
}

function sameShape(table: SourceTable, schema: TableSchema, relation: Relation): boolean {
  if (table.keyFixed !== true && !sameKey(schema, relation)) return false
  if (schema.partitions === undefined && !sameOrder(schema, relation)) return false
  const wire = new Map(relation.columns.map((column) => [column.name, column]))
  for (const column of schema.columns) {
    const found = wire.get(column.name)
    if (found === undefined || found.typeId !== column.sourceTypeId) return false
    if (column.sourceTypeModifier !== undefined && found.typeModifier !== column.sourceTypeModifier) return false
    wire.delete(column.name)
  }
  if (table.columnsFixed) return true
  const computed = new Set(schema.computed?.map((column) => column.name))
  return [...wire.keys()].every((name) => table.excluded.includes(name) || computed.has(name))
}

/** Columns come in the order of their numbers: two that have exchanged names since stand the other way round (TRAPS 47). */
function sameOrder(schema: TableSchema, { columns }: Relation): boolean {
  const numbers = new Map(schema.columns.map(({ name, ordinal }) => [name, ordinal]))
  let last = 0
  return columns.every(({ name }) => {
    const number = numbers.get(name) ?? last
    const follows = number >= last
    last = number
    return follows
  })
}

/** Rows that were written under another key than the catalog has by now come in the shape from before. */
function sameKey(schema: TableSchema, { columns, replicaIdentity }: Relation): boolean {
  if (replicaIdentity !== 'd' && replicaIdentity !== 'i') return true
  const wire = columns.filter((column) => column.key).map((column) => column.name)
  return wire.length === 0 || wire.sort().join('\0') === [...keyNames(schema)].sort().join('\0')
}

/** The same columns of the same types, whatever the labels of their enums. */
function sameTypes(before: TableSchema, now: TableSchema): boolean {
  return before.columns.every((column) =>
    now.columns.some((other) => other.ordinal === column.ordinal && other.name === column.name && other.sourceType === column.sourceType),
  )
}

function mapColumns(schema: TableSchema, relation: Relation): Int16Array {
  return Int16Array.from(relation.columns, (wire) => schema.columns.findIndex((column) => column.name === wire.name))
}
