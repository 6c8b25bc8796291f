import type { Report, TableReport } from '../../engine/report.ts'
import { displayWidth, fit, formatBytes, formatCount, formatElapsed, formatSeconds, pad } from '../format.ts'
import { changesOfStream, secondsLeft, shareDone, type Rates } from './rates.ts'

export interface FrameSize {
  readonly width: number
  readonly height: number
}

interface FrameColumn {
  readonly title: string
  readonly align: 'left' | 'right'
  /** Left out in this order, highest first, when the terminal is narrow; 0 stays. */
  readonly rank: number
  cell(table: TableReport, rates: Rates): string
}

const COLUMNS: readonly FrameColumn[] = [
  { title: 'table', align: 'left', rank: 0, cell: (table) => table.source },
  { title: 'state', align: 'left', rank: 0, cell: (table) => table.state },
  { title: 'rows', align: 'right', rank: 1, cell: (table) => formatCount(table.snapshot.rows + changesOfStream(table)) },
  { title: 'done', align: 'right', rank: 2, cell: showShare },
  { title: 'rows/s', align: 'right', rank: 3, cell: (table, rates) => formatCount(rates.of(table.source).rows) },
  { title: 'MB/s', align: 'right', rank: 6, cell: (table, rates) => showMegabytes(rates.of(table.source).bytes) },
  { title: 'ETA', align: 'right', rank: 5, cell: showLeft },
  { title: 'ins', align: 'right', rank: 7, cell: (table) => showCount(table.stream.inserts) },
  { title: 'upd', align: 'right', rank: 7, cell: (table) => showCount(table.stream.updates) },
  { title: 'del', align: 'right', rank: 7, cell: (table) => showCount(table.stream.deletes) },
]

function showShare(table: TableReport): string {
  const share = shareDone(table)
  return share === null ? '' : `${Math.floor(share * 100)}%`
}

function showMegabytes(bytes: number): string {
  return bytes === 0 ? '' : (bytes / 1e6).toFixed(1)
}

function showLeft(table: TableReport, rates: Rates): string {
  const left = secondsLeft(table, rates.of(table.source).rows)
  return left === null ? '' : formatSeconds(left)
}

function showCount(value: number): string {
  return value === 0 ? '' : formatCount(value)
}

/** The view as lines, each within the width; no more than the height. Pure: the terminal draws it. */
export function renderFrame(report: Report, rates: Rates, size: FrameSize): readonly string[] {
  const width = Math.max(1, size.width)
  const height = Math.max(1, size.height)
  const summary = summaryLine(report, rates)
  // Too low for a table: what matters in one or two lines.
  if (height < 5 || width < 24) return [summary, titleLine(report)].slice(0, Math.min(2, height)).map((line) => fit(line, width))
  const room = height - 3
  const shown = pickTables(report.tables, report.tables.length <= room ? room : room - 1)
  const lines = [titleLine(report), ...tableLines(shown, rates, width)]
  if (shown.length < report.tables.length) lines.push(restLine(report.tables, shown))
  lines.push(summary)
  return lines.map((line) => fit(line, width))
}

function titleLine(report: Report): string {
  return `${report.pipeline}: ${report.source} → ${report.sink}`
}

function summaryLine(report: Report, rates: Rates): string {
  const rate = rates.total(report)
  const rows = report.tables.reduce((sum, table) => sum + table.snapshot.rows + changesOfStream(table), 0)
  const parts = [report.state, formatSeconds(report.seconds), `${formatCount(rows)} rows`, `${formatCount(rate.rows)} rows/s`]
  if (rate.bytes > 0) parts.push(`${formatBytes(rate.bytes)}/s`)
  const lag = showLag(report)
  if (lag !== '') parts.push(`lag ${lag}`)
  const dead = report.tables.reduce((sum, table) => sum + table.deadLettered, 0)
  if (dead > 0) parts.push(`${formatCount(dead)} dead letters`)
  if (report.problems.length > 0) parts.push(`${report.problems.length} problem${report.problems.length === 1 ? '' : 's'}`)
  return parts.join(', ')
}

export function showLag({ lag }: Report): string {
  const parts: string[] = []
  if (lag.seconds !== null) parts.push(formatElapsed(lag.seconds))
  if (lag.bytes !== null) parts.push(formatBytes(lag.bytes))
  if (lag.rows !== null) parts.push(`${formatCount(lag.rows)} rows`)
  return parts.join(' ')
}

const ACTIVITY: Readonly<Record<TableReport['state'], number>> = {
  failed: 0,
  copying: 1,
  converging: 2,
  streaming: 3,
  pending: 4,
  done: 5,
  removed: 6,
}

/** The most active ones, in the report's order: lines should not jump about. */
function pickTables(tables: readonly TableReport[], count: number): readonly TableReport[] {
  if (tables.length <= count) return tables
  const ranked = tables.toSorted((a, b) => ACTIVITY[a.state] - ACTIVITY[b.state] || changesOfStream(b) - changesOfStream(a))
  const picked = new Set(ranked.slice(0, Math.max(0, count)))
  return tables.filter((table) => picked.has(table))
}

function restLine(tables: readonly TableReport[], shown: readonly TableReport[]): string {
  const visible = new Set(shown)
  const states = new Map<string, number>()
  for (const table of tables) if (!visible.has(table)) states.set(table.state, (states.get(table.state) ?? 0) + 1)
  return `… and ${tables.length - shown.length} more: ${[...states].map(([state, count]) => `${count} ${state}`).join(', ')}`
}

const NARROWEST_NAME = 12
const GAP = 2

function tableLines(tables: readonly TableReport[], rates: Rates, width: number): readonly string[] {
  const cells = COLUMNS.map((column) => tables.map((table) => column.cell(table, rates)))
  const widths = COLUMNS.map((column, index) => Math.max(displayWidth(column.title), ...cells[index]!.map(displayWidth)))
  const kept = columnsThatFit(cells, widths, width)
  const others = kept.slice(1).reduce((sum, index) => sum + widths[index]! + GAP, 0)
  widths[0] = Math.max(1, Math.min(widths[0]!, width - others))
  const line = (texts: (index: number) => string): string =>
    kept
      .map((index) => pad(fit(texts(index), widths[index]!), widths[index]!, COLUMNS[index]!.align))
      .join(' '.repeat(GAP))
      .trimEnd()
  return [line((index) => COLUMNS[index]!.title), ...tables.map((_, row) => line((index) => cells[index]![row]!))]
}

function columnsThatFit(cells: readonly (readonly string[])[], widths: readonly number[], width: number): readonly number[] {
  const name = Math.min(widths[0]!, NARROWEST_NAME)
  // A column without a single value says nothing.
  let kept = COLUMNS.map((_, index) => index).filter((index) => index === 0 || cells[index]!.some((cell) => cell !== ''))
  const needed = (): number => name + kept.slice(1).reduce((sum, index) => sum + widths[index]! + GAP, 0)
  while (needed() > width && kept.length > 1) {
    const highest = Math.max(...kept.slice(1).map((index) => COLUMNS[index]!.rank))
    if (highest === 0) return [0]
    kept = kept.filter((index) => COLUMNS[index]!.rank !== highest || index === 0)
  }
  return kept
}
