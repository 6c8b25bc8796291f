import { problem, problemsOf } from '../../../sdk/config/problems.ts'
import type { Problem } from '../../../sdk/errors.ts'
import { leaveOutOption } from '../../../sdk/selection.ts'
import type { Purpose, SourceTable } from '../../../sdk/source.ts'
import type { PostgresConfig } from '../config.ts'
import { qualifiedName, quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError } from '../wire/pg-error.ts'
import { catalogOf, type CatalogTable } from './catalog.ts'
import { checkPublication } from './check-publication.ts'
import { isStandby } from './log-end.ts'
import { historyLost, lostSlot, slotState, slotTaken, type Origin, type SlotState } from './origin.ts'

type Setting = ReadonlyMap<string, string>

const warning = (...parts: Parameters<typeof problem>): Problem => ({ ...problem(...parts), severity: 'warning' })

/** Minor releases before which ALTER PUBLICATION loses changes of concurrent transactions (TRAPS 51). */
const SAFE_MINOR: Readonly<Record<number, number>> = { 14: 18, 15: 13, 16: 9, 17: 5 }

/** Everything that stands in the way, at once. */
export async function checkSource(
  connection: PgConnection,
  config: PostgresConfig,
  tables: readonly SourceTable[],
  purpose: Purpose,
  known: Origin | null,
): Promise<Problem[]> {
  const problems: Problem[] = []
  if (connection.serverVersion < 140_000)
    problems.push(
      problem(
        'ENVIRONMENT',
        `PostgreSQL ${connection.parameters.get('server_version')} is too old: 14 is the oldest supported`,
        'upgrade the server',
      ),
    )
  const catalog = await catalogOf(connection, config.schema, tables)
  problems.push(...checkRights([...catalog.values()], connection), ...(await checkConditions(connection, tables, catalog)))
  if (purpose === 'copy') return problems
  const settings = await readSettings(connection)
  problems.push(
    ...(await checkPrimary(connection)),
    ...checkLog(settings),
    ...(await checkRole(connection, config)),
    ...(await checkSlots(connection, settings, config, known)),
  )
  problems.push(...tables.flatMap((table) => checkIdentity(table, catalog.get(table.schema.relation), connection.serverVersion)))
  problems.push(...(await checkPublication(connection, config, tables, catalog)))
  problems.push(...checkServer(connection, settings), ...checkFailover(config, settings))
  return problems
}

async function readSettings(connection: PgConnection): Promise<Setting> {
  const names = [
    'wal_level',
    'max_replication_slots',
    'max_wal_senders',
    'max_slot_wal_keep_size',
    'idle_replication_slot_timeout',
    'synchronized_standby_slots',
    'wal_sender_timeout',
    'server_version',
  ]
  const rows = await connection.rows(`SELECT name, setting FROM pg_settings WHERE name IN (${names.map(quoteText).join(',')})`)
  return new Map(rows.map(([name, value]) => [name ?? '', value ?? '']))
}

function checkRights(catalog: readonly CatalogTable[], connection: PgConnection): Problem[] {
  const user = quoteName(connection.options.user)
  return catalog
    .filter((table) => !table.selectable)
    .map((table) =>
      problem(
        'NOT_ALLOWED',
        `${connection.options.user} may not read ${table.schema.id}`,
        `GRANT SELECT ON ${qualifiedName(table.schema)} TO ${user}; GRANT USAGE ON SCHEMA ${quoteName(table.schema.namespace)} TO ${user}`,
        table.schema.id,
      ),
    )
}

/** CASE 40: a condition that the server does not take is found here, before a target is emptied for it. */
async function checkConditions(
  connection: PgConnection,
  tables: readonly SourceTable[],
  catalog: ReadonlyMap<number, CatalogTable>,
): Promise<Problem[]> {
  const problems: Problem[] = []
  for (const { schema, where } of tables) {
    if (where === null || catalog.get(schema.relation)?.selectable !== true) continue
    try {
      // Planned, not run, and written as the snapshot writes it. The extended protocol takes one statement only.
      await connection.execute(`EXPLAIN SELECT FROM ${qualifiedName(schema)} WHERE (${where})`)
    } catch (refusal) {
      if (!(refusal instanceof PgError)) throw refusal
      problems.push(
        problem('USAGE', `--where for ${schema.id} is refused by PostgreSQL: ${refusal.message}`, refusal.hint ?? WHERE_HINT, schema.id),
      )
    }
  }
  return problems
}

const WHERE_HINT = "write a condition as after WHERE: --where 'orders=total > 0'"

/** A standby takes no publication. */
async function checkPrimary(connection: PgConnection): Promise<Problem[]> {
  if (!(await isStandby(connection))) return []
  return [
    problem(
      'ENVIRONMENT',
      'the server is a standby: changes are followed from the primary',
      'name the primary in the URI; without --follow and --until a standby can be copied from',
    ),
  ]
}

function checkLog(settings: Setting): Problem[] {
  const level = settings.get('wal_level')
  if (level === 'logical') return []
  return [
    problem(
      'ENVIRONMENT',
      `the server's wal_level is ${level}; logical is needed to follow changes`,
      "ALTER SYSTEM SET wal_level = 'logical', then restart the server",
      'wal_level',
    ),
  ]
}

async function checkRole(connection: PgConnection, config: PostgresConfig): Promise<Problem[]> {
  const [row] = await connection.rows(
    `SELECT rolreplication, rolsuper, has_database_privilege(current_database(), 'CREATE') FROM pg_roles WHERE rolname = current_user`,
  )
  const [replication, superuser, create] = (row ?? []).map((value) => value === 't')
  const user = quoteName(connection.options.user)
  const problems: Problem[] = []
  if (replication !== true && superuser !== true)
    problems.push(problem('NOT_ALLOWED', `${connection.options.user} may not use replication`, `ALTER ROLE ${user} REPLICATION`))
  if (create !== true && config.publication === undefined) {
    problems.push(
      problem(
        'NOT_ALLOWED',
        `${connection.options.user} may not create a publication in this database`,
        `GRANT CREATE ON DATABASE ${quoteName(connection.options.database)} TO ${user}, or make one as its owner and name it with --source.publication`,
      ),
    )
  }
  return problems
}

async function checkSlots(connection: PgConnection, settings: Setting, config: PostgresConfig, known: Origin | null): Promise<Problem[]> {
  if (known !== null) return checkKnownSlot(known, await slotState(connection, known.slot))
  const [row] = await connection.rows('SELECT count(*), (SELECT count(*) FROM pg_stat_replication) FROM pg_replication_slots')
  const problems: Problem[] = []
  if (Number(row?.[0]) >= Number(settings.get('max_replication_slots'))) {
    problems.push(
      problem(
        'ENVIRONMENT',
        `all ${settings.get('max_replication_slots')} replication slots of the server are taken`,
        'raise max_replication_slots and restart, or drop one that nobody reads: SELECT slot_name FROM pg_replication_slots WHERE NOT active',
      ),
    )
  }
  if (Number(row?.[1]) >= Number(settings.get('max_wal_senders'))) {
    problems.push(
      problem(
        'ENVIRONMENT',
        `all ${settings.get('max_wal_senders')} wal senders of the server are busy`,
        'raise max_wal_senders and restart',
      ),
    )
  }
  if (config.slot !== undefined && (await slotState(connection, config.slot)).exists) problems.push(...problemsOf(slotTaken(config.slot)))
  return problems
}

/** CASE 10: said at every start, for a run that finds nothing new to read would not notice. */
function checkKnownSlot(known: Origin, state: SlotState): Problem[] {
  const lost = lostSlot(known, state)
  return lost === null ? [] : [...problemsOf(historyLost(lost))]
}

/** CASE 28: what the change log will carry of old rows, said before the start. */
function checkIdentity(table: SourceTable, catalog: CatalogTable | undefined, version: number): Problem[] {
  const { schema } = table
  const name = qualifiedName(schema)
  if (catalog?.persistence === 'unlogged')
    return [
      problem(
        'SCHEMA_UNSUPPORTED',
        `${schema.id} is UNLOGGED: its changes are not in the log`,
        `ALTER TABLE ${name} SET LOGGED, or leave it out: ${leaveOutOption(schema.id)}`,
        schema.id,
      ),
    ]
  if (schema.identity === 'nothing') {
    return [
      problem(
        'SCHEMA_UNSUPPORTED',
        `${schema.id} has no replica identity: its updates and deletes could not be followed (and PostgreSQL would refuse them once it is published)`,
        `ALTER TABLE ${name} ADD PRIMARY KEY (…), or ALTER TABLE ${name} REPLICA IDENTITY FULL, or leave it out: ${leaveOutOption(schema.id)}`,
        schema.id,
      ),
    ]
  }
  if (schema.identity !== 'full' && schema.key.length === 0) {
    return [
      problem(
        'SCHEMA_UNSUPPORTED',
        `the columns that identify rows of ${schema.id} are left out`,
        `choose others with --key ${schema.id}=…, or REPLICA IDENTITY FULL`,
        schema.id,
      ),
    ]
  }
  const partial = table.where !== null && (version < 150_000 || schema.identity !== 'full')
  if (partial) {
    return [
      problem(
        'CONFIG',
        `--where on ${schema.id} cannot be kept while following: a row that leaves the condition would not be seen`,
        version < 150_000
          ? 'it needs PostgreSQL 15; use a transform, or copy without --follow'
          : `ALTER TABLE ${name} REPLICA IDENTITY FULL, or use a transform`,
        schema.id,
      ),
    ]
  }
  return []
}

/**
 * TRAPS 55: source and sink are one database. What the sink writes, its bookkeeping included, must not be published: each
 * checkpoint would be a change that asks for the next. On 14 even transactions of which nothing is published are sent.
 */
export async function checkLoop(
  connection: PgConnection,
  config: PostgresConfig,
  beside: readonly { readonly namespace: string | null; readonly name: string }[],
): Promise<Problem[]> {
  if (connection.serverVersion < 150_000) {
    return [
      problem(
        'CONFIG',
        'source and sink are the same database, and PostgreSQL 14 would send back every transaction that we write',
        'copy without --follow, write to another database, or upgrade to PostgreSQL 15',
        'sink',
      ),
    ]
  }
  if (config.publication === undefined) return []
  const targets = beside.map(({ namespace, name }) => quoteText(`${quoteName(namespace ?? 'public')}.${quoteName(name)}`))
  const schemas = [config.schema, ...beside.map(({ namespace }) => namespace ?? 'public')].map(quoteText)
  const [row] = await connection.rows(
    `SELECT p.puballtables
            OR EXISTS (SELECT FROM pg_publication_namespace s JOIN pg_namespace n ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid AND n.nspname IN (${schemas.join(', ')}))
            OR EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND r.prrelid IN (${targets.map((name) => `to_regclass(${name})`).join(', ')}))
       FROM pg_publication p WHERE p.pubname = ${quoteText(config.publication)}`,
  )
  if (row?.[0] !== 't') return []
  return [
    problem(
      'CONFIG',
      `source and sink are the same database, and the publication ${config.publication} would send back what is written there: an endless loop`,
      'leave --source.publication out, or name one with FOR TABLE and only the tables that are read',
      'publication',
    ),
  ]
}

/** TRAPS 26: without that setting a standby that is promoted may lack what the sink has already. */
function checkFailover({ failover }: PostgresConfig, settings: Setting): Problem[] {
  const standbys = settings.get('synchronized_standby_slots')
  if (!failover || (standbys !== undefined && standbys !== '')) return []
  return [
    warning(
      'ENVIRONMENT',
      standbys === undefined
        ? 'failover slots came with PostgreSQL 17: after a failover of this server the pipeline has lost its history'
        : 'the server does not wait for its standbys before it sends changes (synchronized_standby_slots is empty): after a failover the target may hold what the new primary does not',
      standbys === undefined
        ? 'leave --source.failover out'
        : "ALTER SYSTEM SET synchronized_standby_slots = 'slot of the standby', then SELECT pg_reload_conf()",
      'failover',
    ),
  ]
}

function checkServer(connection: PgConnection, settings: Setting): Problem[] {
  const problems: Problem[] = []
  const major = Math.floor(connection.serverVersion / 10_000)
  const safe = SAFE_MINOR[major]
  if (safe !== undefined && connection.serverVersion % 10_000 < safe) {
    problems.push(
      warning(
        'ENVIRONMENT',
        `PostgreSQL ${major}.${connection.serverVersion % 10_000} can lose changes of running transactions when a table is added to a publication`,
        `upgrade to ${major}.${safe} or later before adding tables to a running pipeline`,
      ),
    )
  }
  const keep = Number(settings.get('max_slot_wal_keep_size') ?? -1)
  if (keep >= 0)
    problems.push(
      warning(
        'ENVIRONMENT',
        `the server gives up on a slot that holds more than ${keep} MB of log (max_slot_wal_keep_size)`,
        'a pipeline that is paused or slow for long then loses its history',
      ),
    )
  const idle = Number(settings.get('idle_replication_slot_timeout') ?? 0)
  if (idle > 0)
    problems.push(
      warning(
        'ENVIRONMENT',
        `the server drops slots that are idle for ${idle} s (idle_replication_slot_timeout)`,
        'a pipeline that is paused for longer loses its history',
      ),
    )
  return problems
}
