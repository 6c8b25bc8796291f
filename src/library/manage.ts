import { tableId } from '../model/schema.ts'
import { pipelineIdentity } from '../engine/name.ts'
import type { Endpoint } from '../engine/options.ts'
import { connectors } from '../connectors/index.ts'
import { resolveEndpoint, type ConnectorRegistry, type GivenOption, type Role } from '../sdk/config/endpoint.ts'
import { nearest } from '../sdk/config/nearest.ts'
import { quoteWord, usage } from '../sdk/config/problems.ts'
import { References } from '../sdk/config/references.ts'
import { asTailraceError } from '../sdk/errors.ts'
import type { PipelineRecord, StateStore, TableRecord, TableState } from '../state/store.ts'
import { endpointFrom, type EndpointInput } from './endpoints.ts'
import { engine } from './engine.ts'
import type { ManageRequest } from '../engine/manage.ts'
import { findState, statePlace, type StatePlace } from './environment.ts'
import { libraryEnvironment, SURROUNDING_KEYS, type Surroundings } from './pipeline.ts'
import { checkKeys } from './settings.ts'
import { statusOf, type PipelineStatus } from './status.ts'

export interface ManageOptions extends Surroundings {
  /** Name of the pipeline; or its source and sink, which also say how to reach them. */
  readonly name?: string
  /** Null: it is gone; what is kept there stays. Default: the place as it is remembered, without a password. */
  readonly source?: EndpointInput | null
  readonly sink?: EndpointInput | null
}

export interface ManageResult {
  readonly ok: true
  readonly pipeline: string
  /** What was dropped, line by line. */
  readonly dropped: readonly string[]
}

/** A table of a pipeline, as `tailrace tables` shows it. */
export interface PipelineTable {
  readonly source: string
  readonly sink: string
  readonly state: TableState
  readonly key: readonly string[]
  readonly columns: readonly { readonly name: string; readonly type: string; readonly nullable: boolean }[]
}

/** The report last saved of one pipeline, with who runs it. */
export async function status(name: string, options: Pick<Surroundings, 'state'> = {}): Promise<PipelineStatus> {
  const { store, record } = await findPipeline(statePlace(options.state ?? null, process.cwd()), name)
  await using open = store
  return statusOf(record, await open.tables(name))
}

export async function tables(name: string, options: Pick<Surroundings, 'state'> = {}): Promise<readonly PipelineTable[]> {
  const { store } = await findPipeline(statePlace(options.state ?? null, process.cwd()), name)
  await using open = store
  return (await open.tables(name)).map(tableOf)
}

/** Forgets what was copied: the next sync starts over. */
export function reset(options: ManageOptions): Promise<ManageResult> {
  return manage(options, (request) => engine.resetPipeline(request))
}

/** Ends the pipeline: slot, publication, bookkeeping and state go, copied tables stay. */
export function remove(options: ManageOptions): Promise<ManageResult> {
  return manage(options, (request) => engine.removePipeline(request))
}

async function manage(options: ManageOptions, work: (request: ManageRequest) => Promise<readonly string[]>): Promise<ManageResult> {
  checkKeys(options, [...SURROUNDING_KEYS, 'name', 'source', 'sink'])
  const given = { source: await givenEndpoint(options, 'source'), sink: await givenEndpoint(options, 'sink') }
  const name = options.name ?? nameOf(given.source ?? null, given.sink ?? null)
  const place = statePlace(options.state ?? null, process.cwd())
  const { store, record } = await findPipeline(place, name)
  await using open = store
  const references = new References({ variables: process.env })
  const end = async (role: Role): Promise<Endpoint | null> => {
    const endpoint = given[role]
    if (endpoint === null) return null
    return endpoint === undefined ? await rememberedEndpoint(role, record, [], connectors, references) : refuseOther(role, endpoint, record)
  }
  const request = {
    name,
    source: await end('source'),
    sink: await end('sink'),
    environment: await libraryEnvironment(open, place, options),
  }
  return { ok: true, pipeline: name, dropped: await work(request) }
}

async function givenEndpoint(options: ManageOptions, role: Role): Promise<Endpoint | null | undefined> {
  const input = options[role]
  return input === undefined || input === null ? input : await endpointFrom(input, role)
}

/** The name of a pipeline between two places that was given none. */
export function nameOf(source: Endpoint | null, sink: Endpoint | null): string {
  if (source !== null && sink !== null) return pipelineIdentity({ name: null, source, sink }).name
  throw usage("a pipeline's name is needed, or its source and sink", 'tailrace status lists the pipelines')
}

/** A store that is open and knows the pipeline; a name that it does not know is told with the nearest. */
export async function findPipeline(place: StatePlace, name: string): Promise<{ store: StateStore; record: PipelineRecord }> {
  const store = await findState(place)
  if (store === null)
    throw usage(
      `there is no pipeline ${quoteWord(name)}: no state is kept here yet`,
      'give the state that it ran with by --state, or change to its folder',
    )
  try {
    const record = await store.find(name)
    if (record !== null) return { store, record }
    throw unknownPipeline(
      name,
      (await store.list()).map((one) => one.name),
    )
  } catch (error) {
    await store[Symbol.asyncDispose]()
    throw error
  }
}

function unknownPipeline(name: string, names: readonly string[]): Error {
  const near = nearest(name, names)
  const all = names.length === 0 ? 'there is none' : `there is ${names.slice(0, 12).join(', ')}`
  return usage(`there is no pipeline ${quoteWord(name)}`, near === null ? all : `did you mean \`${near}\`?`)
}

/** An endpoint that was given must be of the pipeline's own place: another would be robbed of its slot. */
export function refuseOther(role: Role, endpoint: Endpoint, record: PipelineRecord): Endpoint {
  if (endpoint.connector.identity(endpoint.config) === record[role]) return endpoint
  throw usage(
    `the ${role} of ${record.name} is ${labelOf(role, record)}, not what is given`,
    `leave the ${role} out, or name the pipeline that you mean`,
    role,
  )
}

/**
 * The place as the store remembers it: without a password, which comes from where the connector itself looks. A label
 * may be relative to another folder than this one, the identity is not; neither is taken when it leads elsewhere.
 */
export async function rememberedEndpoint(
  role: Role,
  record: PipelineRecord,
  flags: readonly GivenOption[],
  registry: ConnectorRegistry,
  references: References,
): Promise<Endpoint> {
  let reason = 'it leads elsewhere from here'
  for (const uri of new Set([labelOf(role, record), record[role]])) {
    try {
      const endpoint = await resolveEndpoint({ role, uri, flags, variables: {} }, registry, references)
      if (endpoint.connector.identity(endpoint.config) === record[role]) return endpoint
    } catch (error) {
      reason = asTailraceError(error).message
    }
  }
  const hint = `--${role} <uri> says how to reach it; --${role} none leaves what is kept there behind`
  throw usage(`the ${role} ${labelOf(role, record)} cannot be opened as it is remembered: ${reason}`, hint)
}

function labelOf(role: Role, record: PipelineRecord): string {
  return role === 'source' ? record.sourceLabel : record.sinkLabel
}

export function tableOf(table: TableRecord): PipelineTable {
  const { schema, target } = table
  return {
    source: table.id,
    sink: target.namespace === null ? target.name : tableId(target.namespace, target.name),
    state: table.state,
    key: schema.key.map((index) => schema.columns[index]?.name ?? ''),
    columns: schema.columns.map((column) => ({ name: column.name, type: column.sourceType, nullable: column.nullable })),
  }
}
