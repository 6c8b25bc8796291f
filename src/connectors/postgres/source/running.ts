import { delay } from '../../../async/abort.ts'
import type { PgConnection } from '../wire/connection.ts'

/** A new xid: every transaction that has one by now has an older. */
export async function nextXid(connection: PgConnection): Promise<bigint> {
  const [row] = await connection.rows('SELECT pg_current_xact_id()')
  return BigInt(row?.[0] ?? 0)
}

/** The oldest xid whose transaction may still run. */
export async function oldestRunning(connection: PgConnection): Promise<bigint> {
  const [row] = await connection.rows('SELECT pg_snapshot_xmin(pg_current_snapshot())')
  return BigInt(row?.[0] ?? 0)
}

/**
 * TRAPS 51: a table's changes are sent from the ADD TABLE on, in the middle of transactions that run then; its view must be
 * taken after all of those have ended.
 */
export async function waitForRunning(connection: PgConnection, signal: AbortSignal): Promise<void> {
  const mine = await nextXid(connection)
  while (!signal.aborted) {
    if ((await oldestRunning(connection)) > mine) return
    await delay(100, signal)
  }
}
