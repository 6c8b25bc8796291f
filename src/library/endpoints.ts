import type { z } from 'zod'
import type { duckdb as duckdbConnector } from '../connectors/duckdb/index.ts'
import { connectors } from '../connectors/index.ts'
import type { memory as memoryConnector } from '../connectors/memory/index.ts'
import type { postgres as postgresConnector } from '../connectors/postgres/index.ts'
import type { sqlite as sqliteConnector } from '../connectors/sqlite/index.ts'
import { demandRole, loadConnector, resolveEndpoint, validateConfig, type Role } from '../sdk/config/endpoint.ts'
import { References } from '../sdk/config/references.ts'
import type { ConfigSchema, Connector } from '../sdk/connector.ts'
import type { Endpoint } from '../engine/options.ts'

/** A connector with options, typed by its schema. Made by `postgres({ … })` and its kin; opens nothing. */
export interface TypedEndpoint {
  readonly connector: () => Promise<Connector>
  readonly options: Readonly<Record<string, unknown>>
}

/** A URI as on the command line (`${env:NAME}` works), or a typed endpoint. */
export type EndpointInput = string | TypedEndpoint

/** For a connector of one's own: `endpoint(elastic, { url })`. */
export function endpoint<S extends ConfigSchema>(connector: Connector<S>, options: z.input<S>): TypedEndpoint {
  return { connector: async () => connector, options: options as Readonly<Record<string, unknown>> }
}

function byScheme<C extends { readonly config: ConfigSchema }>(scheme: string): (options: z.input<C['config']>) => TypedEndpoint {
  return (options) => ({ connector: () => loadConnector(scheme, connectors), options: options as Readonly<Record<string, unknown>> })
}

export const postgres = byScheme<typeof postgresConnector>('postgres')
export const duckdb = byScheme<typeof duckdbConnector>('duckdb')
export const sqlite = byScheme<typeof sqliteConnector>('sqlite')
export const memory = byScheme<typeof memoryConnector>('memory')
/** Takes everything and keeps nothing: for measuring a source. */
export const nullSink: TypedEndpoint = { connector: () => loadConnector('/dev/null', connectors), options: {} }

/** Checked and ready to be opened. Options come from the input alone: a library obeys no environment of its own accord. */
export async function endpointFrom(
  input: EndpointInput,
  role: Role,
  references = new References({ variables: process.env }),
): Promise<Endpoint> {
  if (typeof input === 'string') return await resolveEndpoint({ role, uri: input, flags: [], variables: {} }, connectors, references)
  const connector = await input.connector()
  demandRole(connector, role, connector.schemes[0] ?? connector.title)
  const config = validateConfig(connector, input.options, role)
  return { connector, config, label: connector.identity(config) }
}
