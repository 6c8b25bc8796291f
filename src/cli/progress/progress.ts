import type { Report } from '../../engine/report.ts'
import { formatCount, formatSeconds } from '../format.ts'
import type { Io } from '../io.ts'
import type { Output } from '../output.ts'
import { redact } from '../../sdk/logger.ts'
import { renderFrame, showLag } from './frame.ts'
import { changesOfStream, Rates, shareDone } from './rates.ts'
import { LiveLines } from './terminal.ts'

export type ProgressKind = 'live' | 'plain' | 'json' | 'none'

/** Shows a running pipeline. `update` may be called as often as one likes. */
export interface Progress extends Disposable {
  update(report: Report): void
}

export interface ProgressOptions {
  readonly io: Io
  readonly output: Output
  readonly secrets: ReadonlySet<string>
}

/** `auto`: live on a terminal that can, lines elsewhere, JSON where the log is JSON. */
export function progressKind(wanted: 'auto' | 'plain' | 'json' | 'none', io: Io, logFormat: 'text' | 'json'): ProgressKind {
  if (wanted !== 'auto') return wanted
  if (logFormat === 'json') return 'json'
  return io.stderr.isTTY && io.variables['TERM'] !== 'dumb' ? 'live' : 'plain'
}

export function openProgress(kind: ProgressKind, options: ProgressOptions): Progress {
  switch (kind) {
    case 'live':
      return liveProgress(options)
    case 'plain':
      return throttled(options.io.clock, PLAIN_EVERY_MS, plainWriter(options))
    case 'json':
      return throttled(options.io.clock, JSON_EVERY_MS, (report) => options.output.jsonLine({ event: 'progress', report }))
    case 'none':
      return { update: () => {}, [Symbol.dispose]: () => {} }
    default:
      return kind satisfies never
  }
}

const DRAW_EVERY_MS = 200
const PLAIN_EVERY_MS = 5000
const JSON_EVERY_MS = 1000

function liveProgress({ io, output, secrets }: ProgressOptions): Progress {
  const lines = new LiveLines(io.stderr)
  const rates = new Rates()
  const draw = throttled(io.clock, DRAW_EVERY_MS, (report) => {
    rates.add(report, io.clock())
    const size = { width: io.stderr.columns - 1, height: Math.max(1, io.stderr.rows - 1) }
    lines.draw(renderFrame(report, rates, size).map((line) => redact(line, secrets)))
  })
  // However the process ends, the cursor comes back.
  const exit = io.onExit(() => lines[Symbol.dispose]())
  output.above = (line) => lines.above(line)
  return {
    update: (report) => draw.update(report),
    [Symbol.dispose]: () => {
      output.above = null
      lines[Symbol.dispose]()
      exit[Symbol.dispose]()
    },
  }
}

const QUIET: ReadonlySet<Report['state']> = new Set(['starting', 'stopped', 'done', 'failed'])

function plainWriter({ io, output }: ProgressOptions): (report: Report) => void {
  const rates = new Rates(15_000)
  return (report) => {
    rates.add(report, io.clock())
    // The beginning has nothing to say, and the end is told by the summary.
    if (!QUIET.has(report.state)) output.note(plainLine(report, rates))
  }
}

/** `copying 0:12: 1.20M rows, 100k rows/s, 3 of 8 tables done, orders 45%`. */
export function plainLine(report: Report, rates: Rates): string {
  const rows = report.tables.reduce((sum, table) => sum + table.snapshot.rows + changesOfStream(table), 0)
  const parts = [`${formatCount(rows)} rows`, `${formatCount(rates.total(report).rows)} rows/s`]
  const copying = report.tables.filter((table) => table.state === 'copying')
  const waiting = report.tables.filter((table) => table.state === 'pending').length
  if (copying.length + waiting > 0)
    parts.push(`${report.tables.length - copying.length - waiting} of ${report.tables.length} tables copied`)
  // A table that waits for a worker says nothing.
  for (const table of copying.filter(({ snapshot }) => snapshot.rows > 0).slice(0, 3)) {
    const share = shareDone(table)
    parts.push(`${table.source}${share === null ? '' : ` ${Math.floor(share * 100)}%`}`)
  }
  const lag = showLag(report)
  if (lag !== '') parts.push(`lag ${lag}`)
  return `${report.state} ${formatSeconds(report.seconds)}: ${parts.join(', ')}`
}

/** At most one call per `everyMs`, but at once when the pipeline's state changes. No timer: reports keep coming. */
function throttled(clock: () => number, everyMs: number, show: (report: Report) => void): Progress {
  let last = -Infinity
  let state: string | null = null
  return {
    update: (report) => {
      const now = clock()
      if (now - last < everyMs && now >= last && report.state === state) return
      last = now
      state = report.state
      show(report)
    },
    [Symbol.dispose]: () => {},
  }
}
