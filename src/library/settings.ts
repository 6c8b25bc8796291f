import { parseTableName } from '../model/schema.ts'
import { didYouMean } from '../sdk/config/nearest.ts'
import { usage } from '../sdk/config/problems.ts'
import { splitOutsideQuotes } from '../sdk/config/values.ts'
import { LEAVE_OUT } from '../sdk/selection.ts'
import type { IfExists } from '../sdk/sink.ts'
import type { Selection } from '../sdk/source.ts'
import type { Transform } from '../sdk/transform.ts'
import type { Endpoint, Mode, PipelineOptions } from '../engine/options.ts'
import { loadTransform } from './transform-file.ts'

/** What a pipeline is to do: the options of `tailrace sync` in the library's spelling. Tables are named as a person types them. */
export interface PipelineSettings {
  /** Default: made of source and sink. */
  readonly name?: string
  /** Copy, then follow the changes until `signal` aborts. */
  readonly follow?: boolean
  /** Copy, follow up to there, then end. */
  readonly until?: 'caught-up' | { readonly position: string } | Date
  readonly snapshot?: 'initial' | 'never'
  /** Names or patterns with `*`; `!name` leaves one out. Default: all. */
  readonly tables?: readonly string[]
  /** Source table → target table. */
  readonly map?: Readonly<Record<string, string>>
  readonly columns?: Readonly<Record<string, readonly string[]>>
  /** `table.column`. */
  readonly exclude?: readonly string[]
  /** Table → condition in the source's SQL. */
  readonly where?: Readonly<Record<string, string>>
  readonly key?: Readonly<Record<string, readonly string[]>>
  /** A function, or the file of a module that exports one as `transform`. */
  readonly transform?: Transform | string
  readonly ifExists?: IfExists
  readonly schemaChanges?: 'evolve' | 'ignore' | 'stop'
  readonly deletes?: 'hard' | 'soft'
  readonly onError?: 'stop' | 'dead-letter'
  readonly workers?: number
}

const DEFAULT_WORKERS = 4
const MOST_WORKERS = 64

const KEYS: Readonly<Record<keyof PipelineSettings, true>> = {
  name: true,
  follow: true,
  until: true,
  snapshot: true,
  tables: true,
  map: true,
  columns: true,
  exclude: true,
  where: true,
  key: true,
  transform: true,
  ifExists: true,
  schemaChanges: true,
  deletes: true,
  onError: true,
  workers: true,
}

const CHOICES: Readonly<Record<string, readonly string[]>> = {
  snapshot: ['initial', 'never'],
  ifExists: ['stop', 'append', 'truncate', 'replace'],
  schemaChanges: ['evolve', 'ignore', 'stop'],
  deletes: ['hard', 'soft'],
  onError: ['stop', 'dead-letter'],
}

/** Settings, checked for form, as the engine takes them. Whether tables exist is found out by the source. */
export async function pipelineOptions(
  settings: PipelineSettings,
  ends: { source: Endpoint; sink: Endpoint },
  folder: string,
): Promise<PipelineOptions> {
  checkSettings(settings)
  const mode = modeOf(settings)
  if (settings.snapshot === 'never' && mode.kind === 'copy') {
    throw usage('without a snapshot and without following there is nothing to copy', 'add --follow or --until to --snapshot never')
  }
  return {
    name: settings.name ?? null,
    ...ends,
    mode,
    snapshot: settings.snapshot ?? 'initial',
    selection: selectionOf(settings),
    map: mapOf(settings.map ?? {}),
    transform: typeof settings.transform === 'string' ? await loadTransform(settings.transform, folder) : (settings.transform ?? null),
    ifExists: settings.ifExists ?? 'stop',
    schemaChanges: settings.schemaChanges ?? 'evolve',
    deletes: settings.deletes ?? 'hard',
    onRowError: settings.onError ?? 'stop',
    workers: settings.workers ?? DEFAULT_WORKERS,
  }
}

/** JavaScript callers have no type checker: a misspelt key would be ignored in silence. */
export function checkKeys(given: object, known: readonly string[]): void {
  for (const key of Object.keys(given)) {
    if (!known.includes(key)) throw usage(`there is no option \`${key}\``, didYouMean(key, known))
  }
}

export const SETTING_KEYS: readonly string[] = Object.keys(KEYS)

function checkSettings(settings: PipelineSettings): void {
  for (const [key, values] of Object.entries(CHOICES)) {
    const value: unknown = settings[key as keyof PipelineSettings]
    if (value === undefined || values.includes(String(value))) continue
    throw usage(`${key} must be one of ${values.join(', ')}`, didYouMean(String(value), values))
  }
  const { name, workers } = settings
  if (name !== undefined) checkPipelineName(name)
  if (workers !== undefined && !(Number.isInteger(workers) && workers >= 1 && workers <= MOST_WORKERS)) {
    throw usage(`workers must be a whole number from 1 to ${MOST_WORKERS}`)
  }
}

export function checkPipelineName(name: string): void {
  if (/^[\p{L}\p{N}_][\p{L}\p{N}_.-]{0,62}$/u.test(name)) return
  throw usage('a pipeline name is made of up to 63 letters, digits, `_`, `-` and `.`, and begins with a letter, a digit or `_`')
}

function modeOf(settings: PipelineSettings): Mode {
  const { until } = settings
  if (until === undefined) return { kind: settings.follow === true ? 'follow' : 'copy' }
  if (!(until instanceof Date)) return { kind: 'until', until }
  if (Number.isNaN(until.getTime())) throw usage('the time of `until` is no time')
  return { kind: 'until', until: { time: until.getTime() } }
}

function selectionOf(settings: PipelineSettings): Selection {
  const { tables = [], columns = {}, exclude = [], where = {}, key = {} } = settings
  for (const pattern of tables) checkTableName(pattern.startsWith(LEAVE_OUT) ? pattern.slice(LEAVE_OUT.length) : pattern)
  for (const name of [...Object.keys(columns), ...Object.keys(where), ...Object.keys(key)]) checkTableName(name)
  for (const [table, names] of [...Object.entries(columns), ...Object.entries(key)]) {
    if (names.length === 0 || names.some((name) => name === '')) throw usage(`no columns are named for the table ${table}`)
  }
  for (const [table, condition] of Object.entries(where))
    if (condition.trim() === '') throw usage(`the condition for the table ${table} is empty`)
  for (const pattern of exclude) checkColumnPattern(pattern)
  return {
    tables,
    columns: new Map(Object.entries(columns)),
    exclude,
    where: new Map(Object.entries(where)),
    keys: new Map(Object.entries(key)),
  }
}

function mapOf(map: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  const targets = new Map<string, string>()
  for (const [from, to] of Object.entries(map)) {
    checkTableName(from)
    checkTableName(to)
    const twin = targets.get(to)
    if (twin !== undefined) throw usage(`the tables ${twin} and ${from} are both mapped to ${to}`)
    targets.set(to, from)
  }
  return new Map(Object.entries(map))
}

export function checkTableName(name: string): void {
  if (parseTableName(name) !== null) return
  throw usage(
    `\`${name}\` is no table name`,
    'write table or schema.table; names with dots, commas or capitals in double quotes: public."My.Table"',
  )
}

function checkColumnPattern(pattern: string): void {
  const parts = splitOutsideQuotes(pattern, '.')
  if (parts.length === 2 || parts.length === 3) if (parts.every((part) => /^(?:"(?:[^"]|"")+"|[^"]+)$/.test(part.trim()))) return
  throw usage(`\`${pattern}\` names no column to leave out`, 'write table.column or schema.table.column')
}
