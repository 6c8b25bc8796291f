import type { SinkCapabilities } from '../../sdk/sink.ts'

export const postgresSinkCapabilities: SinkCapabilities = {
  commit: 'transactional',
  formats: ['pg-copy-binary', 'csv', 'rows'],
  parallelLoads: 8,
  delete: ['hard', 'soft'],
  truncate: true,
  schemaChanges: true,
  // Nothing is gained above 10,000 changes (APPLY.md rule 2).
  maxBatch: { rows: 10_000, bytes: 8 << 20 },
  limits: { identifierBytes: 63, columns: 1600 },
}
