import {
  tableId,
  type Column,
  type ComputedColumn,
  type ForeignKey,
  type Index,
  type Sequence,
  type TableSchema,
} from '../../../model/schema.ts'
import { qualifiedName } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { TypeCatalog } from './type-catalog.ts'

/** A table as the catalog has it, before selection. */
export interface CatalogTable {
  readonly schema: TableSchema
  readonly partitioned: boolean
  /** oids of the leaf partitions, by which the change log names the rows; the table's own oid when it is not partitioned. */
  readonly leaves: readonly number[]
  /** Key by the server's own words: does an identity index of ours allow updates and deletes to be followed? */
  readonly persistence: 'permanent' | 'unlogged' | 'foreign'
  /** Blocks of the heap now (not relpages: 0 before the first VACUUM, TRAPS 6). */
  readonly blocks: number
  /** A user trigger or rule that the copy cannot see is no matter for a source; owner's rights are for the publication. */
  readonly owned: boolean
  readonly selectable: boolean
}

/**
 * `<files>|<column:xid,…>|<labels>` of the table `c`: an ALTER TABLE that rewrites rows gives it new files and writes its
 * columns' catalog rows anew; TRUNCATE and VACUUM FULL do only the first, SET DEFAULT and the like only the second. The
 * labels are those of its enums: adding or renaming one touches the table not at all.
 */
const STORAGE = `
  (CASE WHEN c.relkind = 'p' THEN (SELECT md5(string_agg(l.oid || ':' || l.relfilenode, ',' ORDER BY l.oid)) FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid WHERE p.isleaf) ELSE c.relfilenode::text END)
  || '|' || (SELECT coalesce(string_agg(a.attnum || ':' || a.xmin, ',' ORDER BY a.attnum), '') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')
  || '|' || (SELECT coalesce(md5(string_agg(e.enumtypid || ':' || e.enumlabel, ',' ORDER BY e.enumtypid, e.enumsortorder)), '')
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_enum e ON e.enumtypid IN (t.oid, t.typelem, t.typbasetype)
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND t.typtype <> 'b' OR a.attrelid = c.oid AND a.attnum > 0 AND t.typcategory = 'A')`

/** The marks of tables alone, by oid: cheap enough to be asked often. */
export async function readStorage(connection: PgConnection, oids: readonly number[]): Promise<Map<number, string>> {
  if (oids.length === 0) return new Map()
  const rows = await connection.rows(`SELECT c.oid, ${STORAGE} FROM pg_class c WHERE c.oid IN (${oids.join(',')})`)
  return new Map(rows.map(([oid, mark]) => [Number(oid), mark ?? '']))
}

/** The names that tables go by now, by oid, quoted; without those that are gone. */
export async function readNames(connection: PgConnection, oids: readonly number[]): Promise<Map<number, string>> {
  if (oids.length === 0) return new Map()
  const rows = await connection.rows(
    `SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN (${oids.join(',')})`,
  )
  return new Map(rows.map(([oid, namespace, name]) => [Number(oid), qualifiedName({ namespace: namespace ?? '', name: name ?? '' })]))
}

const VISIBLE = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

/**
 * Reads tables from the catalog in a fixed number of queries, however many there are. `oids` null: every table that a
 * person made, outside `ownSchema`.
 */
export async function readCatalog(
  connection: PgConnection,
  ownSchema: string,
  oids: readonly number[] | null = null,
): Promise<CatalogTable[]> {
  const types = await TypeCatalog.load(connection)
  const tables = await readTables(connection, ownSchema, oids)
  if (tables.length === 0) return []
  const list = tables.map((table) => table.oid).join(',')
  const columns = await readColumns(connection, list, types)
  const indexes = await readIndexes(connection, list)
  const foreignKeys = await readForeignKeys(connection, list)
  const sequences = await readSequences(connection, list)
  return tables.map((table) => {
    const own = columns.get(table.oid) ?? { columns: [], computed: [] }
    const ownIndexes = indexes.get(table.oid) ?? []
    return assemble(table, own, ownIndexes, foreignKeys.get(table.oid) ?? [], sequences.get(table.oid) ?? [])
  })
}

/** The tables as the catalog has them now, by oid; without those that are gone. */
export async function catalogOf(
  connection: PgConnection,
  ownSchema: string,
  tables: readonly { readonly schema: TableSchema }[],
): Promise<Map<number, CatalogTable>> {
  const catalog = await readCatalog(
    connection,
    ownSchema,
    tables.map(({ schema }) => schema.relation),
  )
  return new Map(catalog.map((table) => [table.schema.relation, table]))
}

interface TableRow {
  readonly oid: number
  readonly namespace: string
  readonly name: string
  readonly kind: string
  readonly identity: string
  readonly persistence: string
  readonly rows: number
  readonly bytes: number
  readonly blocks: number
  readonly owned: boolean
  readonly selectable: boolean
  readonly leaves: readonly number[]
  readonly storage: string
  readonly dropped: readonly number[]
}

async function readTables(connection: PgConnection, ownSchema: string, oids: readonly number[] | null): Promise<TableRow[]> {
  const which = oids === null ? 'NOT c.relispartition' : `c.oid IN (${oids.length === 0 ? '0' : oids.join(',')})`
  const { rows } = await connection.execute(
    `SELECT c.oid, n.nspname, c.relname, c.relkind, c.relreplident, c.relpersistence,
            CASE WHEN c.relkind = 'p' THEN (SELECT sum(l.reltuples) FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid WHERE p.isleaf) ELSE c.reltuples END,
            CASE WHEN c.relkind = 'p' THEN (SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree(c.oid) p WHERE p.isleaf) ELSE pg_table_size(c.oid) END,
            CASE WHEN c.relkind = 'r' THEN pg_relation_size(c.oid) / current_setting('block_size')::int ELSE 0 END,
            pg_has_role(c.relowner, 'USAGE'), has_table_privilege(c.oid, 'SELECT'),
            CASE WHEN c.relkind = 'p' THEN (SELECT string_agg(p.relid::oid::text, ',') FROM pg_partition_tree(c.oid) p WHERE p.isleaf AND p.relid <> c.oid) ELSE c.oid::text END,
            ${STORAGE},
            (SELECT string_agg(a.attnum::text, ',') FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attisdropped)
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND ${VISIBLE} AND n.nspname <> $1 AND ${which}
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
      ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`,
    [ownSchema],
  )
  return rows.map((row) => ({
    oid: Number(row[0]),
    namespace: row[1] ?? '',
    name: row[2] ?? '',
    kind: row[3] ?? 'r',
    identity: row[4] ?? 'd',
    persistence: row[5] ?? 'p',
    rows: Number(row[6] ?? -1),
    bytes: Number(row[7] ?? -1),
    blocks: Number(row[8] ?? 0),
    owned: row[9] === 't',
    selectable: row[10] === 't',
    leaves: numbers(row[11]),
    storage: row[12] ?? '',
    dropped: numbers(row[13]),
  }))
}

function numbers(list: string | null | undefined): number[] {
  return (list ?? '').split(',').filter(Boolean).map(Number)
}

interface OwnColumns {
  readonly columns: Column[]
  readonly computed: ComputedColumn[]
}

async function readColumns(connection: PgConnection, list: string, types: TypeCatalog): Promise<Map<number, OwnColumns>> {
  const rows = await connection.rows(
    `SELECT a.attrelid, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid, a.atttypmod, a.attnotnull, a.attidentity, a.attgenerated,
            CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END, a.atthasmissing, pg_get_expr(d.adbin, d.adrelid)
       FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attrelid IN (${list}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum`,
  )
  const all = new Map<number, OwnColumns>()
  for (const row of rows) {
    const own = all.get(Number(row[0])) ?? { columns: [], computed: [] }
    all.set(Number(row[0]), own)
    const generated = row[8]
    if (generated === 's' || generated === 'v') {
      own.computed.push({
        name: row[2] ?? '',
        sourceType: row[3] ?? '',
        expression: row[11] ?? '',
        kind: generated === 's' ? 'stored' : 'virtual',
      })
    } else own.columns.push(toColumn(row, types))
  }
  return all
}

function toColumn(row: readonly (string | null)[], types: TypeCatalog): Column {
  return {
    name: row[2] ?? '',
    type: types.logicalType(Number(row[4]), Number(row[5])),
    nullable: row[6] !== 't',
    sourceType: row[3] ?? '',
    sourceTypeId: Number(row[4]),
    sourceTypeModifier: Number(row[5]),
    ordinal: Number(row[1]),
    generated: 'no',
    identity: row[7] === 'a' ? 'always' : row[7] === 'd' ? 'default' : 'no',
    ...(row[10] === 't' && row[9] !== null && row[9] !== undefined ? { missing: row[9] } : {}),
    ...(row[11] === null || row[11] === undefined ? {} : { default: row[11] }),
  }
}

interface IndexRow extends Index {
  readonly replicaIdentity: boolean
  readonly usable: boolean
}

async function readIndexes(connection: PgConnection, list: string): Promise<Map<number, IndexRow[]>> {
  const rows = await connection.rows(
    `SELECT i.indrelid, x.relname, i.indisunique, i.indisprimary, NOT i.indimmediate, i.indisreplident,
            (i.indpred IS NULL AND i.indexprs IS NULL),
            (SELECT string_agg(a.attname::text, E'\\x01' ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts),
            pg_get_indexdef(i.indexrelid), CASE WHEN con.contype IN ('x', 'u', 'p') THEN pg_get_constraintdef(con.oid) END, con.contype
       FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
       LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid AND con.conrelid = i.indrelid AND con.contype IN ('x', 'u', 'p')
      WHERE i.indrelid IN (${list}) AND i.indisvalid ORDER BY i.indrelid, x.relname COLLATE "C"`,
  )
  const all = new Map<number, IndexRow[]>()
  for (const row of rows) {
    const own = all.get(Number(row[0])) ?? []
    all.set(Number(row[0]), own)
    own.push(toIndex(row))
  }
  return all
}

function toIndex(row: readonly (string | null)[]): IndexRow {
  const deferrable = row[4] === 't'
  const definition = row[8] ?? ''
  const usable = row[6] === 't'
  const constraint = row[10] === 'x' || (row[10] !== null && deferrable) ? row[9] : null
  return {
    name: row[1] ?? '',
    unique: row[2] === 't',
    primary: row[3] === 't',
    deferrable,
    replicaIdentity: row[5] === 't',
    usable,
    columns: usable && row[7] !== null && row[7] !== undefined ? row[7].split('\x01') : null,
    ...(row[10] === 'u' && !deferrable ? { uniqueConstraint: true } : {}),
    definition: definition.slice(definition.search(/ USING [a-z_0-9]+ \(/) + 1),
    ...(constraint === null || constraint === undefined ? {} : { constraint }),
  }
}

async function readForeignKeys(connection: PgConnection, list: string): Promise<Map<number, ForeignKey[]>> {
  const rows = await connection.rows(
    `SELECT con.conrelid, con.conname, fn.nspname, f.relname, pg_get_constraintdef(con.oid),
            (SELECT string_agg(a.attname::text, E'\\x01' ORDER BY k.n) FROM unnest(con.conkey) WITH ORDINALITY k(attnum, n) JOIN pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.attnum),
            (SELECT string_agg(a.attname::text, E'\\x01' ORDER BY k.n) FROM unnest(con.confkey) WITH ORDINALITY k(attnum, n) JOIN pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.attnum)
       FROM pg_constraint con JOIN pg_class f ON f.oid = con.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
      WHERE con.contype = 'f' AND con.conparentid = 0 AND con.conrelid IN (${list}) ORDER BY con.conrelid, con.conname COLLATE "C"`,
  )
  const all = new Map<number, ForeignKey[]>()
  for (const row of rows) {
    const own = all.get(Number(row[0])) ?? []
    all.set(Number(row[0]), own)
    own.push({
      name: row[1] ?? '',
      columns: (row[5] ?? '').split('\x01'),
      references: { table: tableId(row[2] ?? '', row[3] ?? ''), columns: (row[6] ?? '').split('\x01') },
      definition: row[4] ?? '',
    })
  }
  return all
}

async function readSequences(connection: PgConnection, list: string): Promise<Map<number, Sequence[]>> {
  const rows = await connection.rows(
    `SELECT d.refobjid, a.attname, CASE WHEN has_sequence_privilege(s.seqrelid, 'SELECT,USAGE') THEN pg_sequence_last_value(s.seqrelid)::text END, s.seqincrement,
            concat_ws(' ', CASE WHEN s.seqincrement <> 1 THEN 'INCREMENT BY ' || s.seqincrement END,
              CASE WHEN s.seqincrement < 0 OR s.seqmin <> 1 THEN 'MINVALUE ' || s.seqmin END,
              CASE WHEN s.seqincrement < 0 OR s.seqmax <> CASE s.seqtypid WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 ELSE 9223372036854775807 END THEN 'MAXVALUE ' || s.seqmax END,
              CASE WHEN s.seqincrement < 0 OR s.seqstart <> 1 THEN 'START WITH ' || s.seqstart END, CASE WHEN s.seqcycle THEN 'CYCLE' END)
       FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
      WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND d.refobjid IN (${list})
      ORDER BY d.refobjid, a.attnum`,
  )
  const all = new Map<number, Sequence[]>()
  for (const row of rows) {
    const own = all.get(Number(row[0])) ?? []
    all.set(Number(row[0]), own)
    const options = row[4] ?? ''
    own.push({ column: row[1] ?? '', last: row[2] ?? null, increment: row[3] ?? '1', ...(options === '' ? {} : { options }) })
  }
  return all
}

function assemble(
  table: TableRow,
  own: OwnColumns,
  indexes: readonly IndexRow[],
  foreignKeys: readonly ForeignKey[],
  sequences: readonly Sequence[],
): CatalogTable {
  const schema: TableSchema = {
    id: tableId(table.namespace, table.name),
    namespace: table.namespace,
    name: table.name,
    columns: own.columns,
    key: keyOf(table.identity, own.columns, indexes),
    identity: identityOf(table.identity, indexes),
    indexes: indexes.map(({ replicaIdentity: _replica, usable: _usable, ...index }) => index),
    foreignKeys,
    sequences,
    ...(own.computed.length === 0 ? {} : { computed: own.computed }),
    estimate: { rows: Math.round(table.rows), bytes: table.bytes },
    relation: table.oid,
    ...(table.kind === 'p' ? { partitions: table.leaves } : {}),
    storage: table.storage,
    ...(table.dropped.length === 0 ? {} : { dropped: table.dropped }),
    dialect: 'postgres',
  }
  return {
    schema,
    partitioned: table.kind === 'p',
    leaves: table.leaves,
    persistence: table.persistence === 'u' ? 'unlogged' : 'permanent',
    blocks: table.blocks,
    owned: table.owned,
    selectable: table.selectable,
  }
}

/** What UPDATE and DELETE carry of the old row (relreplident), as far as it identifies it. */
function identityOf(replica: string, indexes: readonly IndexRow[]): TableSchema['identity'] {
  if (replica === 'f') return 'full'
  if (replica === 'i') return indexes.some((index) => index.replicaIdentity) ? 'index' : 'nothing'
  if (replica === 'd') return indexes.some((index) => index.primary && !index.deferrable) ? 'key' : 'nothing'
  return 'nothing'
}

/**
 * The columns that identify a row in the target: those that the log carries, if it carries any; else the primary key, else
 * a unique index over columns that cannot be null.
 */
function keyOf(replica: string, columns: readonly Column[], indexes: readonly IndexRow[]): number[] {
  const positions = (index: IndexRow | undefined): number[] | null => {
    if (index?.columns === null || index === undefined) return null
    const found = index.columns.map((name) => columns.findIndex((column) => column.name === name))
    return found.every((position) => position >= 0) ? found : null
  }
  const notNull = (index: IndexRow): boolean => positions(index)?.every((position) => columns[position]?.nullable === false) ?? false
  const chosen =
    (replica === 'i' ? indexes.find((index) => index.replicaIdentity) : undefined) ??
    indexes.find((index) => index.primary) ??
    indexes.find((index) => index.unique && index.usable && !index.deferrable && index.constraint === undefined && notNull(index))
  return positions(chosen) ?? []
}
