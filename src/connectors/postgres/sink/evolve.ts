import { keyNames, type Column, type TableId, type TableSchema } from '../../../model/schema.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import { tablesOption } from '../../../sdk/selection.ts'
import type { SinkTable } from '../../../sdk/sink.ts'
import { DELETED_COLUMN } from '../../../sdk/soft-delete.ts'
import { evolutionSteps, type EvolutionStep } from '../../../sdk/sql/evolve.ts'
import { fitIdentifier, qualify, quoteIdentifier, quoteLiteral } from '../../../sdk/sql/identifiers.ts'
import type { SchemaChangeDetail } from '../../../model/batch.ts'
import type { PgConnection } from '../wire/connection.ts'
import { columnType, defaultOf, enumsOf, indexSql, keyIndex, type DdlContext } from './ddl.ts'
import { NAME_BYTES } from './session.ts'
import { placeOf, requireTarget, uniqueIndexOn, type TargetTable } from './target-table.ts'
import { isWidening } from './widening.ts'

/**
 * Comments that a change of shape leaves on columns of the target, so that it is not done twice: names alone cannot tell
 * whether `a → b, b → a` was done. On a dropped column: its values stay for people, its name may be taken by a new one.
 */
const OURS = 'tailrace: '
const DROPPED = `${OURS}dropped `

export interface Evolution {
  /** To run inside the transaction that writes the rows before and after. */
  readonly statements: readonly string[]
  /** The table as it is afterwards. */
  readonly table: SinkTable
}

/**
 * Follows a change of shape. `context` is of another session: it is found out by statements that may fail. Looks at the target before each step, so that what is done already is not done again. Never
 * removes a value: a dropped column stays, may be null from then on, and makes room when its name comes back.
 */
export async function planEvolution(
  connection: PgConnection,
  table: SinkTable,
  next: { readonly schema: TableSchema; readonly context: DdlContext },
  changes: readonly SchemaChangeDetail[] = [],
): Promise<Evolution> {
  const target = await requireTarget(connection, table)
  const alive = target.columns.has(DELETED_COLUMN) ? ` WHERE NOT ${quoteIdentifier(DELETED_COLUMN)}` : ''
  const [row] = await connection.rows(`SELECT NOT EXISTS (SELECT FROM ${target.sql}${alive}), NOT EXISTS (SELECT FROM ${target.sql})`)
  const planner = new Planner(table, next.schema, target, {
    ...next.context,
    empty: row?.[1] === 't',
    dead: row?.[0] === 't',
  })
  for (const step of evolutionSteps(table.schema, next.schema, changes)) planner.add(step)
  return { statements: planner.statements, table: planner.result }
}

/**
 * `empty`: the table is about to be read again, so that no value is lost whatever its type becomes. `dead`: all that is left is
 * marked as deleted, and keeps its values as far as the new type can say them.
 */
type PlanContext = DdlContext & { readonly empty: boolean; readonly dead: boolean }

class Planner {
  readonly statements: string[] = []
  readonly #table: SinkTable
  readonly #next: TableSchema
  readonly #target: TargetTable
  readonly #context: PlanContext
  /** Column names of the target, as the statements so far leave them. */
  readonly #names: Set<string>
  /** Old names → where they wait when two columns change names with each other. */
  readonly #parked = new Map<string, string>()
  #place: SinkTable['target']

  constructor(table: SinkTable, next: TableSchema, target: TargetTable, context: PlanContext) {
    this.#table = table
    this.#next = next
    this.#target = target
    this.#context = context
    this.#names = new Set(target.columns.keys())
    this.#place = table.target
  }

  get result(): SinkTable {
    return { id: this.#next.id, schema: this.#next, target: this.#place }
  }

  add(step: EvolutionStep): void {
    switch (step.kind) {
      case 'rename-table':
        return this.#renameTable(step.from, step.to)
      case 'drop-key':
        return this.#dropKey()
      case 'drop':
        return this.#drop(step.column)
      case 'rename':
        return this.#rename(step.from, step.column)
      case 'add':
        return this.#add(step.column)
      case 'retype':
        return this.#retype(step.before, step.after)
      case 'nullability':
        return this.#nullability(step.column.name, step.column.nullable)
      case 'make-key':
        return this.#makeKey()
      default:
        step satisfies never
    }
  }

  get #sql(): string {
    return qualify(placeOf(this.#table).namespace, this.#place.name)
  }

  #alter(what: string): void {
    this.statements.push(`ALTER TABLE ${this.#sql} ${what}`)
  }

  /** A target that has a name of its own keeps it. */
  #renameTable(from: string, to: string): void {
    if (this.#place.name !== from) return
    this.#alter(`RENAME TO ${quoteIdentifier(to)}`)
    this.#place = { ...this.#place, name: to }
  }

  #dropKey(): void {
    const index = uniqueIndexOn(this.#target, keyNames(this.#table.schema))
    if (index?.primary === true) this.#alter(`DROP CONSTRAINT ${quoteIdentifier(index.name)}`)
  }

  #drop({ name, ordinal }: Column): void {
    const column = this.#target.columns.get(name)
    const tag = `${DROPPED}${this.#tag(ordinal)}`
    if (column === undefined || [...this.#target.columns.values()].some((each) => each.comment === tag)) return
    const quoted = quoteIdentifier(name)
    if (column.identity !== 'no') this.#alter(`ALTER COLUMN ${quoted} DROP IDENTITY IF EXISTS`)
    this.#alter(`ALTER COLUMN ${quoted} DROP NOT NULL`)
    this.#comment(name, tag)
    // Its name is free from now on for a column that is renamed or added in the same change.
    if (this.#next.columns.some((each) => each.name === name)) this.#moveAside(name)
  }

  /** Renames may pass names around in a ring: who takes a name that is still held parks its holder first. */
  #rename(from: string, after: Column): void {
    const present = this.#parked.get(from) ?? from
    const tag = `${OURS}${this.#tag(after.ordinal)}`
    if (!this.#names.has(present) || this.#target.columns.get(after.name)?.comment === tag) return
    if (this.#names.has(after.name)) this.#makeRoom(after.name)
    this.#renameColumn(present, after.name)
    const comment = this.#target.columns.get(from)?.comment ?? null
    if (comment === null || comment.startsWith(OURS)) this.#comment(after.name, tag)
  }

  #tag(ordinal: number): string {
    return `column ${ordinal} of ${this.#next.relation}`
  }

  #comment(name: string, text: string): void {
    this.statements.push(`COMMENT ON COLUMN ${this.#sql}.${quoteIdentifier(name)} IS ${quoteLiteral(text)}`)
  }

  #isDropped(name: string): boolean {
    return this.#target.columns.get(name)?.comment?.startsWith(DROPPED) ?? false
  }

  #makeRoom(name: string): void {
    if (this.#isDropped(name)) return this.#moveAside(name)
    const parked = this.#freeName(`${name}_moving`)
    this.#parked.set(name, parked)
    this.#renameColumn(name, parked)
  }

  #moveAside(name: string): void {
    this.#renameColumn(name, this.#freeName(`${name}_dropped`))
  }

  #freeName(wish: string): string {
    for (let n = 1; ; n++) {
      const name = fitIdentifier(n === 1 ? wish : `${wish}_${n}`, NAME_BYTES)
      if (!this.#names.has(name)) return name
    }
  }

  #renameColumn(from: string, to: string): void {
    this.#alter(`RENAME COLUMN ${quoteIdentifier(from)} TO ${quoteIdentifier(to)}`)
    this.#names.delete(from)
    this.#names.add(to)
  }

  /** Rows from before show what they show in the source (`missing`, TRAPS 46); a default of the target it is not. */
  #add(column: Column): void {
    const quoted = quoteIdentifier(column.name)
    if (this.#names.has(column.name)) {
      if (!this.#isDropped(column.name)) return
      this.#moveAside(column.name)
    }
    const type = columnType(this.#next, column, this.#context)
    const missing = column.missing === undefined ? '' : ` DEFAULT ${quoteLiteral(column.missing)}`
    this.#alter(`ADD COLUMN ${quoted} ${type}${missing}`)
    const later = defaultOf(this.#next, column, this.#context)
    if (later !== null) this.#alter(`ALTER COLUMN ${quoted} SET DEFAULT ${later}`)
    else if (missing !== '') this.#alter(`ALTER COLUMN ${quoted} DROP DEFAULT`)
    if (!column.nullable) this.#setNotNull(column.name)
    this.#names.add(column.name)
  }

  #retype(before: Column, after: Column): void {
    const to = columnType(this.#next, after, this.#context)
    const present = this.#target.columns.get(before.name)?.fullType ?? before.sourceType
    if (present === to) return
    if (!isWidening(present, to)) {
      if (this.#context.empty) return this.#retypeEmpty(after, to)
      if (!this.#context.dead) throw retypeError(this.#next.id, after.name, present, to)
    }
    const quoted = quoteIdentifier(after.name)
    this.#alter(`ALTER COLUMN ${quoted} TYPE ${to} USING ${quoted}::${to}`)
  }

  #retypeEmpty(column: Column, to: string): void {
    const quoted = quoteIdentifier(column.name)
    const expression = defaultOf(this.#next, column, this.#context)
    const later = expression === null ? '' : `, ALTER COLUMN ${quoted} SET DEFAULT ${expression}`
    this.#alter(`ALTER COLUMN ${quoted} DROP DEFAULT, ALTER COLUMN ${quoted} TYPE ${to} USING NULL${later}`)
  }

  #nullability(name: string, nullable: boolean): void {
    if (nullable) this.#alter(`ALTER COLUMN ${quoteIdentifier(name)} DROP NOT NULL`)
    else this.#setNotNull(name)
  }

  /** Only where it holds: a column added without a constant default has nulls here that the source's rewrite filled. */
  #setNotNull(name: string): void {
    const alter = `ALTER TABLE ${this.#sql} ALTER COLUMN ${quoteIdentifier(name)} SET NOT NULL`
    this.statements.push(
      `DO $tailrace$ BEGIN IF NOT EXISTS (SELECT FROM ${this.#sql} WHERE ${quoteIdentifier(name)} IS NULL) THEN ${alter}; END IF; END $tailrace$`,
    )
  }

  #makeKey(): void {
    const moved: SinkTable = this.result
    const index = keyIndex(moved)
    if (index === null) return
    const names = keyNames(this.#next)
    if (uniqueIndexOn(this.#target, names) !== undefined && names.every((name) => this.#target.columns.has(name))) return
    this.statements.push(...indexSql(moved, index, fitIdentifier(index.name, NAME_BYTES)))
  }
}

function retypeError(id: TableId, column: string, from: string, to: string): TailraceError {
  return new TailraceError(
    'SCHEMA_CHANGED',
    `the type of ${id}.${column} changed from ${from} to ${to}, which may have changed values that are not in the change log`,
    { path: id, hint: `read the table again: tailrace resnapshot <pipeline> ${tablesOption([id])}; or change the target's column by hand` },
  )
}

/** Labels added to enums, which must be committed before a row can use them. */
export function newEnums(previous: TableSchema, next: TableSchema): ReturnType<typeof enumsOf> {
  const before = new Map(enumsOf(previous).map((type) => [type.sql, type.values.join('\0')]))
  return enumsOf(next).filter((type) => before.get(type.sql) !== type.values.join('\0'))
}

/**
 * Above this size TRUNCATE: a DELETE would take minutes. Below it DELETE, because a reader with an older snapshot sees an
 * empty table after TRUNCATE, neither old nor new (TRAPS 37, Invariant 4), and every reader waits while the transaction goes on.
 */
const TRUNCATE_BYTES = 1 << 30

/** All tables of the message in one TRUNCATE; DELETE too where a foreign key of another table forbids it. */
export function truncateSql(
  targets: readonly TargetTable[],
  { restartIdentity, bytes, soft }: { readonly restartIdentity: boolean; readonly bytes: number; readonly soft: boolean },
): string[] {
  const deleted = quoteIdentifier(DELETED_COLUMN)
  if (soft) return targets.map((target) => `UPDATE ${target.sql} SET ${deleted} = true WHERE NOT ${deleted}`)
  const ours = new Set(targets.map((target) => target.oid))
  const referenced = targets.some((target) => target.referencedBy.some((key) => !ours.has(key.oid)))
  if (bytes < TRUNCATE_BYTES || referenced) return targets.map((target) => `DELETE FROM ${target.sql}`)
  return [`TRUNCATE ${targets.map((target) => target.sql).join(', ')}${restartIdentity ? ' RESTART IDENTITY' : ''}`]
}

/** Bytes of the tables now, indexes not counted. */
export async function sizeOf(connection: PgConnection, targets: readonly TargetTable[]): Promise<number> {
  const [row] = await connection.rows(`SELECT ${targets.map((target) => `pg_table_size(${target.oid})`).join(' + ')}`)
  return Number(row?.[0] ?? 0)
}
