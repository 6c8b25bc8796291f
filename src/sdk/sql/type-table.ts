import { formatType, type LogicalType } from '../../model/logical-type.ts'
import type { Column } from '../../model/schema.ts'
import { TailraceError } from '../errors.ts'

/**
 * How a system stores the logical types, as data: the DDL, the connector's docs page and its tests come from one table.
 * The first rule that fits is taken.
 */
export interface TypeRule {
  readonly logical: LogicalType['kind']
  /** A restriction on decimals, in the words of the docs page, and as a test. */
  readonly when?: { readonly text: string; readonly test: (type: LogicalType) => boolean }
  /** The target's type; `{precision}`, `{scale}`, `{element}` and `{name}` are filled in. */
  readonly target: string
  /** `exact`: every value comes back as it was. `text`: kept as the source's text. `narrowed`: some values do not fit. */
  readonly keeps: 'exact' | 'text' | 'narrowed'
  /** For people: what changes and for which values. */
  readonly note?: string
}

export type TypeTable = readonly TypeRule[]

export interface TargetType {
  readonly sql: string
  readonly rule: TypeRule
}

/** The target's type for a logical one. A table without a rule for it is a bug of the connector: tests walk all kinds. */
export function targetType(table: TypeTable, type: LogicalType): TargetType {
  const rule = table.find((candidate) => candidate.logical === type.kind && (candidate.when?.test(type) ?? true))
  if (rule === undefined) throw new TailraceError('BUG', `no rule for the type ${formatType(type)}`)
  return { sql: rule.target.replaceAll(/\{(\w+)\}/g, (_, part: string) => fill(table, type, part)), rule }
}

function fill(table: TypeTable, type: LogicalType, part: string): string {
  if (part === 'element' && type.kind === 'array') return targetType(table, type.element).sql
  if (part === 'precision' && type.kind === 'decimal' && type.precision !== null) return String(type.precision)
  if (part === 'scale' && type.kind === 'decimal') return String(type.scale ?? 0)
  if (part === 'name' && (type.kind === 'enum' || type.kind === 'other')) return type.name
  throw new TailraceError('BUG', `{${part}} has no meaning for the type ${formatType(type)}`)
}

/** What `plan` says of a column that is not kept exactly; null when it is. An array is as exact as its elements. */
export function typeNote(table: TypeTable, type: LogicalType): string | null {
  const { sql, rule } = targetType(table, type)
  if (rule.keeps !== 'exact') return `${formatType(type)} becomes ${sql}${rule.note === undefined ? '' : `: ${rule.note}`}`
  return type.kind === 'array' ? typeNote(table, type.element) : null
}

/** Notes on columns, one line for each note; null: nothing changes. What travels as text to every target is said elsewhere. */
export function typeNotes(columns: readonly Column[], noteOf: (column: Column) => string | null): readonly string[] {
  const names = new Map<string, string[]>()
  for (const column of columns) {
    const note = column.type.kind === 'other' ? null : noteOf(column)
    if (note !== null) names.set(note, [...(names.get(note) ?? []), column.name])
  }
  return [...names].map(([note, all]) => `${all.length === 1 ? 'column' : 'columns'} ${all.join(', ')}: ${note}`)
}

/** Every kind of logical type, for tests that a table is complete and for docs. */
export const LOGICAL_KINDS = [
  'boolean',
  'int8',
  'int16',
  'int32',
  'int64',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
  'float32',
  'float64',
  'decimal',
  'string',
  'bytes',
  'date',
  'time',
  'timetz',
  'timestamp',
  'timestamptz',
  'interval',
  'uuid',
  'json',
  'document',
  'enum',
  'array',
  'other',
] as const satisfies readonly LogicalType['kind'][]
