import type { TableId } from '../../../model/schema.ts'
import type { Memory } from '../../../sdk/connector.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { tablesOption } from '../../../sdk/selection.ts'
import type { SourceTable } from '../../../sdk/source.ts'
import { quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { oldestRunning } from './running.ts'

/** Key in the connector's memory: memberships by the table's oid. */
export const PUBLISHED = 'postgres.memberships'

const KINDS = ['insert', 'update', 'delete', 'truncate'] as const

/** Every kind of change, and partitions by their own names: as the stream takes them. */
export const WHOLE = `publish = '${KINDS.join(', ')}'`

/** What the catalog says of the publication itself. */
interface Terms {
  /** xmin of the catalog row: another one after each change, also after one that was taken back. */
  readonly mark: string
  readonly kinds: readonly string[]
  readonly viaRoot: boolean
  /** FOR ALL TABLES. */
  readonly all: boolean
  readonly schemas: string
}

/** What it says of one relation of a table: itself, or a partition. */
interface Listing {
  /** xmin of the entry that names the relation; null: none does. */
  readonly mark: string | null
  readonly condition: string | null
  readonly columns: string | null
  /** The catalog rows by which rows are sent that no entry names, new ones after DETACH and ATTACH, and SET SCHEMA. */
  readonly way: string
  /** Its file, where nothing keeps it from being UNLOGGED for a while: PostgreSQL refuses that to what an entry names. */
  readonly file: string | null
}

/** How a table is published, by the oids of its relations. */
export interface Membership {
  readonly terms: Terms
  /** The oldest transaction that ran when this was read. */
  readonly since: string
  readonly relations: Readonly<Record<string, Listing>>
}

/** Memberships by the table's oid. */
export type Memberships = ReadonlyMap<number, Membership>

/** How the tables are published now; empty when there is no such publication. */
export async function readMemberships(sql: PgConnection, publication: string, tables: readonly SourceTable[]): Promise<Memberships> {
  const terms = await readTerms(sql, publication)
  if (terms === null || tables.length === 0) return new Map()
  const since = String(await oldestRunning(sql))
  const modern = sql.serverVersion >= 150_000
  const rows = await sql.rows(
    `SELECT t.oid, c.oid, r.xmin, ${modern ? 'pg_get_expr(r.prqual, r.prrelid)' : 'NULL'},
            ${modern ? `(SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]))` : 'NULL'},
            c.relkind, c.relfilenode || ':' || c.reltoastrelid, i.inhparent, i.xmin,
            ${modern ? `CASE WHEN EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.pubid AND s.pnnspid = c.relnamespace) THEN d.xmin END` : 'NULL'}
       FROM unnest(ARRAY[${tables.map((table) => table.schema.relation).join(', ')}]::oid[]) t(oid)
       CROSS JOIN LATERAL (SELECT t.oid::regclass UNION SELECT p.relid FROM pg_partition_tree(t.oid) p WHERE p.relid IS NOT NULL) x(relation)
       JOIN pg_class c ON c.oid = x.relation
       LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND c.oid <> t.oid
       LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.refclassid = 'pg_namespace'::regclass
       CROSS JOIN (SELECT oid FROM pg_publication WHERE pubname = ${quoteText(publication)}) p(pubid)
       LEFT JOIN pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = p.pubid`,
  )
  const places = new Map(rows.map((row) => [row[1] ?? '', placeOf(row)]))
  const found = new Map<number, { terms: Terms; since: string; relations: Record<string, Listing> }>()
  for (const [table, relation, mark = null, condition = null, columns = null, kind, file = null] of rows) {
    const membership = found.get(Number(table)) ?? { terms, since, relations: {} }
    found.set(Number(table), membership)
    const unnamed = kind === 'r' && mark === null
    const way = unnamed && !terms.all ? wayOf(relation ?? '', places) : ''
    membership.relations[relation ?? ''] = { mark, condition, columns, way, file: unnamed ? file : null }
  }
  return found
}

/** Where a relation stands: what it is a partition of, and what sends its rows. */
interface Place {
  readonly named: boolean
  readonly parent: string | null
  /** xmin of the catalog row that makes it a partition. */
  readonly edge: string | null
  /** xmin of the catalog row that puts it into its schema, which is published; null: the schema is not. */
  readonly inSchema: string | null
}

function placeOf(row: readonly (string | null)[]): Place {
  return { named: row[2] !== null, parent: row[7] ?? null, edge: row[8] ?? null, inSchema: row[9] ?? null }
}

/** Up the partition tree to what is published. */
function wayOf(relation: string, places: ReadonlyMap<string, Place>): string {
  const way: string[] = []
  for (let place = places.get(relation); place !== undefined && !place.named; place = places.get(place.parent ?? '')) {
    if (place.inSchema !== null) return [...way, `in ${place.inSchema}`].join()
    way.push(place.edge ?? '')
  }
  return way.join()
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
    `SELECT p.xmin, p.pubviaroot, p.puballtables, ${sql.serverVersion >= 150_000 ? schemas : 'NULL'}, ${KINDS.map((kind) => `p.pub${kind}`).join(', ')}
       FROM pg_publication p WHERE p.pubname = ${quoteText(publication)}`,
  )
  if (row === undefined) return null
  const [mark, viaRoot, all, listed, ...sent] = row
  const kinds = KINDS.filter((_, index) => sent[index] === 't')
  return { mark: mark ?? '', viaRoot: viaRoot === 't', all: all === 't', schemas: listed ?? '', kinds }
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
    const joined = Object.entries(membership.relations).filter(([oid]) => partitions.includes(Number(oid)))
    const relations = { ...known.relations, ...Object.fromEntries(joined) }
    await this.remember([table], new Map([[table.schema.relation, { ...known, relations }]]))
  }

  /** Relations that have new files, and since when they may have: by TRUNCATE, VACUUM FULL, or having been UNLOGGED for a while. */
  async newFiles(tables: readonly SourceTable[], now: Memberships): Promise<NewFile[]> {
    const known = await this.#known()
    return tables.flatMap((table) => {
      const before = known.get(table.schema.relation)
      const after = Object.entries(now.get(table.schema.relation)?.relations ?? {})
      return after.flatMap(([relation, { file }]): NewFile[] => {
        const was = before?.relations[relation]?.file ?? null
        return before === undefined || was === null || file === null || was === file
          ? []
          : [
              {
                table,
                relation: Number(relation),
                file,
                since: before.since,
                sameToast: toastOf(was) !== '0' && toastOf(was) === toastOf(file),
              },
            ]
      })
    })
  }

  /** New files that lost nothing. */
  async acceptFiles(files: readonly NewFile[], now: Memberships): Promise<void> {
    for (const { table, relation } of files) await this.join(table, [relation], now)
  }
}

/** A relation that is not in the file that it was in. */
export interface NewFile {
  readonly table: SourceTable
  readonly relation: number
  readonly file: string
  readonly since: string
  /** Only ALTER TABLE gives another TOAST table: TRUNCATE and VACUUM FULL keep it. */
  readonly sameToast: boolean
}

function toastOf(file: string): string {
  return file.replace(/.*:/, '')
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

function narrowed(listing: Listing, usual: readonly Listing[]): string | null {
  if (listing.condition === null && listing.columns === null) return null
  const same = usual.some((other) => other.condition === listing.condition && other.columns === listing.columns)
  return same ? null : 'has a partition with a condition or column list of its own in'
}

function changedListing(before: Listing, now: Listing): string | null {
  if (before.mark === now.mark) return before.way === now.way ? null : 'was, by DETACH PARTITION or SET SCHEMA, for a while not all in'
  if (now.mark === null) return 'was taken out of'
  if (before.mark === null) return 'was put into'
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
