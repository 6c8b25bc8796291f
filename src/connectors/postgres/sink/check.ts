import { columnAt, keyNames, type TableSchema } from '../../../model/schema.ts'
import type { Problem } from '../../../sdk/errors.ts'
import { excludeOption } from '../../../sdk/selection.ts'
import type { Misfit, SinkTable } from '../../../sdk/sink.ts'
import { DELETED_COLUMN } from '../../../sdk/soft-delete.ts'
import { identifierProblem, quoteIdentifier, quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { PostgresConfig } from '../config.ts'
import { columnType, losses, type DdlContext, type TypeContext } from './ddl.ts'
import { temporaryRight } from './merge.ts'
import { NAME_BYTES, type SinkSession } from './session.ts'
import { isWidening } from './widening.ts'
import { placeOf, readTarget, targetSql, uniqueIndexOn, type TargetTable } from './target-table.ts'

const OLDEST = 140_000

/** Everything that would fail later, or work otherwise than expected, with what to type. Changes nothing. */
export async function checkTarget(
  session: SinkSession,
  {
    config,
    soft,
    contextOf,
  }: { readonly config: PostgresConfig; readonly soft: boolean; readonly contextOf: (table: SinkTable) => Promise<DdlContext> },
  tables: readonly SinkTable[],
): Promise<Problem[]> {
  const problems = [
    ...(await checkServer(session)),
    ...(await checkBookkeeping(session, config)),
    ...(await checkNamespaces(session, tables)),
    ...(soft && tables.some(({ schema }) => schema.key.length > 0) ? await checkTemporary(session) : []),
  ]
  const ids = new Set<number>()
  for (const table of tables) {
    const target = await readTarget(session.connection, table)
    problems.push(...checkNames(table), ...checkKey(table))
    if (soft && table.schema.columns.some((column) => column.name === DELETED_COLUMN)) {
      problems.push(
        problem(
          table,
          'error',
          'CONFIG',
          `${table.id} has a column ${DELETED_COLUMN} of its own, which soft deletes need for their mark`,
          `${excludeOption(table.id, DELETED_COLUMN)}, or --deletes hard`,
        ),
      )
    }
    problems.push(...checkLosses(table, target, await contextOf(table)))
    if (target === null) continue
    if (ids.has(target.oid))
      problems.push(problem(table, 'error', 'CONFIG', `two tables go to ${targetSql(table)}`, 'give one of them another name with --map'))
    ids.add(target.oid)
    problems.push(...(await checkTable(session, table, target)))
  }
  return problems
}

async function checkServer(session: SinkSession): Promise<Problem[]> {
  const { connection } = session
  const [row = []] = await connection.rows(
    `SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), current_setting('fsync'), getdatabaseencoding(), quote_ident(current_user), current_setting('is_superuser')`,
  )
  const [recovering, readOnly, fsync, encoding, role] = row
  const found: Problem[] = []
  if (connection.serverVersion < OLDEST)
    found.push({
      severity: 'error',
      code: 'ENVIRONMENT',
      message: `the target is PostgreSQL ${Math.floor(connection.serverVersion / 10_000)}; 14 or later is needed`,
    })
  if (recovering === 't' || readOnly === 'on') {
    found.push({
      severity: 'error',
      code: 'ENVIRONMENT',
      message: 'the target takes no writes: it is a standby or read-only',
      hint: 'connect to the primary: target_session_attrs has no meaning here, name its host',
    })
  }
  if (fsync === 'off')
    found.push({
      severity: 'warning',
      code: 'ENVIRONMENT',
      message: 'the target runs with fsync off: after a crash of its machine rows that were reported durable may be gone',
    })
  if (encoding !== 'UTF8')
    found.push({
      severity: 'warning',
      code: 'ENVIRONMENT',
      message: `the target database is encoded as ${encoding ?? '?'}: characters that it does not have are refused`,
      hint: `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`,
    })
  if (!session.replicaRole) found.push(replicaProblem(connection.serverVersion, role ?? 'the role'))
  return found
}

/** TRAPS 36: without it triggers fire a second time and foreign keys cascade a second time. */
function replicaProblem(version: number, role: string): Problem {
  return {
    severity: 'warning',
    code: 'NOT_ALLOWED',
    message: `${role} may not set session_replication_role: foreign keys are left out, and tables that have some are written row by row`,
    hint:
      version >= 150_000
        ? `GRANT SET ON PARAMETER session_replication_role TO ${role};`
        : `on PostgreSQL 14 only a superuser may: ALTER ROLE ${role} SUPERUSER;`,
  }
}

async function checkBookkeeping(session: SinkSession, config: PostgresConfig): Promise<Problem[]> {
  const schema = quoteLiteral(quoteIdentifier(config.schema))
  const [row = []] = await session.connection.rows(
    `SELECT to_regnamespace(${schema}) IS NOT NULL, has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database()), quote_ident(current_user),
            has_schema_privilege(to_regnamespace(${schema})::oid, 'CREATE') AND has_schema_privilege(to_regnamespace(${schema})::oid, 'USAGE'),
            to_regclass(${quoteLiteral(`${quoteIdentifier(config.schema)}.checkpoints`)}) IS NOT NULL AND to_regclass(${quoteLiteral(`${quoteIdentifier(config.schema)}.writers`)}) IS NOT NULL`,
  )
  const [exists, mayCreate, database, role, mayUse, hasTables] = row
  if (exists !== 't' && mayCreate !== 't') {
    return [
      {
        severity: 'error',
        code: 'NOT_ALLOWED',
        message: `${role} may not make the schema ${config.schema} for the checkpoints`,
        hint: `GRANT CREATE ON DATABASE ${database} TO ${role};`,
      },
    ]
  }
  if (exists === 't' && hasTables !== 't' && mayUse !== 't') {
    return [
      {
        severity: 'error',
        code: 'NOT_ALLOWED',
        message: `${role} may not make a table in the schema ${config.schema}`,
        hint: `GRANT CREATE, USAGE ON SCHEMA ${quoteIdentifier(config.schema)} TO ${role};`,
      },
    ]
  }
  return []
}

async function checkNamespaces(session: SinkSession, tables: readonly SinkTable[]): Promise<Problem[]> {
  const problems: Problem[] = []
  for (const name of new Set(tables.map((table) => placeOf(table).namespace))) {
    const schema = quoteLiteral(quoteIdentifier(name))
    const [row = []] = await session.connection.rows(
      `SELECT to_regnamespace(${schema}) IS NOT NULL, has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database()), quote_ident(current_user),
              has_schema_privilege(to_regnamespace(${schema})::oid, 'CREATE') AND has_schema_privilege(to_regnamespace(${schema})::oid, 'USAGE')`,
    )
    const [exists, mayCreate, database, role, mayUse] = row
    if (exists !== 't' && mayCreate !== 't')
      problems.push({
        severity: 'error',
        code: 'NOT_ALLOWED',
        message: `${role} may not make the schema ${name}`,
        hint: `GRANT CREATE ON DATABASE ${database} TO ${role};`,
      })
    if (exists === 't' && mayUse !== 't')
      problems.push({
        severity: 'error',
        code: 'NOT_ALLOWED',
        message: `${role} may not make tables in the schema ${name}`,
        hint: `GRANT CREATE, USAGE ON SCHEMA ${quoteIdentifier(name)} TO ${role};`,
      })
  }
  return problems
}

/** What is read again, also after an interrupted copy, is merged into rows that are marked as deleted. */
async function checkTemporary({ connection }: SinkSession): Promise<Problem[]> {
  const right = await temporaryRight(connection)
  if (right.held) return []
  return [
    {
      severity: 'error',
      code: 'NOT_ALLOWED',
      message: `${right.missing}, from which with --deletes soft rows that are read again are merged into the target`,
      hint: right.grant,
    },
  ]
}

function checkNames(table: SinkTable): Problem[] {
  const place = placeOf(table)
  const names = [
    ['schema', place.namespace],
    ['table', place.name],
    ...table.schema.columns.map((column) => ['column', column.name]),
  ] as const
  return names.flatMap(([what, name = '']) => {
    const reason = identifierProblem(name, NAME_BYTES)
    return reason === null
      ? []
      : [
          problem(
            table,
            'error',
            'SCHEMA_UNSUPPORTED',
            `the ${what} name ${JSON.stringify(name)} ${reason}`,
            'rename it with --map, or leave the column out with --exclude',
          ),
        ]
  })
}

/** Of columns that a person chose by --key: nothing equals null. */
function checkKey(table: SinkTable): Problem[] {
  const nullable = table.schema.key.map((index) => columnAt(table.schema, index)).filter((column) => column.nullable)
  return nullable.map((column) =>
    problem(
      table,
      'error',
      'SCHEMA_UNSUPPORTED',
      `the key column ${column.name} of ${table.id} may be null: such rows are not found again`,
      'name other columns with --key',
    ),
  )
}

/** Of columns that we make: one that is there stays as it is. */
function checkLosses(table: SinkTable, target: TargetTable | null, context: DdlContext): Problem[] {
  return table.schema.columns
    .filter((column) => target === null || !target.columns.has(column.name))
    .flatMap((column) => losses(table.schema, column, context))
    .map((loss) =>
      problem(
        table,
        'warning',
        'SCHEMA_UNSUPPORTED',
        loss,
        'to keep it, make the type or function in the target, or install its extension, before the copy',
      ),
    )
}

async function checkTable(session: SinkSession, table: SinkTable, target: TargetTable): Promise<Problem[]> {
  if (target.kind !== 'r' && target.kind !== 'p')
    return [problem(table, 'error', 'SCHEMA_UNSUPPORTED', `${target.sql} is not a table`, 'map the table to another name')]
  return [
    ...(await checkRights(session, table, target)),
    ...checkColumns(table, target),
    ...checkTriggers(session, table, target),
    ...checkKeys(session, table, target),
  ]
}

async function checkRights(session: SinkSession, table: SinkTable, target: TargetTable): Promise<Problem[]> {
  const rights = ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']
  const [row = []] = await session.connection.rows(
    `SELECT quote_ident(current_user), pg_has_role(c.relowner, 'USAGE'), c.relowner::regrole, ${rights.map((right) => `has_table_privilege(c.oid, '${right}')`).join(', ')} FROM pg_class c WHERE c.oid = ${target.oid}`,
  )
  const [role, owned, owner, ...held] = row
  const missing = rights.filter((_, i) => held[i] !== 't')
  const problems: Problem[] = []
  if (missing.length > 0)
    problems.push(
      problem(
        table,
        'error',
        'NOT_ALLOWED',
        `${role} lacks ${missing.join(', ')} on ${target.sql}`,
        `GRANT ${missing.join(', ')} ON ${target.sql} TO ${role};`,
      ),
    )
  if (owned !== 't')
    problems.push(
      problem(
        table,
        'warning',
        'NOT_ALLOWED',
        `${role} does not own ${target.sql}: indexes cannot be made and schema changes cannot be followed`,
        `GRANT ${owner} TO ${role};`,
      ),
    )
  if (target.rowSecurity && owned !== 't')
    problems.push(
      problem(
        table,
        'error',
        'NOT_ALLOWED',
        `${target.sql} has row level security, which would hide rows from ${role}`,
        `ALTER ROLE ${role} BYPASSRLS;`,
      ),
    )
  return problems
}

function checkColumns(table: SinkTable, target: TargetTable): Problem[] {
  const { schema } = table
  const problems: Problem[] = []
  const error = (message: string, hint: string): void => void problems.push(problem(table, 'error', 'SCHEMA_UNSUPPORTED', message, hint))
  for (const column of schema.columns) {
    const own = target.columns.get(column.name)
    if (own === undefined) continue
    if (own.generated)
      error(
        `${target.sql}.${column.name} is generated in the target, and the source sends values for it`,
        excludeOption(table.id, column.name),
      )
  }
  const given = new Set(schema.columns.map((column) => column.name))
  for (const own of target.columns.values()) {
    if (given.has(own.name) || !own.notNull || own.hasDefault || own.generated) continue
    error(
      `${target.sql}.${own.name} is NOT NULL without a default, and the source has no such column`,
      `ALTER TABLE ${target.sql} ALTER COLUMN ${quoteIdentifier(own.name)} DROP NOT NULL;`,
    )
  }
  return problems
}

/** Columns that stand there already and do not take every value of the source's as it is. */
export function findMisfits(schema: TableSchema, target: TargetTable, context: TypeContext): Misfit[] {
  return schema.columns.flatMap((column) => {
    const own = target.columns.get(column.name)
    const wanted = columnType(schema, column, context)
    return own === undefined || own.generated || holds(own.fullType, wanted) ? [] : [{ column: column.name, found: own.fullType, wanted }]
  })
}

/** Text holds the text of any value. */
function holds(has: string, wanted: string): boolean {
  return has === wanted || has === 'text' || has === 'character varying' || isWidening(wanted, has)
}

function checkTriggers(session: SinkSession, table: SinkTable, target: TargetTable): Problem[] {
  return target.triggers.flatMap(({ name, enabled }) => {
    const fires = session.replicaRole ? enabled === 'A' || enabled === 'R' : enabled === 'O' || enabled === 'A'
    if (!fires) return []
    const disable = `ALTER TABLE ${target.sql} DISABLE TRIGGER ${quoteIdentifier(name)};`
    return [
      session.replicaRole
        ? problem(
            table,
            'warning',
            'CONFIG',
            `the trigger ${name} of ${target.sql} is enabled for replicated rows and fires for each row copied`,
            disable,
          )
        : problem(
            table,
            'error',
            'CONFIG',
            `the trigger ${name} of ${target.sql} would fire for each row copied, a second time after the source's`,
            disable,
          ),
    ]
  })
}

function checkKeys(session: SinkSession, table: SinkTable, target: TargetTable): Problem[] {
  const { schema } = table
  const problems: Problem[] = []
  if (schema.key.length === 0 && target.kind === 'p')
    problems.push(
      problem(table, 'error', 'SCHEMA_UNSUPPORTED', `${target.sql} is partitioned and its rows have no key`, 'name key columns with --key'),
    )
  if (!session.replicaRole && target.referencedBy.length + target.references.length > 0) {
    problems.push(
      problem(
        table,
        'warning',
        'CONFIG',
        `${target.sql} has foreign keys that cannot be switched off for this role: its changes are written row by row`,
        undefined,
      ),
    )
  }
  const other =
    schema.key.length > 0 && target.indexes.some((index) => index.primary) && uniqueIndexOn(target, keyNames(schema)) === undefined
  if (other)
    problems.push(
      problem(
        table,
        'warning',
        'CONFIG',
        `the primary key of ${target.sql} is not ${keyNames(schema).join(', ')}: a unique index is made beside it`,
        undefined,
      ),
    )
  return problems
}

function problem(
  table: SinkTable,
  severity: Problem['severity'],
  code: Problem['code'],
  message: string,
  hint: string | undefined,
): Problem {
  return { severity, code, message, path: table.id, ...(hint === undefined ? {} : { hint }) }
}
