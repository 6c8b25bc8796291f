import { TailraceError } from '../../../sdk/errors.ts'
import { tablesOption } from '../../../sdk/selection.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import { qualify, quoteIdentifier, quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'

/** A column as the target has it. */
export interface TargetColumn {
  readonly name: string
  /** Type without modifier, to cast text to: with it, a cast would cut silently (`'abcdef'::varchar(3)`) where assignment complains. */
  readonly castType: string
  /** Type with its modifier, spelled as a PostgreSQL source spells it. */
  readonly fullType: string
  /** pg_type.typtype of the type, or of the element of an array: b, c, d, e, m, r. */
  readonly typeKind: string
  readonly builtIn: boolean
  readonly isArray: boolean
  /** `=` of the type, qualified where it is not in pg_catalog (citext): text comparison would miss the index. */
  readonly equals: string
  readonly notNull: boolean
  readonly hasDefault: boolean
  readonly identity: 'no' | 'always' | 'default'
  readonly generated: boolean
  readonly comment: string | null
}

export interface TargetIndex {
  readonly name: string
  /** Null when an expression or a condition is part of it. */
  readonly columns: readonly string[] | null
  readonly unique: boolean
  readonly primary: boolean
  readonly exclusion: boolean
  readonly deferrable: boolean
}

export interface TargetTrigger {
  readonly name: string
  /** pg_trigger.tgenabled: O fires on origin sessions, R on replica ones, A always. */
  readonly enabled: string
}

/** What the catalog says of a target table. Read once and again after every DDL of ours. */
export interface TargetTable {
  readonly sql: string
  readonly oid: number
  /** pg_class.relkind: r table, p partitioned, v view, f foreign … */
  readonly kind: string
  readonly rowSecurity: boolean
  readonly columns: ReadonlyMap<string, TargetColumn>
  readonly indexes: readonly TargetIndex[]
  /** Foreign keys from other tables or itself, by which rows of this one are referenced. */
  readonly referencedBy: readonly { readonly name: string; readonly table: string; readonly oid: number }[]
  readonly references: readonly { readonly name: string; readonly oid: number }[]
  /** Some constraint of the table can be deferred. */
  readonly deferrable: boolean
  readonly triggers: readonly TargetTrigger[]
}

export interface Place {
  readonly namespace: string
  readonly name: string
}

/** Where the rows go: `target`, with `public` for what comes from a system without namespaces. */
export function placeOf(table: SinkTable): Place {
  return { namespace: table.target.namespace ?? 'public', name: table.target.name }
}

export function targetSql(table: SinkTable): string {
  const place = placeOf(table)
  return qualify(place.namespace, place.name)
}

/** The target table, or null when there is none. */
export async function readTarget(connection: PgConnection, table: SinkTable): Promise<TargetTable | null> {
  const sql = targetSql(table)
  const [found] = await connection.rows(
    `SELECT c.oid, c.relkind, c.relrowsecurity FROM pg_class c WHERE c.oid = to_regclass(${quoteLiteral(sql)})`,
  )
  if (found === undefined) return null
  const oid = Number(found[0])
  const [columns, indexes, constraints, triggers] = await connection.query(
    [COLUMNS, INDEXES, CONSTRAINTS, TRIGGERS].map((text) => text.replaceAll('$oid', String(oid))).join(';\n'),
  )
  const own = constraints?.rows ?? []
  const parsed = (indexes?.rows ?? []).map(toIndex)
  return {
    sql,
    oid,
    kind: found[1] ?? 'r',
    rowSecurity: found[2] === 't',
    columns: new Map((columns?.rows ?? []).map((row) => [row[0] ?? '', toColumn(row)])),
    indexes: parsed,
    referencedBy: own.filter((row) => row[0] === 'in').map((row) => ({ name: row[1] ?? '', table: row[2] ?? '', oid: Number(row[3]) })),
    references: own.filter((row) => row[0] === 'out').map((row) => ({ name: row[1] ?? '', oid: Number(row[3]) })),
    deferrable: own.some((row) => row[4] === 't') || parsed.some((index) => index.deferrable),
    triggers: (triggers?.rows ?? []).map((row) => ({ name: row[0] ?? '', enabled: row[1] ?? 'O' })),
  }
}

export async function requireTarget(connection: PgConnection, table: SinkTable): Promise<TargetTable> {
  const target = await readTarget(connection, table)
  if (target !== null) return target
  throw new TailraceError('SCHEMA_CHANGED', `the target table ${targetSql(table)} for ${table.id} does not exist`, {
    path: table.id,
    hint: `it was dropped or renamed in the target; read it again: tailrace resnapshot <pipeline> ${tablesOption([table.id])}`,
  })
}

// format_type with modifier −1 gives names that cut nothing: bpchar, "bit", "char".
const COLUMNS = `
  SELECT a.attname, format_type(a.atttypid, -1), format_type(a.atttypid, a.atttypmod), coalesce(e.typtype, t.typtype),
         coalesce(e.typnamespace, t.typnamespace) = 'pg_catalog'::regnamespace, e.oid IS NOT NULL,
         CASE WHEN b.typtype = 'b' AND b.typnamespace <> 'pg_catalog'::regnamespace AND b.typcategory <> 'A' THEN quote_ident(n.nspname) END,
         a.attnotnull, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, a.attidentity, a.attgenerated, col_description(a.attrelid, a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END JOIN pg_namespace n ON n.oid = b.typnamespace
    LEFT JOIN pg_type e ON t.typcategory = 'A' AND e.oid = t.typelem
   WHERE a.attrelid = $oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

const INDEXES = `
  SELECT x.relname, i.indisunique, i.indisprimary, i.indisexclusion, NOT i.indimmediate, i.indpred IS NULL AND i.indexprs IS NULL,
         (SELECT string_agg(a.attname::text, E'\\x01' ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts)
    FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = $oid AND i.indisvalid ORDER BY x.relname`

const CONSTRAINTS = `
  SELECT CASE WHEN c.confrelid = $oid THEN 'in' END, c.conname, c.conrelid::regclass, c.conrelid::oid, c.condeferrable FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = $oid
  UNION ALL
  SELECT CASE WHEN c.contype = 'f' THEN 'out' END, c.conname, c.confrelid::regclass, c.confrelid::oid, c.condeferrable FROM pg_constraint c WHERE c.conrelid = $oid`

const TRIGGERS = `SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = $oid AND NOT tgisinternal AND tgenabled <> 'D' ORDER BY tgname`

function toColumn(row: readonly (string | null)[]): TargetColumn {
  return {
    name: row[0] ?? '',
    castType: row[1] ?? 'text',
    fullType: row[2] ?? 'text',
    typeKind: row[3] ?? 'b',
    builtIn: row[4] === 't',
    isArray: row[5] === 't',
    equals: row[6] === null || row[6] === undefined ? '=' : `OPERATOR(${row[6]}.=)`,
    notNull: row[7] === 't',
    hasDefault: row[8] === 't',
    identity: row[9] === 'a' ? 'always' : row[9] === 'd' ? 'default' : 'no',
    generated: row[10] !== '',
    comment: row[11] ?? null,
  }
}

function toIndex(row: readonly (string | null)[]): TargetIndex {
  return {
    name: row[0] ?? '',
    unique: row[1] === 't',
    primary: row[2] === 't',
    exclusion: row[3] === 't',
    deferrable: row[4] === 't',
    columns: row[5] === 't' && row[6] !== null && row[6] !== undefined ? row[6].split('\x01') : null,
  }
}

/** A unique index over exactly these columns, in any order: what a statement that finds rows by key needs. */
export function uniqueIndexOn(target: TargetTable, columns: readonly string[]): TargetIndex | undefined {
  return target.indexes.find(
    (index) => index.unique && index.columns?.length === columns.length && index.columns.every((name) => columns.includes(name)),
  )
}

/** Unique or exclusion constraints besides the key: rows that swap their values cannot be updated in place (TRAPS 33). */
export function hasOtherUniques(target: TargetTable, key: readonly string[]): boolean {
  const own = uniqueIndexOn(target, key)
  return target.indexes.some((index) => (index.unique || index.exclusion) && index !== own)
}

export function requireColumn(target: TargetTable, name: string): TargetColumn {
  const column = target.columns.get(name)
  if (column !== undefined) return column
  throw new TailraceError('SCHEMA_CHANGED', `the target table ${target.sql} has no column ${quoteIdentifier(name)}`, {
    path: target.sql,
    hint: `add the column in the target, or leave it out with --exclude`,
  })
}
