import { accessSync, constants, statfsSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, resolve } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { columnAt, isWritable } from '../../model/schema.ts'
import type { Problem } from '../../sdk/errors.ts'
import type { Misfit, SinkTable } from '../../sdk/sink.ts'
import { excludeOption } from '../../sdk/selection.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { readHolder } from './bookkeeping.ts'
import { openReader, value } from './database.ts'
import { findColumn, readTable, takes, writableColumns, type ExistingTable, type Shape } from './ddl.ts'
import { fold, isReservedName, rowidName, tableName } from './identifiers.ts'
import { MAX_COLUMNS } from './limits.ts'
import type { WorkerSetup } from './protocol.ts'
import { toPlain } from './sqlite-errors.ts'
import { sqliteType } from './type-table.ts'

/** File systems of other machines (statfs f_type): NFS, SMB, CIFS, SMB2, Ceph. */
const NETWORK_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x00c36400])

/** Every problem at once; opens no file that is not there, and writes nothing. */
export function checkTarget(setup: WorkerSetup, shape: Shape, tables: readonly SinkTable[]): readonly Problem[] {
  const problems = [...checkNames(tables), ...tables.flatMap((table) => checkShape(table, shape))]
  const place = checkPlace(setup.path)
  problems.push(...place)
  if (place.some((problem) => problem.severity === 'error')) return problems
  problems.push(...checkRoom(setup.path, tables))
  if (statSync(setup.path, { throwIfNoEntry: false }) === undefined || statSync(setup.path).size === 0) return problems
  return [...problems, ...checkContents(setup, tables)]
}

function error(code: Problem['code'], message: string, hint: string, path?: string): Problem {
  return { severity: 'error', code, message, hint, ...(path === undefined ? {} : { path }) }
}

function warning(code: Problem['code'], message: string, hint: string, path?: string): Problem {
  return { ...error(code, message, hint, path), severity: 'warning' }
}

/** Two source tables must not meet in one target table; SQLite does not tell upper from lower case. */
function checkNames(tables: readonly SinkTable[]): readonly Problem[] {
  const seen = new Map<string, SinkTable>()
  return tables.flatMap((table) => {
    const name = tableName(table.target)
    const problems: Problem[] = []
    const other = seen.get(fold(name))
    seen.set(fold(name), table)
    if (other !== undefined)
      problems.push(
        error('CONFIG', `tables ${other.id} and ${table.id} would both become ${name}`, `--map '${table.id}=another_name'`, table.id),
      )
    if (isReservedName(name))
      problems.push(
        error(
          'SCHEMA_UNSUPPORTED',
          `table name ${name} is reserved in SQLite or by Tailrace`,
          `--map '${table.id}=another_name'`,
          table.id,
        ),
      )
    return problems
  })
}

function checkShape(table: SinkTable, shape: Shape): readonly Problem[] {
  const problems: Problem[] = []
  const columns = writableColumns(table.schema)
  const names = columns.map((column) => fold(column.name))
  if (shape.softDeletes) names.push(DELETED_COLUMN)
  const at = names.findIndex((name, i) => names.indexOf(name) !== i)
  const twice = columns[at]?.name ?? columns[names.indexOf(names[at] ?? '')]?.name
  if (twice !== undefined)
    problems.push(
      error(
        'SCHEMA_UNSUPPORTED',
        `table ${table.id} has two columns named ${twice}, which SQLite does not tell apart`,
        excludeOption(table.id, twice),
        table.id,
      ),
    )
  if (columns.length > MAX_COLUMNS)
    problems.push(
      error(
        'SCHEMA_UNSUPPORTED',
        `table ${table.id} has ${columns.length} columns; SQLite holds ${MAX_COLUMNS}`,
        '--columns names those to copy',
        table.id,
      ),
    )
  for (const index of table.schema.key) {
    const column = columnAt(table.schema, index)
    if (!isWritable(column))
      problems.push(
        error(
          'SCHEMA_UNSUPPORTED',
          `key column ${column.name} of table ${table.id} is generated, so it is not sent`,
          `--key '${table.id}=…'`,
          table.id,
        ),
      )
  }
  return [...problems, ...checkKeyless(table)]
}

function checkKeyless(table: SinkTable): readonly Problem[] {
  if (table.schema.key.length > 0) return []
  if (rowidName(table.schema) === null)
    return [
      error(
        'SCHEMA_UNSUPPORTED',
        `table ${table.id} has no key, and columns hide every name of SQLite's rowid`,
        `--key '${table.id}=…'`,
        table.id,
      ),
    ]
  return [
    warning(
      'SCHEMA_UNSUPPORTED',
      `table ${table.id} has no key: each update and delete searches a row that is equal in all columns`,
      `--key '${table.id}=…' names a unique key`,
      table.id,
    ),
  ]
}

function checkPlace(path: string): readonly Problem[] {
  const folder = dirname(resolve(path))
  if (!isAllowed(folder, constants.F_OK)) return [error('USAGE', `folder ${folder} does not exist`, `mkdir -p ${folder}`, 'path')]
  // The write-ahead log and its index are made beside the file.
  if (!isAllowed(folder, constants.W_OK | constants.X_OK))
    return [error('NOT_ALLOWED', `folder ${folder} cannot be written by this user`, `let this user write in ${folder}`, 'path')]
  const network = NETWORK_FILE_SYSTEMS.has(statfsSync(folder).type)
    ? [
        warning(
          'ENVIRONMENT',
          `${folder} lies on a network file system, where SQLite cannot share a write-ahead log`,
          'put the file on a local disk',
          'path',
        ),
      ]
    : []
  return [...network, ...checkFile(path)]
}

function checkFile(path: string): readonly Problem[] {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return []
  if (!stat.isFile()) return [error('CONFIG', `${path} is no file`, 'name a file: sqlite:///folder/file.db', 'path')]
  if (!isAllowed(path, constants.R_OK | constants.W_OK))
    return [error('NOT_ALLOWED', `${path} cannot be read and written by this user`, `let this user write ${path}`, 'path')]
  // Whether it is a database is asked of SQLite: opening and closing the file ourselves would drop the POSIX locks that
  // this process may hold on it (https://sqlite.org/howtocorrupt.html).
  return []
}

function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

/** Rows take about as much room as in the source, and once more in the write-ahead log. */
function checkRoom(path: string, tables: readonly SinkTable[]): readonly Problem[] {
  const needed = tables.reduce((sum, table) => sum + Math.max(0, table.schema.estimate.bytes), 0)
  const { bavail, bsize } = statfsSync(dirname(resolve(path)))
  const free = bavail * bsize
  if (needed <= free) return []
  return [
    warning(
      'ENVIRONMENT',
      `the tables hold about ${megabytes(needed)} MB, the disk of ${path} has ${megabytes(free)} MB free`,
      'make room, or name a file on another disk',
      'path',
    ),
  ]
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1024 / 1024)
}

function checkContents(setup: WorkerSetup, tables: readonly SinkTable[]): readonly Problem[] {
  let db: DatabaseSync | null = null
  try {
    db = openReader(setup.path)
    return [...checkDatabase(db, setup), ...checkExisting(db, tables)]
  } catch (thrown) {
    const plain = toPlain(thrown)
    return [error(plain.code, plain.message, plain.hint ?? 'look at the file with the sqlite3 shell', 'path')]
  } finally {
    db?.close()
  }
}

function checkDatabase(db: DatabaseSync, setup: WorkerSetup): readonly Problem[] {
  const problems: Problem[] = []
  const encoding = value(db, 'PRAGMA encoding')
  if (encoding !== 'UTF-8')
    problems.push(
      error('SCHEMA_UNSUPPORTED', `${setup.path} is encoded in ${String(encoding)}, expected UTF-8`, 'name another file', 'path'),
    )
  const holder = readHolder(db, setup.pipeline)
  if (holder !== null && isOtherLivingProcess(holder)) {
    problems.push(
      warning('HELD', `process ${holder} ran this pipeline last and still lives; it will be fenced off by the next start`, 'end it first'),
    )
  }
  const log = statSync(`${setup.path}-wal`, { throwIfNoEntry: false })?.size ?? 0
  if (log > setup.config.walLimitMegabytes * 1024 * 1024) {
    problems.push(
      warning(
        'ENVIRONMENT',
        `the write-ahead log of ${setup.path} has grown to ${megabytes(log)} MB because readers never pause`,
        'end long-running readers, or let them pause now and then',
        'path',
      ),
    )
  }
  return problems
}

/** A hint only: the epoch decides, this just names the process. */
function isOtherLivingProcess(holder: string): boolean {
  const colon = holder.lastIndexOf(':')
  const pid = Number(holder.slice(colon + 1))
  if (holder.slice(0, colon) !== hostname() || pid === process.pid || !Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (thrown) {
    return thrown instanceof Error && 'code' in thrown && thrown.code === 'EPERM'
  }
}

function checkExisting(db: DatabaseSync, tables: readonly SinkTable[]): readonly Problem[] {
  return tables.flatMap((table) => {
    const found = readTable(db, tableName(table.target))
    if (found === null) return []
    if (found.kind !== 'table')
      return [
        error(
          'SCHEMA_UNSUPPORTED',
          `${found.name} is a ${found.kind} in the target, expected a table`,
          `--map '${table.id}=another_name'`,
          table.id,
        ),
      ]
    if (found.withoutRowid && table.schema.key.length === 0)
      return [
        error(
          'SCHEMA_UNSUPPORTED',
          `target table ${found.name} is WITHOUT ROWID and table ${table.id} has no key`,
          'drop it, or name a unique key with --key',
          table.id,
        ),
      ]
    return []
  })
}

/** Columns that stand there already and change values; the engine asks where the table is not to be made anew. */
export function misfits(found: ExistingTable, table: SinkTable, shape: Shape): readonly Misfit[] {
  return writableColumns(table.schema).flatMap(({ name, type }) => {
    const existing = findColumn(found, name)
    if (existing === undefined) return []
    const { declared: wanted } = sqliteType(type, shape.decimals)
    const fit = existing.generated ? 'no' : takes(existing, found.strict, wanted)
    const misfit = { column: name, found: existing.declared === '' ? 'without type' : existing.declared, wanted }
    return fit === 'yes' ? [] : [fit === 'no' ? misfit : { ...misfit, bends: '-0.0 becomes 0.0' }]
  })
}
