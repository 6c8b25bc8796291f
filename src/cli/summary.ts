import type { Report, TableReport } from '../engine/report.ts'
import { formatBytes, formatCount, formatExact, formatElapsed, formatTable, type TableColumn } from './format.ts'
import { showLag } from './progress/frame.ts'

const COLUMNS: readonly TableColumn[] = [
  { title: 'table', most: 48 },
  { title: 'target', most: 48 },
  { title: 'state' },
  { title: 'read', align: 'right' },
  { title: 'written', align: 'right' },
  { title: 'snapshot', align: 'right' },
  { title: 'ins', align: 'right' },
  { title: 'upd', align: 'right' },
  { title: 'del', align: 'right' },
  { title: 'filtered', align: 'right' },
  { title: 'dead', align: 'right' },
]

/** What a run came to, for people: every table with exact figures, then the pipeline in a line or two. */
export function summaryOf(report: Report): string {
  const rows = report.tables.map(tableRow)
  const lines = rows.length === 0 ? [] : [...formatTable(...withoutEmpty(rows))]
  lines.push(totalLine(report))
  const lag = showLag(report)
  if (lag !== '' && report.position !== null) lines.push(`position ${report.position}, lag ${lag}, ${report.guarantee}`)
  if (report.retention !== undefined) lines.push(retentionLine(report.retention))
  for (const { what, drop } of report.upstream) lines.push(`kept upstream: ${what}; drop it with: ${drop}`)
  return lines.join('\n')
}

function tableRow(table: TableReport): readonly string[] {
  const { stream } = table
  const figures = [
    table.read,
    table.written,
    table.snapshot.rows,
    stream.inserts,
    stream.updates,
    stream.deletes,
    table.filtered,
    table.deadLettered,
  ]
  const target = table.sink === table.source ? '' : table.sink
  return [table.source, target, table.state, ...figures.map((value) => (value === 0 ? '' : formatExact(value)))]
}

/** A column without a single value is left out; the first, the state and what was written always stand. */
function withoutEmpty(rows: readonly (readonly string[])[]): [readonly TableColumn[], readonly (readonly string[])[]] {
  const kept = COLUMNS.map((_, index) => index).filter((index) => [0, 2, 4].includes(index) || rows.some((row) => row[index] !== ''))
  return [kept.map((index) => COLUMNS[index]!), rows.map((row) => kept.map((index) => row[index]!))]
}

function totalLine(report: Report): string {
  const read = report.tables.reduce((sum, table) => sum + table.read, 0)
  const bytes = report.tables.reduce((sum, table) => sum + table.snapshot.bytes, 0)
  const speed = report.seconds > 0 ? `, ${formatCount(read / report.seconds)} rows/s` : ''
  const size = bytes > 0 ? `, ${formatBytes(bytes)}` : ''
  const rows = `${formatExact(read)} row${read === 1 ? '' : 's'}`
  return `${report.pipeline}: ${report.state}, ${rows}${size} in ${formatElapsed(report.seconds)}${speed}`
}

function retentionLine(retention: NonNullable<Report['retention']>): string {
  const remaining = retention.remainingBytes === null ? '' : `, ${formatBytes(retention.remainingBytes)} left`
  return `${retention.name} keeps ${formatBytes(retention.retainedBytes)} of log (${retention.status}${remaining})`
}
