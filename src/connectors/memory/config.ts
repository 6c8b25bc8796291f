import { z } from 'zod'
import type { ConnectorUri } from '../../sdk/connector.ts'
import { TailraceError } from '../../sdk/errors.ts'

export const memoryConfig = z.strictObject({
  database: z.string().min(1).describe('Name of the database within this process.'),
  chunkRows: z.coerce.number().int().min(1).default(1000).meta({ role: 'source' }).describe('Rows of a snapshot chunk.'),
})

export type MemoryConfig = z.infer<typeof memoryConfig>

/** `memory:name`. */
export function memoryFromUri(uri: ConnectorUri): Record<string, unknown> {
  const name = uri.path.replace(/^\//, '')
  if (uri.host !== '' || name === '')
    throw new TailraceError('USAGE', 'a memory URI names a database of this process and nothing else', { hint: 'memory:name' })
  return { database: name }
}
