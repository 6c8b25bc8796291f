import assert from 'node:assert/strict'
import type { LogicalType } from '../model/logical-type.ts'
import { insert, schemaOf, update, type ColumnSpec, type Image } from './sink-batches.ts'
import type { SinkBench, SinkCase } from './sink-bench.ts'
import { framesOf, load } from './sink-load-cases.ts'

/** A column of hard values: each must arrive the same on every way (Invariant 7, CASE 26). */
export interface HardColumn {
  readonly name: string
  readonly type: LogicalType
  readonly sourceType: string
  readonly values: readonly string[]
}

const array = (element: LogicalType): LogicalType => ({ kind: 'array', element })

export const HARD_VALUES: readonly HardColumn[] = [
  { name: 'c_boolean', type: { kind: 'boolean' }, sourceType: 'boolean', values: ['t', 'f'] },
  { name: 'c_int8', type: { kind: 'int8' }, sourceType: 'tinyint', values: ['-128', '0', '127'] },
  { name: 'c_int16', type: { kind: 'int16' }, sourceType: 'smallint', values: ['-32768', '0', '32767'] },
  { name: 'c_int32', type: { kind: 'int32' }, sourceType: 'integer', values: ['-2147483648', '0', '2147483647'] },
  {
    name: 'c_int64',
    type: { kind: 'int64' },
    sourceType: 'bigint',
    values: ['-9223372036854775808', '9007199254740993', '-1', '9223372036854775807'],
  },
  { name: 'c_uint8', type: { kind: 'uint8' }, sourceType: 'tinyint unsigned', values: ['0', '255'] },
  { name: 'c_uint16', type: { kind: 'uint16' }, sourceType: 'smallint unsigned', values: ['0', '65535'] },
  { name: 'c_uint32', type: { kind: 'uint32' }, sourceType: 'integer unsigned', values: ['0', '4294967295'] },
  { name: 'c_uint64', type: { kind: 'uint64' }, sourceType: 'bigint unsigned', values: ['0', '18446744073709551615'] },
  {
    name: 'c_float32',
    type: { kind: 'float32' },
    sourceType: 'real',
    values: ['1.5', '-0', '3.4028235e+38', '1e-45', 'NaN', 'Infinity', '-Infinity', '0.1'],
  },
  {
    name: 'c_float64',
    type: { kind: 'float64' },
    sourceType: 'double precision',
    values: ['0.1', '-0', '1.7976931348623157e+308', '5e-324', 'NaN', 'Infinity', '-Infinity', '123456789012345680'],
  },
  {
    name: 'c_decimal',
    type: { kind: 'decimal', precision: 38, scale: 10 },
    sourceType: 'numeric(38,10)',
    values: [
      '0.0000000000',
      '-0.0000000001',
      '9999999999999999999999999999.9999999999',
      '-9999999999999999999999999999.9999999999',
      '1.5000000000',
    ],
  },
  {
    name: 'c_numeric',
    type: { kind: 'decimal', precision: null, scale: null },
    sourceType: 'numeric',
    values: ['1', '1.0', '1.00', 'NaN', 'Infinity', '-Infinity', `-${'7'.repeat(80)}.${'3'.repeat(60)}`],
  },
  {
    name: 'c_string',
    type: { kind: 'string' },
    sourceType: 'text',
    values: [
      '',
      ' ',
      'null',
      'NULL',
      '\\N',
      '\\',
      '\\.',
      '"',
      "'",
      '""',
      "it's; -- /* */ $1 ? :a",
      'a,b\tc',
      'line\nline\r\nline\r',
      '\u0001\u001f\u007f\u0085\u2028\ufeff',
      'ß 表 🚲 e\u0301',
      'x'.repeat(100_000),
    ],
  },
  {
    name: 'c_bytes',
    type: { kind: 'bytes' },
    sourceType: 'bytea',
    values: ['\\x', '\\x00', '\\x00ff0a0d5c27227c2c', `\\x${'5c'.repeat(3000)}`],
  },
  {
    name: 'c_date',
    type: { kind: 'date' },
    sourceType: 'date',
    values: ['2024-02-29', '0001-01-01', '9999-12-31', '12024-01-01', '0044-03-15 BC', 'infinity', '-infinity'],
  },
  { name: 'c_time', type: { kind: 'time' }, sourceType: 'time', values: ['00:00:00', '24:00:00', '23:59:59.999999', '12:00:00.1'] },
  {
    name: 'c_timetz',
    type: { kind: 'timetz' },
    sourceType: 'time with time zone',
    values: ['00:00:00+00', '24:00:00-15:59', '23:59:59.999999+05:30'],
  },
  {
    name: 'c_timestamp',
    type: { kind: 'timestamp' },
    sourceType: 'timestamp',
    values: [
      '2024-02-29 12:34:56.123456',
      '1969-12-31 23:59:59.999999',
      '2024-01-01 00:00:00',
      '12024-01-01 00:00:00.5',
      '0044-03-15 12:00:00 BC',
      'infinity',
      '-infinity',
    ],
  },
  {
    name: 'c_timestamptz',
    type: { kind: 'timestamptz' },
    sourceType: 'timestamp with time zone',
    values: [
      '2024-02-29 12:34:56.123456+00',
      '1969-12-31 23:59:59.999999+00',
      '0001-01-01 00:00:00+00',
      '0044-03-15 12:00:00+00 BC',
      'infinity',
      '-infinity',
    ],
  },
  {
    name: 'c_interval',
    type: { kind: 'interval' },
    sourceType: 'interval',
    values: ['00:00:00', '1 year 2 mons -3 days +04:05:06.789', '-1 days', '00:00:00.000001', '-178000000 years'],
  },
  {
    name: 'c_uuid',
    type: { kind: 'uuid' },
    sourceType: 'uuid',
    values: ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '123e4567-e89b-12d3-a456-426614174000'],
  },
  {
    name: 'c_json',
    type: { kind: 'json' },
    sourceType: 'json',
    values: ['null', '""', '{"b":1,  "a":  [1.0, 1e400, 12345678901234567890], "a": "twice"}', '"\\ud83d\\udeb2 \\" \\\\ \\n"', '{}'],
  },
  { name: 'c_jsonb', type: { kind: 'json' }, sourceType: 'jsonb', values: ['null', '{"a": [1.0, 12345678901234567890], "b": "ü"}', '[]'] },
  { name: 'c_document', type: { kind: 'document' }, sourceType: 'document', values: ['{"a": {"b": [true, null]}}', '{}'] },
  { name: 'c_enum', type: { kind: 'enum', name: 'mood', values: ['sad', "it's", ''] }, sourceType: 'mood', values: ['sad', "it's", ''] },
  { name: 'c_other', type: { kind: 'other', name: 'tsvector' }, sourceType: 'tsvector', values: ["'a':1 'it''s':2A", ''] },
  {
    name: 'c_ints',
    type: array({ kind: 'int32' }),
    sourceType: 'integer[]',
    values: ['{}', '{1,NULL,-3}', '{{1,2},{3,4}}', '[0:2]={1,2,3}', '[-1:0][2:3]={{1,2},{3,NULL}}'],
  },
  {
    name: 'c_longs',
    type: array({ kind: 'int64' }),
    sourceType: 'bigint[]',
    values: ['{9223372036854775807,-9223372036854775808}', '{NULL}'],
  },
  {
    name: 'c_texts',
    type: array({ kind: 'string' }),
    sourceType: 'text[]',
    values: ['{}', '{a,"b c","d,e","f\\"g","h\\\\i",NULL,"NULL","","{}","\n"}', '{{a,b},{NULL,"null"}}'],
  },
  { name: 'c_bools', type: array({ kind: 'boolean' }), sourceType: 'boolean[]', values: ['{t,f,NULL}'] },
  { name: 'c_bytes_array', type: array({ kind: 'bytes' }), sourceType: 'bytea[]', values: ['{"\\\\x00ff","\\\\x",NULL}'] },
  { name: 'c_floats', type: array({ kind: 'float64' }), sourceType: 'double precision[]', values: ['{NaN,-0,Infinity,0.1,NULL}'] },
]

/** Kinds that every system stores without another spelling. */
const EXACT: readonly LogicalType['kind'][] = ['int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'string', 'uuid']

/** Row n holds the n-th value of each column; where a column has no more, null. */
function rowsOf(columns: readonly HardColumn[]): Image[] {
  const count = Math.max(...columns.map((column) => column.values.length)) + 1
  return Array.from({ length: count }, (_, n) => [String(n), ...columns.map((column) => column.values[n] ?? null)])
}

const id: ColumnSpec = { name: 'id', type: { kind: 'int32' } }

async function compareWays(bench: SinkBench, columns: readonly HardColumn[]): Promise<void> {
  const [loaded, written, updated] = ['loaded', 'written', 'updated'].map((name) =>
    schemaOf({ name, columns: [id, ...columns], key: ['id'] }),
  ) as [never, never, never]
  const rows = rowsOf(columns)
  await bench.start(loaded, written, updated)
  await load(bench, loaded, { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 }, framesOf(loaded, rows))
  await bench.commit(...rows.map((row) => insert(written, row)))
  await bench.commit(...rows.map((row) => insert(updated, [row[0], ...columns.map(() => null)])))
  await bench.commit(...rows.map((row) => update(updated, row)))
  const found = await bench.target.rows(bench.table(loaded))
  await bench.expect(written, found, 'rows from the stream differ from rows of the snapshot')
  await bench.expect(updated, found, 'updated rows differ from rows of the snapshot')
  assert.equal(found.length, rows.length)
  const byId = new Map(found.map((row) => [row['id'], row]))
  const exact = bench.options.exact ?? EXACT
  for (const [n, row] of rows.entries())
    columns.forEach((column, index) => expectValue(byId.get(String(n))?.[column.name], row[index + 1], column, exact))
}

function expectValue(
  found: string | null | undefined,
  given: string | null | undefined,
  column: HardColumn,
  exact: readonly LogicalType['kind'][],
): void {
  const what = `${column.name} of ${String(given).slice(0, 60)}`
  assert.equal(found === null, given === null, `${what}: only null is null`)
  if (exact.includes(column.type.kind)) assert.equal(found, given, what)
}

export const valueCases: readonly SinkCase[] = HARD_VALUES.map((column): SinkCase => ({
  title: `values of ${column.sourceType} are the same from snapshot, insert and update (CASE 26)`,
  run: (bench) => compareWays(bench, [column]),
})).concat({
  title: 'values of every type in one table are the same from snapshot, insert and update (CASE 26)',
  run: (bench) => compareWays(bench, HARD_VALUES),
})
