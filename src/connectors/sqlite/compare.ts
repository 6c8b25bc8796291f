import { existsSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { onAbort } from '../../async/abort.ts'
import type { Column } from '../../model/schema.ts'
import type { ComparedTable, ComparisonSide, Form, SideColumn, SideRows, SideTable } from '../../sdk/compare.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { conditionsOf, SqlRows, type CompareDialect } from '../../sdk/sql/compare.ts'
import { quoteIdentifier, quoteLiteral } from '../../sdk/sql/identifiers.ts'
import type { SqliteConfig } from './config.ts'
import type { CompareReply, CompareRequest } from './compare-worker.ts'
import { fold, tableName } from './identifiers.ts'
import { fromPlain } from './sqlite-errors.ts'

/** A thread has a heap of its own. */
const PARALLEL = 1

type Rows = readonly (readonly (string | null)[])[]

/** A SQLite file as one side of a comparison: read in threads of its own, as a query is never interrupted. */
export class SqliteSide implements ComparisonSide {
  readonly parallel = PARALLEL
  readonly #path: string
  readonly #busyMillis: number
  readonly #idle: QueryThread[] = []
  readonly #all = new Set<QueryThread>()

  constructor(config: SqliteConfig) {
    if (!existsSync(config.path))
      throw new TailraceError('CONFIG', `there is no file ${config.path}`, { hint: 'tailrace sync <source> <sink> makes it', path: 'sink' })
    this.#path = config.path
    this.#busyMillis = Math.round(config.busyTimeout * 1000)
  }

  async table(request: ComparedTable, signal: AbortSignal): Promise<SideTable | null> {
    const name = tableName({ namespace: request.namespace, name: request.name })
    const found = await this.#query(`SELECT name, type, "notnull" OR pk > 0 FROM pragma_table_xinfo(${quoteLiteral(name)})`, signal)
    if (found.length === 0) return null
    const declared = new Map(found.map(([column, type, notNull]) => [fold(column ?? ''), { type: type ?? '', nullable: notNull === '0' }]))
    const columns = request.columns.map((column): SideColumn | null => {
      const own = declared.get(fold(column.name))
      if (own === undefined) return null
      return { ...own, forms: formsOf(own.type, column), ordered: isOrdered(own.type, column) }
    })
    const marked = declared.has(fold(DELETED_COLUMN)) && !request.columns.some((column) => fold(column.name) === fold(DELETED_COLUMN))
    return {
      columns,
      encodings: ['text'],
      estimate: { rows: -1, bytes: -1 },
      open: (agreement): SideRows => {
        const conditions = conditionsOf(request, marked ? `${quoteIdentifier(DELETED_COLUMN)} = 0` : null)
        const dialect = dialectOf(quoteIdentifier(name), conditions, request, (sql, given) => this.#query(sql, given))
        return new SqlRows(dialect, request, columns, agreement)
      },
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const thread of this.#all) await thread.close()
  }

  async #query(sql: string, signal: AbortSignal): Promise<Rows> {
    signal.throwIfAborted()
    const thread = this.#idle.pop() ?? this.#start()
    // A query cannot be interrupted, its thread can.
    using _ = onAbort(signal, () => void thread.close())
    try {
      return await thread.query(sql)
    } catch (error) {
      signal.throwIfAborted()
      throw error
    } finally {
      if (!thread.isClosed) this.#idle.push(thread)
    }
  }

  #start(): QueryThread {
    const thread = new QueryThread(this.#path, this.#busyMillis)
    this.#all.add(thread)
    return thread
  }
}

/** One connection in a thread. One query at a time. */
class QueryThread {
  readonly #worker: Worker
  #waiting: { resolve(rows: Rows): void; reject(error: Error): void } | null = null
  isClosed = false

  constructor(path: string, busyMillis: number) {
    const file = new URL(import.meta.url.endsWith('.ts') ? './compare-worker.ts' : './compare-worker.js', import.meta.url)
    this.#worker = new Worker(file, { workerData: { path, busyMillis }, name: 'tailrace-sqlite-compare' })
    this.#worker.on('message', (reply: CompareReply) => {
      const waiting = this.#waiting
      this.#waiting = null
      if ('rows' in reply) waiting?.resolve(reply.rows)
      else waiting?.reject(fromPlain(reply.error))
    })
    this.#worker.on('error', (error) => {
      this.isClosed = true
      this.#waiting?.reject(
        new TailraceError('SOURCE_FAILED', `the thread that reads the SQLite file ended: ${error.message}`, { cause: error }),
      )
    })
  }

  query(sql: string): Promise<Rows> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject }
      this.#worker.postMessage({ sql } satisfies CompareRequest, [])
    })
  }

  async close(): Promise<void> {
    this.isClosed = true
    await this.#worker.terminate()
    this.#waiting?.reject(new TailraceError('ABORTED', 'the comparison was given up'))
  }
}

/** What the sink makes of the source's types (see type-table.ts); a value of another class than its column's says so in its text. */
function formsOf(declared: string, { type }: Column): readonly Form[] {
  switch (declared.toUpperCase()) {
    case 'INTEGER':
    case 'INT':
      return ['int', 'number']
    case 'BLOB':
      return ['hex']
    case 'TEXT':
      return type.kind === 'timestamp' ? ['rfc3339'] : type.kind === 'timestamptz' ? ['rfc3339z'] : ['text', 'char']
    default:
      return type.kind === 'uint64' ? ['number'] : ['float64']
  }
}

function isOrdered(declared: string, { type }: Column): boolean {
  return type.kind === 'uuid' ? declared.toUpperCase() === 'TEXT' : /^INT(EGER)?$/i.test(declared)
}

function dialectOf(
  from: string,
  conditions: readonly string[],
  { columns }: ComparedTable,
  query: CompareDialect['query'],
): CompareDialect {
  return {
    from,
    conditions,
    keepsOrder: true,
    comparesRows: true,
    quote: quoteIdentifier,
    bytes: (text) => `octet_length(${text})`,
    md5: (value) => `tailrace_md5(${value})`,
    bytewise: (text) => text,
    concat: (value, order) => `group_concat(${value}, ''${order === null ? '' : ` ORDER BY ${order}`})`,
    constant: (_column, text) => (/^-?\d+$/.test(text) ? text : quoteLiteral(text)),
    text: (column, form) => textOf(quoteIdentifier(columns[column]!.name), form),
    query,
  }
}

function textOf(sql: string, form: Form): string {
  const other = `ELSE typeof(${sql}) || ' ' || CAST(${sql} AS TEXT) END`
  switch (form) {
    case 'int':
    case 'number':
      return `CASE typeof(${sql}) WHEN 'null' THEN NULL WHEN 'integer' THEN CAST(${sql} AS TEXT) ${other}`
    case 'float64':
      return `tailrace_bits(${sql})`
    case 'hex':
      return `CASE typeof(${sql}) WHEN 'null' THEN NULL WHEN 'blob' THEN lower(hex(${sql})) ${other}`
    case 'char':
      return `rtrim(${textOf(sql, 'text')}, ' ')`
    default:
      return `CASE typeof(${sql}) WHEN 'null' THEN NULL WHEN 'text' THEN ${sql} ${other}`
  }
}
