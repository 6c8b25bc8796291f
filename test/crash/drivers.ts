import { DatabaseSync, StatementSync } from 'node:sqlite'
import { isMainThread } from 'node:worker_threads'
import { PgConnection } from '../../src/connectors/postgres/wire/connection.ts'
import { Pipeline, type Prepared } from '../../src/connectors/postgres/wire/pipeline.ts'
import { durable, methodUnderWay, within } from './crash-points.ts'
import { asked, methodsOf } from './contracts.ts'

/**
 * Preloaded (`node --import`) into the process that is to die and its threads: every statement of the three drivers passes
 * here, and the ones that make something durable become crash points.
 */
interface Session {
  /** A transaction is open, as far as the statements tell. */
  open: boolean
  /** What tells the transaction from others of its method: the barrier in it, or its first DDL. */
  detail: string | null
}

const sessions = new WeakMap<object, Session>()

function sessionOf(key: object): Session {
  let session = sessions.get(key)
  if (session === undefined) sessions.set(key, (session = { open: false, detail: null }))
  return session
}

const DDL = /^(CREATE|ALTER|DROP|TRUNCATE|REINDEX)\s+(?:OR\s+REPLACE\s+)?(?:UNIQUE\s+)?(?:(TEMP)\w*\s+)?(\w+)?/i
const WRITES =
  /^(INSERT|UPDATE|DELETE|REPLACE|ANALYZE|VACUUM|FORCE CHECKPOINT|CHECKPOINT|CREATE_REPLICATION_SLOT|DROP_REPLICATION_SLOT|DO)\b|^SELECT\s+(pg_drop_replication_slot|setval|pg_logical_emit_message)\b|^WITH\b[^;]*?\b(INSERT INTO|UPDATE|DELETE FROM)\b/i

function ddlOf(statement: string): string | null {
  const [, verb, temporary, what] = DDL.exec(statement) ?? []
  if (verb === undefined || temporary !== undefined) return null
  return (verb.toUpperCase() === 'TRUNCATE' ? verb : `${verb} ${what ?? ''}`).toUpperCase().trim()
}

function writeOf(statement: string): string | null {
  const found = WRITES.exec(statement)
  return ddlOf(statement) ?? found?.slice(1).find((each) => each !== undefined) ?? null
}

/** A barrier lies in the transaction that a later write commits. */
function barrierOf(called: string | null): string | null {
  return /^sink\.write (\w+)$/.exec(called ?? '')?.[1] ?? null
}

/** Runs statements that go to the system together. */
function pass<T>(key: object, sql: string, act: () => T): T {
  const session = sessionOf(key)
  const statements = sql.split(';').map((statement) => statement.trim())
  if (statements.some((each) => /^BEGIN\b/i.test(each))) {
    session.open = true
    session.detail = null
  }
  if (session.open)
    session.detail = barrierOf(methodUnderWay()) ?? session.detail ?? statements.map(ddlOf).find((each) => each !== null) ?? null
  const commits = statements.some((each) => /^COMMIT\b/i.test(each))
  const ends = commits || statements.some((each) => /^ROLLBACK\b(?! TO)/i.test(each))
  const write = session.open ? null : (statements.map(writeOf).find((each) => each !== null) ?? null)
  const detail = commits ? session.detail : write
  if (ends) session.open = false
  if (!commits && write === null) return act()
  return durable(detail, isMainThread ? 'state' : 'sink', act)
}

/** Types of the parameters are the caller's word: overloads and private members allow no better. */
function patch<A extends unknown[], R>(prototype: object, method: string, around: (self: object, parameters: A, act: () => R) => R): void {
  const methods = prototype as Record<string, (...parameters: A) => R>
  const original = methods[method]
  if (original === undefined) throw new Error(`the driver has no method ${method} any more: crash points cannot be found`)
  methods[method] = function (this: object, ...parameters: A): R {
    return around(this, parameters, () => Reflect.apply(original, this, parameters) as R)
  }
}

// node:sqlite: the state file in the main thread, the SQLite target in its worker.
const databaseOf = new WeakMap<object, object>()
patch(DatabaseSync.prototype, 'exec', (database, [sql]: [string], act) => pass(database, sql, act))
patch(DatabaseSync.prototype, 'prepare', (database, _, act: () => StatementSync) => {
  const statement = act()
  databaseOf.set(statement, database)
  return statement
})
for (const call of ['run', 'get', 'all'])
  patch(StatementSync.prototype, call, (statement, _, act) =>
    pass(databaseOf.get(statement) ?? statement, (statement as StatementSync).sourceSQL, act),
  )

// The calls that the SQLite sink makes into its thread are named like the contract's methods.
if (!isMainThread) {
  const { Target } = await import('../../src/connectors/sqlite/target.ts')
  for (const call of methodsOf(Target.prototype))
    patch(Target.prototype, call, (_, parameters, act) => within(asked(`sink.${call}`, parameters), act))
}

// Dear to load: only where it is the target.
if (process.argv[2]?.includes('"sink":"duckdb:') === true) {
  const { DuckDBConnection } = await import('@duckdb/node-api')
  patch(DuckDBConnection.prototype, 'run', (connection, [sql]: [string], act) => pass(connection, sql, act))
}

// PostgreSQL, as source and target: simple statements, and pipelines of them.
patch(PgConnection.prototype, 'query', (connection, [sql]: [string], act) => pass(connection, sql, act))
const pipelines = new WeakMap<object, { readonly connection: object; readonly statements: string[] }>()
patch(PgConnection.prototype, 'pipeline', (connection, _, act: () => Pipeline) => {
  const pipeline = act()
  pipelines.set(pipeline, { connection, statements: [] })
  return pipeline
})
patch(Pipeline.prototype, 'prepare', (pipeline, [{ name, sql }]: [Prepared], act) => {
  if (name === '') pipelines.get(pipeline)?.statements.push(sql)
  return act()
})
patch(Pipeline.prototype, 'beginBind', (pipeline, [name]: [string], act) => {
  // Prepared ones go by their names: `begin` and `commit` are what they say, rows come between the two.
  if (name !== '') pipelines.get(pipeline)?.statements.push(name)
  return act()
})
patch(Pipeline.prototype, 'run', (pipeline, _, act) => {
  const { connection = pipeline, statements = [] } = pipelines.get(pipeline) ?? {}
  return pass(connection, statements.splice(0).join(';'), act)
})
