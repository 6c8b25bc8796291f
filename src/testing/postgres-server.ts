import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { appendFile, chown, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { closedFolder, findPostgres, NOBODY, serverAccount, type Account, type PostgresBinaries } from './postgres-binaries.ts'
import { killTree, releaseSharedMemory, watchOver, type Watch } from './postgres-process.ts'
import { copyTemplate } from './postgres-template.ts'
import { tempFolder, type TempFolder } from './temp-folder.ts'
import { makeCertificates, type Certificates } from './tls-certificates.ts'

/** How `stop` ends the server: after rolling back what runs, or at once with recovery at the next start. */
export type StopMode = 'fast' | 'immediate'

export interface PostgresOptions {
  /** 14 to 18; `.tools/pg<major>` or `TAILRACE_PG_BIN_<major>` holds its binaries. */
  readonly major: number
  /** Server settings over the defaults for tests. */
  readonly settings?: Readonly<Record<string, string | number>>
  /** Lines of pg_hba.conf for TCP, in place of "trust"; the unix socket always trusts. */
  readonly hba?: readonly string[]
  /** Makes certificates by the `openssl` command and turns TLS on. */
  readonly ssl?: boolean
  /** A fixed port, in place of a free one. */
  readonly port?: number
  /** A lasting data folder, made when it is empty and left in place; else a temporary one. */
  readonly dataDir?: string
  /** More arguments for initdb, as `--data-checksums`. */
  readonly initOptions?: readonly string[]
}

export interface UriParts {
  readonly user?: string
  readonly password?: string
  readonly params?: Readonly<Record<string, string>>
}

export interface PostgresServer extends AsyncDisposable {
  readonly major: number
  readonly host: '127.0.0.1'
  readonly port: number
  readonly socketDir: string
  readonly user: 'postgres'
  readonly dataDir: string
  /** Of the postmaster; changes with each start. */
  readonly pid: number
  readonly tls: Certificates | null
  uri(database?: string, parts?: UriParts): string
  /** The same over the unix socket, which needs no password whatever `hba` says. */
  socketUri(database?: string): string
  stop(mode?: StopMode): Promise<void>
  /** After `stop` or `kill`: the same port and data. */
  start(): Promise<void>
  restart(mode?: StopMode): Promise<void>
  /** SIGKILL to the postmaster and every process of it, as a power cut would. */
  kill(): Promise<void>
  /** Replaces settings and takes effect at the next start, or at once with `reload`. */
  configure(settings: Readonly<Record<string, string | number>>): Promise<void>
  reload(): void
  /** Makes a folder that the server may write to: a tablespace, an archive. */
  makeFolder(name: string): Promise<string>
  /** The last lines of the server's log. */
  log(lines?: number): Promise<string>
}

/** Made for tests that start a server each: nothing is synced, everything is allowed that replication needs. */
const TEST_SETTINGS: Readonly<Record<string, string | number>> = {
  listen_addresses: '127.0.0.1',
  wal_level: 'logical',
  fsync: 'off',
  full_page_writes: 'off',
  max_wal_senders: 20,
  max_replication_slots: 20,
  max_connections: 100,
  timezone: 'UTC',
  log_line_prefix: '%m [%p] %d ',
}

const START_SECONDS = 60
const STOP_SECONDS = 20

/** Starts a server of its own for the caller; `await using` ends it and removes its files. */
export async function startPostgres(options: PostgresOptions): Promise<PostgresServer> {
  const binaries = findPostgres(options.major)
  const account = serverAccount()
  const home = await serverHome(account)
  const dataDir = options.dataDir ?? home.join('data')
  const watch = watchOver(dataDir, home.path)
  try {
    if (!existsSync(join(dataDir, 'PG_VERSION'))) await copyTemplate(binaries, account, dataDir, options.initOptions ?? [])
    const tls = options.ssl === true ? await makeCertificates(home.join('tls'), account) : null
    const server = new Server(options, { binaries, account, home, dataDir, tls, watch })
    await server.start()
    return server
  } catch (error) {
    watch.end()
    await home[Symbol.asyncDispose]()
    throw error
  }
}

/** The folder of the socket, the log and, as a rule, the data. */
async function serverHome(account: Account | null): Promise<TempFolder> {
  const home = await tempFolder('tr-pg-')
  const closed = account === null ? null : closedFolder(home.path)
  if (closed !== null) {
    await home[Symbol.asyncDispose]()
    throw new Error(
      `PostgreSQL does not run as root but as uid ${NOBODY.uid}, which may not enter ${closed}: set TMPDIR to a folder that it may.`,
    )
  }
  if (account !== null) await chown(home.path, account.uid, account.gid)
  return home
}

interface Parts {
  readonly binaries: PostgresBinaries
  readonly account: Account | null
  readonly home: TempFolder
  readonly dataDir: string
  readonly tls: Certificates | null
  readonly watch: Watch
}

class Server implements PostgresServer {
  readonly host = '127.0.0.1'
  readonly user = 'postgres'
  readonly major: number
  readonly dataDir: string
  readonly socketDir: string
  readonly tls: Certificates | null
  readonly #options: PostgresOptions
  readonly #parts: Parts
  readonly #logFile: string
  #settings: Readonly<Record<string, string | number>>
  #port: number
  #child: ChildProcess | null = null

  constructor(options: PostgresOptions, parts: Parts) {
    this.major = options.major
    this.dataDir = parts.dataDir
    this.socketDir = parts.home.path
    this.tls = parts.tls
    this.#options = options
    this.#parts = parts
    this.#logFile = join(parts.home.path, 'server.log')
    this.#port = options.port ?? 0
    this.#settings = { ...TEST_SETTINGS, ...tlsSettings(parts.tls), ...options.settings }
  }

  get port(): number {
    return this.#port
  }

  get pid(): number {
    const pid = this.#child?.pid
    if (pid === undefined) throw new Error('The PostgreSQL server is not running.')
    return pid
  }

  uri(database = 'postgres', parts: UriParts = {}): string {
    const password = parts.password === undefined ? '' : `:${encodeURIComponent(parts.password)}`
    const user = encodeURIComponent(parts.user ?? this.user)
    const query = new URLSearchParams(parts.params).toString()
    return `postgres://${user}${password}@${this.host}:${this.#port}/${encodeURIComponent(database)}${query === '' ? '' : `?${query}`}`
  }

  socketUri(database = 'postgres'): string {
    return `postgres://${this.user}@${encodeURIComponent(this.socketDir)}:${this.#port}/${encodeURIComponent(database)}`
  }

  async start(): Promise<void> {
    if (this.#child !== null) throw new Error('The PostgreSQL server runs already.')
    for (let attempt = 1; ; attempt++) {
      if (this.#port === 0) this.#port = await freePort()
      await this.#writeConfiguration()
      const failure = await this.#launch()
      if (failure === null) return
      // Between finding a free port and taking it another process may have got it.
      const taken = failure.includes('Address already in use') && this.#options.port === undefined && attempt < 5
      if (!taken) throw new Error(`PostgreSQL ${this.major} did not start:\n${failure}`)
      this.#port = 0
    }
  }

  /** Null once it accepts connections, else the end of its log. */
  async #launch(): Promise<string | null> {
    const { binaries, account } = this.#parts
    await rm(join(this.dataDir, 'postmaster.pid'), { force: true })
    const log = await open(this.#logFile, 'a')
    try {
      const child = spawn(binaries.postgres, ['-D', this.dataDir], {
        ...account,
        cwd: this.dataDir,
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
      })
      await once(child, 'spawn')
      this.#child = child
      child.once('exit', () => {
        if (this.#child === child) this.#child = null
      })
    } finally {
      await log.close()
    }
    if (await this.#becomesReady()) return null
    await this.kill()
    return this.log(20)
  }

  /** The eighth line of postmaster.pid is how pg_ctl learns it, too. */
  async #becomesReady(): Promise<boolean> {
    const until = Date.now() + START_SECONDS * 1000
    while (this.#child !== null && Date.now() < until) {
      const lines = (await readFile(join(this.dataDir, 'postmaster.pid'), 'utf8').catch(() => '')).split('\n')
      if (/^(ready|standby)/.test(lines[7] ?? '')) return true
      await sleep(4)
    }
    return false
  }

  async #writeConfiguration(): Promise<void> {
    const settings = { ...this.#settings, port: this.#port, unix_socket_directories: this.socketDir }
    const lines = Object.entries(settings).map(([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'\n`)
    await writeFile(join(this.dataDir, 'tailrace.conf'), lines.join(''))
    const main = join(this.dataDir, 'postgresql.conf')
    const include = "\ninclude 'tailrace.conf'\n"
    if (!(await readFile(main, 'utf8')).includes(include)) await appendFile(main, include)
    const hba = this.#options.hba ?? ['host all all all trust', 'host replication all all trust']
    const local = ['local all all trust', 'local replication all trust']
    await writeFile(join(this.dataDir, 'pg_hba.conf'), [...local, ...hba, ''].join('\n'))
  }

  async configure(settings: Readonly<Record<string, string | number>>): Promise<void> {
    this.#settings = { ...this.#settings, ...settings }
    await this.#writeConfiguration()
  }

  reload(): void {
    process.kill(this.pid, 'SIGHUP')
  }

  async stop(mode: StopMode = 'fast'): Promise<void> {
    const child = this.#child
    if (child === null) return
    const exited = once(child, 'exit')
    child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
    const timeout = setTimeout(() => void this.kill(), STOP_SECONDS * 1000)
    await exited
    clearTimeout(timeout)
  }

  async restart(mode: StopMode = 'fast'): Promise<void> {
    await this.stop(mode)
    await this.start()
  }

  async kill(): Promise<void> {
    const child = this.#child
    if (child === null || child.pid === undefined) return
    const exited = once(child, 'exit')
    await killTree(child.pid)
    await exited
  }

  async makeFolder(name: string): Promise<string> {
    const { account, home } = this.#parts
    const path = home.join(name)
    await mkdir(path, { mode: 0o700 })
    if (account !== null) await chown(path, account.uid, account.gid)
    return path
  }

  async log(lines = 50): Promise<string> {
    const text = await readFile(this.#logFile, 'utf8').catch(() => '')
    return text
      .split('\n')
      .slice(-lines - 1)
      .join('\n')
      .trimEnd()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What is thrown away needs no orderly end; a lasting data folder does.
    await (this.#options.dataDir === undefined ? this.stop('immediate') : this.stop('fast'))
    await releaseSharedMemory(this.dataDir)
    this.#parts.watch.end()
    await this.#parts.home[Symbol.asyncDispose]()
  }
}

function tlsSettings(tls: Certificates | null): Record<string, string> {
  if (tls === null) return {}
  return { ssl: 'on', ssl_ca_file: tls.ca, ssl_cert_file: tls.server.cert, ssl_key_file: tls.server.key }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
