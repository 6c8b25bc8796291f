import type { PostgresConfig } from './config.ts'
import { resolveOptions } from './config.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { PgConnection } from './wire/connection.ts'
import type { PgOptions } from './wire/options.ts'
import { PgError, translate, translatePgError } from './wire/pg-error.ts'

/**
 * Opens a session with the settings that the record model relies on (text forms: see `Slice`), and without the role's own
 * timeouts, which would kill a session that holds a snapshot or waits for its sink (TRAPS 10).
 */
export async function openSession(config: PostgresConfig, signal: AbortSignal, kind: 'sql' | 'replication' = 'sql'): Promise<PgConnection> {
  const options = resolveOptions(config)
  const connection = await PgConnection.connect({ ...options, replication: kind === 'replication' }, signal).catch((error: unknown) => {
    throw connectError(error, options)
  })
  try {
    await connection.query(settingsOf(config, connection.serverVersion))
  } catch (error) {
    await connection.end()
    throw error
  }
  return connection
}

/** What a person can do about a refused log-in; the rest by SQLSTATE. */
function connectError(error: unknown, { user, database }: PgOptions): TailraceError {
  if (!(error instanceof PgError)) return translate(error, 'connecting to PostgreSQL', 'source')
  const hints: Readonly<Record<string, string>> = {
    '28P01': `is the password of ${user} right? It may come from the URI, PGPASSWORD or the password file`,
    '28000': `pg_hba.conf must let ${user} connect to ${database} from here (and, for --follow, have the REPLICATION attribute)`,
    '3D000': `psql -l lists the databases; the URI ends in /<database>`,
    '53300': 'raise max_connections, or end sessions that nobody needs',
  }
  const ours = translatePgError(error, 'connecting to PostgreSQL', 'source')
  const hint = hints[error.code]
  return hint === undefined ? ours : new TailraceError(ours.code, ours.message, { cause: error, hint, retry: ours.retry })
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
  return settings
    .map(([name, value]) => `SET ${name} = ${value === 'ISO, MDY' || value === 'pg_catalog' ? value : `'${value}'`}`)
    .join('; ')
}
