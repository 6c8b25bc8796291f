import { z } from 'zod'
import type { ConnectorUri } from '../../sdk/connector.ts'
import { filePathOf } from '../../sdk/uri.ts'
import { canonicalPath } from './database.ts'

/** Every option of the connector. */
export const duckdbConfig = z.strictObject({
  path: z.string().min(1).describe('The database file. It is made where it is missing; its folder is not.'),
  memoryLimit: z.coerce
    .number()
    .int()
    .min(32e6)
    .optional()
    .meta({ unit: 'bytes' })
    .describe(
      'Memory for DuckDB, kept whatever happens. Default: 40 MB for narrow tables, 1.2 MB more for each column above 8, and more where big values or a transaction need it.',
    ),
  threads: z.coerce
    .number()
    .int()
    .min(1)
    .max(256)
    .default(2)
    .describe(
      'Threads of DuckDB; the second one helps tables of millions of rows. A snapshot runs one INSERT less than this at once (at least one), each on one thread.',
    ),
  primaryKeys: z
    .stringbool()
    .or(z.boolean())
    .default(false)
    .describe('Give tables a PRIMARY KEY. Changes then take up to twice as long and memory grows with the table.'),
  numeric: z
    .enum(['decimal', 'text'])
    .default('decimal')
    .describe(
      'How decimals of up to 38 digits are stored: `decimal` refuses NaN, `text` keeps everything as VARCHAR. Others are always text.',
    ),
  textColumns: z
    .array(z.string().min(1))
    .default([])
    .describe("Columns to keep as the source's text (VARCHAR): column, table.column, schema.table.column, table.*."),
  schema: z.string().min(1).default('tailrace').describe('Schema of our bookkeeping tables.'),
  releaseIdle: z.coerce
    .number()
    .min(0)
    .default(0)
    .meta({ unit: 's' })
    .describe('Seconds without work after which the file is closed, so that other processes can read it; 0 = never.'),
})

export type DuckDbConfig = z.infer<typeof duckdbConfig>

/** `duckdb:///abs/file.duckdb`, `duckdb:rel.duckdb`, `duckdb://./rel.duckdb`. */
export function duckdbFromUri(uri: ConnectorUri): Record<string, unknown> {
  return { path: filePathOf(uri) }
}

/** The same file is the same place, whatever folder the command was typed in. */
export function duckdbIdentity(config: DuckDbConfig): string {
  return `duckdb://${canonicalPath(config.path)}`
}
