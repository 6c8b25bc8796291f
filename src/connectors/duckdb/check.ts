import { accessSync, constants, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { formatType } from '../../model/logical-type.ts'
import type { Problem } from '../../sdk/errors.ts'
import { excludeOption } from '../../sdk/selection.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import type { SinkTable } from '../../sdk/sink.ts'
import { identifierProblem } from '../../sdk/sql/identifiers.ts'
import { duckdbSinkCapabilities } from './capabilities.ts'
import { fold, placeLabel, placeOf, type ShapeOptions } from './target-table.ts'

export interface CheckParts {
  readonly path: string
  /** Schema of the bookkeeping. */
  readonly schema: string
  readonly shape: ShapeOptions
}

/** Problems that can be found without opening the file. */
export function checkWithoutOpening(parts: CheckParts, tables: readonly SinkTable[]): readonly Problem[] {
  return [
    ...checkPlace(parts.path, tables),
    ...tables.flatMap((table) => checkTable(parts, table)),
    ...checkPlaces(tables),
    readersWarning(parts.path),
  ]
}

const error = (code: Problem['code'], message: string, hint: string, path?: string): Problem => ({
  severity: 'error',
  code,
  message,
  hint,
  ...(path === undefined ? {} : { path }),
})
const warning = (...parts: Parameters<typeof error>): Problem => ({ ...error(...parts), severity: 'warning' })

function checkPlace(path: string, tables: readonly SinkTable[]): readonly Problem[] {
  const folder = dirname(path)
  const found = statSync(folder, { throwIfNoEntry: false })
  if (found === undefined) return [error('USAGE', `the folder ${folder} does not exist`, `mkdir -p ${folder}`, 'path')]
  if (!isWritable(folder))
    return [
      error(
        'NOT_ALLOWED',
        `the folder ${folder} cannot be written`,
        `chmod u+w ${folder}; DuckDB puts its log and we our lock beside the file`,
        'path',
      ),
    ]
  const file = statSync(path, { throwIfNoEntry: false })
  if (file !== undefined && !file.isFile()) return [error('CONFIG', `${path} is no file`, 'name another path', 'path')]
  if (file !== undefined && !isWritable(path)) return [error('NOT_ALLOWED', `${path} cannot be written`, `chmod u+w ${path}`, 'path')]
  return checkRoom(folder, tables)
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** DuckDB stores rows in a third to all of what they take at the source. */
function checkRoom(folder: string, tables: readonly SinkTable[]): readonly Problem[] {
  const wanted = tables.reduce((sum, table) => sum + Math.max(0, table.schema.estimate.bytes), 0)
  const { bavail, bsize } = statfsSync(folder)
  const free = bavail * bsize
  if (free >= wanted) return []
  return [
    warning(
      'ENVIRONMENT',
      `${folder} has ${megabytes(free)} MB free, and the tables take about ${megabytes(wanted)} MB at the source`,
      'make room, or choose fewer tables',
      'path',
    ),
  ]
}

function megabytes(bytes: number): number {
  return Math.round(bytes / 1e6)
}

function readersWarning(path: string): Problem {
  return warning(
    'ENVIRONMENT',
    `while it runs, no other process can read ${path}: DuckDB locks the file`,
    'read it after the run, or --sink.release-idle 10 closes it in pauses',
    'path',
  )
}

function checkTable({ schema, shape }: CheckParts, table: SinkTable): readonly Problem[] {
  const place = placeOf(table)
  const problems: Problem[] = []
  if (fold(place.namespace) === fold(schema))
    problems.push(
      error(
        'SCHEMA_UNSUPPORTED',
        `${table.id} would go into schema ${schema}, where our bookkeeping is`,
        `--map ${table.id}=other.${place.name}, or --sink.schema another_name`,
        table.id,
      ),
    )
  const names = new Map<string, string>()
  for (const column of table.schema.columns) {
    const bad = identifierProblem(column.name, duckdbSinkCapabilities.limits.identifierBytes)
    if (bad !== null)
      problems.push(
        error(
          'SCHEMA_UNSUPPORTED',
          `the name of a column of ${table.id} ${bad}`,
          `${excludeOption(table.id, column.name)} leaves it out`,
          table.id,
        ),
      )
    const twin = names.get(fold(column.name))
    if (twin !== undefined)
      problems.push(
        error(
          'SCHEMA_UNSUPPORTED',
          `${table.id} has columns ${twin} and ${column.name}, which DuckDB does not tell apart`,
          excludeOption(table.id, column.name),
          table.id,
        ),
      )
    names.set(fold(column.name), column.name)
    if (column.generated !== 'no')
      problems.push(
        warning(
          'SCHEMA_UNSUPPORTED',
          `generated column ${column.name} of ${table.id} (${formatType(column.type)}) is not copied`,
          'compute it in a view',
          table.id,
        ),
      )
  }
  const mark = names.get(DELETED_COLUMN)
  if (shape.softDeletes && mark !== undefined)
    problems.push(
      error(
        'SCHEMA_UNSUPPORTED',
        `${table.id} has a column ${mark}, the name of the mark of soft deletes`,
        `${excludeOption(table.id, mark)}, or --deletes hard`,
        table.id,
      ),
    )
  return problems
}

/** Two source tables must not meet in one target table. */
function checkPlaces(tables: readonly SinkTable[]): readonly Problem[] {
  const seen = new Map<string, SinkTable>()
  return tables.flatMap((table) => {
    const place = placeOf(table)
    const key = JSON.stringify([fold(place.namespace), fold(place.name)])
    const other = seen.get(key)
    seen.set(key, table)
    if (other === undefined) return []
    return [
      error(
        'SCHEMA_UNSUPPORTED',
        `${other.id} and ${table.id} would be one table, ${placeLabel(place)}: DuckDB does not tell upper from lower case`,
        `--map ${table.id}=${place.namespace}.${place.name}_2`,
        table.id,
      ),
    ]
  })
}
