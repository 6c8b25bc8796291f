import type { LogicalType, ScalarKind } from '../../../model/logical-type.ts'
import type { PgConnection } from '../wire/connection.ts'

interface TypeRow {
  readonly oid: number
  readonly name: string
  readonly kind: string
  readonly element: number
  readonly base: number
  readonly baseModifier: number
  readonly isArray: boolean
}

/** Built-in types that have a logical type of their own, by oid (pg_type.dat; these numbers never change). */
const BUILT_IN: Readonly<Record<number, ScalarKind>> = {
  16: 'boolean',
  17: 'bytes',
  18: 'string',
  19: 'string',
  20: 'int64',
  21: 'int16',
  23: 'int32',
  25: 'string',
  26: 'uint32',
  114: 'json',
  700: 'float32',
  701: 'float64',
  1042: 'string',
  1043: 'string',
  1082: 'date',
  1083: 'time',
  1114: 'timestamp',
  1184: 'timestamptz',
  1186: 'interval',
  1266: 'timetz',
  2950: 'uuid',
  3802: 'json',
}
const NUMERIC = 1700

/** The types of one database: oid and modifier → logical type. */
export class TypeCatalog {
  readonly #types: ReadonlyMap<number, TypeRow>
  readonly #labels: ReadonlyMap<number, readonly string[]>

  private constructor(types: ReadonlyMap<number, TypeRow>, labels: ReadonlyMap<number, readonly string[]>) {
    this.#types = types
    this.#labels = labels
  }

  static async load(connection: PgConnection): Promise<TypeCatalog> {
    const types = await connection.rows(`
      SELECT t.oid, CASE WHEN n.nspname = 'pg_catalog' THEN t.typname ELSE n.nspname || '.' || t.typname END, t.typtype, t.typelem, t.typbasetype,
             t.typtypmod, (t.typcategory = 'A' AND t.typelem <> 0)
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
       WHERE t.typtype <> 'c' OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')`)
    const labels = await connection.rows('SELECT enumtypid, enumlabel FROM pg_enum ORDER BY enumtypid, enumsortorder')
    const byEnum = new Map<number, string[]>()
    for (const [oid, label] of labels) {
      const list = byEnum.get(Number(oid)) ?? []
      list.push(label ?? '')
      byEnum.set(Number(oid), list)
    }
    return new TypeCatalog(new Map(types.map((row) => [Number(row[0]), toTypeRow(row)])), byEnum)
  }

  logicalType(oid: number, modifier: number): LogicalType {
    if (oid === NUMERIC) return decimalOf(modifier)
    const builtIn = BUILT_IN[oid]
    if (builtIn !== undefined) return { kind: builtIn }
    const type = this.#types.get(oid)
    if (type === undefined) return { kind: 'other', name: `oid ${oid}` }
    if (type.kind === 'd') return this.logicalType(type.base, type.baseModifier)
    if (type.kind === 'e') return { kind: 'enum', name: type.name, values: this.#labels.get(oid) ?? [] }
    if (type.isArray) return { kind: 'array', element: this.logicalType(type.element, modifier) }
    return { kind: 'other', name: type.name }
  }
}

function toTypeRow(row: readonly (string | null)[]): TypeRow {
  return {
    oid: Number(row[0]),
    name: row[1] ?? '',
    kind: row[2] ?? 'b',
    element: Number(row[3]),
    base: Number(row[4]),
    baseModifier: Number(row[5]),
    isArray: row[6] === 't',
  }
}

/** numeric's modifier: ((precision << 16) | (scale & 0x7ff)) + 4, scale an 11-bit signed number since 15 (numeric.c). */
function decimalOf(modifier: number): LogicalType {
  if (modifier < 4) return { kind: 'decimal', precision: null, scale: null }
  const bits = modifier - 4
  const scale = ((bits & 0x7ff) ^ 0x400) - 0x400
  return { kind: 'decimal', precision: (bits >> 16) & 0xffff, scale }
}
