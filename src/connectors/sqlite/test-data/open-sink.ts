import type { ConnectorContext } from '../../../sdk/connector.ts'
import { silentLogger, type LogFields, type Logger } from '../../../sdk/logger.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import type { TargetRow } from '../../../testing/sink-suite.ts'
import { sqliteConfig, type SqliteConfig } from '../config.ts'
import { loadSqlite } from '../database.ts'
import { tableName } from '../identifiers.ts'
import { SqliteSink } from '../sink.ts'
import { WorkerLink } from '../worker-link.ts'

/** Sinks on a file, and what any other process would read of it: for the tests. */

export function contextOf(options: Pick<OpenOptions, 'deletes' | 'pipeline' | 'logger'> = {}): ConnectorContext {
  return {
    pipeline: options.pipeline ?? 'p',
    logger: options.logger ?? silentLogger,
    memory: { get: async () => null, set: async () => {} },
    deletes: options.deletes ?? 'hard',
    scratch: () => '.',
    clock: () => 0,
    random: () => 0.5,
    signal: new AbortController().signal,
  }
}

export interface OpenOptions {
  readonly deletes?: 'hard' | 'soft'
  readonly pipeline?: string
  readonly logger?: Logger
  /** Called with each worker that is started. */
  readonly onLink?: (link: WorkerLink) => void
  readonly config?: Partial<SqliteConfig>
}

export function openSink(path: string, options: OpenOptions = {}): SqliteSink {
  return new SqliteSink(sqliteConfig.parse({ path, ...options.config }), contextOf(options), (setup) => {
    const link = new WorkerLink(setup)
    options.onLink?.(link)
    return link
  })
}

/** Rows as texts in PostgreSQL's form. */
export function readRows(path: string, table: SinkTable): readonly TargetRow[] {
  const booleans = new Set(table.schema.columns.filter((column) => column.type.kind === 'boolean').map((column) => column.name))
  return query(path, `SELECT * FROM "${tableName(table.target).replaceAll('"', '""')}"`).map((row) =>
    Object.fromEntries(Object.entries(row).map(([name, value]) => [name, booleans.has(name) ? (value === null ? null : value === 1n ? 't' : 'f') : asText(value)])),
  )
}

export function query(path: string, sql: string, ...parameters: (string | number | bigint)[]): Record<string, unknown>[] {
  // Whoever closes the file last, or recovers it, holds it alone for a moment.
  const db = new (loadSqlite().DatabaseSync)(path, { readOnly: true, timeout: 30_000 })
  try {
    const statement = db.prepare(sql)
    statement.setReadBigInts(true)
    return statement.all(...parameters)
  } finally {
    db.close()
  }
}

function asText(value: unknown): string | null {
  if (value === null) return null
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`
  return Object.is(value, -0) ? '-0' : String(value)
}

export interface Line {
  readonly level: string
  readonly message: string
  readonly fields: LogFields | undefined
}

export function recordingLogger(lines: Line[]): Logger {
  const at = (level: string) => (message: string, fields?: LogFields) => void lines.push({ level, message, fields })
  const logger: Logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error'), child: () => logger }
  return logger
}
