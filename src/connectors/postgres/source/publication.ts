import type { TableId } from '../../../model/schema.ts'
import type { Memory } from '../../../sdk/connector.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { tablesOption } from '../../../sdk/selection.ts'
import type { SourceTable } from '../../../sdk/source.ts'
import { quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'

/** Key in the connector's memory: memberships by the table's oid. */
export const PUBLISHED = 'postgres.published'

const KINDS = ['insert', 'update', 'delete', 'truncate'] as const

/** Every kind of change, and partitions by their own names: as the stream takes them. */
export const WHOLE = `publish = '${KINDS.join(', ')}'`

/** What the catalog says of the publication itself. */
interface Terms {
  /** xmin of the catalog row: another one after each change, also after one that was taken back. */
  readonly mark: string
  readonly kinds: readonly string[]
  readonly viaRoot: boolean
  readonly schemas: string
}

/** What it says of one relation that the publication names. */
interface Listing {
  readonly mark: string
  readonly condition: string | null
  readonly columns: string | null
}

/** How a table is published. Its relations: itself, and its partitions; null: not named by the publication. */
export interface Membership {
  readonly terms: Terms
  readonly relations: Readonly<Record<string, Listing | null>>
}

/** Memberships by the table's oid. */
export type Memberships = ReadonlyMap<number, Membership>

/** How the tables are published now; empty when there is no such publication. */
export async function readMemberships(sql: PgConnection, publication: string, tables: readonly SourceTable[]): Promise<Memberships> {
  const terms = await readTerms(sql, publication)
  if (terms === null || tables.length === 0) return new Map()
  const modern = sql.serverVersion >= 150_000
  const rows = await sql.rows(
    `SELECT t.oid, x.relation::oid, r.xmin, ${modern ? 'pg_get_expr(r.prqual, r.prrelid)' : 'NULL'},
            ${modern ? `(SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]))` : 'NULL'}
       FROM unnest(ARRAY[${tables.map((table) => table.schema.relation).join(', ')}]::oid[]) t(oid)
       CROSS JOIN LATERAL (SELECT t.oid::regclass UNION SELECT p.relid FROM pg_partition_tree(t.oid) p WHERE p.relid IS NOT NULL) x(relation)
       LEFT JOIN pg_publication_rel r ON r.prrelid = x.relation AND r.prpubid = (SELECT oid FROM pg_publication WHERE pubname = ${quoteText(publication)})`,
  )
  const found = new Map<number, { terms: Terms; relations: Record<string, Listing | null> }>()
  for (const [table, relation, mark, condition, columns] of rows) {
    const membership = found.get(Number(table)) ?? { terms, relations: {} }
    found.set(Number(table), membership)
    const listing = mark === null || mark === undefined ? null : { mark, condition: condition ?? null, columns: columns ?? null }
    membership.relations[relation ?? ''] = listing
  }
  return found
}

/** Relations that the publication sends, by oid. */
export async function publishedRelations(sql: PgConnection, publication: string): Promise<Set<number>> {
  const rows = await sql.rows(
    `SELECT c.oid FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = ${quoteText(publication)}`,
  )
  return new Set(rows.map(([oid]) => Number(oid)))
}

/** Whether all rows of a table are among them: by the table itself or by each relation that holds some. */
export function isPublished(published: ReadonlySet<number>, relation: number, leaves: readonly number[] = [relation]): boolean {
  return published.has(relation) || leaves.every((leaf) => published.has(leaf))
}

async function readTerms(sql: PgConnection, publication: string): Promise<Terms | null> {
  const schemas = `(SELECT string_agg(s.pnnspid || ':' || s.xmin, ',' ORDER BY s.pnnspid) FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)`
  const [row] = await sql.rows(
    `SELECT p.xmin, p.pubviaroot, ${sql.serverVersion >= 150_000 ? schemas : 'NULL'}, ${KINDS.map((kind) => `p.pub${kind}`).join(', ')}
       FROM pg_publication p WHERE p.pubname = ${quoteText(publication)}`,
  )
  if (row === undefined) return null
  const [mark, viaRoot, listed, ...sent] = row
  return { mark: mark ?? '', viaRoot: viaRoot === 't', schemas: listed ?? '', kinds: KINDS.filter((_, index) => sent[index] === 't') }
}

/** The terms on which our publication sends all that the stream needs, where somebody has given it others; null: they stand. */
export async function mendedTerms(sql: PgConnection, publication: string): Promise<string | null> {
  const terms = await readTerms(sql, publication)
  if (terms === null) return null
  const alter = `ALTER PUBLICATION ${quoteName(publication)}`
  const whole = terms.kinds.length === KINDS.length && !terms.viaRoot
  const statements = whole ? [] : [`${alter} SET (${WHOLE}, publish_via_partition_root = false)`]
  if (terms.schemas !== '') {
    // Of a table that is published with its schema, too, the row condition would not hold.
    const oids = terms.schemas.split(',').map((entry) => entry.replace(/:.*/, ''))
    const rows = await sql.rows(`SELECT nspname FROM pg_namespace WHERE oid IN (${oids.join(', ')})`)
    statements.push(...rows.map(([name]) => `${alter} DROP TABLES IN SCHEMA ${quoteName(name ?? '')}`))
  }
  return statements.length === 0 ? null : statements.join('; ')
}

interface Comparison {
  /** What is not as it was, by table, in words. Of a table that is not remembered, only what loses changes for certain. */
  readonly changes: ReadonlyMap<TableId, string>
  /** Tables of which nothing is remembered. */
  readonly unknown: readonly SourceTable[]
}

/**
 * What the publication said when a table was last read, or began to be followed. The log is decoded by what it says at each
 * place: a change of it, even one that was taken back, may have cost changes that come no more.
 */
export class PublicationMemory {
  readonly #memory: Memory

  constructor(memory: Memory) {
    this.#memory = memory
  }

  async #known(): Promise<Map<number, Membership>> {
    const text = await this.#memory.get(PUBLISHED)
    const entries: [number, Membership][] = text === null ? [] : JSON.parse(text)
    return new Map(entries)
  }

  async compare(publication: string, tables: readonly SourceTable[], now: Memberships): Promise<Comparison> {
    const known = await this.#known()
    const changes = new Map<TableId, string>()
    for (const table of tables) {
      const [before, after] = [known.get(table.schema.relation), now.get(table.schema.relation)]
      const what = after === undefined ? null : difference(publication, table.id, before, after)
      if (what !== null) changes.set(table.id, what)
    }
    return { changes, unknown: tables.filter((table) => !known.has(table.schema.relation)) }
  }

  async remember(tables: readonly SourceTable[], now: Memberships): Promise<void> {
    if (tables.length === 0) return
    const known = await this.#known()
    for (const { schema } of tables) {
      const membership = now.get(schema.relation)
      if (membership !== undefined) known.set(schema.relation, membership)
    }
    await this.#memory.set(PUBLISHED, JSON.stringify([...known]))
  }

  /** Partitions that join: all else stays as it was. */
  async join(table: SourceTable, partitions: readonly number[], now: Memberships): Promise<void> {
    const known = (await this.#known()).get(table.schema.relation)
    const membership = now.get(table.schema.relation)
    if (known === undefined || membership === undefined) return
    const joined = partitions.map((oid) => [String(oid), membership.relations[oid] ?? null])
    const relations = { ...known.relations, ...Object.fromEntries(joined) }
    await this.remember([table], new Map([[table.schema.relation, { ...known, relations }]]))
  }
}

function difference(publication: string, id: TableId, before: Membership | undefined, now: Membership): string | null {
  const unsent = KINDS.filter((kind) => !now.terms.kinds.includes(kind))
  if (unsent.length > 0) return `the publication ${publication} does not send ${unsent.join(', ')} any more`
  if (before === undefined) return null
  return changedTerms(publication, before.terms, now.terms) ?? changedRelations(publication, id, before, now)
}

function changedTerms(publication: string, before: Terms, now: Terms): string | null {
  if (before.viaRoot !== now.viaRoot) return `publish_via_partition_root of the publication ${publication} was changed`
  if (before.schemas !== now.schemas) return `the schemas of the publication ${publication} were changed`
  return before.mark === now.mark ? null : `the publication ${publication} was changed meanwhile`
}

function changedRelations(publication: string, id: TableId, before: Membership, now: Membership): string | null {
  const usual = Object.values(before.relations)
  for (const [relation, listing] of Object.entries(now.relations)) {
    const was = before.relations[relation]
    // A new partition joins as it is, but not if it is published in a way that none of its siblings is.
    const what = was === undefined ? narrowed(listing, usual) : changedListing(was, listing)
    if (what !== null) return `${id} ${what} the publication ${publication}`
  }
  return null
}

function narrowed(listing: Listing | null, usual: readonly (Listing | null)[]): string | null {
  if (listing === null || (listing.condition === null && listing.columns === null)) return null
  const same = usual.some((other) => other?.condition === listing.condition && other.columns === listing.columns)
  return same ? null : 'has a partition with a condition or column list of its own in'
}

function changedListing(before: Listing | null, now: Listing | null): string | null {
  if (before?.mark === now?.mark) return null
  if (now === null) return 'was taken out of'
  if (before === null) return 'was put into'
  if (before.condition !== now.condition) return now.condition === null ? 'lost its condition in' : `has the condition ${now.condition} in`
  if (before.columns !== now.columns) return now.columns === null ? 'lost its column list in' : `has the column list (${now.columns}) in`
  return 'was taken out of, and put back into,'
}

/** A person's publication is not ours to mend, and what it lost must be read again. */
export function changedPublication(publication: string, changed: ReadonlyMap<TableId, string>): TailraceError {
  const what = [...new Set(changed.values())].join('; ')
  const ids = [...changed.keys()]
  return new TailraceError('HISTORY_LOST', `${what}: changes of ${ids.join(', ')} may be lost`, {
    hint: `put the publication ${publication} right, then tailrace resnapshot <pipeline> ${tablesOption(ids)} and start again`,
    ...(ids.length === 1 ? { path: ids[0] } : {}),
  })
}
