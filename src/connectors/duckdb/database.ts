import { existsSync, mkdirSync, realpathSync } from 'node:fs'
import { totalmem } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import type { DuckDBInstance } from '@duckdb/node-api'
import type { ConnectorContext } from '../../sdk/connector.ts'
import { TailraceError } from '../../sdk/errors.ts'
import type { Logger } from '../../sdk/logger.ts'
import { quoteLiteral } from '../../sdk/sql/identifiers.ts'
import { Connection } from './connection.ts'
import { kindOf, translate } from './duckdb-errors.ts'
import { takeLock, type FileLock } from './lock-file.ts'
import { megabytes, MemoryLimit } from './memory-limit.ts'
import { loadPeer, type DuckDbPeer } from './peer.ts'
import { Semaphore } from './semaphore.ts'

/** The catalog under which the file is attached. Every name in our SQL has three parts, so no schema can hide it. */
export const CATALOG = 'target'

/**
 * Rows per row group. With DuckDB's own 122,880 a load of rows of 1 KB takes 50 MB more, because the compressor looks at a
 * whole row group of strings, and a chunk of a wide table fills none, so that its COMMIT writes everything twice (measured).
 */
const ROW_GROUP_ROWS = 30_720

/** From here on a row is big. */
const BIG_ROW = 1 << 20

/**
 * What a delete holds in memory until a checkpoint: 8 bytes for each row of the vectors that it touches, in blocks of 256 KB
 * for each row group (measured: 80 MB for 10 M rows).
 */
const VERSION_BLOCK_BYTES = 1 << 18
const VERSION_ROW_BYTES = 8.5
/** So much of it is not worth a look at the size of the tables. */
const FEW_VERSIONS = 8e6
/**
 * Above this a batch is followed by a checkpoint: 25 to 60 ms at 10 M rows, and as much again until the next batch has filled
 * the memory anew (160 instead of 60 ms for 1,000 changes, measured). DuckDB itself goes by its log's size only.
 */
const MOST_VERSIONS = 128e6

export interface DatabaseOptions {
  readonly path: string
  /** Null: ours to choose. */
  readonly memoryLimit: number | null
  readonly threads: number
  /** For what does not fit into memory. */
  readonly scratch: () => string
  readonly logger: Logger
}

/** Settings of older or newer releases may be missing; these are not needed to be right. */
const OPTIONAL_SETTINGS: readonly string[] = [
  // The order of rows means nothing in a target, and keeping it costs memory.
  'SET GLOBAL preserve_insertion_order = false',
  // A scratch file is read once, right after it was written: a cache could only be stale.
  'SET GLOBAL enable_external_file_cache = false',
  // Without these, freed memory stays with the process: 219 instead of 180 MB after a load (measured).
  "SET GLOBAL allocator_flush_threshold = '1MB'",
  "SET GLOBAL allocator_bulk_deallocation_flush_threshold = '1MB'",
]

interface Entry {
  readonly database: Promise<Database>
  users: number
  /** Set while the last user closes: a new one waits for it, or it would meet our own lock. */
  closing: Promise<void> | null
}

const opened = new Map<string, Entry>()

/** Where DuckDB keeps what does not fit into memory, made when it is asked for. */
export function scratchOf(context: Pick<ConnectorContext, 'scratch'>): () => string {
  return () => {
    // DuckDB makes the last folder of its spill place only; replaying a WAL after a crash may be the first to need it.
    const folder = join(context.scratch(), 'duckdb')
    mkdirSync(folder, { recursive: true })
    return folder
  }
}

/** The file that a path means, also through a link in its folder: two names of one file are one database. */
export function canonicalPath(path: string): string {
  const absolute = resolve(path)
  if (existsSync(absolute)) return realpathSync(absolute)
  const folder = dirname(absolute)
  return existsSync(folder) ? join(realpathSync(folder), basename(absolute)) : absolute
}

/**
 * Opens a file, or shares it: one instance per file and process (TRAP 59). The first opener's settings hold. Every
 * `openDatabase` needs its `release`.
 */
export async function openDatabase(options: DatabaseOptions): Promise<Database> {
  const path = canonicalPath(options.path)
  let known = opened.get(path)
  while (known?.closing !== undefined && known.closing !== null) {
    await known.closing.catch(() => {})
    known = opened.get(path)
  }
  if (known !== undefined) {
    known.users++
    return known.database
  }
  const entry: Entry = { database: Database.open({ ...options, path }), users: 1, closing: null }
  opened.set(path, entry)
  try {
    return await entry.database
  } catch (error) {
    if (opened.get(path) === entry) opened.delete(path)
    throw error
  }
}

/** A DuckDB file, locked and attached. */
export class Database {
  readonly path: string
  readonly memory: MemoryLimit
  /** INSERTs of snapshot chunks that may run at once. */
  readonly inserts: Semaphore
  /** The newest epoch that was claimed in this process, by bookkeeping schema and pipeline: seen by every connection at once. */
  readonly epochs = new Map<string, number>()
  closed = false
  readonly #options: DatabaseOptions
  readonly #lock: FileLock
  readonly #instance: DuckDBInstance
  readonly #connections = new Set<Connection>()
  readonly #main: Connection
  #loads = 0
  /** Keys deleted since the last checkpoint, and what they hold at most. */
  #deleted = 0
  #versions = 0
  #rows: { readonly rows: number; readonly until: number } | null = null

  private constructor(options: DatabaseOptions, lock: FileLock, instance: DuckDBInstance, main: Connection) {
    this.path = options.path
    // One thread is left for the stream, the source and ourselves; two INSERTs at once on two cores only took more memory.
    const inserts = Math.max(1, options.threads - 1)
    this.memory = new MemoryLimit({ fixed: options.memoryLimit, inserts, machine: totalmem() })
    this.inserts = new Semaphore(inserts)
    this.#options = options
    this.#lock = lock
    this.#instance = instance
    this.#main = main
  }

  static async open(options: DatabaseOptions): Promise<Database> {
    const peer = await loadPeer()
    const lock = takeLock(options.path)
    try {
      return await attach(peer, options, (instance, main) => new Database(options, lock, instance, main))
    } catch (error) {
      lock.release()
      throw translate(error, `opening ${options.path}`)
    }
  }

  async connect(): Promise<Connection> {
    const connection = new Connection(await this.#instance.connect())
    this.#connections.add(connection)
    // Texts of the source are in UTC, and so must be the texts that we compare with.
    await connection.run("SET TimeZone = 'UTC'")
    return connection
  }

  async disconnect(connection: Connection): Promise<void> {
    this.#connections.delete(connection)
    await connection.close()
  }

  /** Sets what `memory` says now. Lowering may fail while the memory is in use: then a later call does it. */
  async applyMemory(): Promise<void> {
    await this.#main.run(`SET GLOBAL memory_limit = '${megabytes(this.memory.bytes)}MB'`).catch(() => {})
  }

  /** Runs a statement whose longest row has so many bytes: big ones get memory of their own while it runs. */
  async withRoomFor<T>(rowBytes: number, work: () => Promise<T>): Promise<T> {
    if (rowBytes <= BIG_ROW) return work()
    const lent = this.memory.lend(rowBytes)
    await this.applyMemory()
    try {
      return await work()
    } finally {
      this.memory.giveBack(lent)
      await this.applyMemory()
    }
  }

  /** The error for the engine: worth a retry only when there is more memory now. */
  async settle(translated: TailraceError, error: unknown): Promise<TailraceError> {
    const isMemory = [error, translated.cause].some((each) => kindOf(each instanceof TailraceError ? each.cause : each) === 'memory')
    if (!isMemory) return translated
    await this.checkpoint()
    const before = megabytes(this.memory.bytes)
    if (this.memory.grow()) {
      await this.applyMemory()
      this.#options.logger.warn('DuckDB needs more memory than usual', { limitMegabytes: megabytes(this.memory.bytes), file: this.path })
      return translated
    }
    const hint = this.memory.fixed
      ? `--sink.memory-limit ${before * 2}MB, or leave the option out`
      : 'DuckDB has half of the memory of this machine already'
    return new TailraceError('ENVIRONMENT', `${translated.message} of ${before} MB`, { hint, cause: translated.cause })
  }

  /** Before rows are deleted: makes room for what they will hold. `keys` may be anywhere in the tables. */
  async expectDeletes(keys: number): Promise<void> {
    this.#deleted += keys
    let held = this.#deleted * VERSION_BLOCK_BYTES
    if (held <= FEW_VERSIONS) return
    held = Math.min(held, (await this.#rowsNow()) * VERSION_ROW_BYTES)
    this.#versions = held
    const rounded = Math.ceil(held / FEW_VERSIONS) * FEW_VERSIONS
    if (this.memory.setVersions(rounded)) await this.applyMemory()
  }

  /** After a commit. */
  async letGoOfVersions(): Promise<void> {
    const most = this.memory.fixed ? Math.min(MOST_VERSIONS, this.memory.bytes / 3) : MOST_VERSIONS
    if (this.#versions > most) await this.checkpoint()
  }

  /**
   * A chunk begins to be loaded. Meanwhile each INSERT runs on the one thread that calls it: with more, DuckDB fills a row
   * group per thread and copies the rest together afterwards, for up to twice the work and memory (measured).
   */
  async beginLoad(): Promise<void> {
    if (this.#loads++ === 0) await this.#main.run('SET GLOBAL threads = 1')
  }

  async endLoad(): Promise<void> {
    if (--this.#loads === 0) await this.#main.run(`SET GLOBAL threads = ${this.#options.threads}`)
  }

  /** Frees what deletes hold in memory. Fails while a transaction is open: then a later one does it. */
  async checkpoint(): Promise<void> {
    try {
      await this.#main.run(`CHECKPOINT ${CATALOG}`)
    } catch {
      return
    }
    this.#deleted = 0
    this.#versions = 0
    this.#rows = null
    if (this.memory.setVersions(0)) await this.applyMemory()
  }

  /** Rows of all tables, as DuckDB estimated them some deletes ago. */
  async #rowsNow(): Promise<number> {
    if (this.#rows === null || this.#deleted > this.#rows.until) {
      const [row] = await this.#main.rows(`SELECT sum(estimated_size)::VARCHAR FROM duckdb_tables() WHERE database_name = '${CATALOG}'`)
      const rows = Number(row?.[0] ?? 0)
      this.#rows = { rows, until: this.#deleted + rows / 8 }
    }
    return this.#rows.rows
  }

  /** The last user closes the file. */
  async release(): Promise<void> {
    const entry = opened.get(this.path)
    if (this.closed || entry === undefined || --entry.users > 0) return
    await this.#closeAs(entry)
  }

  /** DuckDB gave the file up: it is closed for all users, each of whom opens it again. */
  async abandon(): Promise<void> {
    const entry = opened.get(this.path)
    if (!this.closed && entry !== undefined) await this.#closeAs(entry)
  }

  async #closeAs(entry: Entry): Promise<void> {
    this.closed = true
    entry.closing = this.#close()
    try {
      await entry.closing
    } finally {
      opened.delete(this.path)
    }
  }

  async #close(): Promise<void> {
    for (const connection of this.#connections) await connection.close()
    try {
      // Of a file that was given up, DuckDB may refuse even this; closing the instance lets it go all the same.
      await this.#main.run(`DETACH ${CATALOG}`).catch(() => {})
    } finally {
      await this.#main.close()
      this.#instance.closeSync()
      this.#lock.release()
    }
  }
}

async function attach(
  peer: DuckDbPeer,
  options: DatabaseOptions,
  make: (instance: DuckDBInstance, main: Connection) => Database,
): Promise<Database> {
  // Without settings of its own, so that other code of this process can open the same instance and read along.
  const instance = await peer.DuckDBInstance.fromCache(instanceName(options.path))
  const main = new Connection(await instance.connect())
  try {
    for (const setting of requiredSettings(options)) await main.run(setting)
    for (const setting of OPTIONAL_SETTINGS) await main.run(setting).catch(() => {})
    const database = make(instance, main)
    await database.applyMemory()
    await main.run(`ATTACH ${quoteLiteral(options.path)} AS ${CATALOG} (TYPE duckdb, ROW_GROUP_SIZE ${ROW_GROUP_ROWS})`)
    return database
  } catch (error) {
    await main.close()
    instance.closeSync()
    throw error
  }
}

/** Name of the shared in-memory instance to which the file is attached. */
export function instanceName(path: string): string {
  return `:memory:tailrace ${path}`
}

function requiredSettings(options: DatabaseOptions): readonly string[] {
  return [
    `SET GLOBAL threads = ${options.threads}`,
    // Nothing is ever downloaded; a missing extension is an error at once.
    'SET GLOBAL autoinstall_known_extensions = false',
    'SET GLOBAL autoload_known_extensions = false',
    `SET GLOBAL temp_directory = ${quoteLiteral(join(options.scratch(), 'duckdb-spill'))}`,
  ]
}
