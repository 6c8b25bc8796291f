/**
 * Writes what is made from data: docs/errors.md from the error catalogue, docs/connectors/*.md from each connector's schema,
 * capabilities and type table, test/README.md from the titles of the tests. `--check` writes nothing and fails when a file is stale.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { connectors } from '../src/connectors/index.ts'
import { DUCKDB_TYPES } from '../src/connectors/duckdb/type-table.ts'
import { POSTGRES_TYPES } from '../src/connectors/postgres/type-table.ts'
import { SQLITE_TYPES } from '../src/connectors/sqlite/type-table.ts'
import { optionsOf, type OptionSpec } from '../src/sdk/config/option-spec.ts'
import type { Connector } from '../src/sdk/connector.ts'
import { ERRORS } from '../src/sdk/errors.ts'
import type { TypeRule } from '../src/sdk/sql/type-table.ts'
import { caseRows } from '../test/checks/case-table.ts'

const ROOT = join(import.meta.dirname, '..')
const NOTE = '<!-- Made by `npm run generate`; change the code, not this file. -->'
const TYPES: Readonly<Record<string, readonly TypeRule[]>> = { postgres: POSTGRES_TYPES, duckdb: DUCKDB_TYPES, sqlite: SQLITE_TYPES }

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ')
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n')
}

function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(([code, kind]) => [`\`${code}\``, String(kind.exit), kind.retry, kind.doc])
  const legend =
    'What the engine does: `retry` = again with growing delay once a pipeline runs; `operator` = stop and say what to type; `row` = dead letter or stop, by `--on-error`; `bug` = stop, please report.'
  return `${NOTE}\n\n# Errors\n\n${legend}\n\n${table(['code', 'exit code', 'what is done', 'meaning'], rows)}\n`
}

function optionRow(option: OptionSpec): string[] {
  const value = option.default === undefined ? (option.required ? 'needed' : '') : `\`${String(option.default)}\``
  const marks = [option.secret ? '(secret)' : '', option.role === null ? '' : `(${option.role} only)`].filter(Boolean).join(' ')
  return [`\`--${option.name}\``, value, `${option.description} ${marks}`.trim()]
}

function connectorPage(connector: Connector): string {
  const [scheme = ''] = connector.schemes
  const roles = [connector.source && 'source', connector.sink && 'sink'].filter(Boolean).join(' and ')
  const parts = [NOTE, `# ${connector.title}`, connector.summary, `As ${roles}. Example: \`${connector.example}\``]
  const options = optionsOf(connector.config)
  if (options.length > 0) parts.push('## Options', table(['flag', 'default', ''], options.map(optionRow)))
  const sink = connector.sink?.capabilities
  if (sink !== undefined) {
    parts.push(
      '## As a sink',
      table(
        ['', ''],
        [
          ['commit', sink.commit],
          ['snapshot formats', sink.formats.join(', ')],
          ['parallel loads', String(sink.parallelLoads)],
          ['deletes', sink.delete.join(', ')],
          ['schema changes', sink.schemaChanges ? 'followed' : 'no'],
        ],
      ),
    )
  }
  const source = connector.source?.capabilities
  if (source !== undefined)
    parts.push(
      '## As a source',
      table(
        ['', ''],
        [
          ['snapshot formats', source.formats.join(', ')],
          ['change stream', source.stream ? 'yes' : 'no'],
        ],
      ),
    )
  const types = TYPES[scheme]
  if (types !== undefined)
    parts.push(
      '## Types',
      table(
        ['logical type', 'stored as', 'kept', ''],
        types.map((rule) => [
          `${rule.logical}${rule.when === undefined ? '' : ` (${rule.when.text})`}`,
          `\`${rule.target}\``,
          rule.keeps,
          rule.note ?? '',
        ]),
      ),
    )
  return `${parts.join('\n\n')}\n`
}

function pageName(connector: Connector): string {
  return (connector.schemes[0] ?? 'unknown').replace('/dev/', '')
}

function casesPage(): string {
  const intro = `What is in here: \`cases/\` and \`pipeline/\` hold the cases and traps end to end, the first by the command and one server a
test, the second by the library and every sink; \`crash/\` kills; \`checks/\` looks at the tree itself; \`kit/\` is what they stand on.

A test of a case or a trap has its name in its title: \`CASE 6: …\`, \`TRAP 24: …\`. \`checks/cases.test.ts\` fails when one that must be
there is not.`
  return `${NOTE}\n\n# Tests\n\n${intro}\n\n${table(['', 'tests'], caseRows())}\n`
}

const pages = new Map<string, string>([
  ['docs/errors.md', errorsPage()],
  ['test/README.md', casesPage()],
])
for (const connector of await connectors.all()) pages.set(`docs/connectors/${pageName(connector)}.md`, connectorPage(connector))

const stale = [...pages].filter(([path, text]) => !existsSync(join(ROOT, path)) || readFileSync(join(ROOT, path), 'utf8') !== text)
if (process.argv.includes('--check')) {
  for (const [path] of stale) console.error(`${path} is stale: npm run generate`)
  process.exitCode = stale.length === 0 ? 0 : 1
} else {
  for (const [path, text] of stale) {
    mkdirSync(dirname(join(ROOT, path)), { recursive: true })
    writeFileSync(join(ROOT, path), text)
    console.error(`wrote ${path}`)
  }
}
