import type { TableId } from '../../../model/schema.ts'
import { throwProblems } from '../../../sdk/config/problems.ts'
import type { ConnectorContext } from '../../../sdk/connector.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { SourceTable } from '../../../sdk/source.ts'
import type { PostgresConfig } from '../config.ts'
import { qualifiedName, quoteName, quoteText } from '../identifiers.ts'
import { openSession } from '../session.ts'
import type { PgConnection } from '../wire/connection.ts'
import { sayingWho } from './blockers.ts'
import { catalogOf } from './catalog.ts'
import { checkTheirs } from './check-publication.ts'
import { assertPublication, publicationOid, type Origin, type OriginKeeper } from './origin.ts'
import { mendedTerms, PublicationMemory, readMemberships } from './publication.ts'
import { waitForRunning } from './running.ts'

/** Sees to it that the publication sends the tables that are followed, and that it is known since when. */
export class Publisher {
  readonly memory: PublicationMemory
  readonly #config: PostgresConfig
  readonly #context: ConnectorContext
  readonly #keeper: OriginKeeper

  constructor(config: PostgresConfig, context: ConnectorContext, keeper: OriginKeeper) {
    this.memory = new PublicationMemory(context.memory)
    this.#config = config
    this.#context = context
    this.#keeper = keeper
  }

  /** Whether the publication is ours to change. */
  get ours(): boolean {
    return this.#config.publication === undefined
  }

  /** Before the slot is made (TRAPS 50). */
  async publish(sql: PgConnection, origin: Origin, tables: readonly SourceTable[]): Promise<void> {
    await this.#ensure(sql, origin, tables)
    await this.#keeper.rememberPublication(sql, origin)
    await this.memory.remember(tables, await readMemberships(sql, origin.publication, tables))
  }

  /**
   * Tables that joined a running pipeline, or are read again. What was missed while the publication was another is in their new
   * view, once the transactions that ran meanwhile have ended; only then is the publication remembered as it is now. Tables
   * that are only followed and may have missed changes are left for the watch to find.
   */
  async publishMore(
    sql: PgConnection,
    origin: Origin,
    tables: readonly SourceTable[],
    purpose: 'read' | 'followed',
    signal: AbortSignal,
  ): Promise<void> {
    await assertPublication(sql, origin)
    await this.#assertTheirs(sql, tables)
    const before = await readMemberships(sql, origin.publication, tables)
    const { changes, unknown } = await this.memory.compare(origin.publication, tables, before)
    const altered = await this.#ensure(sql, origin, tables)
    const now = altered ? await readMemberships(sql, origin.publication, tables) : before
    if (altered || changes.size > 0 || unknown.length > 0) {
      // Over a session of its own: the control session is the one that waits.
      await sayingWho(`adding tables to the publication ${origin.publication}`, waitForRunning(sql, signal), {
        session: () => openSession(this.#config, signal),
        logger: this.#context.logger,
      })
    }
    const rewritten = new Set((await this.memory.newFiles(tables, now)).map(({ table }) => table))
    const settled = purpose === 'read' ? tables : tables.filter((table) => !changes.has(table.id) && !rewritten.has(table))
    await this.memory.remember(settled, now)
  }

  async #ensure(sql: PgConnection, origin: Origin, tables: readonly SourceTable[]): Promise<boolean> {
    const leaves = await leafNames(sql, tables)
    return ensurePublication(sql, origin, tables, this.ours, (table) => leaves.get(table.id) ?? [qualifiedName(table.schema)])
  }

  /** A person's publication sends all of the tables, from here on. */
  async #assertTheirs(sql: PgConnection, tables: readonly SourceTable[]): Promise<void> {
    const { publication, schema } = this.#config
    if (publication === undefined) return
    const problems = await checkTheirs(sql, publication, tables, await catalogOf(sql, schema, tables))
    throwProblems(problems.filter(({ severity }) => severity === 'error'))
  }
}

/** The relations that hold a table's rows, by the table's id. */
async function leafNames(sql: PgConnection, tables: readonly SourceTable[]): Promise<Map<TableId, string[]>> {
  const oids = tables.map((table) => table.schema.relation)
  if (oids.length === 0) return new Map()
  const rows = await sql.rows(
    `SELECT r.oid, n.nspname, c.relname FROM unnest(ARRAY[${oids.join(',')}]::oid[]) r(oid) CROSS JOIN LATERAL pg_partition_tree(r.oid) p
       JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.isleaf AND c.relkind = 'r'`,
  )
  const names = new Map<TableId, string[]>()
  for (const table of tables) {
    const leaves = rows
      .filter(([oid]) => Number(oid) === table.schema.relation)
      .map(([, namespace, name]) => qualifiedName({ namespace: namespace ?? '', name: name ?? '' }))
    if (leaves.length > 0) names.set(table.id, leaves)
  }
  return names
}

/**
 * Makes the publication where it is missing, with exactly these tables, and puts right what somebody changed of it; one that a
 * person made is only checked. A table without an identity would make the application's UPDATE and DELETE fail (TRAPS 49):
 * `check` has refused it. True when a publication that is being read already sends more now.
 */
export async function ensurePublication(
  connection: PgConnection,
  origin: Origin,
  tables: readonly SourceTable[],
  ours: boolean,
  leavesOf: (table: SourceTable) => readonly string[],
): Promise<boolean> {
  const exists = (await publicationOid(connection, origin.publication)) !== null
  if (!ours) {
    if (!exists)
      throw new TailraceError('CONFIG', `the publication ${origin.publication} does not exist`, {
        hint: `CREATE PUBLICATION ${quoteName(origin.publication)} FOR TABLE …, or leave --source.publication out`,
        path: 'publication',
      })
    return false
  }
  const entries = tables.flatMap((table) => leavesOf(table).map((name): Entry => ({ name, table: table.id, where: table.where })))
  await assertIdentity(connection, entries)
  if (!exists) {
    const list = entries.length === 0 ? '' : ` FOR TABLE ${entries.map(clauseOf).join(', ')}`
    await connection.query(`CREATE PUBLICATION ${quoteName(origin.publication)}${list}`)
    return false
  }
  return mend(connection, origin.publication, entries)
}

/** A relation to be published: a table, or a partition of one. */
interface Entry {
  readonly name: string
  readonly table: TableId
  readonly where: string | null
}

/** A row condition becomes the publication's row filter: `check` has seen to PostgreSQL 15. */
function clauseOf({ name, where }: Entry): string {
  return where === null ? name : `${name} WHERE (${where})`
}

/**
 * Partitions do not inherit the identity that `check` has seen on their root. One without an identity, or under a condition
 * without its full old rows, would make the application's UPDATE and DELETE fail once it is published (TRAPS 49, 53).
 */
async function assertIdentity(connection: PgConnection, entries: readonly Entry[]): Promise<void> {
  if (entries.length === 0) return
  const rows = await connection.rows(
    `SELECT n.name, c.relreplident = 'f', EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND
              CASE c.relreplident WHEN 'd' THEN i.indisprimary AND i.indimmediate WHEN 'i' THEN i.indisreplident END)
       FROM unnest(ARRAY[${entries.map(({ name }) => quoteText(name)).join(', ')}]) n(name) JOIN pg_class c ON c.oid = to_regclass(n.name)`,
  )
  const lacking = rows.find(([name, full, keyed]) => {
    const whole = entries.some((entry) => entry.name === name && entry.where !== null)
    return full !== 't' && (whole || keyed !== 't')
  })
  const entry = entries.find(({ name }) => name === lacking?.[0])
  if (entry === undefined) return
  const { name, table, where } = entry
  throw new TailraceError(
    'SCHEMA_UNSUPPORTED',
    where === null
      ? `${name} of ${table} has no replica identity: PostgreSQL would refuse its updates and deletes once it is published`
      : `${name} of ${table} does not log its full old rows: under --where PostgreSQL would refuse its updates and deletes once it is published`,
    { hint: `ALTER TABLE ${name} REPLICA IDENTITY FULL, then start again`, path: table },
  )
}

/** One that is there with a row condition or a column list, or is to have a condition, is put in anew: it may be another by now. */
async function mend(connection: PgConnection, publication: string, entries: readonly Entry[]): Promise<boolean> {
  const listed = await listedTables(connection, publication)
  const anew = entries.filter(({ name, where }) => listed.has(name) && (where !== null || listed.get(name) === 'in part'))
  const missing = [...entries.filter(({ name }) => !listed.has(name)), ...anew]
  const alter = `ALTER PUBLICATION ${quoteName(publication)}`
  const statements = [
    await mendedTerms(connection, publication),
    anew.length === 0 ? null : `${alter} DROP TABLE ${anew.map(({ name }) => name).join(', ')}`,
    missing.length === 0 ? null : `${alter} ADD TABLE ${missing.map(clauseOf).join(', ')}`,
  ].filter((statement) => statement !== null)
  if (statements.length === 0) return false
  // All in one transaction: no change of a table can fall between them.
  await connection.query(statements.join('; '))
  return true
}

/** Tables that the publication names itself. */
async function listedTables(connection: PgConnection, publication: string): Promise<Map<string, 'whole' | 'in part'>> {
  const narrowed = connection.serverVersion < 150_000 ? 'false' : 'r.prqual IS NOT NULL OR r.prattrs IS NOT NULL'
  const rows = await connection.rows(
    `SELECT n.nspname, c.relname, ${narrowed} FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE p.pubname = ${quoteText(publication)}`,
  )
  return new Map(
    rows.map(([namespace, name, part]) => [
      qualifiedName({ namespace: namespace ?? '', name: name ?? '' }),
      part === 't' ? 'in part' : 'whole',
    ]),
  )
}
