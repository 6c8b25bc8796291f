import { formatType, keyOrder } from '../../../model/logical-type.ts'
import { columnAt } from '../../../model/schema.ts'
import type { Chunk, ChunkPlan, SourceTable } from '../../../sdk/source.ts'
import { qualifiedName, quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import type { CatalogTable } from './catalog.ts'

const BLOCK_BYTES = 8192
/** A key may cut the table when reading a range of it reads about that part of the heap. */
const LEAST_CORRELATION = 0.9
const MOST_CHUNKS = 20_000
const SAMPLED_BLOCKS_PER_CHUNK = 20

/**
 * Cuts a table (TRAPS 3, 4, 6): by ranges of its key where the heap lies in the key's order, so that after a crash only
 * unfinished ranges are read again; else by blocks of the heap, good for one view only; small tables stay whole.
 */
export async function planChunks(
  connection: PgConnection,
  table: SourceTable,
  catalog: CatalogTable,
  chunkBytes: number,
): Promise<ChunkPlan> {
  const { rows, bytes } = table.schema.estimate
  const count = Math.min(MOST_CHUNKS, Math.ceil((catalog.blocks * BLOCK_BYTES) / chunkBytes))
  if (catalog.partitioned) return { rule: 'table', reason: 'partitioned: read as one', chunks: [whole(rows, bytes)] }
  if (count < 2) return { rule: 'table', reason: 'small: one chunk', chunks: [whole(rows, bytes)] }
  const refusal = await refuseKeyRanges(connection, table)
  if (refusal !== null) return { rule: 'table', reason: refusal, chunks: heapChunks(catalog.blocks, count, rows, bytes) }
  const chunks = await keyChunks(connection, table, catalog.blocks, count)
  if (chunks.length < 2)
    return { rule: 'table', reason: 'the key has too few values to cut by', chunks: heapChunks(catalog.blocks, count, rows, bytes) }
  const key = columnAt(table.schema, table.schema.key[0] ?? 0).name
  return { rule: 'chunk', reason: `cut by ranges of ${key}, which lies in the order of the table`, chunks }
}

function whole(rows: number, bytes: number): Chunk {
  return { id: 0, range: { kind: 'all' }, rows, bytes }
}

/** Why key ranges will not do, or null. */
async function refuseKeyRanges(connection: PgConnection, { schema }: SourceTable): Promise<string | null> {
  const first = schema.key[0]
  if (first === undefined) return 'no key: cut by blocks, read again whole after a crash'
  const column = columnAt(schema, first)
  if (keyOrder(column.type) === null)
    return `the key begins with ${formatType(column.type)}, whose order only the server knows: cut by blocks, read again whole after a crash`
  const indexed = schema.indexes.some((index) => index.columns?.[0] === column.name)
  if (!indexed) return `no index begins with ${column.name}: cut by blocks, read again whole after a crash`
  const { rows } = await connection.execute(
    'SELECT abs(correlation) FROM pg_stats WHERE schemaname = $1 AND tablename = $2 AND attname = $3',
    [schema.namespace, schema.name, column.name],
  )
  const correlation = Number(rows[0]?.[0] ?? -1)
  if (correlation < 0) return `no statistics (ANALYZE ${schema.id} would allow key ranges): cut by blocks, read again whole after a crash`
  return correlation < LEAST_CORRELATION
    ? `${column.name} does not lie in the order of the table: cut by blocks, read again whole after a crash`
    : null
}

function heapChunks(blocks: number, count: number, rows: number, bytes: number): Chunk[] {
  const size = Math.ceil(blocks / count)
  return Array.from({ length: count }, (_, id) => ({
    id,
    // The last range is open: the table may grow until the view is taken, and after (TRAPS 6).
    range: { kind: 'heap', from: id * size, to: id === count - 1 ? null : (id + 1) * size },
    rows: rows < 0 ? -1 : Math.round(rows / count),
    bytes: bytes < 0 ? -1 : Math.round(bytes / count),
  }))
}

async function keyChunks(connection: PgConnection, table: SourceTable, blocks: number, count: number): Promise<Chunk[]> {
  const { schema } = table
  const column = columnAt(schema, schema.key[0] ?? 0)
  const percent = Math.min(100, Math.max(0.1, (100 * SAMPLED_BLOCKS_PER_CHUNK * count) / blocks))
  const fractions = Array.from({ length: count - 1 }, (_, i) => (i + 1) / count)
  const rows = await connection.rows(
    `SELECT bound::text FROM (SELECT DISTINCT unnest(percentile_disc(ARRAY[${fractions.join(',')}]::float8[]) WITHIN GROUP (ORDER BY ${quoteName(column.name)})) AS bound
       FROM ONLY ${qualifiedName(schema)} TABLESAMPLE SYSTEM (${percent.toFixed(3)}) REPEATABLE (0)) bounds WHERE bounds.bound IS NOT NULL ORDER BY bounds.bound`,
  )
  const bounds = rows.map((row) => row[0] ?? '')
  const { rows: allRows, bytes } = schema.estimate
  const chunks = bounds.length + 1
  return Array.from({ length: chunks }, (_, id) => ({
    id,
    range: {
      kind: 'key',
      column: column.name,
      from: id === 0 ? null : (bounds[id - 1] ?? null),
      to: id === bounds.length ? null : (bounds[id] ?? null),
    },
    rows: allRows < 0 ? -1 : Math.round(allRows / chunks),
    bytes: bytes < 0 ? -1 : Math.round(bytes / chunks),
  }))
}

/** The condition that a chunk is, in SQL. */
function chunkCondition(table: SourceTable, chunk: Chunk): string | null {
  const { range } = chunk
  switch (range.kind) {
    case 'all':
      return null
    case 'heap': {
      const from = `ctid >= '(${range.from},0)'::tid`
      return range.to === null ? from : `${from} AND ctid < '(${range.to},0)'::tid`
    }
    case 'key': {
      const column = table.schema.columns.find((each) => each.name === range.column)
      const type = column?.sourceType ?? 'text'
      const bound = (sign: string, value: string | null): string[] =>
        value === null ? [] : [`${quoteName(range.column)} ${sign} ${quoteText(value)}::${type}`]
      const parts = [...bound('>=', range.from), ...bound('<', range.to)]
      return parts.length === 0 ? null : parts.join(' AND ')
    }
    default:
      return range satisfies never
  }
}

/** `COPY (SELECT …) TO STDOUT` of a chunk with an explicit column list (TRAPS 8). */
export function copyCommand(table: SourceTable, chunk: Chunk, partitioned: boolean, format: 'binary' | 'text' | 'csv'): string {
  const columns = table.schema.columns.map((column) => quoteName(column.name)).join(', ')
  const conditions = [chunkCondition(table, chunk), table.where === null ? null : `(${table.where})`].filter((part) => part !== null)
  const where = conditions.length === 0 ? '' : ` WHERE ${conditions.join(' AND ')}`
  const from = `${partitioned ? '' : 'ONLY '}${qualifiedName(table.schema)}`
  return `COPY (SELECT ${columns} FROM ${from}${where}) TO STDOUT (FORMAT ${format})`
}
