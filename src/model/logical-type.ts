/**
 * Logical types: what a value means, whatever system it comes from. A source maps its own types to these, a sink maps
 * these to its own; both maps are data (see `sdk/sql/type-table.ts`).
 */
export type LogicalType =
  | { readonly kind: ScalarKind }
  /** `precision` null: unlimited digits, as PostgreSQL's bare `numeric`. `scale` may be negative or exceed precision. */
  | { readonly kind: 'decimal'; readonly precision: number | null; readonly scale: number | null }
  | { readonly kind: 'enum'; readonly name: string; readonly values: readonly string[] }
  | { readonly kind: 'array'; readonly element: LogicalType }
  /** A type that we do not know: its text in the source's own form, with the source's name for it. */
  | { readonly kind: 'other'; readonly name: string }

export type ScalarKind =
  | 'boolean'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint8'
  | 'uint16'
  | 'uint32'
  | 'uint64'
  | 'float32'
  | 'float64'
  | 'string'
  | 'bytes'
  | 'date'
  | 'time'
  | 'timetz'
  | 'timestamp'
  | 'timestamptz'
  | 'interval'
  | 'uuid'
  | 'json'
  | 'document'

/** One-line form for `plan`, docs and error messages: `decimal(38,10)`, `array<int32>`, `other(tsvector)`. */
export function formatType(type: LogicalType): string {
  switch (type.kind) {
    case 'decimal':
      return type.precision === null ? 'decimal' : `decimal(${type.precision},${type.scale ?? 0})`
    case 'enum':
      return `enum(${type.name})`
    case 'array':
      return `array<${formatType(type.element)}>`
    case 'other':
      return `other(${type.name})`
    default:
      return type.kind
  }
}

/** The type of an array's elements, however deep; any other type as it is. */
export function elementType(type: LogicalType): LogicalType {
  return type.kind === 'array' ? elementType(type.element) : type
}

/** Compares two key values in their text form as the source orders them. */
export type KeyOrder = (a: string, b: string) => number

const integerOrder: KeyOrder = (a, b) => {
  const left = BigInt(a)
  const right = BigInt(b)
  return left < right ? -1 : left > right ? 1 : 0
}

const byteOrder: KeyOrder = (a, b) => (a < b ? -1 : a > b ? 1 : 0)

/**
 * The order of a key column, where our code can be trusted to order it exactly as every source does; null elsewhere
 * (text has collations, floats have NaN). TRAPS 4d: only such columns may be cut into key ranges.
 */
export function keyOrder(type: LogicalType): KeyOrder | null {
  switch (type.kind) {
    case 'int8':
    case 'int16':
    case 'int32':
    case 'int64':
    case 'uint8':
    case 'uint16':
    case 'uint32':
    case 'uint64':
      return integerOrder
    case 'uuid':
      return byteOrder
    default:
      return null
  }
}
