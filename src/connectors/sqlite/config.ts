import { resolve } from 'node:path'
import { z } from 'zod'
import type { ConnectorUri } from '../../sdk/connector.ts'
import { filePathOf } from '../../sdk/uri.ts'

/** Every option of the connector. */
export const sqliteConfig = z.strictObject({
  path: z.string().min(1).describe('The database file. It is made where it is missing; its folder is not.'),
  cacheMegabytes: z.coerce
    .number()
    .positive()
    .max(65_536)
    .default(32)
    .describe('Memory for pages. More of it makes scattered updates of a large table cheaper.'),
  walAutocheckpoint: z.coerce
    .number()
    .int()
    .min(100)
    .default(20_000)
    .describe('Pages of write-ahead log after which it is copied into the file.'),
  walLimitMegabytes: z.coerce
    .number()
    .positive()
    .default(256)
    .describe(
      'Size of the write-ahead log above which it is emptied by force between two batches, and reported where readers prevent that.',
    ),
  busyTimeout: z.coerce.number().positive().default(5).describe("Seconds to wait for another process's transaction."),
  decimals: z
    .enum(['text', 'real'])
    .default('text')
    .describe('How decimals are stored: `text` is exact, `real` can be computed with but rounds to 15-17 digits.'),
  indexes: z
    .enum(['none', 'plain'])
    .default('none')
    .describe(
      '`plain`: after the snapshot, make the indexes of the source that consist of columns only (never unique ones). The index of the key is always made.',
    ),
})

export type SqliteConfig = z.infer<typeof sqliteConfig>

/** `sqlite:///abs/file.db`, `sqlite:rel.db`, `sqlite://./rel.db`. */
export function sqliteFromUri(uri: ConnectorUri): Record<string, unknown> {
  return { path: filePathOf(uri) }
}

/** The same file is the same place, whatever folder the command was typed in. */
export function sqliteIdentity(config: SqliteConfig): string {
  return `sqlite://${resolve(config.path)}`
}
