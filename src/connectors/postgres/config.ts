import { readFileSync, statSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { isIP } from 'node:net'
import { z } from 'zod'
import { TailraceError } from '../../sdk/errors.ts'
import type { ConnectorUri } from '../../sdk/connector.ts'
import type { ChannelBindingMode, PgOptions, SslMode } from './wire/options.ts'

const BINDING_MODES = ['disable', 'prefer', 'require'] as const

export const SSL_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const

/** Every option of the connector, as source and as sink. */
export const postgresConfig = z.strictObject({
  host: z.string().optional().describe('Host, several separated by commas, or a folder of unix sockets. Default: PGHOST, else localhost.'),
  port: z.coerce.number<number>().int().min(1).max(65535).optional().describe('Port. Default: PGPORT, else 5432.'),
  user: z.string().optional().describe('User. Default: PGUSER, else the name of the system user.'),
  password: z.string().optional().meta({ secret: true }).describe('Password. Default: PGPASSWORD, else the password file.'),
  passfile: z.string().optional().describe('Password file. Default: PGPASSFILE, else ~/.pgpass.'),
  database: z.string().optional().describe('Database. Default: PGDATABASE, else the name of the user.'),
  sslmode: z
    .enum(SSL_MODES)
    .optional()
    .describe(
      'TLS. Default: PGSSLMODE, else prefer on this machine and verify-full to any other host. require encrypts without asking who answers, unless sslrootcert names whom to trust; verify-ca asks for a trusted certificate, verify-full for one in the name of the host.',
    ),
  channelBinding: z
    .enum(BINDING_MODES)
    .optional()
    .describe('Bind a SCRAM log-in to its TLS session, so that nobody between can pass it on. Default: PGCHANNELBINDING, else prefer.'),
  sslrootcert: z
    .string()
    .optional()
    .describe('PEM file of the certificate authority to trust. Default: PGSSLROOTCERT, else the system ones.'),
  sslcert: z.string().optional().describe('PEM file of our client certificate. Default: PGSSLCERT.'),
  sslkey: z.string().optional().describe('PEM file of its key. Default: PGSSLKEY.'),
  applicationName: z.string().default('tailrace').describe('Name in pg_stat_activity.'),
  connectTimeout: z.coerce.number<number>().positive().default(10).meta({ unit: 's' }).describe('Seconds to wait for a connection.'),
  lockTimeout: z.coerce
    .number<number>()
    .positive()
    .default(10)
    .meta({ unit: 's' })
    .describe('Seconds to wait for a lock on a table before giving up.'),
  silenceTimeout: z.coerce
    .number()
    .positive()
    .default(60)
    .describe(
      'Source: seconds without a word from the server, asked for one, after which the change stream is taken for lost and connected again.',
    ),
  slot: z
    .string()
    .regex(/^[a-z0-9_]{1,63}$/)
    .optional()
    .meta({ role: 'source' })
    .describe('Source: name of the replication slot. Default: tailrace_<pipeline>_<random>.'),
  publication: z
    .string()
    .min(1)
    .max(63)
    .optional()
    .meta({ role: 'source' })
    .describe('Source: a publication that a person made, to be used as it is. Default: one of our own.'),
  failover: z
    .stringbool()
    .or(z.boolean())
    .default(false)
    .meta({ role: 'source' })
    .describe('Source, PostgreSQL 17+: make the slot a failover slot.'),
  heartbeat: z.coerce
    .number<number>()
    .min(0)
    .default(0)
    .meta({ unit: 's', role: 'source' })
    .describe('Source: seconds between heartbeat messages into the log of a quiet database; 0 = none.'),
  watchInterval: z.coerce
    .number<number>()
    .positive()
    .default(5)
    .meta({ unit: 's', role: 'source' })
    .describe(
      'Source: seconds between looks at what the change log does not tell: tables swapped by name, partitions attached and detached, the publication, rows rewritten in place.',
    ),
  chunkBytes: z.coerce
    .number<number>()
    .int()
    .min(8192)
    .default(32 << 20)
    .meta({ unit: 'bytes', role: 'source' })
    .describe('Source: target size of a snapshot chunk, in bytes of the table.'),
  snapshotMaxAge: z.coerce
    .number<number>()
    .positive()
    .default(86_400)
    .meta({ unit: 's', role: 'source' })
    .describe('Source: seconds that a snapshot transaction may live before the run stops to protect the server.'),
  retainedMax: z.coerce
    .number<number>()
    .int()
    .min(0)
    .default(0)
    .meta({ unit: 'bytes', role: 'source' })
    .describe('Source: bytes of retained log at which the run stops and says so; 0 = no limit.'),
  schema: z.string().min(1).max(63).default('tailrace').meta({ role: 'sink' }).describe('Sink: schema of our bookkeeping tables.'),
})

export type PostgresConfig = z.infer<typeof postgresConfig>

export function postgresFromUri(uri: ConnectorUri): Record<string, unknown> {
  // `postgres:/user:password@host/db` would be taken for a database of that name, and shown with its password.
  if (uri.host === '' && uri.path.includes('@')) {
    throw new TailraceError('USAGE', 'the PostgreSQL URI has an @ and no host before it', {
      hint: 'postgres://user@host:5432/database, with two slashes; a database with an @ in its name goes into --source.database',
    })
  }
  const hosts = uri.host === '' ? [] : uri.host.split(',').map((part) => splitHost(part, uri.text))
  const ports = new Set(hosts.map((each) => each.port).filter((port) => port !== null))
  const config: Record<string, unknown> = {}
  if (hosts.length > 0) {
    // Ports of several hosts stay with their hosts; `port` is what the others get.
    config['host'] =
      ports.size > 1
        ? hosts.map((each) => joinHost(each.host, each.port)).join(',')
        : hosts.map((each) => joinHost(each.host, null)).join(',')
    if (ports.size === 1) config['port'] = Number([...ports][0])
  }
  if (uri.user !== null && uri.user !== '') config['user'] = uri.user
  if (uri.password !== null && uri.password !== '') config['password'] = uri.password
  const database = uri.path.replace(/^\//, '')
  if (database !== '') config['database'] = database
  return config
}

function splitHost(part: string, text: string): { host: string; port: string | null } {
  const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d{1,5}))?$/.exec(decoded(part))
  if (match === null)
    throw new TailraceError(
      'USAGE',
      `the host part ${JSON.stringify(part)} of the PostgreSQL URI is not host, host:port or [address]:port`,
      { hint: 'postgres://user@host:5432/database', path: text.slice(0, 0) },
    )
  if (Number(match[3] ?? 0) > MOST_PORT)
    throw new TailraceError('USAGE', `the port ${match[3]} of PostgreSQL is none: the largest is ${MOST_PORT}`)
  return { host: match[1] ?? match[2] ?? '', port: match[3] ?? null }
}

const MOST_PORT = 65_535

/** A host that is no URI's may hold a percent sign, as an address with a zone does. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

function joinHost(host: string, port: string | null): string {
  const shown = isIP(host) === 6 ? `[${host}]` : host
  return port === null ? shown : `${shown}:${port}`
}

/** Where a configuration leads: hosts with ports, in order. */
export function addressesOf(config: PostgresConfig, env: NodeJS.ProcessEnv = process.env): PgOptions['hosts'] {
  const defaultPort = config.port ?? portOf(env)
  const text = config.host ?? env['PGHOST'] ?? 'localhost'
  return text.split(',').map((part) => {
    if (part.startsWith('/')) return { host: part, port: defaultPort }
    const { host, port } = splitHost(part, '')
    return { host: host === '' ? 'localhost' : host, port: port === null ? defaultPort : Number(port) }
  })
}

function portOf(env: NodeJS.ProcessEnv): number {
  const text = env['PGPORT'] ?? ''
  if (text === '') return 5432
  const port = Number(text)
  if (!Number.isInteger(port) || port < 1 || port > MOST_PORT)
    throw new TailraceError('CONFIG', `PGPORT is ${JSON.stringify(text)}; expected a port`)
  return port
}

function isThisMachine(host: string): boolean {
  return host.startsWith('/') || host === 'localhost' || host === '::1' || host.startsWith('127.')
}

/** Configuration, environment and password file → what a connection needs. */
export function resolveOptions(config: PostgresConfig, env: NodeJS.ProcessEnv = process.env): PgOptions {
  const hosts = addressesOf(config, env)
  const user = config.user ?? env['PGUSER'] ?? userInfo().username
  const database = config.database ?? env['PGDATABASE'] ?? user
  const sslmode = config.sslmode ?? sslmodeOf(env) ?? (hosts.every((each) => isThisMachine(each.host)) ? 'prefer' : 'verify-full')
  return {
    hosts,
    user,
    database,
    sslmode,
    channelBinding: config.channelBinding ?? modeOf('PGCHANNELBINDING', env, BINDING_MODES) ?? 'prefer',
    password: config.password ?? env['PGPASSWORD'] ?? passwordFromFile(config, env, hosts, database, user),
    sslrootcert: config.sslrootcert ?? env['PGSSLROOTCERT'] ?? null,
    sslcert: config.sslcert ?? env['PGSSLCERT'] ?? null,
    sslkey: config.sslkey ?? env['PGSSLKEY'] ?? null,
    applicationName: config.applicationName,
    connectTimeoutMs: config.connectTimeout * 1000,
  }
}

function sslmodeOf(env: NodeJS.ProcessEnv): SslMode | undefined {
  return env['PGSSLMODE'] === 'allow' ? 'prefer' : modeOf('PGSSLMODE', env, SSL_MODES)
}

function modeOf<T extends SslMode | ChannelBindingMode>(name: string, env: NodeJS.ProcessEnv, modes: readonly T[]): T | undefined {
  const text = env[name]
  if (text === undefined || text === '') return undefined
  const mode = modes.find((each) => each === text)
  if (mode === undefined) throw new TailraceError('CONFIG', `${name} is ${JSON.stringify(text)}; expected one of ${modes.join(', ')}`)
  return mode
}

/** One line of a password file: host:port:database:user:password, `*` matches all, backslash escapes. */
function splitPassLine(line: string): string[] {
  const parts: string[] = []
  let part = ''
  for (let i = 0; i < line.length; i++) {
    const letter = line[i]!
    if (letter === '\\' && i + 1 < line.length) part += line[++i]!
    else if (letter === ':' && parts.length < 4) {
      parts.push(part)
      part = ''
    } else part += letter
  }
  return [...parts, part]
}

function passwordFromFile(
  config: PostgresConfig,
  env: NodeJS.ProcessEnv,
  hosts: PgOptions['hosts'],
  database: string,
  user: string,
): string | null {
  const path = config.passfile ?? env['PGPASSFILE'] ?? `${env['HOME'] ?? homedir()}/.pgpass`
  let text: string
  try {
    // libpq ignores a password file that others may read; so do we, or the warning would be lost.
    if (process.platform !== 'win32' && (statSync(path).mode & 0o077) !== 0) return null
    text = readFileSync(path, 'utf8')
  } catch {
    return null
  }
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue
    const [host, port, base, name, password] = splitPassLine(line.replace(/\r$/, ''))
    const fits = hosts.some(
      (each) => matches(host, each.host.startsWith('/') ? 'localhost' : each.host, each.host) && matches(port, String(each.port)),
    )
    if (fits && matches(base, database) && matches(name, user) && password !== undefined) return password
  }
  return null
}

function matches(pattern: string | undefined, ...values: string[]): boolean {
  return pattern === '*' || values.some((value) => value === pattern)
}

/** The place without user, password and options. */
export function identityOf(config: PostgresConfig, env: NodeJS.ProcessEnv = process.env): string {
  const first = addressesOf(config, env)[0]
  const host = first === undefined ? 'localhost' : first.host
  const database = config.database ?? env['PGDATABASE'] ?? config.user ?? env['PGUSER'] ?? ''
  return `postgres://${host === '127.0.0.1' || host === '::1' ? 'localhost' : host}:${first?.port ?? 5432}/${database}`
}
