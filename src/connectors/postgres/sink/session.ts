import { onAbort } from '../../../async/abort.ts'
import type { ConnectorContext } from '../../../sdk/connector.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { fitIdentifier } from '../../../sdk/sql/identifiers.ts'
import type { PostgresConfig } from '../config.ts'
import { openSession } from '../session.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError, translate } from '../wire/pg-error.ts'

/** Bytes of an identifier, and of an application name, in a server built as everybody builds it (NAMEDATALEN). */
export const NAME_BYTES = 63

/** One session of the sink. `backendStart` with the pid names its backend for good: a pid alone is used again. */
export interface SinkSession {
  readonly connection: PgConnection
  readonly backendStart: string
  /** session_replication_role is replica: no triggers, no foreign key checks, no cascades (TRAPS 36). */
  readonly replicaRole: boolean
}

/** `stream` sessions run keyed statements only and are planned for it. */
export type SessionKind = 'stream' | 'load' | 'admin'

/** The name in pg_stat_activity by which a later runner finds the sessions of this pipeline (TRAPS 57). */
export function applicationName(config: PostgresConfig, pipeline: string): string {
  return fitIdentifier(`${config.applicationName}:${pipeline}`, NAME_BYTES).replace(/[^ -~]/g, '?')
}

export async function openSinkSession(
  config: PostgresConfig,
  context: ConnectorContext,
  kind: SessionKind,
  signal: AbortSignal,
): Promise<SinkSession> {
  const name = applicationName(config, context.pipeline)
  const connection = await openSession({ ...config, applicationName: name }, signal).catch((error: unknown) => {
    throw translate(error, 'connecting to the target', 'sink')
  })
  try {
    const results = await connection.query(settingsOf(kind))
    const backendStart = results.at(-1)?.rows[0]?.[0] ?? ''
    return { connection, backendStart, replicaRole: await takeReplicaRole(connection) }
  } catch (error) {
    await connection.end()
    throw translate(error, 'preparing a session of the target', 'sink')
  }
}

/**
 * A half-open client must not hold the pipeline's row for hours (TRAPS 57): the server's keepalives find it within about a
 * minute. A durable `write` needs synchronous_commit (TRAPS 44); a stricter setting of the server is kept.
 */
function settingsOf(kind: SessionKind): string {
  const settings = [
    `SET idle_in_transaction_session_timeout = '30min'`,
    'SET tcp_keepalives_idle = 30',
    'SET tcp_keepalives_interval = 10',
    'SET tcp_keepalives_count = 3',
    'SET tcp_user_timeout = 60000',
    'SET standard_conforming_strings = on',
    'SET row_security = off',
    'SET jit = off',
    `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')`,
  ]
  return [...settings, ...(kind === 'stream' ? STREAM_SETTINGS : []), BACKEND_START].join(';\n')
}

/**
 * Generic plans are made once, often while the table is empty and without statistics: then a hash join over the whole
 * table looks cheap, and stays when the table has grown. Keyed statements want index lookups, always.
 */
const STREAM_SETTINGS = [
  'SET plan_cache_mode = force_generic_plan',
  'SET enable_seqscan = off',
  'SET enable_hashjoin = off',
  'SET enable_mergejoin = off',
]

const BACKEND_START = `SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()`

async function takeReplicaRole(connection: PgConnection): Promise<boolean> {
  try {
    await connection.query('SET session_replication_role = replica')
    return true
  } catch (error) {
    if (error instanceof PgError && error.code === '42501') return false
    throw error
  }
}

/** Runs work on a connection; an abort cancels what the server does and cuts the connection. */
export async function abortable<T>(connection: PgConnection, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  if (signal.aborted) throw abortError(signal)
  using _ = onAbort(signal, () => {
    void connection.cancel()
    connection.destroy(abortError(signal))
  })
  return await work()
}

function abortError(signal: AbortSignal): TailraceError {
  const { reason } = signal as { reason: unknown }
  return reason instanceof TailraceError ? reason : new TailraceError('ABORTED', 'writing to the target was given up on request')
}
