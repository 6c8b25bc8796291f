import type { SinkCapabilities } from '../../sdk/sink.ts'

export const duckdbSinkCapabilities: SinkCapabilities = {
  commit: 'transactional',
  formats: ['csv', 'rows'],
  // Chunks are received at once; how many of them DuckDB reads at once is `threads`.
  parallelLoads: 4,
  delete: ['hard', 'soft'],
  truncate: true,
  schemaChanges: true,
  // A batch costs 4 to 16 ms before its first row, and above 10 k rows nothing more is gained (README).
  maxBatch: { rows: 20_000, bytes: 16 << 20 },
  limits: { identifierBytes: 1024, columns: 4096 },
}
