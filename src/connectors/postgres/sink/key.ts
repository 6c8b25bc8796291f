import { keyNames, type Index } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { tablesOption } from '../../../sdk/selection.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import { fitIdentifier, quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { indexSql, keyIndex } from './ddl.ts'
import { NAME_BYTES } from './session.ts'
import { placeOf, requireTarget, targetSql, uniqueIndexOn } from './target-table.ts'

/**
 * What makes the unique index by which the stream finds rows; nothing when it is there. It comes after the load, which is
 * faster without it, and before the first change of the table, which would scan the table without it.
 */
export async function keyStatements(connection: PgConnection, table: SinkTable): Promise<readonly string[]> {
  const index = keyIndex(table)
  if (index === null) return []
  const target = await requireTarget(connection, table)
  if (uniqueIndexOn(target, keyNames(table.schema)) !== undefined) return []
  const second = target.indexes.some((each) => each.primary)
  return indexSql(table, second ? { ...index, primary: false } : index, await freeName(connection, table, index))
}

/** The source's name, unless another relation of the target's schema has it: two source schemas in one target. */
export async function freeName(connection: PgConnection, table: SinkTable, index: Index): Promise<string> {
  const { namespace, name } = placeOf(table)
  const [row] = await connection.rows(
    `SELECT coalesce(i.indrelid = to_regclass(${quoteLiteral(targetSql(table))}), false) FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
      WHERE c.relname = ${quoteLiteral(index.name)} AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = ${quoteLiteral(namespace)})`,
  )
  const taken = row !== undefined && row[0] !== 't'
  return fitIdentifier(taken ? `${name}_${index.name}` : index.name, NAME_BYTES)
}

export function notUniqueError(table: SinkTable): TailraceError {
  return new TailraceError('NOT_ACCOUNTED', `the rows of ${targetSql(table)} are not unique by ${keyNames(table.schema).join(', ')}`, {
    path: table.id,
    hint: `the target held other rows before, or --key names columns that are not unique; tailrace resnapshot <pipeline> ${tablesOption([table.id])}`,
  })
}
