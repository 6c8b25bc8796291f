/** How one column is rendered as text on both sides, so that equal values are equal texts and unequal ones are not. */
export interface CanonicalColumn {
  readonly name: string
  /** PostgreSQL's expression for COPY. */
  readonly inPostgres: string
  /** DuckDB's expression over what COPY wrote, a column of texts. */
  readonly fromCsv: string
  /** DuckDB's expression over the target's column. */
  readonly inDuckdb: string
}

/** Types whose texts differ between the two though the values are equal: both sides go through this type of DuckDB. */
const THROUGH: Readonly<Record<string, string>> = {
  real: 'FLOAT',
  'double precision': 'DOUBLE',
  'timestamp without time zone': 'TIMESTAMP',
  'timestamp with time zone': 'TIMESTAMPTZ',
  'time without time zone': 'TIME',
  interval: 'INTERVAL',
}

/** Lists are compared as JSON, their elements through these types; others as text. */
const ELEMENTS: Readonly<Record<string, string>> = {
  smallint: 'BIGINT',
  integer: 'BIGINT',
  bigint: 'BIGINT',
  real: 'FLOAT',
  'double precision': 'DOUBLE',
  boolean: 'BOOLEAN',
}

/**
 * The rule follows the source's type, never the target's, lest a target that is too coarse make both sides coarse; only a
 * target that keeps the source's own text (VARCHAR, JSON) is compared as text, whatever the type.
 */
export function canonical(name: string, sourceType: string, targetType: string): CanonicalColumn {
  const column = `"${name.replaceAll('"', '""')}"`
  const type = sourceType.replace(/\(\d+(,-?\d+)?\)/, '')
  const asText = { name, inPostgres: `${column}::text`, fromCsv: column, inDuckdb: `CAST(${column} AS VARCHAR)` }
  if (type === 'character') {
    // A cast to text would drop the padding; its output function does not.
    return { ...asText, inPostgres: `CASE WHEN ${column} IS NOT NULL THEN format('%s', ${column}) END` }
  }
  if (targetType === 'VARCHAR' || targetType === 'JSON') return asText
  if (type.endsWith('[]')) return list(asText, column, type.slice(0, -2))
  if (type === 'bytea') return { ...asText, inPostgres: `encode(${column}, 'hex')`, inDuckdb: `lower(hex(${column}))` }
  if (sourceType === 'numeric') return numeric(asText, column)
  const through = THROUGH[type]
  if (through === undefined) return asText
  const both = `CAST(CAST(${column} AS ${through}) AS VARCHAR)`
  return { ...asText, fromCsv: both, inDuckdb: both }
}

/** Bare `numeric` keeps as many zeros as were written, a DECIMAL as many as its scale says: the number counts. */
function numeric(asText: CanonicalColumn, column: string): CanonicalColumn {
  const text = `CAST(${column} AS VARCHAR)`
  const trimmed = `CASE WHEN contains(${text}, '.') THEN rtrim(rtrim(${text}, '0'), '.') ELSE ${text} END`
  return { ...asText, inPostgres: `trim_scale(${column})::text`, inDuckdb: trimmed }
}

function list(asText: CanonicalColumn, column: string, element: string): CanonicalColumn {
  const through = `${ELEMENTS[element] ?? 'VARCHAR'}[]`
  return {
    ...asText,
    inPostgres: `to_json(${column})::text`,
    fromCsv: `CAST(to_json(CAST(CAST(${column} AS JSON) AS ${through})) AS VARCHAR)`,
    inDuckdb: `CAST(to_json(CAST(${column} AS ${through})) AS VARCHAR)`,
  }
}
