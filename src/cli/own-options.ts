import type { ValueShape } from '../sdk/config/values.ts'

/** An option of the command line itself. It stands anywhere on the line; no connector may declare its name. */
export interface OwnOption {
  readonly name: string
  /** A switch takes no value; a repeated `list` adds up; anything else may be given once. */
  readonly form: 'switch' | 'value' | 'list'
  readonly placeholder: string
  readonly summary: string
  readonly shape: ValueShape
  /** Shown by --help. */
  readonly standard: string
}

const TEXT: ValueShape = { kind: 'string' }
const choice = (...values: readonly string[]): ValueShape => ({ kind: 'enum', values })

function declare(
  name: string,
  form: OwnOption['form'],
  placeholder: string,
  summary: string,
  shape: ValueShape = TEXT,
  standard = '',
): OwnOption {
  return { name, form, placeholder, summary, shape: form === 'switch' ? { kind: 'boolean' } : shape, standard }
}

const WHOLE: ValueShape = { kind: 'integer', unit: null }

const OPTIONS: readonly OwnOption[] = [
  declare('source', 'value', '<uri>', 'the source, instead of the first argument'),
  declare('sink', 'value', '<uri>', 'the sink, instead of the second argument'),
  declare('follow', 'switch', '', 'copy, then follow the changes until stopped'),
  declare('until', 'value', 'caught-up|<position>|<time>', 'copy, follow up to there, then end; what is kept upstream is named'),
  declare('snapshot', 'value', 'initial|never', 'whether to copy what is there', choice('initial', 'never'), 'initial'),
  declare('tables', 'list', '<a,b.*>', 'tables to take; * stands for any part of a name, !t leaves one out', TEXT, 'all'),
  declare('map', 'list', '<old.t=new.t>', 'another name in the sink'),
  declare('columns', 'list', '<t=a,b>', 'columns to take of a table'),
  declare('exclude', 'list', '<t.c>', 'columns to leave out'),
  declare('where', 'list', "<t='…'>", "rows to take of a table, as the source's SQL"),
  declare('key', 'list', '<t=a,b>', 'columns that identify a row of a table without a primary key'),
  declare('transform', 'value', '<file.ts>', 'a module that exports `transform`'),
  declare(
    'if-exists',
    'value',
    'stop|append|truncate|replace',
    'what to do with rows that a target table holds already',
    choice('stop', 'append', 'truncate', 'replace'),
    'stop',
  ),
  declare(
    'schema-changes',
    'value',
    'evolve|ignore|stop',
    'what to do when a table changes its columns',
    choice('evolve', 'ignore', 'stop'),
    'evolve',
  ),
  declare('deletes', 'value', 'hard|soft', 'whether a deleted row goes or is marked', choice('hard', 'soft'), 'hard'),
  declare('on-error', 'value', 'stop|dead-letter', 'what a row that is refused does', choice('stop', 'dead-letter'), 'stop'),
  declare('workers', 'value', '<n>', 'parallel readers of the snapshot', WHOLE, '4'),
  declare('name', 'value', '<name>', 'name of the pipeline', TEXT, 'made of source and sink'),
  declare('live', 'switch', '', 'compare while the pipeline runs: what differs is looked at again at a common position'),
  declare('diff', 'switch', '', 'follow the source anew and read only again what differs, the target stays readable'),
  declare('repair', 'switch', '', 'have what differs read again, then compare once more'),
  declare('show-values', 'switch', '', 'show the values that differ, not only the columns'),
  declare('limit', 'value', '<n>', 'most entries to show', WHOLE, '100'),
  declare('after', 'value', '<id>', 'show entries after this one', WHOLE),
  declare('wait', 'value', '<duration>', 'how long to wait until the runner has done it', { kind: 'number', unit: 's' }, '30s'),
  declare('state', 'value', '<uri>', 'where pipelines are remembered: a file, sqlite:<file> or memory:', TEXT, './.tailrace/state.db'),
  declare('json', 'switch', '', 'print exactly one JSON object on stdout at the end'),
  declare('progress', 'value', 'auto|plain|json|none', 'how to show progress on stderr', choice('auto', 'plain', 'json', 'none'), 'auto'),
  declare('log-level', 'value', 'debug|info|warn|error|silent', 'what to log', choice('debug', 'info', 'warn', 'error', 'silent'), 'info'),
  declare('log-format', 'value', 'text|json', 'how to log', choice('text', 'json'), 'text'),
  declare('help', 'switch', '', 'show this'),
  declare('version', 'switch', '', 'show the version'),
]

export const OWN_OPTIONS: ReadonlyMap<string, OwnOption> = new Map(OPTIONS.map((one) => [one.name, one]))

/** Of every command. */
export const COMMON_OPTIONS: readonly string[] = ['state', 'json', 'log-level', 'log-format', 'help', 'version']
export const SHORT_OPTIONS: Readonly<Record<string, string>> = { h: 'help', v: 'version', V: 'version' }

/** `TAILRACE_IF_EXISTS`: below the flag, above the default. Only what a whole environment may share has one. */
export function variableOf(option: OwnOption): string | null {
  if (['help', 'version', 'limit', 'after'].includes(option.name)) return null
  return `TAILRACE_${option.name.replaceAll('-', '_').toUpperCase()}`
}
