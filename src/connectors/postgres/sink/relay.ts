import type { TableSchema } from '../../../model/schema.ts'
import type { TargetTable } from './target-table.ts'

/** Types whose binary form is a number that means something else in another cluster, where the text is a name. */
const BY_NUMBER = /^(?:oid|reg[a-z]+)(?:\[\])?$/

/**
 * Whether the bytes of the source's COPY BINARY may go into the target as they are: every column is of the same type, and
 * of one whose binary form says nothing of the source's catalog. Arrays carry the oid of their element type and composites
 * those of their fields; of types that people made these differ from cluster to cluster.
 */
export function acceptsBinary(schema: TableSchema, target: TargetTable): boolean {
  if (schema.dialect !== 'postgres') return false
  return schema.columns.every((column) => {
    const own = target.columns.get(column.name)
    if (own === undefined || own.fullType !== column.sourceType) return false
    if (BY_NUMBER.test(own.fullType) || own.typeKind === 'c') return false
    return own.builtIn || !own.isArray
  })
}
