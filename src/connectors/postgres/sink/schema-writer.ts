import type { TableSchema } from '../../../model/schema.ts'
import type { Logger } from '../../../sdk/logger.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import { quoteIdentifier, quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError } from '../wire/pg-error.ts'
import { DELETED_COLUMN } from '../../../sdk/soft-delete.ts'
import {
  columnSql,
  createEnumSql,
  createSchemaSql,
  createTableSql,
  defaultOf,
  DELETED_SQL,
  enumsOf,
  extendEnumSql,
  needsEvaluation,
  type DdlContext,
  type EnumType,
  type TypeContext,
} from './ddl.ts'
import { placeOf, readTarget, targetSql, type TargetTable } from './target-table.ts'

/** Which of the schema's types and defaults the target has. */
export async function ddlContext(connection: PgConnection, schema: TableSchema, soft: boolean): Promise<DdlContext> {
  const types = await knownTypes(connection, schema)
  return contextOf({ hasType: (type) => types.has(type) }, connection, schema, soft)
}

/** The same before the table is made: its enums will be. */
export async function plannedContext(connection: PgConnection, schema: TableSchema, soft: boolean): Promise<DdlContext> {
  return contextOf(await plannedTypes(connection, schema), connection, schema, soft)
}

async function contextOf(types: TypeContext, connection: PgConnection, schema: TableSchema, soft: boolean): Promise<DdlContext> {
  const defaults = await possibleDefaults(connection, schema)
  return { ...types, canEvaluate: (expression) => defaults.has(expression), serverVersion: connection.serverVersion, soft }
}

/** The types that the target has once the enums of the schema are made. */
export async function plannedTypes(connection: PgConnection, schema: TableSchema): Promise<TypeContext> {
  const types = await knownTypes(connection, schema)
  const enums = new Set(enumsOf(schema).map((type) => type.sql))
  return { hasType: (type) => types.has(type) || enums.has(type.replace(/(\[\])+$/, '')) }
}

async function knownTypes(connection: PgConnection, schema: TableSchema): Promise<Set<string>> {
  const wanted = schema.dialect === 'postgres' ? [...new Set(schema.columns.map((column) => column.sourceType))] : []
  if (wanted.length === 0) return new Set()
  const rows = await connection.rows(
    `SELECT x FROM unnest(ARRAY[${wanted.map(quoteLiteral).join(', ')}]) AS x WHERE to_regtype(x) IS NOT NULL`,
  )
  return new Set(rows.map(([type]) => type ?? ''))
}

/** Planned, not run: nextval hands out no number. */
async function possibleDefaults(connection: PgConnection, schema: TableSchema): Promise<Set<string>> {
  const possible = new Set<string>()
  const wanted =
    schema.dialect === 'postgres'
      ? schema.columns.filter((column) => needsEvaluation(schema, column)).flatMap((column) => column.default ?? [])
      : []
  for (const expression of new Set(wanted)) if (await isPossible(connection, expression)) possible.add(expression)
  return possible
}

async function isPossible(connection: PgConnection, expression: string): Promise<boolean> {
  try {
    await connection.execute(`EXPLAIN SELECT ${expression}`)
    return true
  } catch (error) {
    // A function, type or sequence that is not there or that we may not use, a constant that cannot be computed.
    if (error instanceof PgError && !/^(?:08|5[378]|XX)/.test(error.code)) return false
    throw error
  }
}

/** Makes the table, or adds the columns that an existing one lacks. Never removes anything. */
export async function makeTable(
  connection: PgConnection,
  table: SinkTable,
  { logger, soft }: { readonly logger: Logger; readonly soft: boolean },
): Promise<void> {
  await makeSchema(connection, placeOf(table).namespace, createSchemaSql(table))
  await makeEnums(connection, enumsOf(table.schema))
  const context = await ddlContext(connection, table.schema, soft)
  const target = await readTarget(connection, table)
  if (target !== null) return addMissingColumns(connection, table, target, context)
  await create(connection, table, context, logger)
}

async function create(connection: PgConnection, table: SinkTable, context: DdlContext, logger: Logger): Promise<void> {
  try {
    await connection.query(createTableSql(table, context))
  } catch (error) {
    if (!(error instanceof PgError) || table.schema.computed === undefined || !/^(42|3F)/.test(error.code)) throw error
    // An expression may call a function that only the source has.
    logger.warn('generated columns are left out: the target cannot compute them', { table: table.id, state: error.code })
    const { computed: _computed, ...schema } = table.schema
    await connection.query(createTableSql({ ...table, schema }, context))
  }
}

async function makeSchema(connection: PgConnection, name: string, sql: string): Promise<void> {
  const [row] = await connection.rows(`SELECT to_regnamespace(${quoteLiteral(quoteIdentifier(name))}) IS NOT NULL`)
  if (row?.[0] === 't') return
  try {
    await connection.query(sql)
  } catch (error) {
    if (!(error instanceof PgError) || (error.code !== '23505' && error.code !== '42P06')) throw error
  }
}

/** Outside any transaction: a label that is added in one cannot be used in it. */
export async function makeEnums(connection: PgConnection, types: readonly EnumType[]): Promise<void> {
  for (const type of types) {
    const rows = await connection.rows(
      `SELECT t.typtype, e.enumlabel FROM pg_type t LEFT JOIN pg_enum e ON e.enumtypid = t.oid WHERE t.oid = to_regtype(${quoteLiteral(type.sql)}) ORDER BY e.enumsortorder`,
    )
    if (rows.length === 0) {
      if (type.namespace !== null)
        await makeSchema(connection, type.namespace, `CREATE SCHEMA IF NOT EXISTS ${quoteIdentifier(type.namespace)}`)
      await connection.query(createEnumSql(type))
    } else if (rows[0]?.[0] === 'e') {
      const present = rows.flatMap(([, label]) => (label === null || label === undefined ? [] : [label]))
      for (const sql of extendEnumSql(type, present)) await connection.query(sql)
    }
  }
}

async function addMissingColumns(connection: PgConnection, table: SinkTable, target: TargetTable, context: DdlContext): Promise<void> {
  const missing = table.schema.columns.filter((column) => !target.columns.has(column.name))
  // Nullable and without its default: rows that are there already have no value for them.
  for (const column of missing) {
    const { default: _default, ...bare } = column
    await connection.query(
      `ALTER TABLE ${targetSql(table)} ADD COLUMN IF NOT EXISTS ${columnSql(table.schema, { ...bare, nullable: true, identity: 'no' }, context)}`,
    )
    const expression = defaultOf(table.schema, column, context)
    if (expression !== null)
      await connection.query(`ALTER TABLE ${targetSql(table)} ALTER COLUMN ${quoteIdentifier(column.name)} SET DEFAULT ${expression}`)
  }
  if (context.soft && !target.columns.has(DELETED_COLUMN))
    await connection.query(`ALTER TABLE ${targetSql(table)} ADD COLUMN IF NOT EXISTS ${DELETED_SQL}`)
}
