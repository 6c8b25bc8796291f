import { COMMAND_SPECS, type CommandSpec } from './commands.ts'
import { COMMON_OPTIONS, OWN_OPTIONS, variableOf } from './own-options.ts'

/** The page of one command, or of all. */
export function helpText(command: CommandSpec | null): string {
  return command === null ? overview() : commandPage(command)
}

/** The same for programs. */
export function helpData(command: CommandSpec | null): object {
  if (command !== null) return { ...commandData(command), options: [...command.options, ...COMMON_OPTIONS].map(optionData) }
  return { commands: [...COMMAND_SPECS.values()].map(commandData), options: COMMON_OPTIONS.map(optionData) }
}

function commandData({ name, usage, summary, examples }: CommandSpec): object {
  return { name, usage, summary, examples }
}

function optionData(name: string): object {
  const option = OWN_OPTIONS.get(name)!
  const { form, placeholder, summary, standard } = option
  return { name, form, placeholder, summary, default: standard === '' ? null : standard, variable: variableOf(option) }
}

function overview(): string {
  const commands = columns([...COMMAND_SPECS.values()].map((one) => [`${one.name} ${one.usage}`, one.summary]))
  return [
    'Usage: tailrace <command> …',
    '',
    'Copies data between systems and keeps the copy in step: a consistent snapshot, then the change stream.',
    '',
    'Commands:',
    ...commands,
    '',
    'Options of every command:',
    ...optionLines(COMMON_OPTIONS),
    '',
    'Source and sink are URIs: postgres://user@host/database, duckdb:file.db, sqlite:file.db, /dev/null.',
    'Passwords: ${env:NAME} or ${file:/path} in the URI, PGPASSWORD or ~/.pgpass; what stands on the command line can be',
    'seen by others for a moment.',
    VARIABLE_NOTE,
    '',
    'tailrace <command> --help, tailrace connectors <name>',
    '',
  ].join('\n')
}

function commandPage(command: CommandSpec): string {
  const lines = [`Usage: tailrace ${command.name} ${command.usage} [options]`, '', sentence(command.summary), '']
  if (command.options.length > 0) lines.push('Options:', ...optionLines(command.options), '')
  lines.push('Options of every command:', ...optionLines(COMMON_OPTIONS), '')
  lines.push(VARIABLE_NOTE, '')
  if (command.operands !== 'words') lines.push(...CONNECTOR_NOTE, '')
  lines.push('Examples:', ...command.examples.map((example) => `  ${example}`), '')
  return lines.join('\n')
}

const VARIABLE_NOTE = 'Environment: --if-exists is TAILRACE_IF_EXISTS, and so on; a flag wins over its variable.'

const CONNECTOR_NOTE: readonly string[] = [
  'An option of a connector follows its URI (--slot x), stands in it (?slot=x), or names its side (--source.slot x,',
  '--sink.schema y). tailrace connectors <name> lists them. ${env:NAME} and ${file:/path} stand for secrets anywhere.',
]

function optionLines(names: readonly string[]): readonly string[] {
  return columns(
    names.map((name) => {
      const { placeholder, summary, standard } = OWN_OPTIONS.get(name)!
      const short = name === 'help' ? '-h, ' : name === 'version' ? '-v, ' : ''
      return [`${short}--${name} ${placeholder}`.trimEnd(), standard === '' ? summary : `${summary} (default ${standard})`]
    }),
  )
}

const WIDEST_LEFT = 34

function columns(rows: readonly (readonly string[])[]): readonly string[] {
  const width = Math.min(WIDEST_LEFT, Math.max(...rows.map(([left = '']) => left.length)))
  return rows.flatMap(([left = '', right = '']) => {
    const line = `  ${left.padEnd(width)}  ${right}`
    return left.length > width ? [`  ${left}`, `  ${' '.repeat(width)}  ${right}`] : [line]
  })
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`
}
