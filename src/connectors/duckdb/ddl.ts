import type { SchemaChangeDetail } from '../../model/batch.ts'
import { formatType } from '../../model/logical-type.ts'
import type { TableSchema } from '../../model/schema.ts'
import { TailraceError } from '../../sdk/errors.ts'
import { tablesOption } from '../../sdk/selection.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import type { Misfit, SinkTable } from '../../sdk/sink.ts'
import { evolutionSteps } from '../../sdk/sql/evolve.ts'
import { quoteIdentifier, quoteLiteral } from '../../sdk/sql/identifiers.ts'
import { typeNote, typeNotes } from '../../sdk/sql/type-table.ts'
import { findColumn, readExisting, type Existing } from './catalog.ts'
import type { Connection } from './connection.ts'
import { CATALOG } from './database.ts'
import { kindOf } from './duckdb-errors.ts'
import { fold, placeLabel, placeOf, placeSql, TargetTable, type ShapeOptions } from './target-table.ts'
import { columnType, DUCKDB_TYPES, holds, valueOf, type ColumnType } from './type-table.ts'

/**
 * The statements that make a table. No column is NOT NULL: the source guards its own constraints, and a column that is
 * dropped there later must take nulls here. No key index either, unless asked for: without it changes are 1.2 to 1.9 times
 * faster, and the memory stays in bounds (APPLY B, TRAP 43).
 */
export function createStatements(table: SinkTable, options: ShapeOptions): readonly string[] {
  const target = new TargetTable(table, options)
  const columns = target.columns.map((column) => `${column.sql} ${column.type.sql}`)
  if (options.softDeletes) columns.push(DELETED_DEFINITION)
  return [
    `CREATE SCHEMA IF NOT EXISTS ${CATALOG}.${quoteIdentifier(target.place.namespace)}`,
    `CREATE TABLE ${target.sql} (${[...columns, ...primaryKey(target, options)].join(', ')})`,
  ]
}

/** What the columns do not keep as it was, for `plan`. */
export function describeTypes(table: SinkTable, options: ShapeOptions): readonly string[] {
  const { columns } = new TargetTable(table, options)
  return typeNotes(table.schema.columns, ({ name, type }) => {
    const target = columns.find((column) => column.name === name)
    if (target === undefined) return null
    const isAsked = target.type.rule.logical !== type.kind
    return isAsked ? `${formatType(type)} becomes ${target.type.sql}, as asked` : typeNote(DUCKDB_TYPES, type)
  })
}

const DELETED_DEFINITION = `${quoteIdentifier(DELETED_COLUMN)} BOOLEAN DEFAULT false`

function primaryKey(target: TargetTable, options: ShapeOptions): readonly string[] {
  return options.primaryKeys && target.match === 'key' ? [`PRIMARY KEY (${target.key.map((column) => column.sql).join(', ')})`] : []
}

export async function dropWhatStands(connection: Connection, table: SinkTable): Promise<void> {
  const existing = await readExisting(connection, placeOf(table))
  if (existing !== null) await connection.run(`DROP ${existing.kind} ${placeSql(placeOf(table))}`)
}

/** The target table as it stands, with the columns that the source does not have. Throws when it would bend values. */
export async function describeTarget(connection: Connection, table: SinkTable, options: ShapeOptions): Promise<TargetTable> {
  const existing = await requireExisting(connection, table)
  const target = new TargetTable(table, options)
  for (const column of target.columns) {
    const found = findColumn(existing, column.name)
    if (found === undefined || !holds(found.type, column.type.sql)) throw misfit(target, column.name, found?.type ?? null, column.type.sql)
  }
  const live = new Set([...target.columns.map((column) => fold(column.name)), ...(options.softDeletes ? [DELETED_COLUMN] : [])])
  return new TargetTable(
    table,
    options,
    existing.columns.map((column) => column.name).filter((name) => !live.has(fold(name))),
  )
}

/** Columns of somebody else's table that rows cannot be added to. */
export async function findMisfits(connection: Connection, table: SinkTable, options: ShapeOptions): Promise<readonly Misfit[]> {
  const existing = await readExisting(connection, placeOf(table))
  if (existing?.kind !== 'table') return []
  return new TargetTable(table, options).columns.flatMap(({ name, type }) => {
    const found = findColumn(existing, name)
    return found === undefined || holds(found.type, type.sql) ? [] : [{ column: name, found: found.type, wanted: type.sql }]
  })
}

/** Columns that are written and that the table does not have; null: there is none. */
export async function findMissing(connection: Connection, table: SinkTable, options: ShapeOptions): Promise<readonly string[] | null> {
  const existing = await readExisting(connection, placeOf(table))
  if (existing === null) return null
  return new TargetTable(table, options).columns.flatMap(({ name }) => (findColumn(existing, name) === undefined ? [name] : []))
}

async function requireExisting(connection: Connection, table: SinkTable): Promise<Existing> {
  const place = placeOf(table)
  const existing = await readExisting(connection, place)
  if (existing?.kind === 'table') return existing
  const what = existing === null ? 'is gone' : 'is a view'
  throw new TailraceError('SCHEMA_CHANGED', `the target table ${placeLabel(place)} ${what}`, {
    hint: `tailrace resnapshot <pipeline> ${tablesOption([table.id])}, or --if-exists replace`,
    path: table.id,
  })
}

function misfit(target: TargetTable, column: string, found: string | null, expected: string): TailraceError {
  const is = found === null ? 'is missing in' : `has type ${found} in`
  return new TailraceError('SCHEMA_UNSUPPORTED', `column ${column} ${is} target table ${placeLabel(target.place)}, expected ${expected}`, {
    hint: '--if-exists replace makes the table anew; --map names another one',
    path: target.schema.id,
  })
}

export interface Evolution {
  /** As it shall be; the place stays. */
  readonly table: SinkTable
  readonly previous: TableSchema
  readonly changes: readonly SchemaChangeDetail[]
  readonly options: ShapeOptions
  /** Whether `previous` is what was noted in the target, and not only what the caller believes. */
  readonly noted: boolean
  /** Rows of it were deleted in the transaction that is open. */
  readonly deletedFrom: boolean
}

/** A column of the target on its way. */
interface Passage {
  readonly from: string
  readonly type: string
  to: string
  /** SQL of the value in its new type, and that type; null: it keeps its own. */
  cast: { readonly sql: string; readonly type: string } | null
}

/** Brings a table to a new shape, in the transaction that is open. Nothing is destroyed: a dropped column stays. */
export async function evolveTable(connection: Connection, evolution: Evolution): Promise<void> {
  const existing = await requireExisting(connection, evolution.table)
  const plan = planPassages(existing, evolution)
  const reshapes = plan.added.length > 0 || plan.passages.some((passage) => passage.cast !== null)
  try {
    if (mustRebuild(evolution, plan, reshapes)) await rebuild(connection, evolution, plan)
    else await alter(connection, evolution, plan)
  } catch (error) {
    if (kindOf(error) !== 'value') throw error
    throw new TailraceError('SCHEMA_CHANGED', `the rows of ${evolution.table.id} do not fit its new type`, {
      hint: `tailrace resnapshot <pipeline> ${tablesOption([evolution.table.id])}`,
      path: evolution.table.id,
    })
  }
}

interface Plan {
  readonly passages: readonly Passage[]
  readonly added: readonly Added[]
  readonly keyChanged: boolean
}

interface Added {
  readonly name: string
  readonly type: ColumnType
  /** Text of what rows of before show; null: nothing. */
  readonly missing: string | null
}

function planPassages(existing: Existing, { table, previous, changes, options, noted }: Evolution): Plan {
  const target = new TargetTable(table, options)
  const passages: Passage[] = existing.columns.map(({ name, type }) => ({ from: name, type, to: name, cast: null }))
  const steps = evolutionSteps(previous, table.schema, changes)
  for (const step of steps) if (step.kind === 'rename') rename(passages, step.from, step.to)
  const claimed = new Set(
    steps.flatMap((step) => (step.kind === 'add' ? [fold(step.column.name)] : step.kind === 'rename' ? [fold(step.to)] : [])),
  )
  for (const passage of passages) {
    // Not noted: what has the name of an added column may be that column, from a first attempt.
    if (noted && passage.to === passage.from && claimed.has(fold(passage.to))) passage.to = asideName(passages, passage.from)
  }
  const added = target.columns.filter((column) => !passages.some((passage) => fold(passage.to) === fold(column.name)))
  for (const column of target.columns) {
    const passage = passages.find((each) => fold(each.to) === fold(column.name))
    if (
      passage !== undefined &&
      passage.type !== column.type.sql &&
      steps.some((step) => step.kind === 'retype' && step.after.name === column.name)
    ) {
      const from = quoteIdentifier(passage.from)
      passage.cast = {
        type: column.type.sql,
        sql: passage.type === 'VARCHAR' ? valueOf(column.type, from) : `CAST(${from} AS ${column.type.sql})`,
      }
    }
  }
  const softly = options.softDeletes && !passages.some((passage) => fold(passage.to) === DELETED_COLUMN)
  return {
    passages,
    added: [
      ...added.map(({ index, name, type }) => ({ name, type, missing: table.schema.columns[index]?.missing ?? null })),
      ...(softly ? [{ name: DELETED_COLUMN, type: columnType({ kind: 'boolean' }, options), missing: 'f' }] : []),
    ],
    keyChanged: steps.some((step) => step.kind === 'make-key' || step.kind === 'drop-key'),
  }
}

/** A rename that was done before finds nothing to do. */
function rename(passages: readonly Passage[], from: string, to: string): void {
  const passage = passages.find((each) => fold(each.from) === fold(from) && each.to === each.from)
  if (passage !== undefined) passage.to = to
}

/** What the source dropped keeps its values under another name when a new column takes the old one (TRAP 47). */
function asideName(passages: readonly Passage[], name: string): string {
  const taken = new Set(passages.map((passage) => fold(passage.to)))
  let aside = `${name}_dropped`
  for (let n = 2; taken.has(fold(aside)); n++) aside = `${name}_dropped_${n}`
  return aside
}

/**
 * DuckDB's ALTERs are transactional, but a transaction that deleted rows of a table and then adds a column or changes a type
 * fails at COMMIT ("another transaction has altered this table"): in 1.5.6 only renames are allowed then. So the table is
 * made anew in that case, which is rare: DDL in the middle of a source transaction that changes the table.
 */
function mustRebuild(evolution: Evolution, plan: Plan, reshapes: boolean): boolean {
  const indexed = evolution.options.primaryKeys && (plan.keyChanged || plan.passages.some((passage) => passage.cast !== null))
  return indexed || (evolution.deletedFrom && reshapes)
}

async function alter(connection: Connection, { table }: Evolution, { passages, added }: Plan): Promise<void> {
  const change = (what: string): Promise<number> => connection.run(`ALTER TABLE ${placeSql(placeOf(table))} ${what}`)
  for (const { from, cast } of passages) {
    if (cast !== null) await change(`ALTER COLUMN ${quoteIdentifier(from)} SET DATA TYPE ${cast.type} USING ${cast.sql}`)
  }
  const renames = passages.filter(({ from, to }) => from !== to)
  // Swaps and chains (a→b, b→c) go through names that nothing has.
  const detour = renames.length > 1 || renames.some(({ from, to }) => fold(from) === fold(to))
  for (const [i, { from, to }] of renames.entries())
    await change(`RENAME COLUMN ${quoteIdentifier(from)} TO ${quoteIdentifier(detour ? `tailrace_rename_${i}` : to)}`)
  if (detour)
    for (const [i, { to }] of renames.entries())
      await change(`RENAME COLUMN ${quoteIdentifier(`tailrace_rename_${i}`)} TO ${quoteIdentifier(to)}`)
  for (const column of added) for (const step of addSteps(column)) await change(step)
}

/**
 * A DEFAULT that is no plain literal is an UPDATE of all rows to DuckDB, after which the next ADD COLUMN fails at COMMIT like
 * one after a delete. So the column comes as text, whose literal is plain, and then takes its type.
 */
function addSteps({ name, type, missing }: Added): readonly string[] {
  const column = quoteIdentifier(name)
  if (missing === null) return [`ADD COLUMN ${column} ${type.sql}`]
  return [
    `ADD COLUMN ${column} VARCHAR DEFAULT ${quoteLiteral(missing)}`,
    // Rows to come bring their own value; once dropped at the source, the column shall show null.
    `ALTER COLUMN ${column} DROP DEFAULT`,
    ...(type.sql === 'VARCHAR' ? [] : [`ALTER COLUMN ${column} SET DATA TYPE ${type.sql} USING ${valueOf(type, column)}`]),
    ...(name === DELETED_COLUMN ? [`ALTER COLUMN ${column} SET DEFAULT false`] : []),
  ]
}

async function rebuild(connection: Connection, { table, options }: Evolution, { passages, added }: Plan): Promise<void> {
  const target = new TargetTable(table, options)
  const old = { namespace: target.place.namespace, name: `${target.place.name}_tailrace_old` }
  await connection.run(`ALTER TABLE ${target.sql} RENAME TO ${quoteIdentifier(old.name)}`)
  const columns = [
    ...passages.map(({ to, type, cast }) => `${quoteIdentifier(to)} ${cast?.type ?? type}`),
    ...added.map(({ name, type }) => (name === DELETED_COLUMN ? DELETED_DEFINITION : `${quoteIdentifier(name)} ${type.sql}`)),
  ]
  await connection.run(`CREATE TABLE ${target.sql} (${[...columns, ...primaryKey(target, options)].join(', ')})`)
  const values = [
    ...passages.map(({ from, cast }) => cast?.sql ?? quoteIdentifier(from)),
    ...added.map(({ type, missing }) => (missing === null ? 'NULL' : valueOf(type, quoteLiteral(missing)))),
  ]
  await connection.run(`INSERT INTO ${target.sql} SELECT ${values.join(', ')} FROM ${placeSql(old)}`)
  await connection.run(`DROP TABLE ${placeSql(old)}`)
}
