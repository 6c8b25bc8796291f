import type { ConnectorRegistry } from '../sdk/config/endpoint.ts'
import type { Connector } from '../sdk/connector.ts'

interface Entry {
  /** As the connector itself declares them (a test compares): known here so that nothing is loaded to tell a typo. */
  readonly schemes: readonly string[]
  load(): Promise<Connector>
}

/** The only list of connectors. Each is loaded when its scheme is first used: a copy should not wait for the others. */
const ENTRIES: readonly Entry[] = [
  { schemes: ['postgres', 'postgresql'], load: async () => (await import('./postgres/index.ts')).postgres },
  { schemes: ['duckdb'], load: async () => (await import('./duckdb/index.ts')).duckdb },
  { schemes: ['sqlite'], load: async () => (await import('./sqlite/index.ts')).sqlite },
  { schemes: ['/dev/null'], load: async () => (await import('./null/index.ts')).nullSink },
  { schemes: ['memory'], load: async () => (await import('./memory/index.ts')).memory },
]

export const connectors: ConnectorRegistry & { readonly all: () => Promise<readonly Connector[]> } = {
  schemes: ENTRIES.flatMap((entry) => entry.schemes),
  load: async (scheme) => (await ENTRIES.find((entry) => entry.schemes.includes(scheme))?.load()) ?? null,
  all: () => Promise.all(ENTRIES.map((entry) => entry.load())),
}
