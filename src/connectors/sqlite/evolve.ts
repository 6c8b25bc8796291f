import type { DatabaseSync } from 'node:sqlite'
import type { SchemaChangeDetail } from '../../model/batch.ts'
import { columnAt, type Column, type TableSchema } from '../../model/schema.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { evolutionSteps, type EvolutionStep } from '../../sdk/sql/evolve.ts'
import { quoteIdentifier as quote } from '../../sdk/sql/identifiers.ts'
import { noteDropped, takeDropped } from './bookkeeping.ts'
import { prepareRun } from './database.ts'
import {
  affinity,
  deletedColumn,
  findColumn,
  hasColumn,
  keyIndexName,
  literal,
  readIndexes,
  readTable,
  takes,
  writableColumns,
  type ExistingTable,
  type Shape,
} from './ddl.ts'
import { CellEncoder, isTextEncoding, placeholder } from './encode.ts'
import { fold } from './identifiers.ts'
import { rebuildTable } from './rebuild.ts'
import { Encoding, sqliteType } from './type-table.ts'

export interface Evolution {
  readonly name: string
  /** What the target was made from; null: not known, so that columns are told by name and only added. */
  readonly previous: TableSchema | null
  readonly schema: TableSchema
  readonly changes: readonly SchemaChangeDetail[]
  readonly shape: Shape
}

/**
 * Brings a table from what it is to what `schema` says. Nothing is destroyed: a dropped column stays. Every step looks at
 * what is there first, so that a second run changes nothing. Inside a write transaction: DDL of SQLite is undone with it.
 */
export function evolveTable(db: DatabaseSync, evolution: Evolution): void {
  const { name, previous, schema } = evolution
  const steps = previous === null ? [] : evolutionSteps(previous, schema, evolution.changes)
  for (const step of steps)
    if (step.kind === 'drop' && hasColumn(existing(db, name), step.column.name)) noteDropped(db, name, step.column.name)
  renameColumns(
    db,
    name,
    steps.filter((step) => step.kind === 'rename'),
  )
  addColumns(db, evolution, new Set(steps.flatMap((step) => (step.kind === 'add' ? [step.column.name] : []))))
  rebuildIfNeeded(db, evolution, steps)
  refuseMisfits(existing(db, name), evolution)
}

/**
 * What columns' lasting numbers tell about two schemas of one table, in the words of a barrier: a new name under a known
 * number is a rename, a number that is gone is a drop even where its name lives on (TRAP 47).
 */
export function changesByNumber(previous: TableSchema | null, next: TableSchema): readonly SchemaChangeDetail[] {
  if (previous === null || [...previous.columns, ...next.columns].some((column) => column.ordinal <= 0)) return []
  return previous.columns.flatMap((before): SchemaChangeDetail[] => {
    const after = next.columns.find((column) => column.ordinal === before.ordinal)
    if (after === undefined) return [{ kind: 'column-dropped', before: before.name, after: null }]
    return after.name === before.name ? [] : [{ kind: 'column-renamed', before: before.name, after: after.name }]
  })
}

function existing(db: DatabaseSync, name: string): ExistingTable {
  const table = readTable(db, name)
  if (table === null)
    throw new TailraceError('SCHEMA_CHANGED', `target table ${name} is gone`, {
      hint: 'tailrace resnapshot <pipeline> --tables <table> makes it anew and reads the table again; tailrace reset <pipeline> starts over',
      path: name,
    })
  return table
}

/** Swaps and chains (a→b, b→c) go through names that nothing has. */
function renameColumns(db: DatabaseSync, name: string, renames: readonly { readonly from: string; readonly to: string }[]): void {
  const sources = new Set(renames.map((rename) => fold(rename.from)))
  const pending = renames.filter(({ from, to }) => {
    const table = existing(db, name)
    if (!hasColumn(table, from)) return false
    if (!hasColumn(table, to) || fold(from) === fold(to) || sources.has(fold(to))) return true
    if (!takeDropped(db, name, to)) return false
    setAside(db, name, to)
    return true
  })
  pending.forEach(({ from }, i) => renameColumn(db, name, from, `tailrace_rename_${i}`))
  pending.forEach(({ to }, i) => renameColumn(db, name, `tailrace_rename_${i}`, to))
}

function renameColumn(db: DatabaseSync, table: string, from: string, to: string): void {
  db.exec(`ALTER TABLE ${quote(table)} RENAME COLUMN ${quote(from)} TO ${quote(to)}`)
}

/** What the source dropped keeps its values under another name when a new column takes the old one (TRAP 47). */
function setAside(db: DatabaseSync, name: string, column: string): void {
  const table = existing(db, name)
  let aside = `${column}_dropped`
  for (let n = 2; hasColumn(table, aside); n++) aside = `${column}_dropped_${n}`
  renameColumn(db, name, column, aside)
}

function addColumns(db: DatabaseSync, { name, schema, shape }: Evolution, added: ReadonlySet<string>): void {
  for (const column of writableColumns(schema)) {
    if (added.has(column.name) && hasColumn(existing(db, name), column.name) && takeDropped(db, name, column.name))
      setAside(db, name, column.name)
    if (!hasColumn(existing(db, name), column.name)) addColumn(db, name, column, shape)
  }
  if (shape.softDeletes && !hasColumn(existing(db, name), DELETED_COLUMN))
    db.exec(`ALTER TABLE ${quote(name)} ADD COLUMN ${deletedColumn()}`)
}

/** Rows written before show the source's `missing` value (TRAP 46): as a DEFAULT, which touches no row. */
function addColumn(db: DatabaseSync, name: string, column: Column, shape: Shape): void {
  const type = sqliteType(column.type, shape.decimals)
  const bytes = column.missing === undefined ? null : Buffer.from(column.missing, 'utf8')
  const missing = bytes === null ? null : new CellEncoder().encode(type.encoding, bytes, 0, bytes.length)
  // Floats are written row by row: a literal might be read as the neighbouring double, and -0.0 as 0.
  const byDefault = missing !== null && type.encoding !== Encoding.float
  db.exec(
    `ALTER TABLE ${quote(name)} ADD COLUMN ${quote(column.name)} ${type.declared}${byDefault ? ` DEFAULT ${literal(missing, isTextEncoding(type.encoding))}` : ''}`,
  )
  if (missing !== null && !byDefault)
    prepareRun(db, `UPDATE ${quote(name)} SET ${quote(column.name)} = ${placeholder(type.encoding)}`).run(missing)
}

/** A type of another storage class, or a key that the table's own contradicts: only a new table can have those. */
function rebuildIfNeeded(db: DatabaseSync, { name, schema, shape }: Evolution, steps: readonly EvolutionStep[]): void {
  const table = existing(db, name)
  const retyped = new Map<string, string>()
  for (const step of steps) {
    const found = step.kind === 'retype' ? findColumn(table, step.after.name) : undefined
    if (step.kind !== 'retype' || found === undefined) continue
    const { declared } = sqliteType(step.after.type, shape.decimals)
    if (affinity(found.declared, table.strict) !== affinity(declared, true)) retyped.set(fold(found.name), declared)
  }
  const keyChanged = steps.some((step) => step.kind === 'drop-key' || step.kind === 'make-key')
  if (keyChanged) dropOldKeyIndex(db, name, schema)
  if (retyped.size > 0 || (keyChanged && contradictsKey(table, schema))) rebuildTable(db, { table, schema, retyped })
}

function dropOldKeyIndex(db: DatabaseSync, name: string, schema: TableSchema): void {
  const index = readIndexes(db, name).find((each) => fold(each.name) === fold(keyIndexName(name)))
  const key = schema.key.map((at) => fold(columnAt(schema, at).name)).join()
  if (index !== undefined && index.columns?.map(fold).join() !== key) db.exec(`DROP INDEX ${quote(index.name)}`)
}

function contradictsKey(table: ExistingTable, schema: TableSchema): boolean {
  const primary = table.columns.filter((column) => column.key > 0).map((column) => fold(column.name))
  const key = new Set(schema.key.map((index) => fold(columnAt(schema, index).name)))
  return primary.length > 0 && (primary.length !== key.size || primary.some((column) => !key.has(column)))
}

/** A column of somebody else's making that would bend values is refused, not filled. */
function refuseMisfits(table: ExistingTable, { schema, shape }: Evolution): void {
  for (const column of writableColumns(schema)) {
    const found = findColumn(table, column.name)
    const { declared } = sqliteType(column.type, shape.decimals)
    if (found === undefined || (!found.generated && takes(found, table.strict, declared) !== 'no')) continue
    const is = found.generated ? 'generated' : `declared ${found.declared === '' ? 'without type' : found.declared}`
    throw new TailraceError(
      'SCHEMA_UNSUPPORTED',
      `column ${column.name} of target table ${table.name} is ${is}, expected ${declared}, so it would change values`,
      {
        hint: '`--if-exists replace` makes the table anew; `--map` names another one',
        path: schema.id,
      },
    )
  }
}
