import { delay } from '../../../async/abort.ts'
import type { PgConnection } from '../wire/connection.ts'
import { parseLsn } from './position.ts'

const LOOK_MILLIS = 20
/** By then the server's own WAL writer has flushed asynchronous commits, with its default settings. */
const PATIENCE_MILLIS = 300

/** End of the log as written to memory: past every commit that anybody can see. */
export async function insertedEnd(connection: PgConnection): Promise<bigint> {
  return endOf(connection, 'pg_current_wal_insert_lsn()')
}

/** End of the log as durable: what a walsender can send. */
export async function flushedEnd(connection: PgConnection): Promise<bigint> {
  return endOf(connection, 'pg_current_wal_flush_lsn()')
}

/** A standby writes no log, and takes no publication. */
export async function isStandby(connection: PgConnection): Promise<boolean> {
  const [row] = await connection.rows('SELECT pg_is_in_recovery()')
  return row?.[0] === 't'
}

/** A standby writes no log of its own: it shows what it has replayed, which is durable. */
async function endOf(connection: PgConnection, primary: string): Promise<bigint> {
  const [row] = await connection.rows(`SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE ${primary} END`)
  return parseLsn(row?.[0] ?? '') ?? 0n
}

/**
 * Waits until the log is flushed up to there. A quiet server leaves what is no commit (an aborted or open transaction, a
 * page header) in memory until its next standby snapshot, up to 15 seconds later: `nudge` commits a tiny message after a
 * moment, which takes the rest with it. Where it may not, waiting goes on.
 */
export async function untilFlushed(
  connection: PgConnection,
  end: bigint,
  nudge: () => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> {
  let left = Math.ceil(PATIENCE_MILLIS / LOOK_MILLIS)
  while (!signal.aborted && (await flushedEnd(connection)) < end) {
    if (left-- === 0) await nudge().catch(() => undefined)
    await delay(LOOK_MILLIS, signal)
  }
}

/** A transaction of one logical message that nobody reads. */
export async function nudgeLog(connection: PgConnection): Promise<void> {
  await connection.rows("SELECT pg_logical_emit_message(true, 'tailrace', 'flush')")
}
