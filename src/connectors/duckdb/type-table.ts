import type { LogicalType } from '../../model/logical-type.ts'
import { targetType, type TypeRule } from '../../sdk/sql/type-table.ts'

/**
 * A rule with the SQL that makes the value of its text; without one the text is cast to the type. Types are spelled as DuckDB's catalog
 * spells them.
 */
export interface DuckDbTypeRule extends TypeRule {
  /** `{value}` is a VARCHAR expression: the value as PostgreSQL writes it. */
  readonly from?: string
  /** Equal values of the type may differ in their text (-0 and 0, `1 mon` and `30 days`): whole rows are compared as text. */
  readonly compareAsText?: true
}

/**
 * Both ways into a target, snapshot and stream, hand DuckDB the source's text and this one expression (Invariant 7).
 *
 * TRAP: `'0044-03-15 BC'::DATE` is the year 44 AD, without an error; DuckDB writes `0044-03-15 (BC)`, year and era first.
 */
const ERA = String.raw`CASE WHEN suffix({value}, ' BC') THEN regexp_replace({value}, '^(\S+)(.*) BC$', '\1 (BC)\2') ELSE {value} END`
/** `-1 days +02:03:00`: DuckDB reads every part's own sign, but no plus. */
const NO_PLUS = "replace({value}, '+', '')"

export const DUCKDB_TYPES: readonly DuckDbTypeRule[] = [
  { logical: 'boolean', target: 'BOOLEAN', keeps: 'exact' },
  { logical: 'int8', target: 'TINYINT', keeps: 'exact' },
  { logical: 'int16', target: 'SMALLINT', keeps: 'exact' },
  { logical: 'int32', target: 'INTEGER', keeps: 'exact' },
  { logical: 'int64', target: 'BIGINT', keeps: 'exact' },
  { logical: 'uint8', target: 'UTINYINT', keeps: 'exact' },
  { logical: 'uint16', target: 'USMALLINT', keeps: 'exact' },
  { logical: 'uint32', target: 'UINTEGER', keeps: 'exact' },
  { logical: 'uint64', target: 'UBIGINT', keeps: 'exact' },
  { logical: 'float32', target: 'FLOAT', keeps: 'exact', compareAsText: true },
  { logical: 'float64', target: 'DOUBLE', keeps: 'exact', compareAsText: true },
  {
    logical: 'decimal',
    when: {
      text: 'precision 1 to 38, scale 0 to the precision',
      test: (type) =>
        type.kind === 'decimal' &&
        type.precision !== null &&
        type.precision >= 1 &&
        type.precision <= 38 &&
        (type.scale ?? 0) >= 0 &&
        (type.scale ?? 0) <= type.precision,
    },
    target: 'DECIMAL({precision},{scale})',
    keeps: 'narrowed',
    note: 'NaN is refused: --sink.numeric text keeps it',
  },
  {
    logical: 'decimal',
    target: 'VARCHAR',
    from: '{value}',
    keeps: 'text',
    note: 'DuckDB has no decimal without limits; cast it in queries',
  },
  { logical: 'string', target: 'VARCHAR', from: '{value}', keeps: 'exact' },
  { logical: 'bytes', target: 'BLOB', from: 'unhex(substr({value}, 3))', keeps: 'exact' },
  { logical: 'date', target: 'DATE', from: `CAST(${ERA} AS DATE)`, keeps: 'exact' },
  { logical: 'time', target: 'TIME', keeps: 'exact' },
  { logical: 'timetz', target: 'TIME WITH TIME ZONE', keeps: 'exact', compareAsText: true },
  {
    logical: 'timestamp',
    target: 'TIMESTAMP',
    from: `CAST(${ERA} AS TIMESTAMP)`,
    keeps: 'narrowed',
    note: 'after 294247-01-10 is refused',
  },
  {
    logical: 'timestamptz',
    target: 'TIMESTAMP WITH TIME ZONE',
    from: `CAST(${ERA} AS TIMESTAMPTZ)`,
    keeps: 'narrowed',
    note: 'after 294247-01-10 is refused',
  },
  {
    logical: 'interval',
    target: 'INTERVAL',
    from: `CAST(${NO_PLUS} AS INTERVAL)`,
    keeps: 'narrowed',
    note: 'a time part of 1,000,000,000 hours or more, and infinity, are refused',
    compareAsText: true,
  },
  { logical: 'uuid', target: 'UUID', keeps: 'exact' },
  {
    logical: 'json',
    target: 'JSON',
    keeps: 'narrowed',
    note: 'the text is kept as it is; half a surrogate pair (json, never jsonb) is refused',
  },
  { logical: 'document', target: 'JSON', keeps: 'exact' },
  { logical: 'enum', target: 'VARCHAR', from: '{value}', keeps: 'exact', note: 'an ENUM of DuckDB cannot get new values' },
  {
    logical: 'array',
    target: 'VARCHAR',
    from: '{value}',
    keeps: 'text',
    note: "dimensions and bounds differ from row to row; in queries: ('[' || a[2:-2] || ']')::INTEGER[]",
  },
  { logical: 'other', target: 'VARCHAR', from: '{value}', keeps: 'text' },
]

export interface TypeOptions {
  /** `text`: decimals are kept as text, NaN and all. */
  readonly numeric: 'decimal' | 'text'
}

const STRING: LogicalType = { kind: 'string' }

export interface ColumnType {
  readonly sql: string
  readonly rule: DuckDbTypeRule
}

/** DuckDB's type for a column. `asText`: the user wants its text. */
export function columnType(type: LogicalType, options: TypeOptions, asText = false): ColumnType {
  const wanted = asText || (options.numeric === 'text' && type.kind === 'decimal') ? STRING : type
  const { sql, rule } = targetType(DUCKDB_TYPES, wanted)
  return { sql, rule }
}

/** SQL for the value of a text. */
export function valueOf(type: ColumnType, text: string): string {
  return (type.rule.from ?? `CAST({value} AS ${type.sql})`).replaceAll('{value}', text)
}

const SIGNED = ['TINYINT', 'SMALLINT', 'INTEGER', 'BIGINT', 'HUGEINT']
const UNSIGNED = ['UTINYINT', 'USMALLINT', 'UINTEGER', 'UBIGINT', 'UHUGEINT']

/** Whether a column of one type holds every value of another as it is. DuckDB itself rounds what does not fit, without a word. */
export function holds(has: string, wanted: string): boolean {
  if (has === wanted) return true
  for (const order of [SIGNED, UNSIGNED]) if (order.includes(wanted) && order.indexOf(has) > order.indexOf(wanted)) return true
  if (UNSIGNED.includes(wanted)) return SIGNED.indexOf(has) > UNSIGNED.indexOf(wanted)
  const [before, after] = [decimal(wanted), decimal(has)]
  return before !== null && after !== null && after.scale >= before.scale && after.whole >= before.whole
}

function decimal(type: string): { whole: number; scale: number } | null {
  const [, precision, scale] = /^DECIMAL\((\d+),(\d+)\)$/.exec(type) ?? []
  return precision === undefined ? null : { whole: Number(precision) - Number(scale), scale: Number(scale) }
}
