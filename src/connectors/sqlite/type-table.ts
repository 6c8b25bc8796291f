import type { LogicalType } from '../../model/logical-type.ts'
import { targetType, type TypeRule } from '../../sdk/sql/type-table.ts'
import type { SqliteConfig } from './config.ts'

/** How the text of a cell becomes what is bound: numbers, so that the loop over cells switches on a small integer. */
export const Encoding = { integer: 0, unsigned: 1, boolean: 2, float: 3, text: 4, bytes: 5, timestamp: 6, timestamptz: 7 } as const
export type EncodingCode = (typeof Encoding)[keyof typeof Encoding]

/**
 * What a column is declared as. Tables are STRICT, so that a value that does not fit is an error and never bent to fit
 * by affinity (`'1.10'` → 1.1, 2^64-1 → 1.8e19): Invariants 6 and 7.
 */
export type DeclaredType = 'INTEGER' | 'TEXT' | 'BLOB' | 'ANY'

export interface SqliteRule extends TypeRule {
  readonly target: DeclaredType
  readonly encoding: EncodingCode
}

const INTEGER = { target: 'INTEGER', keeps: 'exact', encoding: Encoding.integer } as const
const TEXT = { target: 'TEXT', keeps: 'text', encoding: Encoding.text, note: "the source's own text" } as const
// ANY and not REAL: a REAL column stores -0.0 as the integer 0 (measured), and a STRICT one refuses the text 'NaN'.
const FLOAT = {
  target: 'ANY',
  keeps: 'exact',
  encoding: Encoding.float,
  note: "REAL; NaN is the text 'NaN' (SQLite has none), infinities are 9e999 and -9e999, -0.0 stays",
} as const
const TIMESTAMP_NOTE = "infinity, BC and years past 9999 as the source's own text"

export const SQLITE_TYPES: readonly SqliteRule[] = [
  { logical: 'boolean', target: 'INTEGER', keeps: 'exact', encoding: Encoding.boolean, note: '1 or 0' },
  { logical: 'int8', ...INTEGER },
  { logical: 'int16', ...INTEGER },
  { logical: 'int32', ...INTEGER },
  { logical: 'int64', ...INTEGER },
  { logical: 'uint8', ...INTEGER },
  { logical: 'uint16', ...INTEGER },
  { logical: 'uint32', ...INTEGER },
  {
    logical: 'uint64',
    target: 'ANY',
    keeps: 'exact',
    encoding: Encoding.unsigned,
    note: 'INTEGER up to 9223372036854775807, above it TEXT: SQLite has no larger integers',
  },
  { logical: 'float32', ...FLOAT, note: `${FLOAT.note}; the number nearest to the source's shortest text: 0.1, not 0.10000000149` },
  { logical: 'float64', ...FLOAT },
  {
    logical: 'decimal',
    target: 'TEXT',
    keeps: 'text',
    encoding: Encoding.text,
    note: 'exact, but it sorts and compares as text; `decimals: real` stores numbers',
  },
  { logical: 'string', target: 'TEXT', keeps: 'exact', encoding: Encoding.text, note: 'UTF-8, byte by byte' },
  { logical: 'bytes', target: 'BLOB', keeps: 'exact', encoding: Encoding.bytes },
  { logical: 'date', ...TEXT, note: "the source's own text: 2024-02-29" },
  { logical: 'time', ...TEXT, note: "the source's own text; 24:00:00 stays" },
  { logical: 'timetz', ...TEXT },
  {
    logical: 'timestamp',
    target: 'TEXT',
    keeps: 'text',
    encoding: Encoding.timestamp,
    note: `2024-02-29T12:34:56.123456; ${TIMESTAMP_NOTE}`,
  },
  {
    logical: 'timestamptz',
    target: 'TEXT',
    keeps: 'text',
    encoding: Encoding.timestamptz,
    note: `2024-02-29T12:34:56.123456Z; ${TIMESTAMP_NOTE}`,
  },
  { logical: 'interval', ...TEXT },
  { logical: 'uuid', ...TEXT, note: 'lower case with hyphens' },
  { logical: 'json', ...TEXT, note: 'exact text, for json_extract and ->>' },
  { logical: 'document', ...TEXT },
  { logical: 'enum', ...TEXT },
  { logical: 'array', ...TEXT, note: "the source's own text: {1,2,NULL}" },
  { logical: 'other', ...TEXT },
]

const REAL_DECIMALS: SqliteRule = {
  logical: 'decimal',
  target: 'ANY',
  keeps: 'narrowed',
  encoding: Encoding.float,
  note: "REAL, rounded to 15-17 digits; NaN is the text 'NaN'",
}

const TYPES_WITH_REAL: readonly SqliteRule[] = SQLITE_TYPES.map((rule) => (rule.logical === 'decimal' ? REAL_DECIMALS : rule))

export function typeTable(decimals: SqliteConfig['decimals']): readonly SqliteRule[] {
  return decimals === 'real' ? TYPES_WITH_REAL : SQLITE_TYPES
}

export function sqliteType(
  type: LogicalType,
  decimals: SqliteConfig['decimals'],
): { readonly declared: DeclaredType; readonly encoding: EncodingCode } {
  const { target, encoding } = targetType(typeTable(decimals), type).rule as SqliteRule
  return { declared: target, encoding }
}

/** Types whose single-column key becomes the rowid: no second tree, and rows loaded in key order are appended. */
const ROWID_KINDS: ReadonlySet<LogicalType['kind']> = new Set(['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32'])

export function isRowidKind(type: LogicalType): boolean {
  return ROWID_KINDS.has(type.kind)
}
