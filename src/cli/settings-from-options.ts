import { nearest } from '../sdk/config/nearest.ts'
import { usage } from '../sdk/config/problems.ts'
import { splitList, splitOutsideQuotes } from '../sdk/config/values.ts'
import type { PipelineSettings } from '../library/settings.ts'
import type { OptionValues } from './option-values.ts'

/** The flags of sync and plan as the library's settings. */
export function settingsFrom(options: OptionValues): PipelineSettings {
  const name = options.text('name')
  const until = options.text('until')
  const transform = options.text('transform')
  const workers = options.count('workers', 1, 64)
  return {
    ...(name === null ? {} : { name }),
    ...(until === null ? {} : { until: parseUntil(until) }),
    ...(transform === null ? {} : { transform }),
    ...(workers === null ? {} : { workers }),
    follow: options.flag('follow'),
    snapshot: options.choice('snapshot', 'initial'),
    tables: options.list('tables').flatMap(splitList),
    map: uniquePairs('map', options.list('map').flatMap(splitList)),
    columns: listPairs('columns', options.list('columns')),
    exclude: options.list('exclude').flatMap(splitList),
    where: uniquePairs('where', options.list('where')),
    key: listPairs('key', options.list('key')),
    ifExists: options.choice('if-exists', 'stop'),
    schemaChanges: options.choice('schema-changes', 'evolve'),
    deletes: options.choice('deletes', 'hard'),
    onError: options.choice('on-error', 'stop'),
  }
}

/** `caught-up`, a time that begins as ISO 8601 does, or a position, which only the source can judge. */
function parseUntil(text: string): NonNullable<PipelineSettings['until']> {
  if (text === 'caught-up') return text
  if (/^\d{4}-\d\d-\d\d([T ]|$)/.test(text)) return parseTime(text)
  const near = nearest(text, ['caught-up'])
  if (near !== null) throw usage('--until is neither `caught-up`, a position nor a time', `did you mean \`${near}\`?`)
  return { position: text }
}

function parseTime(text: string): Date {
  const time = new Date(text)
  // `new Date` takes 2026-02-30 for the second of March.
  const day = /^(\d{4})-(\d\d)-(\d\d)/.exec(text)!
  const real = new Date(Date.UTC(Number(day[1]), Number(day[2]) - 1, Number(day[3]))).getUTCDate() === Number(day[3])
  if (!Number.isNaN(time.getTime()) && real) return time
  throw usage('the time of --until is no time', 'write it as 2026-01-31T12:00:00Z')
}

/** `table=rest` at the first `=` outside double quotes. */
function splitPair(option: string, text: string): readonly [string, string] {
  const [first = '', ...rest] = splitOutsideQuotes(text, '=')
  const table = first.trim()
  const value = rest.join('=').trim()
  if (table === '' || value === '') throw usage(`--${option} wants a table, \`=\` and a value`, `--${option} ${EXAMPLES[option] ?? 't=…'}`)
  return [table, value]
}

const EXAMPLES: Readonly<Record<string, string>> = {
  map: 'public.orders=sales.orders',
  columns: 'orders=id,total',
  where: '"orders=total > 0"',
  key: 'events=tenant,id',
}

function uniquePairs(option: string, texts: readonly string[]): Readonly<Record<string, string>> {
  const pairs = new Map<string, string>()
  for (const text of texts) {
    const [table, value] = splitPair(option, text)
    if (pairs.has(table)) throw usage(`--${option} is given twice for the table ${table}`)
    pairs.set(table, value)
  }
  return Object.fromEntries(pairs)
}

function listPairs(option: string, texts: readonly string[]): Readonly<Record<string, readonly string[]>> {
  const pairs = uniquePairs(option, texts)
  return Object.fromEntries(Object.entries(pairs).map(([table, value]) => [table, splitList(value).map(unquote)]))
}

function unquote(name: string): string {
  return /^"(?:[^"]|"")+"$/.test(name) ? name.slice(1, -1).replaceAll('""', '"') : name
}
