import type { VerifyProgress } from '../verify/verify.ts'
import { checkTableName, checkKeys, pipelineOptions, type PipelineSettings } from './settings.ts'
import { usage } from '../sdk/config/problems.ts'
import { References } from '../sdk/config/references.ts'
import { connectors } from '../connectors/index.ts'
import { chooseTables, EVERYTHING } from '../sdk/selection.ts'
import { pipelineIdentity } from '../engine/name.ts'
import { endpointFrom, type EndpointInput } from './endpoints.ts'
import { engine } from './engine.ts'
import { findState, openState, statePlace } from './environment.ts'
import { findPipeline, refuseOther, rememberedEndpoint } from './manage.ts'
import { libraryEnvironment, SURROUNDING_KEYS, type Surroundings } from './pipeline.ts'
import { loadTransform } from './transform-file.ts'
import type { VerifyReport, VerifyRequest } from './verification.ts'

type Selecting = Pick<PipelineSettings, 'tables' | 'map' | 'columns' | 'exclude' | 'where' | 'key'>

export interface VerifyOptions extends Selecting, Surroundings {
  /** A pipeline, which remembers its tables; without it, `source` and `sink` are compared as `sync` would copy them. */
  readonly name?: string
  readonly source?: EndpointInput
  readonly sink?: EndpointInput
  /** How many differing keys of a table are named. Default: 10. */
  readonly limit?: number
  /** Name the values that differ, too. */
  readonly showValues?: boolean
  /** The pipeline runs: what differs is looked at again at a common position. */
  readonly live?: boolean
  /** Have what differs read again by the pipeline that made the copy, then compare once more. */
  readonly repair?: boolean
  /** The pipeline's, for `repair`. */
  readonly transform?: PipelineSettings['transform']
  readonly onProgress?: (progress: VerifyProgress) => void
}

const SELECTING: readonly string[] = ['map', 'columns', 'exclude', 'where', 'key'] satisfies readonly (keyof Selecting)[]
const KEYS = [
  ...SELECTING,
  ...SURROUNDING_KEYS,
  'tables',
  'name',
  'source',
  'sink',
  'limit',
  'showValues',
  'live',
  'repair',
  'transform',
  'onProgress',
]

/** Compares both sides row by row. Resolves also when they differ: `ok` says so. Changes nothing without `repair`. */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  checkKeys(options, KEYS)
  const place = statePlace(options.state ?? null, process.cwd())
  const { found, store } = options.name === undefined ? await ofEnds(options) : await ofPipeline(options, options.name)
  await using open = store
  const { transform = null, limit = 10, showValues = false, live = false, repair = false, onProgress } = options
  const runs = (await open.find(found.pipeline?.name ?? pipelineIdentity({ name: null, ...found }).name))?.alive === true
  const request: VerifyRequest = {
    ...found,
    limit,
    showValues,
    live: live || (repair && runs),
    repair,
    transform: typeof transform === 'string' ? await loadTransform(transform, process.cwd()) : transform,
    ...(onProgress === undefined ? {} : { onProgress }),
  }
  return await engine.verifyPipeline(request, await libraryEnvironment(open, place, options))
}

type Found = Pick<VerifyRequest, 'source' | 'sink' | 'pipeline' | 'options'>

async function ofPipeline(options: VerifyOptions, name: string): Promise<{ found: Found; store: Awaited<ReturnType<typeof openState>> }> {
  const given = SELECTING.find((key) => options[key as keyof Selecting] !== undefined)
  if (given !== undefined) throw usage(`${given} means nothing for ${name}, which remembers how its tables are copied`)
  const { store, record } = await findPipeline(statePlace(options.state ?? null, process.cwd()), name)
  const references = new References({ variables: process.env })
  const end = async (role: 'source' | 'sink'): Promise<Found['source']> => {
    const input = options[role]
    if (input === undefined) return rememberedEndpoint(role, record, [], connectors, references)
    return refuseOther(role, await endpointFrom(input, role), record)
  }
  const known = (await store.tables(name)).filter(({ state }) => state !== 'removed')
  for (const table of options.tables ?? []) checkTableName(table)
  const chosen = chooseTables(
    known.map((table) => ({ ...table, names: [table.schema] })),
    { ...EVERYTHING, tables: options.tables ?? [] },
  )
  return { found: { source: await end('source'), sink: await end('sink'), pipeline: { name, tables: chosen }, options: null }, store }
}

async function ofEnds(options: VerifyOptions): Promise<{ found: Found; store: Awaited<ReturnType<typeof openState>> }> {
  const { tables, map, columns, exclude, where, key } = options
  const ends = { source: await needed(options, 'source'), sink: await needed(options, 'sink') }
  const settings = Object.fromEntries(
    Object.entries({ tables, map, columns, exclude, where, key }).filter(([, value]) => value !== undefined),
  )
  const store = (await findState(statePlace(options.state ?? null, process.cwd()))) ?? (await openState({ file: null }))
  return { found: { ...ends, pipeline: null, options: await pipelineOptions(settings, ends, process.cwd()) }, store }
}

function needed(options: VerifyOptions, role: 'source' | 'sink'): Promise<Found['source']> {
  const input = options[role]
  if (input === undefined) throw usage(`no ${role} is given, and no pipeline by its name`)
  return endpointFrom(input, role)
}
