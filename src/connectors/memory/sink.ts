import { Op, type Barrier, type Slice, type SnapshotFrame, type StreamBatch } from '../../model/batch.ts'
import type { Position } from '../../model/position.ts'
import { tableId, type Column, type TableId, type TableSchema } from '../../model/schema.ts'
import { oldTextAt, textAt } from '../../model/slice-builder.ts'
import type { ConnectorContext } from '../../sdk/connector.ts'
import { TailraceError, type Problem } from '../../sdk/errors.ts'
import type {
  ApplyOptions,
  Checkpoint,
  Loader,
  LoadRequest,
  Sink,
  SinkCapabilities,
  SinkCheckpoints,
  SinkTable,
  Writer,
} from '../../sdk/sink.ts'
import { DELETED_COLUMN } from '../../sdk/soft-delete.ts'
import { Draft, MemoryTable, type Cells, type MemoryDatabase } from './database.ts'
import { inRange } from './snapshot.ts'

export const memorySinkCapabilities: SinkCapabilities = {
  commit: 'transactional',
  formats: ['rows'],
  parallelLoads: 4,
  delete: ['hard', 'soft'],
  truncate: true,
  schemaChanges: true,
  maxBatch: { rows: 10_000, bytes: 8 << 20 },
  limits: { identifierBytes: 1 << 16, columns: 1 << 16 },
}

/** A change to the tables, taken out of a batch and kept until its transaction ends. */
type Step = (draft: Draft) => void

export class MemorySink implements Sink {
  readonly checkpoints: SinkCheckpoints
  readonly #database: MemoryDatabase
  readonly #pipeline: string
  readonly #soft: boolean
  readonly #tables = new Map<TableId, SinkTable>()
  /** Of the stream transaction that is open. */
  #steps: Step[] = []
  #epoch: number | null = null

  constructor(database: MemoryDatabase, context: ConnectorContext) {
    this.#database = database
    this.#pipeline = context.pipeline
    this.#soft = context.deletes === 'soft'
    this.checkpoints = {
      look: async () => this.#database.checkpoints.get(this.#pipeline) ?? null,
      writers: async (table) => this.#writers(table),
      letGo: async (tables) => this.#letGo(tables),
      claim: async () => this.#claim(),
      recover: async () => this.#recover(),
      store: async (position) => this.#commit([], position),
    }
  }

  async check(tables: readonly SinkTable[]): Promise<readonly Problem[]> {
    return tables
      .filter((table) => this.#soft && table.schema.columns.some((column) => column.name === DELETED_COLUMN))
      .map((table) => ({
        severity: 'error',
        code: 'SCHEMA_UNSUPPORTED',
        message: `table ${table.id} has a column ${DELETED_COLUMN} of its own`,
        hint: '--deletes hard',
        path: table.id,
      }))
  }

  async inspect(table: SinkTable): Promise<'absent' | 'empty' | 'filled'> {
    const found = this.#database.tables.get(targetId(table))
    return found === undefined ? 'absent' : found.rows.size === 0 ? 'empty' : 'filled'
  }

  async missingColumns(table: SinkTable): Promise<readonly string[] | null> {
    const found = this.#database.tables.get(targetId(table))
    if (found === undefined) return null
    const names = new Set(found.schema.columns.map(({ name }) => name))
    return table.schema.columns.flatMap(({ name }) => (names.has(name) ? [] : [name]))
  }

  async applySchema(table: SinkTable, previous: SinkTable | null, _signal: AbortSignal, options: ApplyOptions = {}): Promise<void> {
    this.#tables.set(table.id, table)
    this.#run((draft) => {
      if (options.replace === true) draft.set(targetId(table), new MemoryTable(this.#targetSchema(table)))
      else this.#evolve(draft, table, previous === null ? new Map() : this.#renamesLeft(draft, table, previous))
    })
    const others = options.takeOver === true ? [] : (this.#database.writers.get(targetId(table)) ?? [])
    this.#database.writers.set(targetId(table), new Set([...others, this.#pipeline]))
  }

  async clear(table: SinkTable, _signal: AbortSignal, { softly = false }: { readonly softly?: boolean } = {}): Promise<void> {
    this.#run((draft) => emptyOut(draft.get(targetId(table)), softly, () => true))
  }

  async load(request: LoadRequest): Promise<Loader> {
    const rows: Cells[] = []
    return {
      write: async (frame: SnapshotFrame) => {
        if (frame.format !== 'rows') throw new TailraceError('BUG', `memory loads rows, not ${frame.format}`)
        for (let row = 0; row < frame.slice.rows; row++) rows.push(knownCells(frame.slice, row, textAt))
      },
      finish: async () => {
        this.#run((draft) => this.#loadChunk(draft, request, rows))
        return { rows: rows.length }
      },
      [Symbol.asyncDispose]: async () => {},
    }
  }

  async write(batch: StreamBatch): Promise<void> {
    // The rows are taken out at once: the batch's bytes are not ours afterwards.
    this.#steps.push(...(batch.barrier === null ? this.#rowSteps(batch.slices) : [this.#barrierStep(batch.barrier)]))
    if (batch.position === null) return
    const steps = this.#steps
    this.#steps = []
    this.#commit(steps, batch.position)
  }

  async count(table: SinkTable): Promise<bigint> {
    return BigInt(this.#database.rows(targetId(table)).length)
  }

  async remove(): Promise<readonly string[]> {
    for (const writers of this.#database.writers.values()) writers.delete(this.#pipeline)
    return this.#database.checkpoints.delete(this.#pipeline) ? [`checkpoint of ${this.#pipeline}`] : []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#steps = []
  }

  // Checkpoints. JavaScript runs each of these in one go: that is the row lock.

  #writers(table: SinkTable): readonly Writer[] {
    const { checkpoints, writers } = this.#database
    return [...(writers.get(targetId(table)) ?? [])].map((pipeline) => ({
      pipeline,
      follows: (checkpoints.get(pipeline)?.position ?? null) !== null,
    }))
  }

  #letGo(tables: readonly SinkTable[]): void {
    this.#own()
    for (const table of tables) this.#database.writers.get(targetId(table))?.delete(this.#pipeline)
  }

  #claim(): Checkpoint {
    const found = this.#database.checkpoints.get(this.#pipeline)
    const taken = { epoch: (found?.epoch ?? 0) + 1, position: found?.position ?? null }
    this.#database.checkpoints.set(this.#pipeline, taken)
    this.#epoch = taken.epoch
    return taken
  }

  #recover(): Checkpoint {
    this.#steps = []
    return this.#own()
  }

  /** Our checkpoint, or FENCED when a newer runner has taken it. */
  #own(): Checkpoint {
    const found = this.#database.checkpoints.get(this.#pipeline)
    if (this.#epoch === null) throw new TailraceError('BUG', 'a transactional sink is claimed before it is written to')
    if (found?.epoch === this.#epoch) return found
    throw new TailraceError('FENCED', `pipeline ${this.#pipeline} was taken over in memory:${this.#database.name}`)
  }

  /** All steps and the position, or nothing. */
  #commit(steps: readonly Step[], position: Position | null): void {
    const { epoch } = this.#own()
    const draft = new Draft(this.#database.tables)
    for (const step of steps) step(draft)
    draft.publish()
    this.#database.checkpoints.set(this.#pipeline, { epoch, position })
  }

  /** A transaction of its own that leaves the position where it is. */
  #run(step: Step): void {
    this.#commit([step], this.#own().position)
  }

  // Rows.

  #rowSteps(slices: readonly Slice[]): Step[] {
    const places = slices.flatMap((slice) => Array.from({ length: slice.rows }, (_, row) => ({ slice, row, order: slice.order[row] ?? 0 })))
    return places.sort((a, b) => a.order - b.order).map(({ slice, row }) => this.#rowStep(slice, row))
  }

  #rowStep(slice: Slice, row: number): Step {
    const table = this.#tableOf(slice.schema.id)
    const op = slice.ops[row]
    const after = op === Op.delete ? null : knownCells(slice, row, textAt)
    const before = knownCells(slice, row, oldTextAt)
    const width = slice.schema.columns.length
    return (draft) => {
      const target = draft.get(targetId(table))
      if (op === Op.insert || op === Op.read) target.put({ ...this.#blank(target), ...after })
      else this.#change(target, after, before, width)
    }
  }

  /** An update or delete. The old row is found by its old image, which is there whenever the key has changed. */
  #change(target: MemoryTable, after: Cells | null, before: Cells, width: number): void {
    const identity = target.schema.key.length === 0 ? before : { ...after, ...before }
    const at = target.find(identity)
    const old = at === undefined ? undefined : target.rows.get(at)
    if (after === null) {
      if (at !== undefined && old !== undefined) this.#remove(target, at, old)
      else if (target.schema.key.length === 0)
        throw new TailraceError(
          'NOT_ACCOUNTED',
          `a row to be deleted from ${target.schema.id} is not there, and no key tells which one is meant`,
        )
      return
    }
    if (old === undefined && Object.keys(after).length < width) {
      // Never a row with made-up nulls (TRAPS 34).
      throw new TailraceError('SINK_FAILED', `an update of ${target.schema.id} found no row to take unchanged columns from`, {
        retry: 'operator',
      })
    }
    const changed = { ...this.#blank(target), ...old, ...after }
    const stays = target.schema.key.length > 0 && target.find(changed) === at
    if (at !== undefined && old !== undefined && !stays) this.#remove(target, at, old)
    target.put(changed)
  }

  #remove(target: MemoryTable, at: string, old: Cells): void {
    if (this.#soft) target.rows.set(at, { ...old, [DELETED_COLUMN]: 't' })
    else target.rows.delete(at)
  }

  /** A row of nothing but nulls: for columns that the target has and the source has no more. */
  #blank(target: MemoryTable): Cells {
    return Object.fromEntries(target.schema.columns.map(({ name }) => [name, name === DELETED_COLUMN && this.#soft ? 'f' : null]))
  }

  #loadChunk(draft: Draft, request: LoadRequest, rows: readonly Cells[]): void {
    const target = draft.get(targetId(request.table))
    if (request.replace) emptyOut(target, request.merge === true && this.#soft, (row) => inRange(row, request.chunk, request.table))
    for (const row of rows) target.put({ ...this.#blank(target), ...row })
  }

  // Schemas.

  #barrierStep(barrier: Barrier): Step {
    if (barrier.kind === 'truncate') {
      const ids = barrier.tables.map((schema) => targetId(this.#tableOf(schema.id)))
      return (draft) => ids.forEach((id) => this.#truncate(draft.get(id)))
    }
    const table = { ...this.#tableOf(barrier.previous.id), id: barrier.schema.id, schema: barrier.schema }
    this.#tables.set(table.id, table)
    const renames = new Map(
      barrier.changes.flatMap(({ kind, before, after }) =>
        kind === 'column-renamed' && before !== null && after !== null ? [[before, after]] : [],
      ),
    )
    return (draft) => this.#evolve(draft, table, renames)
  }

  #truncate(target: MemoryTable): void {
    for (const [at, row] of target.rows) this.#remove(target, at, row)
  }

  /** Columns are added and renamed, never dropped: what the source has no more stays and is null in new rows. */
  #evolve(draft: Draft, table: SinkTable, renames: ReadonlyMap<string, string>): void {
    const id = targetId(table)
    const wanted = this.#targetSchema(table)
    if (!draft.has(id)) return draft.set(id, new MemoryTable(wanted))
    const old = draft.get(id)
    const names = new Set(wanted.columns.map((column) => column.name))
    const left = old.schema.columns.filter(({ name }) => !names.has(name) && !names.has(renames.get(name) ?? name))
    const columns = [...wanted.columns, ...left.map((column): Column => ({ ...column, nullable: true }))]
    const evolved = new MemoryTable({ ...wanted, columns })
    for (const row of old.rows.values()) {
      const moved = Object.fromEntries(Object.entries(row).map(([name, value]) => [renames.get(name) ?? name, value]))
      evolved.put(
        Object.fromEntries(columns.map(({ name, missing }) => [name, moved[name] === undefined ? (missing ?? null) : moved[name]])),
      )
    }
    draft.set(id, evolved)
  }

  /** Renames not done yet: the call may be a repetition, and then the new name is there. */
  #renamesLeft(draft: Draft, table: SinkTable, previous: SinkTable): ReadonlyMap<string, string> {
    const there = new Set(draft.has(targetId(table)) ? draft.get(targetId(table)).schema.columns.map((column) => column.name) : [])
    return new Map([...renamedColumns(previous.schema, table.schema)].filter(([, after]) => !there.has(after)))
  }

  #targetSchema({ schema }: SinkTable): TableSchema {
    return this.#soft ? { ...schema, columns: [...schema.columns, deletedColumn] } : schema
  }

  #tableOf(id: TableId): SinkTable {
    const table = this.#tables.get(id)
    if (table === undefined) throw new TailraceError('BUG', `table ${id} was not announced by applySchema`)
    return table
  }
}

const deletedColumn: Column = {
  name: DELETED_COLUMN,
  type: { kind: 'boolean' },
  nullable: false,
  sourceType: 'boolean',
  sourceTypeId: 0,
  ordinal: 0,
  generated: 'no',
  identity: 'no',
  missing: 'f',
}

/** Softly: rows with a key are marked and stay; of those without one, only the marked do. */
function emptyOut(target: MemoryTable, softly: boolean, goes: (row: Cells) => boolean): void {
  for (const [at, row] of target.rows) {
    if (!goes(row)) continue
    if (softly && target.schema.key.length > 0) target.rows.set(at, { ...row, [DELETED_COLUMN]: 't' })
    else if (!softly || row[DELETED_COLUMN] !== 't') target.rows.delete(at)
  }
}

export function targetId(table: SinkTable): TableId {
  return tableId(table.target.namespace ?? 'main', table.target.name)
}

function knownCells(slice: Slice, row: number, text: typeof textAt): Cells {
  const cells: Record<string, string | null> = {}
  slice.schema.columns.forEach(({ name }, column) => {
    const value = text(slice, row, column)
    if (value !== undefined) cells[name] = value
  })
  return cells
}

/** Same number, other name. */
function renamedColumns(previous: TableSchema, schema: TableSchema): ReadonlyMap<string, string> {
  const renames = new Map<string, string>()
  for (const column of previous.columns) {
    const now = schema.columns.find((other) => other.ordinal === column.ordinal)
    if (now !== undefined && now.name !== column.name) renames.set(column.name, now.name)
  }
  return renames
}
