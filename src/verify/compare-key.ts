import type { ComparedTable, ComparisonSide, SideTable } from '../sdk/compare.ts'
import { TailraceError } from '../sdk/errors.ts'
import { agree } from './agree.ts'
import { comparedTable, type TablePair } from './verify.ts'

export interface KeyComparison {
  /** `left out`: by the pipeline's condition. */
  readonly source: 'present' | 'left out' | 'absent'
  readonly sink: 'present' | 'absent'
  /** Columns that differ. */
  readonly columns: readonly string[]
}

/** One row on both sides. */
export async function compareKey(
  source: ComparisonSide,
  sink: ComparisonSide,
  pair: TablePair,
  key: readonly string[],
  signal: AbortSignal,
): Promise<KeyComparison> {
  const compared = comparedTable(pair)
  const ours = await needed(source.table(compared, signal), `the source has no table ${pair.id}`)
  const whole = await needed(source.table({ ...compared, where: null }, signal), `the source has no table ${pair.id}`)
  const theirs = await needed(sink.table({ ...compared, ...pair.target, where: null }, signal), `the target has no table ${pair.label}`)
  const { agreement, mismatches } = agree(compared, ours, theirs)
  if (agreement === null) throw new TailraceError('DIFFERENT', `${pair.id}: ${mismatches.join('; ')}`, { path: pair.id })
  const read = async (side: SideTable): Promise<readonly (string | null)[] | null> => {
    const [row] = await side.open(agreement).fields({ rows: { kind: 'key', key } }, true, signal)
    return row?.fields ?? null
  }
  const [taken, there, copied] = [await read(ours), await read(whole), await read(theirs)]
  return {
    source: taken !== null ? 'present' : there !== null ? 'left out' : 'absent',
    sink: copied === null ? 'absent' : 'present',
    columns: taken === null || copied === null ? [] : differing(compared, taken, copied),
  }
}

function differing({ columns }: ComparedTable, a: readonly (string | null)[], b: readonly (string | null)[]): string[] {
  return columns.flatMap(({ name }, i) => (a[i] === b[i] ? [] : [name]))
}

async function needed(found: Promise<SideTable | null>, problem: string): Promise<SideTable> {
  const table = await found
  if (table === null) throw new TailraceError('DIFFERENT', problem)
  return table
}
