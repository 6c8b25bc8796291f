import type { Connector } from '../sdk/connector.ts'
import { didYouMean } from '../sdk/config/nearest.ts'
import { optionsOf, type OptionSpec } from '../sdk/config/option-spec.ts'
import { quoteWord, usage } from '../sdk/config/problems.ts'
import { formatValue, shortShape } from '../sdk/config/values.ts'
import { refuseMoreOperands, type CommandContext } from './context.ts'
import { formatTable } from './format.ts'

export async function connectorsCommand(context: CommandContext): Promise<number> {
  refuseMoreOperands(context, 1)
  const [name] = context.line.operands
  if (name === undefined) {
    const all = await context.registry.all()
    context.output.result({ ok: true, connectors: all.map(connectorData) }, () => listText(all))
    return 0
  }
  const connector = await context.registry.load(name.replace(/:.*$/s, '').toLowerCase())
  if (connector === null) throw usage(`there is no connector ${quoteWord(name)}`, didYouMean(name, context.registry.schemes))
  context.output.result({ ok: true, ...connectorData(connector) }, () => connectorText(connector))
  return 0
}

function connectorData(connector: Connector): object {
  return {
    name: connector.schemes[0],
    schemes: connector.schemes,
    title: connector.title,
    summary: connector.summary,
    example: connector.example,
    source: connector.source?.capabilities ?? null,
    sink: connector.sink?.capabilities ?? null,
    options: optionsOf(connector.config),
  }
}

function rolesOf(connector: Connector): string {
  return [connector.source === undefined ? '' : 'source', connector.sink === undefined ? '' : 'sink']
    .filter((role) => role !== '')
    .join(', ')
}

function listText(all: readonly Connector[]): string {
  const rows = all.map((connector) => [connector.schemes.join(', '), rolesOf(connector), connector.title, connector.summary])
  return [
    ...formatTable([{ title: 'scheme' }, { title: 'as' }, { title: 'system' }, { title: '' }], rows),
    '',
    'tailrace connectors <scheme> lists the options',
  ].join('\n')
}

const COLUMNS = [
  { title: 'option' },
  { title: 'value', most: 50 },
  { title: 'default', most: 30 },
  { title: 'variable' },
  { title: '' },
] as const

function connectorText(connector: Connector): string {
  const specs = optionsOf(connector.config)
  const side = connector.source === undefined ? 'SINK' : connector.sink === undefined ? 'SOURCE' : '<SIDE>'
  const head = [
    `${connector.title} (${rolesOf(connector)})`,
    connector.summary,
    '',
    `schemes  ${connector.schemes.join(', ')}`,
    `example  ${connector.example}`,
    '',
  ]
  if (specs.length === 0) return [...head, 'no options'].join('\n')
  const table = formatTable(
    COLUMNS,
    specs.map((spec) => [`--${spec.name}`, shortShape(spec.shape), defaultText(spec), `TAILRACE_${side}_${spec.variable}`, notesOf(spec)]),
  )
  const foot = [
    '',
    'An option follows the URI as a flag, stands in it as a parameter (?name=value), or names its side: --source.name, --sink.name.',
  ]
  if (side === '<SIDE>') foot.push('<SIDE> is SOURCE or SINK.')
  return [...head, ...table, ...foot].join('\n')
}

function defaultText(spec: OptionSpec): string {
  if (spec.required) return 'required'
  return spec.default === undefined || spec.secret ? '' : formatValue(spec.default, spec.shape)
}

function notesOf(spec: OptionSpec): string {
  const marks = [spec.secret ? 'secret' : '', spec.role === null ? '' : `${spec.role} only`].filter((mark) => mark !== '')
  return `${marks.length === 0 ? '' : `[${marks.join(', ')}] `}${spec.description}`
}
