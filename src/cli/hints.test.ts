import assert from 'node:assert/strict'
import { glob, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { connectors } from '../connectors/index.ts'
import { References } from '../sdk/config/references.ts'
import { splitWords } from './arguments.ts'
import { readCommandLine } from './command-line.ts'
import { COMMAND_SPECS, type CommandSpec } from './commands.ts'

const ROOT = join(import.meta.dirname, '..')
const VERBS = 'lists|starts|ends|shows|reads|makes|drops|says|names'

/** The commands that the texts of a source file tell people to type; what is filled in is a word `<x>`. */
function commandsIn(source: string): string[] {
  const texts = source
    .split('\n')
    .filter((line) => !/^\s*(\/\/|\/?\*)/.test(line) && !line.includes('setTitle(') && !line.includes('meta'))
    .join('\n')
    .replaceAll(/\$\{tablesOption\([^{}\n]*?\)\}/g, '--tables <x>')
    .replaceAll(/\$\{[^{}\n]*\}/g, '<x>')
  const end = new RegExp(`[\\\\\`;,)\\n]|' |'$| (?:or|and|then|${VERBS})\\b|\\. `, 'm')
  return [...texts.matchAll(/(?<![\w/.:-])tailrace (?=[a-z-])(.*)/g)].flatMap(([, rest = '']) =>
    // One line may name several.
    rest.split('tailrace ').map((each) => (each.split(end)[0] ?? '').replace(/'$/, '').trim()),
  )
}

/** How many operands the usage of a command wants and takes. */
function operandsOf({ usage }: CommandSpec): { readonly least: number; readonly most: number } {
  const forms = usage.split(' | ').map((form) => ({
    least: form
      .replaceAll(/\[.*\]/g, '')
      .split(' ')
      .filter(Boolean).length,
    most: form.includes('…') ? Infinity : form.split(' ').filter(Boolean).length,
  }))
  return { least: Math.min(...forms.map(({ least }) => least)), most: Math.max(...forms.map(({ most }) => most)) }
}

async function check(command: string): Promise<void> {
  assert.doesNotMatch(command, /…/, 'a gap that nobody can type; what is to be filled in is <so>')
  const words = splitWords(command)
  const args = words.map((word) => (/^<(source|sink|uri)>$/.test(word) ? 'memory:x' : word.replaceAll(/[<>]/g, '')))
  const line = await readCommandLine(args, {
    registry: connectors,
    references: new References({ variables: { PASSWORD: 'x' } }),
    variables: {},
  })
  const { least, most } = operandsOf(line.command)
  const given = line.operands.length + (line.source === null ? 0 : 1) + (line.sink === null ? 0 : 1)
  assert.ok(given >= least && given <= most, `${line.command.name} takes ${line.command.usage}`)
}

test('what messages tell people to type is a command that exists, with options and operands that it takes', async () => {
  const found = new Set<string>()
  const wrong: string[] = []
  for await (const file of glob('**/*.ts', { cwd: ROOT, exclude: ['**/*.test.ts', 'testing/**', 'cli/testing/**', 'cli/commands.ts'] })) {
    for (const command of commandsIn(await readFile(join(ROOT, file), 'utf8'))) {
      if (command.startsWith('--help')) continue
      found.add(command)
      await check(command).catch((error: Error) => wrong.push(`${file}: tailrace ${command}: ${error.message}`))
    }
  }
  assert.deepEqual(wrong, [])
  for (const one of ['resnapshot <pipeline> --tables <x>', 'dlq list <x>', 'tables <x> add <x>'])
    assert.ok(found.has(one), `${one} is looked at: ${[...found].join('\n')}`)
})

test('the examples of the help are commands that parse', async () => {
  for (const { examples } of COMMAND_SPECS.values()) for (const example of examples) await check(example.replace(/^tailrace /, ''))
})

test('a text that cannot be typed is found', async () => {
  for (const text of [
    "'tailrace verify --repair'",
    "'tailrace resnapshot … x'",
    "'tailrace reset'",
    '`tailrace pause <x> <x>`',
    "'tailrace status --follow'",
  ])
    for (const command of commandsIn(text)) await assert.rejects(check(command), text)
})
