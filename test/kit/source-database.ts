import pg from 'pg'
import { startPostgres, type PostgresServer } from '../../src/testing/postgres-server.ts'

export const MAJOR = Number(process.env['TAILRACE_TEST_PG'] || 18)

export interface SourceDatabase extends AsyncDisposable {
  readonly server: PostgresServer
  readonly uri: string
  /** A session of the oracle's, opened again when the server was restarted. */
  query<T extends pg.QueryResultRow = pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<T[]>
  /** A further session, closed with the database. */
  session(uri?: string): Promise<pg.Client>
}

/** A server of the major under test, with nothing in it. */
export async function startSource(settings: Readonly<Record<string, string | number>> = {}): Promise<SourceDatabase> {
  const server = await startPostgres({ major: MAJOR, settings })
  const database = databaseOn(server)
  const closeSessions = database[Symbol.asyncDispose]
  return Object.defineProperty(database, Symbol.asyncDispose, {
    value: async () => {
      await closeSessions()
      await server[Symbol.asyncDispose]()
    },
  })
}

/** A database of a server that somebody else ends; its sessions end with it. */
export function databaseOn(server: PostgresServer, name?: string): SourceDatabase {
  const sessions: pg.Client[] = []
  let own: pg.Client | null = null
  const session = async (uri = server.uri(name)): Promise<pg.Client> => {
    const client = new pg.Client(uri)
    client.on('error', () => undefined)
    await client.connect()
    sessions.push(client)
    return client
  }
  return {
    server,
    get uri() {
      return server.uri(name)
    },
    session,
    query: async (sql, values) => {
      if (own === null) {
        const client = await session()
        client.once('end', () => (own = own === client ? null : own))
        own = client
      }
      return (await own.query(sql, values)).rows as never
    },
    [Symbol.asyncDispose]: async () => void (await Promise.allSettled(sessions.map((each) => each.end()))),
  }
}

export interface HardTables {
  /** Rows of `orders`; the others are small. */
  readonly rows: number
  /** Bytes of the text in `orders.body` of every hundredth row, stored out of line (TOAST). */
  readonly bodyBytes?: number
}

export const HARD_TABLES = ['orders', 'people', 'pairs', 'notes'] as const

/**
 * `orders`: an integer key in heap order, so that it is cut into key ranges (rule K); `people`: a random uuid key (rule T);
 * `pairs`: a composite key; `notes`: no key at all, REPLICA IDENTITY FULL, with equal rows.
 */
export async function createHardTables(source: SourceDatabase, { rows, bodyBytes = 3000 }: HardTables): Promise<void> {
  await source.query(`
    CREATE TABLE orders (id bigint PRIMARY KEY, n integer NOT NULL, label text, amount numeric(20,6), at timestamptz, raw bytea, ok boolean, data jsonb, body text);
    ALTER TABLE orders ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE people (id uuid PRIMARY KEY, name text NOT NULL, n integer, body text);
    ALTER TABLE people ALTER body SET STORAGE EXTERNAL;
    CREATE TABLE pairs (a integer, b text COLLATE "C", n integer, PRIMARY KEY (a, b));
    CREATE TABLE notes (n integer, word text);
    ALTER TABLE notes REPLICA IDENTITY FULL`)
  await source.query(
    `INSERT INTO orders SELECT i * 10, i % 1000,
       CASE i % 7 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN E'tab\\t, "quote"\\nline \\\\ end' WHEN 3 THEN 'emoji 🌊 ü' ELSE 'order ' || i END,
       (i * 1.000001)::numeric(20,6), '2024-02-29 12:34:56.123456+00'::timestamptz + i * interval '1.000001 second',
       CASE WHEN i % 5 = 0 THEN decode(md5(i::text), 'hex') END, i % 3 = 0, CASE WHEN i % 11 = 0 THEN jsonb_build_object('i', i, 's', 'x"y') END,
       CASE WHEN i % 100 = 0 THEN rpad(md5(i::text), $2::int, md5((i * 7)::text)) END
     FROM generate_series(1, $1::int) i`,
    [rows, bodyBytes],
  )
  await source.query(
    `INSERT INTO people SELECT md5(i::text)::uuid, 'person ' || i, i, CASE WHEN i % 20 = 0 THEN rpad(md5(i::text), $2::int, 'p') END FROM generate_series(1, $1::int) i`,
    [Math.ceil(rows / 20), bodyBytes],
  )
  await source.query(`INSERT INTO pairs SELECT i % 50, 'b' || i, i FROM generate_series(1, $1::int) i`, [Math.ceil(rows / 40)])
  await source.query(`INSERT INTO notes SELECT i % 100, 'word ' || i % 10 FROM generate_series(1, $1::int) i`, [
    Math.min(1000, Math.ceil(rows / 40)),
  ])
  await source.query('ANALYZE orders; ANALYZE people; ANALYZE pairs; ANALYZE notes')
}

export interface SlotRow {
  readonly slot_name: string
  readonly active: boolean
  readonly active_pid: number | null
  readonly confirmed_flush_lsn: string | null
  readonly wal_status: string
}

export async function slots(source: SourceDatabase): Promise<SlotRow[]> {
  return source.query<SlotRow & pg.QueryResultRow>(
    'SELECT slot_name, active, active_pid, confirmed_flush_lsn::text, wal_status FROM pg_replication_slots ORDER BY 1',
  )
}
