import type { TypeTable } from '../../sdk/sql/type-table.ts'

/**
 * How PostgreSQL stores what comes from other systems. A PostgreSQL source's own types are kept as they are: this table is
 * only asked where the target does not have the type (a domain, an extension that is not installed).
 */
export const POSTGRES_TYPES: TypeTable = [
  { logical: 'boolean', target: 'boolean', keeps: 'exact' },
  { logical: 'int8', target: 'smallint', keeps: 'exact' },
  { logical: 'int16', target: 'smallint', keeps: 'exact' },
  { logical: 'int32', target: 'integer', keeps: 'exact' },
  { logical: 'int64', target: 'bigint', keeps: 'exact' },
  { logical: 'uint8', target: 'smallint', keeps: 'exact' },
  { logical: 'uint16', target: 'integer', keeps: 'exact' },
  { logical: 'uint32', target: 'bigint', keeps: 'exact' },
  { logical: 'uint64', target: 'numeric(20,0)', keeps: 'exact' },
  { logical: 'float32', target: 'real', keeps: 'exact' },
  { logical: 'float64', target: 'double precision', keeps: 'exact' },
  {
    logical: 'decimal',
    when: {
      text: 'precision 1 to 1000, scale 0 to 1000',
      test: (type) =>
        type.kind === 'decimal' &&
        type.precision !== null &&
        type.precision >= 1 &&
        type.precision <= 1000 &&
        (type.scale ?? 0) >= 0 &&
        (type.scale ?? 0) <= 1000,
    },
    target: 'numeric({precision},{scale})',
    keeps: 'exact',
  },
  { logical: 'decimal', target: 'numeric', keeps: 'exact' },
  { logical: 'string', target: 'text', keeps: 'exact' },
  { logical: 'bytes', target: 'bytea', keeps: 'exact' },
  { logical: 'date', target: 'date', keeps: 'exact' },
  { logical: 'time', target: 'time without time zone', keeps: 'exact' },
  { logical: 'timetz', target: 'time with time zone', keeps: 'exact' },
  { logical: 'timestamp', target: 'timestamp without time zone', keeps: 'exact' },
  { logical: 'timestamptz', target: 'timestamp with time zone', keeps: 'exact' },
  { logical: 'interval', target: 'interval', keeps: 'exact' },
  { logical: 'uuid', target: 'uuid', keeps: 'exact' },
  { logical: 'json', target: 'jsonb', keeps: 'exact', note: 'key order and spaces are not kept; the value is' },
  { logical: 'document', target: 'jsonb', keeps: 'exact' },
  { logical: 'enum', target: 'text', keeps: 'text', note: 'the labels are kept, other labels are not refused' },
  { logical: 'array', target: '{element}[]', keeps: 'exact' },
  { logical: 'other', target: 'text', keeps: 'text', note: "the source's own text; install the type in the target to keep it" },
]
