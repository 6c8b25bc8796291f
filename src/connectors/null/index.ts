import { z } from 'zod'
import type { StreamBatch } from '../../model/batch.ts'
import { defineConnector } from '../../sdk/connector.ts'
import type { Loader, Sink, SinkCapabilities } from '../../sdk/sink.ts'

const capabilities: SinkCapabilities = {
  commit: 'none',
  formats: ['pg-copy-binary', 'csv', 'rows'],
  parallelLoads: 16,
  delete: ['hard', 'soft'],
  truncate: true,
  schemaChanges: true,
  maxBatch: { rows: 50_000, bytes: 16 << 20 },
  limits: { identifierBytes: 1 << 16, columns: 1 << 16 },
}

/** Takes everything, in any format, and keeps nothing but a count: for measuring a source. */
export class NullSink implements Sink {
  /** Rows taken since it was opened, from chunks and from the stream. */
  rows = 0

  async check(): Promise<readonly []> {
    return []
  }

  async inspect(): Promise<'absent'> {
    return 'absent'
  }

  async applySchema(): Promise<void> {}

  async clear(): Promise<void> {}

  async load(): Promise<Loader> {
    let rows = 0
    return {
      write: async (frame) => {
        rows += frame.rows
      },
      finish: async () => {
        this.rows += rows
        return { rows }
      },
      [Symbol.asyncDispose]: async () => {},
    }
  }

  async write(batch: StreamBatch): Promise<void> {
    this.rows += batch.rows
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

export const nullSink = defineConnector({
  schemes: ['/dev/null'],
  title: 'Null',
  summary: 'Forgets every row: for measuring a source.',
  example: '/dev/null',
  config: z.strictObject({}),
  fromUri: () => ({}),
  identity: () => '/dev/null',
  sink: { capabilities, open: async () => new NullSink() },
})
