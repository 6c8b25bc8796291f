import { idleBatch, type OpCode, type Slice, type StreamBatch } from '../../src/model/batch.ts'
import type { Position, View } from '../../src/model/position.ts'
import { keyNames, type TableSchema } from '../../src/model/schema.ts'
import { oldTextAt, textAt, textRowsToSlice, type TextRow } from '../../src/model/slice-builder.ts'
import { formatPosition } from '../../src/connectors/memory/database.ts'
import { LogReader } from '../../src/connectors/memory/log-reader.ts'
import { MemorySnapshot } from '../../src/connectors/memory/snapshot.ts'
import { MemorySource, showsAll } from '../../src/connectors/memory/source.ts'
import type { ConnectorContext } from '../../src/sdk/connector.ts'
import { TailraceError } from '../../src/sdk/errors.ts'
import type { Snapshot, Source, StreamRequest } from '../../src/sdk/source.ts'
import type { Hidden, Seen } from './hidden.ts'
import { numberOf } from './invariants.ts'
import { called, SIMULATED, type Life, type World } from './world.ts'

const PLAIN: ReadonlySet<string> = new Set(['comparePositions', 'distance', 'covers', 'upstream', 'tables'])
const CHUNK_ROWS = 5

/** The model database as one run reaches it, obeying docs/contracts.md and no more than that. */
export function sourceOf(world: World, hidden: Hidden, life: Life, context: ConnectorContext): Source {
  const inner = new MemorySource(world.source, { database: 'source', chunkRows: CHUNK_ROWS }, context)
  const call = <T>(name: string, work: () => Promise<T>): Promise<T> => world.call(life, `source.${name}`, work, 'SOURCE_FAILED')
  const own: Partial<Source> = {
    openSnapshot: (request) =>
      call(`openSnapshot ${request.mode}`, async () => snapshotOf(world, life, await open(world, hidden, inner, request))),
    stream: (request, signal) => stream(world, life, request, signal, inner),
    covers: (view, { id }) => world.plant !== 'covered-twice' && covers(view, Number(id)),
    fetch: (table, keys) =>
      call(`fetch ${table.id}`, async () => {
        if (!showsAll(table, world.source.tables.get(table.id)?.schema)) return null
        const seen = hidden.seen()
        const names = keyNames(table.schema)
        const wanted = new Set(keys.map((key) => JSON.stringify(key)))
        const found = seen.rows(table.id).filter((row) => wanted.has(JSON.stringify(names.map((name) => row[name]))))
        const rows = found.map((row): TextRow => ({ op: 0, after: table.schema.columns.map(({ name }) => row[name] ?? null) }))
        return { slice: textRowsToSlice(table.schema, rows), view: viewOf(seen), viewEnd: formatPosition(seen.upTo) }
      }),
    confirm: (position) =>
      call(`confirm ${position}`, async () => {
        world.invariants.confirmed(position)
        await inner.confirm(position)
      }),
    [Symbol.asyncDispose]: () => call('dispose', async () => {}).catch(() => {}),
  }
  return called<Source>(inner, own, PLAIN, call)
}

async function open(
  world: World,
  hidden: Hidden,
  inner: MemorySource,
  request: Parameters<NonNullable<Source['openSnapshot']>>[0],
): Promise<Snapshot> {
  const tables = request.tables.map((table) => ({ ...table, schema: world.source.tables.get(table.id)?.schema ?? table.schema }))
  // The origin's view is a prefix of the log by definition.
  if (request.mode !== 'again') return inner.openSnapshot({ ...request, tables })
  // A view shows what the sink holds already, which the stream does not bring again.
  const seen = hidden.seen(numberOf(world.invariants.held()))
  return new MemorySnapshot(seen, tables, { position: null, view: viewOf(seen), viewEnd: formatPosition(seen.upTo), chunkRows: CHUNK_ROWS })
}

function viewOf({ upTo, except }: Seen): View {
  return JSON.stringify([upTo, ...except]) as View
}

function covers(view: View, number: number): boolean {
  const [upTo = 0, ...except] = JSON.parse(view) as number[]
  return number <= upTo && !except.includes(number)
}

function snapshotOf(world: World, life: Life, snapshot: Snapshot): Snapshot {
  const call = <T>(name: string, work: () => Promise<T>): Promise<T> => world.call(life, `snapshot.${name}`, work, 'SOURCE_FAILED')
  const read: Snapshot['read'] = async function* (table, chunk, format, signal) {
    for await (const frame of snapshot.read(table, chunk, format, signal)) {
      await call(`read ${table.id} ${chunk.id}`, async () => {})
      signal.throwIfAborted()
      yield frame
    }
  }
  const dispose = (): Promise<void> => call('dispose', async () => {}).catch(() => {})
  return called(
    snapshot,
    { read, [Symbol.asyncDispose]: dispose },
    PLAIN,
    call as (name: string, work: () => Promise<unknown>) => Promise<unknown>,
  )
}

/** One connection: it breaks at some time, whatever it is doing. */
async function* stream(
  world: World,
  life: Life,
  request: StreamRequest,
  signal: AbortSignal,
  inner: MemorySource,
): AsyncIterable<StreamBatch> {
  const broken = new AbortController()
  const either = AbortSignal.any([signal, broken.signal])
  const lasts = world.weather.fault === 0 ? null : world.random.between(1, 8 / world.weather.fault)
  const timer = lasts === null ? undefined : setTimeout(() => broken.abort(), lasts)
  try {
    for await (const batch of batches(world, request, either)) {
      await world.call(
        life,
        `stream ${batch.barrier?.kind ?? `${batch.rows} rows`} → ${batch.position ?? '…'}`,
        async () => {},
        'SOURCE_FAILED',
      )
      if (signal.aborted) return
      if (broken.signal.aborted) break
      if (world.plant === 'confirmed-early' && batch.position !== null) await inner.confirm(batch.position)
      yield batch
    }
    if (broken.signal.aborted && world.plant === 'hangs') await new Promise(() => {})
    if (!signal.aborted) throw new TailraceError('SOURCE_FAILED', `${SIMULATED} the connection is lost`)
  } finally {
    clearTimeout(timer)
  }
}

async function* batches(world: World, request: StreamRequest, signal: AbortSignal): AsyncIterable<StreamBatch> {
  const { source } = world
  const reader = new LogReader({ ...request, views: prefixes(request.views) })
  let last = numberOf(request.from)
  let waiting: StreamBatch | null = null
  while (!signal.aborted) {
    if (last < source.pruned || last > source.last)
      throw new TailraceError('HISTORY_LOST', `the log holds ${source.pruned + 1} to ${source.last}, not what follows ${last}`)
    if (world.plant === 'position-ahead' && source.last > last + 2) yield idleBatch(formatPosition(source.last))
    for (const transaction of source.logAfter(last)) {
      for (const batch of planted(world, [...reader.read(transaction)].map(ambiguous), last)) {
        if (waiting !== null && canJoin(waiting, batch) && world.chance(0.6)) {
          waiting = joined(waiting, batch)
          continue
        }
        if (waiting !== null) yield waiting
        waiting = batch
      }
      last = transaction.number
    }
    if (waiting !== null) yield waiting
    waiting = null
    if (world.chance(0.3)) yield idleBatch(formatPosition(last))
    await source.grownPast(last, signal)
  }
}

function prefixes(views: StreamRequest['views']): StreamRequest['views'] {
  return new Map([...views].map(([id, view]) => [id, formatPosition((JSON.parse(view) as number[])[0] ?? 0) as string as View]))
}

/** What a rewriting default did to the rows, the log does not tell. */
function ambiguous(batch: StreamBatch): StreamBatch {
  const { barrier } = batch
  if (barrier?.kind !== 'schema' || barrier.previous.storage === barrier.schema.storage) return batch
  return { ...batch, barrier: { ...barrier, ambiguous: 'its rows were written anew' } }
}

/** `checkpoint-inside`: the position of the transaction before, which is known, is given as if a transaction ended here. */
function planted({ plant }: World, parts: readonly StreamBatch[], before: number): readonly StreamBatch[] {
  if (plant !== 'checkpoint-inside') return parts
  const position: Position = formatPosition(before)
  return parts.map((batch) => (batch.position === null && batch.rows > 0 ? { ...batch, position } : batch))
}

/** Both hold whole transactions of rows. */
function canJoin(a: StreamBatch, b: StreamBatch): boolean {
  return (
    a.barrier === null &&
    b.barrier === null &&
    a.position !== null &&
    b.position !== null &&
    b.transactions[0]?.end !== null &&
    sameShapes(a, b)
  )
}

function sameShapes(a: StreamBatch, b: StreamBatch): boolean {
  return b.slices.every(({ schema }) => a.slices.every((other) => other.schema.id !== schema.id || other.schema === schema))
}

function joined(a: StreamBatch, b: StreamBatch): StreamBatch {
  const rows = new Map<TableSchema, TextRow[]>()
  const add = (batch: StreamBatch, order: number, transaction: number): void => {
    for (const slice of batch.slices) rows.set(slice.schema, [...(rows.get(slice.schema) ?? []), ...textRows(slice, order, transaction)])
  }
  add(a, 0, 0)
  add(b, a.rows, a.transactions.length)
  return {
    ...b,
    slices: [...rows].map(([schema, texts]) => textRowsToSlice(schema, texts)),
    transactions: [...a.transactions, ...b.transactions],
    rows: a.rows + b.rows,
    bytes: a.bytes + b.bytes,
  }
}

function textRows(slice: Slice, order: number, transaction: number): TextRow[] {
  const columns = slice.schema.columns.map((_, column) => column)
  return Array.from({ length: slice.rows }, (_, row) => {
    const kind = slice.oldKinds?.[row] ?? 0
    return {
      op: slice.ops[row] as OpCode,
      after: slice.ops[row] === 3 ? null : columns.map((column) => textAt(slice, row, column)),
      before: kind === 0 ? null : { kind: kind as 1 | 2, values: columns.map((column) => oldTextAt(slice, row, column)) },
      order: (slice.order[row] ?? 0) + order,
      transaction: (slice.transactions[row] ?? 0) + transaction,
      place: (BigInt(slice.places[row * 2] ?? 0) << 32n) | BigInt(slice.places[row * 2 + 1] ?? 0),
    }
  })
}
