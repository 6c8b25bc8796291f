/** Everything needed to open a connection; already resolved from URI, flags, environment and password file. */
export interface PgOptions {
  /** Tried in order. A host that starts with `/` is a folder of unix sockets. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[]
  readonly user: string
  readonly password: string | null
  readonly database: string
  readonly sslmode: SslMode
  readonly channelBinding: ChannelBindingMode
  /** Paths of PEM files. */
  readonly sslrootcert: string | null
  readonly sslcert: string | null
  readonly sslkey: string | null
  readonly applicationName: string
  readonly connectTimeoutMs: number
  /** A walsender that also takes SQL. */
  readonly replication?: boolean
}

/** Of SCRAM to TLS: like libpq's channel_binding. */
export type ChannelBindingMode = 'disable' | 'prefer' | 'require'

export type SslMode = 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'
