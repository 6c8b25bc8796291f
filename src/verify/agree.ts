import { keyOrder } from '../model/logical-type.ts'
import type { Agreement, ComparedTable, Form, RowEncoding, SideTable } from '../sdk/compare.ts'

/** How both sides write their rows; or why they cannot: `mismatches`, in words. */
export function agree(
  table: ComparedTable,
  source: SideTable,
  sink: SideTable,
): { readonly agreement: Agreement | null; readonly mismatches: readonly string[]; readonly notes: readonly string[] } {
  const encoding: RowEncoding = source.encodings.includes('pg-binary') && sink.encodings.includes('pg-binary') ? 'pg-binary' : 'text'
  const mismatches: string[] = []
  const notes: string[] = []
  const forms = table.columns.map(({ name, type }, index): Form | null => {
    const [ours = null, theirs = null] = [source.columns[index], sink.columns[index]]
    if (ours === null || theirs === null) {
      mismatches.push(`the ${ours === null ? 'source' : 'target'} has no column ${name}`)
      return null
    }
    const form = ours.forms.find((each) => theirs.forms.includes(each) && (encoding === 'pg-binary' || !each.startsWith('pg:')))
    if (form === undefined) mismatches.push(`${ours.type} of the source and ${theirs.type} of the target cannot be compared`)
    else if (form === 'float64' && type.kind === 'decimal') notes.push(`${name} is compared as the target stores it: rounded to a float`)
    return form ?? null
  })
  if (mismatches.length > 0) return { agreement: null, mismatches, notes }
  const nullable = table.columns.map((_, index) => [source, sink].some((side) => side.columns[index]?.nullable !== false))
  return { agreement: { encoding, forms: forms as Form[], nullable, ranged: rangedColumns(table, source, sink) }, mismatches, notes }
}

/** How many leading columns of the key both sides sort alike. */
function rangedColumns({ columns, key }: ComparedTable, source: SideTable, sink: SideTable): number {
  const sorted = (index: number): boolean =>
    keyOrder(columns[index]!.type) !== null && source.columns[index]?.ordered === true && sink.columns[index]?.ordered === true
  const first = key.findIndex((index) => !sorted(index))
  return first === -1 ? key.length : first
}
