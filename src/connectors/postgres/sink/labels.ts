import { parseArray, type Nested } from '../../../model/array-text.ts'
import type { Slice } from '../../../model/batch.ts'
import { elementType } from '../../../model/logical-type.ts'
import { textAt } from '../../../model/slice-builder.ts'

/**
 * Labels of enums that rows carry and their schema does not know, each with its type. PostgreSQL's change log does not tell
 * of ALTER TYPE … ADD VALUE, so rows can bring a label before anybody has looked at the catalog again.
 */
export function unknownLabels(slice: Slice): string[] {
  return slice.schema.columns.flatMap((column, index) => {
    const type = elementType(column.type)
    if (type.kind !== 'enum') return []
    const known = new Set(type.values)
    const isArray = column.type.kind === 'array'
    const texts = Array.from({ length: slice.rows }, (_, row) => textAt(slice, row, index) ?? null)
    const labels = texts.flatMap((text) => (text === null ? [] : isArray ? labelsOf(parseArray(text, (each) => each) ?? []) : [text]))
    return [...new Set(labels)].filter((label) => !known.has(label)).map((label) => `${type.name} ${label}`)
  })
}

function labelsOf(items: readonly Nested<string>[]): string[] {
  return items.flatMap((item) => (item === null ? [] : typeof item === 'string' ? [item] : labelsOf(item)))
}
