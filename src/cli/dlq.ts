import { didYouMean } from '../sdk/config/nearest.ts'
import { quoteWord, usage } from '../sdk/config/problems.ts'
import type { DeadLetter } from '../state/store.ts'
import { openPipeline, pipelineOperand, refuseMoreOperands, type CommandContext } from './context.ts'
import { formatExact, formatTable } from './format.ts'

const MOST = 100_000
const SHOWN = 100

export async function dlqCommand(context: CommandContext): Promise<number> {
  const [action] = context.line.operands
  if (action === 'list') return await listLetters(context)
  if (action === 'show') return await showLetter(context)
  if (action === undefined) throw usage('dlq needs to know what to do', 'tailrace dlq list <pipeline>, tailrace dlq show <pipeline> <id>')
  throw usage(`dlq knows no ${quoteWord(action)}`, didYouMean(action, ['list', 'show']))
}

async function listLetters(context: CommandContext): Promise<number> {
  refuseMoreOperands(context, 2)
  const name = pipelineOperand(context, 1)
  const limit = context.options.count('limit', 1, MOST) ?? SHOWN
  const after = context.options.count('after', 0, Number.MAX_SAFE_INTEGER)
  const { store } = await openPipeline(context, name)
  await using _ = store
  const total = await store.countDeadLetters(name)
  const letters = await store.deadLetters(name, after === null ? { limit } : { limit, after })
  context.output.result({ ok: true, pipeline: name, total, letters: letters.map(headOf) }, () => listText(name, letters, total))
  return 0
}

/** Everything but the record: a list should not spill row values. */
function headOf({ id, table, place, op, stage, code, reason, at }: DeadLetter): object {
  return { id, table, place, op, stage, code, reason, at: new Date(at).toISOString() }
}

const COLUMNS = [
  { title: 'id', align: 'right' },
  { title: 'table', most: 40 },
  { title: 'op' },
  { title: 'stage' },
  { title: 'code' },
  { title: 'at' },
  { title: 'reason', most: 100 },
] as const

function listText(name: string, letters: readonly DeadLetter[], total: number): string {
  if (total === 0) return `${name} has no dead letters`
  const rows = letters.map((letter) => [
    String(letter.id),
    letter.table,
    letter.op,
    letter.stage,
    letter.code,
    new Date(letter.at).toISOString(),
    letter.reason,
  ])
  const lines = [...formatTable(COLUMNS, rows)]
  const last = letters.at(-1)
  if (last !== undefined && letters.length < total) lines.push(`${formatExact(total)} in all; more after these: --after ${last.id}`)
  return lines.join('\n')
}

async function showLetter(context: CommandContext): Promise<number> {
  refuseMoreOperands(context, 3)
  const name = pipelineOperand(context, 1)
  const text = context.line.operands[2]
  if (text === undefined) throw usage('dlq show needs the id of a dead letter', `tailrace dlq list ${name}`)
  if (!/^\d{1,15}$/.test(text)) throw usage(`the id of a dead letter is a number, not ${quoteWord(text)}`, `tailrace dlq list ${name}`)
  const { store } = await openPipeline(context, name)
  await using _ = store
  const id = Number(text)
  const [letter] = await store.deadLetters(name, { limit: 1, after: id - 1 })
  if (letter === undefined || letter.id !== id) throw usage(`${name} has no dead letter ${id}`, `tailrace dlq list ${name}`)
  printLetter(context, letter)
  return 0
}

/** The record is printed as it is stored, past the redaction: a changed record would be of no use. */
function printLetter({ io, output }: CommandContext, letter: DeadLetter): void {
  if (output.manner.json)
    return io.stdout.write(`${JSON.stringify({ ok: true, ...headOf(letter), record: JSON.parse(letter.record) as unknown })}\n`)
  const head = Object.entries(headOf(letter)).map(([key, value]) => `${key.padEnd(7)} ${String(value)}`)
  io.stdout.write(`${[...head, letter.record].join('\n')}\n`)
}
