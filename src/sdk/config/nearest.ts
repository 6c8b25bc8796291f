/**
 * The candidate that a person most likely meant, or null when none is near: for unknown options, schemes, commands,
 * tables. Case does not count, two swapped letters are one mistake, and an unfinished word finds what it begins.
 */
export function nearest(word: string, candidates: Iterable<string>): string | null {
  const wanted = word.toLowerCase()
  const limit = Math.max(1, Math.floor(wanted.length / 3))
  let best: string | null = null
  let bestDistance = limit + 1
  for (const candidate of candidates) {
    const other = candidate.toLowerCase()
    const begun = wanted.length >= 3 && (other.startsWith(wanted) || other.endsWith(`-${wanted}`))
    const distance = begun ? Math.min(1, editDistance(wanted, other, limit)) : editDistance(wanted, other, limit)
    if (distance >= bestDistance) continue
    best = candidate
    bestDistance = distance
  }
  return best
}

/** A hint's sentence for a misspelt word; falls back on the whole list when that is short enough to read. */
export function didYouMean(word: string, candidates: readonly string[], shown: (candidate: string) => string = (c) => c): string | null {
  const found = nearest(word, candidates)
  if (found !== null) return `did you mean \`${shown(found)}\`?`
  if (candidates.length === 0 || candidates.length > 12) return null
  return `there is ${candidates.map((candidate) => `\`${shown(candidate)}\``).join(', ')}`
}

/** Optimal string alignment; gives up with `limit + 1` (or more) as soon as no better is possible. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      let value = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + cost)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) value = Math.min(value, before[j - 2]! + 1)
      row.push(value)
    }
    if (Math.min(...row) > limit) return limit + 1
    before = last
    last = row
  }
  return last[b.length]!
}
