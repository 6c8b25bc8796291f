import { parseTableName, tableId, type TableId } from '../model/schema.ts'
import { nearest } from '../sdk/config/nearest.ts'
import { quoteWord, usage } from '../sdk/config/problems.ts'
import { splitList } from '../sdk/config/values.ts'
import { LEAVE_OUT } from '../sdk/selection.ts'
import { tableOf, type PipelineTable } from '../library/manage.ts'
import { checkTableName } from '../library/settings.ts'
import type { PipelineRecord, TableRecord } from '../state/store.ts'
import { openPipeline, pipelineOperand, type CommandContext } from './context.ts'
import { formatTable, withTargets, type TableColumn } from './format.ts'

export async function tablesCommand(context: CommandContext): Promise<number> {
  const name = pipelineOperand(context)
  const [, action, ...words] = context.line.operands
  const named = words.flatMap(splitList)
  checkAction(name, action, named)
  const { store, record } = await openPipeline(context, name)
  await using _ = store
  const tables = await store.tables(name)
  if (action === undefined) {
    context.output.result({ ok: true, pipeline: name, tables: tables.map(tableOf) }, () => listText(tables.map(tableOf)))
    return 0
  }
  const request =
    action === 'add'
      ? ({ kind: 'add-tables', tables: addable(named) } as const)
      : ({ kind: 'remove-tables', tables: idsOf(name, named, tables) } as const)
  await store.request(name, request)
  context.output.result(
    { ok: true, pipeline: name, request, runner: record.alive },
    () => `${whenDone(record)}: ${action} ${request.tables.join(', ')}${action === 'add' ? LOOKED_UP : ''}`,
  )
  return 0
}

/** What is to be added is not known here: whoever runs the pipeline says in its report when there is no such table. */
const LOOKED_UP = '\nnot checked yet: the runner looks the names up in the source, and a warning of its report tells what is not there'

export function whenDone(record: PipelineRecord): string {
  return record.alive ? `asked of the runner, process ${record.holder?.pid ?? '?'}` : 'no runner now; kept for the next one'
}

function checkAction(pipeline: string, action: string | undefined, named: readonly string[]): void {
  if (action === undefined) return
  if (action !== 'add' && action !== 'remove') {
    const near = nearest(action, ['add', 'remove'])
    throw usage(`tables knows no ${quoteWord(action)}`, near === null ? 'it knows add and remove' : `did you mean \`${near}\`?`)
  }
  if (named.length === 0) throw usage(`tables ${action} needs the name of a table`, `tailrace tables ${pipeline} ${action} public.orders`)
}

function addable(named: readonly string[]): readonly string[] {
  for (const name of named) {
    if (name.startsWith(LEAVE_OUT)) throw usage(`tables add takes no \`${LEAVE_OUT}\``, 'tables remove leaves a table out')
    checkTableName(name)
  }
  return named
}

/** The pipeline's tables that the names mean; without a schema, a name must be the only one of its kind. */
export function idsOf(pipeline: string, named: readonly string[], tables: readonly TableRecord[]): readonly TableId[] {
  return named.map((text) => {
    const name = parseTableName(text)
    const found = tables.filter(
      (table) => name !== null && table.schema.name === name.name && (name.namespace ?? table.schema.namespace) === table.schema.namespace,
    )
    const [only, second] = found
    if (only !== undefined && second === undefined) return only.id
    if (only !== undefined)
      throw usage(`${quoteWord(text)} is the name of several tables`, `write ${found.map((table) => table.id).join(' or ')}`)
    const near =
      nearest(
        name === null ? text : tableId(name.namespace ?? '', name.name),
        tables.map((table) => table.id),
      ) ??
      nearest(
        text,
        tables.map((table) => table.schema.name),
      )
    throw usage(
      `the pipeline has no table ${quoteWord(text)}`,
      near === null ? `tailrace tables ${pipeline} lists them` : `did you mean \`${near}\`?`,
    )
  })
}

const COLUMNS: readonly TableColumn[] = [
  { title: 'table' },
  { title: 'target' },
  { title: 'state' },
  { title: 'key', most: 40 },
  { title: 'columns', align: 'right' },
]

function listText(tables: readonly PipelineTable[]): string {
  if (tables.length === 0) return 'no tables yet'
  const rows = tables.map(({ source, sink, state, key, columns }) => [
    source,
    sink,
    state,
    key.join(', ') || 'none',
    String(columns.length),
  ])
  return formatTable(...withTargets(COLUMNS, rows)).join('\n')
}
