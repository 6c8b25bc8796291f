import { untilAborted } from '../../async/abort.ts'
import type { Slice, StreamBatch } from '../../model/batch.ts'
import type { TableId } from '../../model/schema.ts'
import { TailraceError, type Problem } from '../../sdk/errors.ts'
import type { ConnectorContext } from '../../sdk/connector.ts'
import type {
  ApplyOptions,
  Checkpoint,
  Loader,
  LoadRequest,
  Misfit,
  Sink,
  SinkCapabilities,
  SinkCheckpoints,
  SinkTable,
} from '../../sdk/sink.ts'
import { typeNote, typeNotes } from '../../sdk/sql/type-table.ts'
import { ChunkLoader } from './chunk-loader.ts'
import type { SqliteConfig } from './config.ts'
import { describeTable, writableColumns } from './ddl.ts'
import { MAX_COLUMNS, MAX_IDENTIFIER_BYTES } from './limits.ts'
import { Packer, type PackedSlice } from './pack.ts'
import type { CallName, LogState, PostedBatch, WorkerCalls, WorkerSetup, Written } from './protocol.ts'
import { Turn, type Holder } from './turn.ts'
import { typeTable } from './type-table.ts'
import { WorkerLink } from './worker-link.ts'

export const sqliteSinkCapabilities: SinkCapabilities = {
  commit: 'transactional',
  formats: ['rows'],
  parallelLoads: 1,
  delete: ['hard', 'soft'],
  truncate: true,
  schemaChanges: true,
  maxBatch: { rows: 10_000, bytes: 16 << 20 },
  limits: { identifierBytes: MAX_IDENTIFIER_BYTES, columns: MAX_COLUMNS },
}

const STREAM: Holder = {}
const WAL_WARNING_MS = 60_000

/**
 * The main thread's side: copies batches and hands them to the worker, which owns the file. There is one transaction at a
 * time; a chunk that is being loaded and a streamed transaction wait for each other.
 */
export class SqliteSink implements Sink {
  readonly #config: SqliteConfig
  readonly #context: ConnectorContext
  readonly #startLink: (setup: WorkerSetup) => WorkerLink
  readonly #turn = new Turn()
  readonly #tables = new Map<TableId, SinkTable>()
  #link: WorkerLink | null = null
  #packer = new Packer()
  #epoch: number | null = null
  #isClosed = false
  #warnedAt = Number.NEGATIVE_INFINITY
  #isLogStuck = false

  /** `startLink`: so that a test can end the worker. */
  constructor(
    config: SqliteConfig,
    context: ConnectorContext,
    startLink: (setup: WorkerSetup) => WorkerLink = (setup) => new WorkerLink(setup),
  ) {
    this.#config = config
    this.#context = context
    this.#startLink = startLink
  }

  readonly checkpoints: SinkCheckpoints = {
    look: (signal) => this.#call('look', [], signal),
    writers: (table, signal) => this.#call('writers', [table], signal),
    letGo: (tables, signal) => this.#alone('letGo', [tables], signal),
    claim: (signal) => this.#claim(signal),
    recover: (signal) => this.#recover(signal),
    store: (position, signal) => this.#alone('store', [position], signal),
  }

  check(tables: readonly SinkTable[], signal: AbortSignal): Promise<readonly Problem[]> {
    return this.#call('check', [tables], signal)
  }

  inspect(table: SinkTable, signal: AbortSignal): Promise<'absent' | 'empty' | 'filled'> {
    return this.#call('inspect', [table], signal)
  }

  misfits(table: SinkTable, signal: AbortSignal): Promise<readonly Misfit[]> {
    return this.#call('misfits', [table], signal)
  }

  missingColumns(table: SinkTable, signal: AbortSignal): Promise<readonly string[] | null> {
    return this.#call('missingColumns', [table], signal)
  }

  describeSchema(table: SinkTable): readonly string[] {
    return describeTable(table, {
      decimals: this.#config.decimals,
      indexes: this.#config.indexes,
      softDeletes: this.#context.deletes === 'soft',
    })
  }

  describeTypes({ schema }: SinkTable): readonly string[] {
    return typeNotes(writableColumns(schema), ({ type }) => typeNote(typeTable(this.#config.decimals), type))
  }

  async applySchema(table: SinkTable, previous: SinkTable | null, signal: AbortSignal, options: ApplyOptions = {}): Promise<void> {
    await this.#alone('applySchema', [table, previous, options], signal)
    this.#tables.set(table.id, table)
  }

  clear(table: SinkTable, signal: AbortSignal, { softly = false }: { readonly softly?: boolean } = {}): Promise<void> {
    return this.#alone('clear', [table, softly], signal)
  }

  async load(request: LoadRequest, signal: AbortSignal): Promise<Loader> {
    const { table, chunk, replace, merge = false } = request
    const holder: Holder = {}
    await this.#turn.take(holder, signal)
    try {
      await this.#call('beginLoad', [table, chunk, { replace, merge }], signal)
    } catch (error) {
      await this.#abandon(holder)
      throw error
    }
    return new ChunkLoader({
      pack: (slice) => this.#packFrame(holder, slice),
      send: (slices) => this.#sendRows(holder, slices, signal),
      finish: () => this.#finishLoad(holder, signal),
      abandon: () => this.#abandon(holder),
    })
  }

  async seal(tables: readonly SinkTable[], signal: AbortSignal): Promise<readonly Problem[]> {
    const problems = await this.#alone('seal', [tables], signal)
    return this.#isLogStuck ? [...problems, this.#logProblem()] : problems
  }

  async write(batch: StreamBatch, signal: AbortSignal): Promise<void> {
    await this.#turn.take(STREAM, signal)
    const posted = this.#sendBatch(batch)
    // Also when the caller gives up: the worker goes on with what it was given, and only then is the turn free.
    const settled = posted.then(
      (result) => {
        if (batch.position !== null) this.#turn.release(STREAM)
        return result
      },
      (error: unknown) => {
        this.#turn.release(STREAM)
        throw error
      },
    )
    const { missed, replaced, log } = await untilAborted(settled, signal)
    if (missed > 0) this.#context.logger.warn('deletes found their row gone already: somebody else writes to the target', { rows: missed })
    if (replaced > 0) this.#context.logger.warn('rows of somebody else gave way to rows of the source with their key', { rows: replaced })
    if (log !== null) this.#watch(log)
  }

  count(table: SinkTable, signal: AbortSignal): Promise<bigint> {
    return this.#call('count', [table], signal)
  }

  async remove(signal: AbortSignal): Promise<readonly string[]> {
    const removed = await this.#alone('remove', [], signal)
    this.#epoch = null
    return removed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true
    const link = this.#link
    this.#link = null
    // Whoever waits goes on, and finds the connector closed.
    this.#turn.seize()
    await link?.close()
  }

  async #claim(signal: AbortSignal): Promise<Checkpoint> {
    const checkpoint = await this.#alone('claim', [], signal)
    this.#epoch = checkpoint.epoch
    return checkpoint
  }

  /** Gives up whatever is open, a chunk as well: its loader rejects from then on, and the chunk is read again. */
  async #recover(signal: AbortSignal): Promise<Checkpoint> {
    if (this.#link?.isDead === true) {
      this.#link = null
      this.#context.logger.warn("the SQLite sink's worker thread ended; starting another one")
    }
    const checkpoint = await this.#call('recover', [], signal)
    this.#turn.seize()
    return checkpoint
  }

  /** A call with a transaction of its own. */
  async #alone<N extends CallName>(
    name: N,
    parameters: Parameters<WorkerCalls[N]>,
    signal: AbortSignal,
  ): Promise<ReturnType<WorkerCalls[N]>> {
    const holder: Holder = {}
    await this.#turn.take(holder, signal)
    const settled = this.#start()
      .call(name, parameters)
      .finally(() => this.#turn.release(holder))
    return untilAborted(settled, signal)
  }

  async #call<N extends CallName>(
    name: N,
    parameters: Parameters<WorkerCalls[N]>,
    signal: AbortSignal,
  ): Promise<ReturnType<WorkerCalls[N]>> {
    return untilAborted(this.#start().call(name, parameters), signal)
  }

  async #sendBatch({ slices, barrier, position }: StreamBatch): Promise<Written> {
    this.#start()
    return this.#send('write', this.#packer.pack(slices), { barrier, position })
  }

  #send<N extends 'write' | 'loadRows'>(
    name: N,
    slices: readonly PackedSlice[],
    rest: Pick<PostedBatch, 'barrier' | 'position'>,
  ): Promise<ReturnType<WorkerCalls[N]>> {
    const link = this.#start()
    const { transfer, ...parcel } = this.#packer.parcel(slices)
    const parameters: readonly [PostedBatch] = [{ ...parcel, ...rest }]
    return link.call(name, parameters as Parameters<WorkerCalls[N]>, transfer)
  }

  #packFrame(holder: Holder, slice: Slice): readonly PackedSlice[] {
    this.#mustHave(holder)
    return this.#packer.pack([slice])
  }

  /** Asked again: rows gathered before a recovery must not end up in the transaction of another chunk. */
  async #sendRows(holder: Holder, slices: readonly PackedSlice[], signal: AbortSignal): Promise<void> {
    this.#mustHave(holder)
    await untilAborted(this.#send('loadRows', slices, { barrier: null, position: null }), signal)
  }

  async #finishLoad(holder: Holder, signal: AbortSignal): Promise<{ readonly rows: number }> {
    this.#mustHave(holder)
    const { rows, log } = await this.#call('finishLoad', [], signal)
    this.#turn.release(holder)
    this.#watch(log)
    return { rows }
  }

  async #abandon(holder: Holder): Promise<void> {
    if (!this.#turn.has(holder)) return
    // The engine may be ending by an abort: this call must be made all the same, and its failure leaves nothing either.
    if (this.#link !== null) await this.#link.call('abandonLoad', []).catch(() => {})
    this.#turn.release(holder)
  }

  #mustHave(holder: Holder): void {
    if (!this.#turn.has(holder))
      throw new TailraceError('SINK_FAILED', 'a chunk was given up because the sink recovered from a failure meanwhile')
  }

  #start(): WorkerLink {
    if (this.#isClosed) throw new TailraceError('CLOSED', 'connector is closed')
    if (this.#link !== null) return this.#link
    this.#packer = new Packer()
    this.#link = this.#startLink({
      path: this.#config.path,
      config: this.#config,
      pipeline: this.#context.pipeline,
      softDeletes: this.#context.deletes === 'soft',
      epoch: this.#epoch,
      tables: [...this.#tables.values()],
    })
    return this.#link
  }

  #watch(log: LogState): void {
    this.#isLogStuck = log.isStuck
    const now = this.#context.clock()
    if (!log.isStuck || now - this.#warnedAt < WAL_WARNING_MS) return
    this.#warnedAt = now
    this.#context.logger.warn('the write-ahead log grows because readers never pause', {
      path: this.#config.path,
      megabytes: Math.round(log.bytes / 1024 / 1024),
    })
  }

  #logProblem(): Problem {
    return {
      severity: 'warning',
      code: 'ENVIRONMENT',
      message: `the write-ahead log of ${this.#config.path} cannot be emptied because readers never pause`,
      hint: 'end long-running readers, or let them pause now and then',
      path: 'path',
    }
  }
}
