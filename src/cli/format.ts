/** 999, 12.3k, 4.56M: three digits that matter. */
export function formatCount(value: number): string {
  if (value < 1000) return String(Math.round(value))
  return scaled(value, 1000, ['', 'k', 'M', 'G', 'T'])
}

/** 512 B, 1.50 MB (powers of 1,000, as network and disk are sold). */
export function formatBytes(value: number): string {
  if (value < 1000) return `${Math.round(value)} B`
  return scaled(value, 1000, [' B', ' kB', ' MB', ' GB', ' TB', ' PB'])
}

function scaled(value: number, step: number, units: readonly string[]): string {
  let rest = value
  let unit = 0
  // 999.5 would be shown as 1000 of the smaller unit.
  while (rest >= step - 0.5 && unit < units.length - 1) {
    rest /= step
    unit++
  }
  return `${rest >= 100 ? rest.toFixed(0) : rest >= 10 ? rest.toFixed(1) : rest.toFixed(2)}${units[unit]}`
}

/** 0:07, 12:30, 3:05:00, 2d 04:00. */
export function formatSeconds(seconds: number): string {
  const all = Math.max(0, Math.round(seconds))
  const two = (value: number): string => String(value).padStart(2, '0')
  const days = Math.floor(all / 86_400)
  const hours = Math.floor((all % 86_400) / 3600)
  const minutes = Math.floor((all % 3600) / 60)
  if (days > 0) return `${days}d ${two(hours)}:${two(minutes)}`
  return hours > 0 ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`
}

/** 0.003 s, 4.2 s, 12:30: for lag and short runs. */
export function formatElapsed(seconds: number): string {
  if (seconds >= 60) return formatSeconds(seconds)
  return `${seconds < 1 ? Number(seconds.toFixed(3)) : seconds.toFixed(1)} s`
}

/** Exact, with thousands apart: for final figures. */
export function formatExact(value: number): string {
  return value.toLocaleString('en-US')
}

/** Columns a terminal needs for the text: East Asian wide letters and emoji take two, combining marks none. */
export function displayWidth(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let width = 0
  for (const sign of text) width += signWidth(sign)
  return width
}

function signWidth(sign: string): number {
  if (/^[\p{Mn}\p{Me}\p{Cf}\p{Cc}]$/u.test(sign)) return 0
  return /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]$/u.test(
    sign,
  )
    ? 2
    : 1
}

/** Cuts to the width, with … where something is lost; control characters, which could move the cursor, are shown as `?`. */
export function fit(text: string, width: number): string {
  const clean = text.replace(/\p{Cc}/gu, '?')
  if (displayWidth(clean) <= width) return clean
  let cut = ''
  let used = 0
  for (const sign of clean) {
    const next = used + signWidth(sign)
    if (next > width - 1) break
    cut += sign
    used = next
  }
  return width <= 0 ? '' : `${cut}…`
}

export function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const blank = ' '.repeat(Math.max(0, width - displayWidth(text)))
  return align === 'left' ? text + blank : blank + text
}

export interface TableColumn {
  readonly title: string
  readonly align?: 'left' | 'right'
  /** Cut to this many columns. */
  readonly most?: number
}

/** The table's second column says where each goes: left out where all keep their names, which is the rule. */
export function withTargets(
  columns: readonly TableColumn[],
  rows: readonly (readonly string[])[],
): readonly [readonly TableColumn[], readonly (readonly string[])[]] {
  if (rows.some(([source, target]) => source !== target)) return [columns, rows]
  const without = <T>(cells: readonly T[]): readonly T[] => cells.filter((_, index) => index !== 1)
  return [without(columns), rows.map(without)]
}

/** A plain table with two blanks between columns; no line ends in blanks. */
export function formatTable(columns: readonly TableColumn[], rows: readonly (readonly string[])[]): readonly string[] {
  const cells = [columns.map((column) => column.title), ...rows].map((row) =>
    columns.map((column, index) => fit(row[index] ?? '', column.most ?? Infinity)),
  )
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => displayWidth(row[index]!))))
  return cells.map((row) =>
    row
      .map((cell, index) => pad(cell, widths[index]!, columns[index]!.align))
      .join('  ')
      .trimEnd(),
  )
}
