import type { Barrier, StreamBatch } from '../../../model/batch.ts'
import type { Position } from '../../../model/position.ts'
import { parseTableName, type TableId, type TableSchema } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { tablesOption } from '../../../sdk/selection.ts'
import type { SourceTable } from '../../../sdk/source.ts'
import { qualifiedName, quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError } from '../wire/pg-error.ts'
import { readNames, readStorage } from './catalog.ts'
import { hasOlderRow, writtenBy } from './files.ts'
import { insertedEnd } from './log-end.ts'
import { assertPublication, publicationLost, type Origin } from './origin.ts'
import { readPosition } from './position.ts'
import {
  changedPublication,
  isPublished,
  publishedRelations,
  readMemberships,
  type Memberships,
  type NewFile,
  type PublicationMemory,
} from './publication.ts'
import { ensurePublication } from './publisher.ts'
import type { Relations } from './relations.ts'
import { nextXid, oldestRunning } from './running.ts'

export interface WatchParts {
  readonly sql: PgConnection
  readonly origin: Origin
  /** What the publication said when the tables were read. */
  readonly memory: PublicationMemory
  /** The publication is ours to change. */
  readonly ours: boolean
  readonly tables: readonly SourceTable[]
  /** Where the stream starts. */
  readonly from: Position
  readonly relations: Relations
  readonly intervalMillis: number
  readonly clock: () => number
}

/** What the catalog says of one table. */
interface Seen {
  readonly exists: boolean
  /** The table that has the name now; null: none. */
  readonly holder: number | null
  readonly leaves: readonly number[]
}

/**
 * What the change log never tells (TRAPS 46, 48, 50, 52): another table has taken the name, partitions were attached or
 * detached, the publication was changed, rows were rewritten in place. Looked for in the catalog now and then;
 * what is found becomes a barrier that has the table read again, or stops the pipeline.
 */
export class Watch {
  readonly #parts: WatchParts
  /** Tables that are gone, with the end of the log when that was seen; null once it is said. */
  readonly #dropped = new Map<TableId, bigint | null>()
  /** Everything before it was handed out. */
  #passed: bigint
  readonly #marks = new Map<TableId, string>()
  /** New partitions that were found published when this xid was the next: rows before that may be missing (TRAPS 51). */
  readonly #joining = new Map<number, bigint>()
  #lookedAt = -Infinity
  /** The oldest transaction that ran when the tables were last found in the files that they were in, or accepted in others. */
  #sameFiles = 0n
  /** New files that nothing has explained yet, with the end of the log when they were seen; null before the first look. */
  #files: ReadonlyMap<string, bigint> | null = null

  constructor(parts: WatchParts) {
    this.#parts = parts
    this.#passed = readPosition(parts.from).lsn
  }

  passed(position: Position): void {
    this.#passed = readPosition(position).lsn
  }

  get intervalMillis(): number {
    return this.#parts.intervalMillis
  }

  /** Up to 17 the decoder itself stumbles over a publication that is gone, or that was not there yet at that place of the log. */
  explain(error: unknown): unknown {
    const { cause } = error instanceof TailraceError ? error : {}
    return cause instanceof PgError && cause.code === '42704' && cause.message.includes(this.#parts.origin.publication)
      ? publicationLost(this.#parts.origin)
      : error
  }

  /** A barrier per finding; none when it is not time to look yet. */
  async look(): Promise<Barrier[]> {
    const now = this.#parts.clock()
    if (now - this.#lookedAt < this.#parts.intervalMillis) return []
    this.#lookedAt = now
    // In this order, so that what is taken away between two of the questions is told by the one that says most of it.
    const memberships = await readMemberships(this.#parts.sql, this.#parts.origin.publication, this.#parts.tables)
    await assertPublication(this.#parts.sql, this.#parts.origin)
    const published = await publishedRelations(this.#parts.sql, this.#parts.origin.publication)
    const seen = await this.#seeTables()
    const changes = await this.#compare(memberships, published, seen)
    const barriers: Barrier[] = []
    for (const [index, table] of this.#parts.tables.entries()) {
      const found = seen[index]
      const barrier = found === undefined ? null : await this.#judge(table, found, published, changes.get(table.id))
      if (barrier !== null) barriers.push(barrier)
    }
    return [...barriers, ...(await this.#rewritten()), ...(await this.#unlogged(memberships))]
  }

  async #judge(table: SourceTable, seen: Seen, published: ReadonlySet<number>, change: string | undefined): Promise<Barrier | null> {
    const { relation } = table.schema
    if (seen.holder !== null && seen.holder !== relation) return this.#readAgain(table, `another table has taken the name ${table.id}`)
    if (!seen.exists) return this.#drop(table)
    // Nobody can go on from here, whatever the policy: changes that were not sent are in no log that is still to come.
    if (change !== undefined) return this.#readAgain(table, change, true)
    const partitions = this.#schemaOf(table).partitions
    const gone = partitions?.filter((leaf) => !seen.leaves.includes(leaf)) ?? []
    if (gone.length > 0) return this.#readAgain(table, `a partition of ${table.id} was detached or dropped`)
    const added = partitions === undefined ? [] : seen.leaves.filter((leaf) => !partitions.includes(leaf))
    if (added.length > 0) return this.#join(table, seen.leaves, added, published)
    return this.#isMissing(table, published) ? this.#unpublished(table) : null
  }

  #isMissing(table: SourceTable, published: ReadonlySet<number>): boolean {
    return !isPublished(published, table.schema.relation, this.#schemaOf(table).partitions)
  }

  /**
   * What of the publication is not as it was when the tables were read, by table. A person's is not ours to put right: then
   * the run ends. One of ours is put right when the tables are read again.
   */
  async #compare(now: Memberships, published: ReadonlySet<number>, seen: readonly Seen[]): Promise<ReadonlyMap<TableId, string>> {
    const { origin, memory, ours } = this.#parts
    const tables = this.#parts.tables.filter((_, index) => seen[index]?.exists === true)
    const { changes, unknown } = await memory.compare(origin.publication, tables, now)
    await memory.remember(
      unknown.filter((table) => !changes.has(table.id)),
      now,
    )
    if (ours || changes.size === 0) return changes
    const missing = tables.find((table) => this.#isMissing(table, published))
    throw missing === undefined ? changedPublication(origin.publication, changes) : this.#lacking(missing)
  }

  #schemaOf(table: SourceTable): TableSchema {
    return this.#parts.relations.schemaOf(table.id) ?? table.schema
  }

  #readAgain(table: SourceTable, reason: string, blind = false): Barrier {
    const schema = this.#schemaOf(table)
    return { kind: 'schema', previous: schema, schema, changes: [], ambiguous: reason, blind }
  }

  /** The catalog is ahead of the log: rows that were written before the table went come first. */
  async #drop(table: SourceTable): Promise<Barrier | null> {
    if (!this.#dropped.has(table.id)) this.#dropped.set(table.id, await insertedEnd(this.#parts.sql))
    const end = this.#dropped.get(table.id) ?? null
    if (end === null || this.#passed < end) return null
    this.#dropped.set(table.id, null)
    const schema = this.#schemaOf(table)
    return {
      kind: 'schema',
      previous: schema,
      schema,
      changes: [{ kind: 'table-dropped', before: table.id, after: null }],
      ambiguous: null,
    }
  }

  /** One of ours is added again when the table is read again; what is in a person's is for the person to say. */
  #unpublished(table: SourceTable): Barrier {
    const { ours, origin } = this.#parts
    if (ours) return this.#readAgain(table, `${table.id} was taken out of the publication ${origin.publication}`)
    throw this.#lacking(table)
  }

  #lacking(table: SourceTable): TailraceError {
    const { publication } = this.#parts.origin
    return new TailraceError(
      'SCHEMA_CHANGED',
      `the publication ${publication} no longer holds all of ${table.id}: its changes do not come any more`,
      {
        hint: `ALTER PUBLICATION ${quoteName(publication)} ADD TABLE ${qualifiedName(table.schema)}; then tailrace resnapshot <pipeline> ${tablesOption([table.id])}`,
        path: table.id,
      },
    )
  }

  /**
   * New partitions. An empty one joins without ado, once it is published and every transaction that ran then has ended: no
   * row of it can have been missed. Any other may have rows that never were in the log: the table is read again.
   */
  async #join(
    table: SourceTable,
    leaves: readonly number[],
    added: readonly number[],
    published: ReadonlySet<number>,
  ): Promise<Barrier | null> {
    const { sql, ours, origin, relations, memory } = this.#parts
    const reason = `a partition of ${table.id} was attached`
    // TRAPS 52: on 14 a table that was written before it was attached sends nothing afterwards, to this walsender.
    if (sql.serverVersion < 150_000) return this.#readAgain(table, reason)
    const names = await readNames(sql, added)
    const missing = added.filter((leaf) => !published.has(leaf))
    if (missing.length > 0 && !published.has(table.schema.relation)) {
      if (!ours) {
        // What was asked before may be older than the partition is.
        const now = await publishedRelations(sql, origin.publication)
        return missing.every((leaf) => now.has(leaf)) ? null : this.#unpublished(table)
      }
      await ensurePublication(sql, origin, [table], ours, () => missing.flatMap((leaf) => names.get(leaf) ?? []))
    }
    const fresh = added.filter((leaf) => !this.#joining.has(leaf))
    if (fresh.length > 0) {
      await memory.join(table, fresh, await readMemberships(sql, origin.publication, [table]))
      const next = await nextXid(sql)
      for (const leaf of fresh) this.#joining.set(leaf, next)
    }
    if (await this.#mayRun(added)) return null
    const [row] = await sql.rows(`SELECT ${[...names.values()].map((name) => `EXISTS (SELECT FROM ${name})`).join(' OR ')}`)
    if (row?.[0] === 't') return this.#readAgain(table, reason)
    for (const leaf of added) this.#joining.delete(leaf)
    return relations.adopt(table.id, leaves)
  }

  /** Whether a transaction may still run that began before the partitions were published. */
  async #mayRun(leaves: readonly number[]): Promise<boolean> {
    const oldest = await oldestRunning(this.#parts.sql)
    return leaves.some((leaf) => oldest <= (this.#joining.get(leaf) ?? -1n))
  }

  /**
   * Tables that are published without being named may have been UNLOGGED for a while, and what was written then is in no log. All that
   * shows it is a new file, which TRUNCATE and VACUUM FULL make, too: those keep the TOAST table, and VACUUM FULL the old rows.
   */
  async #unlogged(now: Memberships): Promise<Barrier[]> {
    const { sql, memory, tables } = this.#parts
    const files = await memory.newFiles(tables, now)
    const innocent: NewFile[] = []
    for (const file of files) if (file.sameToast || (await hasOlderRow(sql, file, this.#sameFiles))) innocent.push(file)
    await memory.acceptFiles(innocent, now)
    const suspect = files.filter((file) => !innocent.includes(file))
    const found = await this.#unexplained(suspect)
    if (suspect.length === 0) for (const { since } of now.values()) this.#sameFiles = BigInt(since)
    return [...found].map((table) => this.#readAgain(table, `${table.id} may have been UNLOGGED for a while`, true))
  }

  /** The catalog is ahead of the log: a TRUNCATE may still come. What was done before the start is not waited for: the run may end first. */
  async #unexplained(files: readonly NewFile[]): Promise<ReadonlySet<SourceTable>> {
    const seen = new Map<string, bigint>()
    for (const { relation, file } of files) {
      const key = `${relation} ${file}`
      const end = this.#files === null ? 0n : (this.#files.get(key) ?? (await insertedEnd(this.#parts.sql)))
      seen.set(key, end)
    }
    this.#files = seen
    return new Set(files.filter(({ relation, file }) => (seen.get(`${relation} ${file}`) ?? 0n) <= this.#passed).map(({ table }) => table))
  }

  /** A TRUNCATE that came by the stream explains a new file. */
  async truncated({ barrier, transactions: [transaction] }: StreamBatch): Promise<void> {
    if (barrier?.kind !== 'truncate' || transaction === undefined) return
    const { sql, origin, memory } = this.#parts
    const oids = new Set(barrier.tables.map(({ relation }) => relation))
    const tables = this.#parts.tables.filter(({ schema }) => oids.has(schema.relation))
    const now = await readMemberships(sql, origin.publication, tables)
    const files = await memory.newFiles(tables, now)
    const written = await writtenBy(
      sql,
      files.map(({ relation }) => relation),
      transaction.id,
    )
    await memory.acceptFiles(
      files.filter(({ relation }) => written.has(relation)),
      now,
    )
  }

  /** Tables whose catalog mark is new and whose rows, it turns out, were written anew. */
  async #rewritten(): Promise<Barrier[]> {
    const { sql, tables, relations } = this.#parts
    const marks = await readStorage(
      sql,
      tables.map((table) => table.schema.relation),
    )
    const barriers: Barrier[] = []
    for (const table of tables) {
      const mark = marks.get(table.schema.relation)
      if (mark === undefined || mark === (this.#marks.get(table.id) ?? this.#schemaOf(table).storage)) continue
      this.#marks.set(table.id, mark)
      const barrier = await relations.inspect(table)
      if (barrier !== null) barriers.push(barrier)
    }
    return barriers
  }

  async #seeTables(): Promise<Seen[]> {
    const { sql, tables } = this.#parts
    if (tables.length === 0) return []
    const values = tables.map((table, index) => {
      const { namespace, name } = parseTableName(table.id) ?? { namespace: null, name: table.id }
      return `(${index}, ${table.schema.relation}::oid, ${quoteText(namespace ?? '')}, ${quoteText(name)})`
    })
    const rows = await sql.rows(
      `SELECT c.oid IS NOT NULL,
              (SELECT h.oid FROM pg_class h JOIN pg_namespace n ON n.oid = h.relnamespace WHERE n.nspname = v.namespace AND h.relname = v.name AND h.relkind IN ('r', 'p')),
              CASE WHEN c.relkind = 'p' THEN (SELECT string_agg(p.relid::oid::text, ',') FROM pg_partition_tree(c.oid) p WHERE p.isleaf AND p.relid <> c.oid) ELSE c.oid::text END
         FROM (VALUES ${values.join(', ')}) v(n, oid, namespace, name) LEFT JOIN pg_class c ON c.oid = v.oid ORDER BY v.n`,
    )
    return rows.map(([exists, holder, leaves]) => ({
      exists: exists === 't',
      holder: holder === null || holder === undefined ? null : Number(holder),
      leaves: (leaves ?? '').split(',').filter(Boolean).map(Number),
    }))
  }
}

/**
 * The stream with what the watch finds between its batches, also when none comes. A barrier is put where a transaction ends;
 * it has no position of its own, the next batch brings one.
 */
export async function* watched(batches: AsyncIterable<StreamBatch>, watch: Watch): AsyncGenerator<StreamBatch, void, undefined> {
  const iterator = batches[Symbol.asyncIterator]()
  let whole = true
  let pending: Pending | null = null
  try {
    for (;;) {
      if (whole) for (const barrier of await watch.look()) yield barrierBatch(barrier)
      pending ??= new Pending(iterator.next())
      if (!(await pending.settled(watch.intervalMillis))) continue
      const result = await pending.result
      pending = null
      if (result.done === true) return
      await watch.truncated(result.value)
      yield result.value
      whole = result.value.position !== null
      if (result.value.position !== null) watch.passed(result.value.position)
    }
  } catch (error) {
    throw watch.explain(error)
  } finally {
    // Not awaited while a batch is: the stream ends by its reader being closed, which comes after us.
    const end = iterator.return?.()
    if (pending === null) await end
    else end?.catch(() => {})
  }
}

/** A batch that is waited for, for a while at a time; one listener however often. */
class Pending {
  readonly result: Promise<IteratorResult<StreamBatch, unknown>>
  #settled = false
  #wake: (() => void) | null = null

  constructor(result: Promise<IteratorResult<StreamBatch, unknown>>) {
    this.result = result
    const settle = (): void => {
      this.#settled = true
      this.#wake?.()
    }
    result.then(settle, settle)
  }

  async settled(millis: number): Promise<boolean> {
    if (this.#settled) return true
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, millis)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    return this.#settled
  }
}

function barrierBatch(barrier: Barrier): StreamBatch {
  return { slices: [], barrier, transactions: [], position: null, rows: 0, bytes: 256 }
}
