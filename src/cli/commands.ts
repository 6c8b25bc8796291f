import { didYouMean } from '../sdk/config/nearest.ts'
import { quoteWord, usage } from '../sdk/config/problems.ts'
import { COMMON_OPTIONS } from './own-options.ts'
import type { CommandContext } from './context.ts'

export interface CommandSpec {
  readonly name: string
  readonly usage: string
  readonly summary: string
  /** `endpoints`: a source and a sink; `either`: those or a pipeline's name; `words`: plain arguments. */
  readonly operands: 'endpoints' | 'either' | 'words'
  /** Own options beyond the common ones. */
  readonly options: readonly string[]
  readonly examples: readonly string[]
  /** Imported when it runs: the start of one command should not wait for all of them. Gives the exit code. */
  load(): Promise<(context: CommandContext) => Promise<number>>
}

const ENDPOINTS = ['source', 'sink', 'name']
const WHAT = ['follow', 'until', 'snapshot', 'tables', 'map', 'columns', 'exclude', 'where', 'key', 'transform']
const HOW = ['if-exists', 'schema-changes', 'deletes', 'on-error', 'workers']

const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'sync',
    usage: '<source> <sink>',
    summary: 'copy once, consistently; with --follow go on with the changes',
    operands: 'endpoints',
    options: [...ENDPOINTS, ...WHAT, ...HOW, 'progress'],
    examples: [
      'tailrace sync postgres://app@db/shop duckdb:shop.db',
      'tailrace sync postgres://app@db/shop --slot shop_copy sqlite:shop.db --tables orders,items --follow',
      "tailrace sync 'postgres://app:${env:PASSWORD}@db/shop' /dev/null --until caught-up",
    ],
    load: async () => (await import('./sync.ts')).syncCommand,
  },
  {
    name: 'plan',
    usage: '<source> <sink>',
    summary: 'what sync would do, without doing it',
    operands: 'endpoints',
    options: [...ENDPOINTS, ...WHAT, ...HOW],
    examples: ['tailrace plan postgres://app@db/shop duckdb:shop.db --follow'],
    load: async () => (await import('./plan.ts')).planCommand,
  },
  {
    name: 'verify',
    usage: '<pipeline> | <source> <sink>',
    summary: 'whether both sides are equal, row by row; which keys differ; --repair mends them',
    operands: 'either',
    options: [
      ...ENDPOINTS,
      'tables',
      'map',
      'columns',
      'exclude',
      'where',
      'key',
      'live',
      'repair',
      'transform',
      'limit',
      'show-values',
      'progress',
    ],
    examples: [
      'tailrace verify shop',
      'tailrace verify shop --live --repair',
      'tailrace verify postgres://app@db/shop duckdb:shop.db --tables orders,items',
    ],
    load: async () => (await import('./verify.ts')).verifyCommand,
  },
  {
    name: 'why',
    usage: '<pipeline> <table> <key>…',
    summary: 'the story of one row: both sides, filter, dead letter, position, and what to do',
    operands: 'either',
    options: ENDPOINTS,
    examples: ['tailrace why shop orders 4711', 'tailrace why shop public.items 4711,3'],
    load: async () => (await import('./why.ts')).whyCommand,
  },
  {
    name: 'status',
    usage: '[pipeline]',
    summary: 'how a pipeline, or every one, is doing',
    operands: 'words',
    options: [],
    examples: ['tailrace status', 'tailrace status shop --json'],
    load: async () => (await import('./status.ts')).statusCommand,
  },
  {
    name: 'pause',
    usage: '<pipeline>',
    summary: 'let a running pipeline stop reading; it keeps its place',
    operands: 'words',
    options: ['wait'],
    examples: ['tailrace pause shop'],
    load: async () => (await import('./pause.ts')).pauseCommand,
  },
  {
    name: 'resume',
    usage: '<pipeline>',
    summary: 'let a paused pipeline go on',
    operands: 'words',
    options: ['wait'],
    examples: ['tailrace resume shop'],
    load: async () => (await import('./pause.ts')).resumeCommand,
  },
  {
    name: 'reset',
    usage: '<pipeline> | <source> <sink>',
    summary: 'start over: forget what was copied, so that the next sync copies everything',
    operands: 'either',
    options: ENDPOINTS,
    examples: ['tailrace reset shop'],
    load: async () => (await import('./reset.ts')).resetCommand,
  },
  {
    name: 'remove',
    usage: '<pipeline> | <source> <sink>',
    summary: 'end a pipeline: drop its slot, publication, bookkeeping and state; copied tables stay',
    operands: 'either',
    options: ENDPOINTS,
    examples: ['tailrace remove shop', "tailrace remove shop --source 'postgres://app:${env:PASSWORD}@db/shop'"],
    load: async () => (await import('./reset.ts')).removeCommand,
  },
  {
    name: 'tables',
    usage: '<pipeline> [add|remove <table>…]',
    summary: 'the tables of a pipeline; add or remove some',
    operands: 'words',
    options: [],
    examples: ['tailrace tables shop', 'tailrace tables shop add public.invoices'],
    load: async () => (await import('./tables.ts')).tablesCommand,
  },
  {
    name: 'resnapshot',
    usage: '<pipeline> [<table>…]',
    summary: 'read tables again from the source: all, or those that are named; --diff after lost history only what differs',
    operands: 'either',
    options: [...ENDPOINTS, 'tables', 'diff', 'transform', 'limit', 'show-values', 'progress'],
    examples: ['tailrace resnapshot shop', 'tailrace resnapshot shop --diff', 'tailrace resnapshot shop public.orders public.items'],
    load: async () => (await import('./resnapshot.ts')).resnapshotCommand,
  },
  {
    name: 'dlq',
    usage: 'list <pipeline> | show <pipeline> <id>',
    summary: 'the dead letters of a pipeline: rows that were refused, as they were',
    operands: 'words',
    options: ['limit', 'after'],
    examples: ['tailrace dlq list shop', 'tailrace dlq show shop 17'],
    load: async () => (await import('./dlq.ts')).dlqCommand,
  },
  {
    name: 'connectors',
    usage: '[name]',
    summary: 'what can be copied from and to; the options of one of them',
    operands: 'words',
    options: [],
    examples: ['tailrace connectors', 'tailrace connectors postgres'],
    load: async () => (await import('./connectors.ts')).connectorsCommand,
  },
]

export const COMMAND_SPECS: ReadonlyMap<string, CommandSpec> = new Map(COMMANDS.map((command) => [command.name, command]))

export function takesOption(command: CommandSpec, option: string): boolean {
  return command.options.includes(option) || COMMON_OPTIONS.includes(option)
}

export function looksLikeUri(text: string): boolean {
  return /^([a-z][a-z0-9+.-]*:|\/dev\/|\$\{)/i.test(text)
}

export function unknownCommand(word: string): Error {
  if (looksLikeUri(word)) return usage('no command is given before the URI', 'tailrace sync <source> <sink>')
  const near = didYouMean(word, [...COMMAND_SPECS.keys()], (name) => `tailrace ${name}`)
  return usage(`there is no command ${quoteWord(word)}`, near ?? 'tailrace --help lists the commands')
}
