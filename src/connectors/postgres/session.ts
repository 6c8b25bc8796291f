import type { PostgresConfig } from './config.ts'
import { resolveOptions } from './config.ts'
import { PgConnection } from './wire/connection.ts'

/**
 * Opens a session with the settings that the record model relies on (text forms: see `Slice`), and without the role's own
 * timeouts, which would kill a session that holds a snapshot or waits for its sink (TRAPS 10).
 */
export async function openSession(config: PostgresConfig, signal: AbortSignal, kind: 'sql' | 'replication' = 'sql'): Promise<PgConnection> {
  const connection = await PgConnection.connect({ ...resolveOptions(config), replication: kind === 'replication' }, signal)
  try {
    await connection.query(settingsOf(config, connection.serverVersion))
  } catch (error) {
    await connection.end()
    throw error
  }
  return connection
}

function settingsOf(config: PostgresConfig, version: number): string {
  const settings: [string, string][] = [
    ['datestyle', 'ISO, MDY'],
    ['intervalstyle', 'postgres'],
    ['timezone', 'UTC'],
    ['bytea_output', 'hex'],
    ['extra_float_digits', '1'],
    ['xmloption', 'content'],
    ['statement_timeout', '0'],
    ['lock_timeout', `${Math.round(config.lockTimeout * 1000)}`],
    ['idle_in_transaction_session_timeout', '0'],
    ['idle_session_timeout', '0'],
    ['search_path', 'pg_catalog'],
    ['lc_monetary', 'C'],
  ]
  if (version >= 170_000) settings.push(['transaction_timeout', '0'])
  return settings.map(([name, value]) => `SET ${name} = ${value === 'ISO, MDY' || value === 'pg_catalog' ? value : `'${value}'`}`).join('; ')
}
