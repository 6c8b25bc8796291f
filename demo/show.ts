import type { TableComparison } from './compare.ts'
import type { WriterReport } from './writer.ts'

/** On standard error like all that is for people; the last word goes to standard output. */
export function say(text: string): void {
  console.error(text)
}

const HEAD = ['table', 'rows', 'inserts', 'updates', 'deletes', 'truncates', 'result']

export function formatResults(comparisons: readonly TableComparison[], writer: WriterReport): string {
  const rows = comparisons.map((comparison) => [comparison.table, ...numbers(comparison, writer), verdict(comparison)])
  return `\n${formatTable([HEAD, ...rows])}\n\n${writerLine(writer)}\n`
}

function numbers({ table, sourceRows }: TableComparison, writer: WriterReport): string[] {
  const changes = writer.tables[table]
  const counts = [sourceRows, changes?.inserts ?? 0, changes?.updates ?? 0, changes?.deletes ?? 0, changes?.truncates ?? 0]
  return counts.map((count) => count.toLocaleString('en-US'))
}

function verdict({ equal, problem, sourceRows, targetRows, missing, unexpected, differingKeys }: TableComparison): string {
  if (equal) return 'equal'
  if (problem !== null) return `different: ${problem}`
  return `different: ${differingKeys} keys (${missing} rows missing, ${unexpected} unexpected; ${sourceRows} rows in the source, ${targetRows} in the target)`
}

function writerLine(writer: WriterReport): string {
  const rate = Math.round(writer.changes / writer.seconds).toLocaleString('en-US')
  const parts = [
    `${writer.changes.toLocaleString('en-US')} changes in ${writer.transactions} transactions (${rate} changes/s, up to ${writer.largestTransaction} in one)`,
    `${writer.rolledBack} transactions and ${writer.savepointsRolledBack} savepoints rolled back`,
    `${writer.keySwaps} key swaps, 1 column added`,
  ]
  return `written meanwhile: ${parts.join('; ')}`
}

/** Columns aligned: text left, numbers right. */
function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => (column === HEAD.length - 1 ? 0 : (row[column] ?? '').length))))
  const isText = (column: number): boolean => column === 0 || column === HEAD.length - 1
  const cell = (text: string, column: number): string =>
    isText(column) ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0)
  return rows.map((row) => row.map(cell).join('  ').trimEnd()).join('\n')
}
