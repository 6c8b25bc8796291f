import type { StreamBatch } from '../../../model/batch.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { StreamRequest } from '../../../sdk/source.ts'
import type { PgConnection } from '../wire/connection.ts'
import { quoteName, quoteText } from '../identifiers.ts'
import { PgError, translate } from '../wire/pg-error.ts'
import { delay } from '../../../async/abort.ts'
import { historyLost, lostSlot, slotState, type Origin } from './origin.ts'
import { formatLsn, parseLsn, readPosition, type PgPosition } from './position.ts'
import { Relations } from './relations.ts'
import { StreamReader, type Question } from './stream-reader.ts'

/** A batch lies in one receive buffer: as large as the sink likes its batches, within reason. */
const LEAST_RECEIVE_BYTES = 1 << 20
const MOST_RECEIVE_BYTES = 8 << 20
/** How long a slot that is still active is waited for: a walsender whose client died notices within wal_sender_timeout. */
const ACTIVE_WAIT_MILLIS = 75_000

export interface ServerIdentity {
  readonly system: string
  readonly timeline: number
  readonly flushed: bigint
}

/** IDENTIFY_SYSTEM. */
export async function identify(walsender: PgConnection): Promise<ServerIdentity> {
  const [row] = await walsender.rows('IDENTIFY_SYSTEM')
  return { system: row?.[0] ?? '', timeline: Number(row?.[1] ?? 0), flushed: parseLsn(row?.[2] ?? '') ?? 0n }
}

/**
 * TRAPS 19: the server never complains about a position that it cannot serve. Same cluster, `confirmed ≤ saved ≤ end of
 * log`, and the saved position on our timeline's past; else HISTORY_LOST.
 */
export async function validatePosition(
  sql: PgConnection,
  walsender: PgConnection,
  origin: Origin,
  from: PgPosition,
): Promise<ServerIdentity> {
  const server = await identify(walsender)
  if (server.system !== from.system) {
    throw historyLost(
      `the saved position belongs to another PostgreSQL cluster (system identifier ${from.system}, this one is ${server.system})`,
    )
  }
  const state = await slotState(sql, origin.slot)
  const lost = lostSlot(origin, state)
  if (lost !== null) throw historyLost(lost)
  if (state.confirmed !== null && state.confirmed > from.lsn) {
    throw historyLost(
      `replication slot ${origin.slot} has moved to ${formatLsn(state.confirmed)}, past the saved position ${formatLsn(from.lsn)}: changes between were given away`,
    )
  }
  if (from.lsn > server.flushed) {
    throw historyLost(
      `the saved position ${formatLsn(from.lsn)} lies past the end of the server's log at ${formatLsn(server.flushed)}: the server was restored or lost data`,
    )
  }
  if (server.timeline !== from.timeline) await validateTimeline(walsender, server, from)
  return server
}

/** The saved position must lie before the point where its timeline was left. */
async function validateTimeline(walsender: PgConnection, server: ServerIdentity, from: PgPosition): Promise<void> {
  const [row] = await walsender.rows(`TIMELINE_HISTORY ${server.timeline}`)
  const lines = (row?.[1] ?? '').split('\n').map((line) => line.trim().split(/\s+/))
  const left = lines.find(([timeline]) => Number(timeline) === from.timeline)
  const switched = parseLsn(left?.[1] ?? '')
  if (switched === null || from.lsn > switched) {
    throw historyLost(
      `the server is on timeline ${server.timeline}, which left timeline ${from.timeline} before the saved position ${formatLsn(from.lsn)}`,
    )
  }
}

export interface OpenStream {
  readonly reader: StreamReader
  readonly relations: Relations
}

export interface StreamParts {
  readonly sql: PgConnection
  readonly walsender: PgConnection
  readonly origin: Origin
  readonly ownSchema: string
  readonly request: StreamRequest
  readonly clock: () => number
  readonly silenceMillis: number
}

export async function startStream(parts: StreamParts, signal: AbortSignal): Promise<OpenStream> {
  const { sql, walsender, origin, request } = parts
  const from = readPosition(request.from)
  const server = await validatePosition(sql, walsender, origin, from)
  const relations = await Relations.load(sql, parts.ownSchema, request.tables, request.views)
  walsender.receive.size = Math.min(MOST_RECEIVE_BYTES, Math.max(LEAST_RECEIVE_BYTES, request.maxBatch.bytes / 2))
  const options = {
    system: server.system,
    timeline: server.timeline,
    slot: origin.slot,
    publication: origin.publication,
    from: from.lsn,
    maxBatch: request.maxBatch,
    clock: parts.clock,
    silenceMillis: parts.silenceMillis,
  }
  const command = `START_REPLICATION SLOT ${quoteName(origin.slot)} LOGICAL ${formatLsn(from.lsn)} (proto_version '1', publication_names ${quoteText(quoteName(origin.publication))})`
  const deadline = parts.clock() + ACTIVE_WAIT_MILLIS
  for (;;) {
    const reader = new StreamReader(walsender, options)
    try {
      await reader.start(command)
      return { reader, relations }
    } catch (error) {
      if (!(error instanceof PgError) || error.code !== '55006') throw startError(error, origin)
      if (parts.clock() > deadline || signal.aborted) throw await slotHeld(sql, origin)
      await delay(500, signal)
    }
  }
}

async function slotHeld(sql: PgConnection, origin: Origin): Promise<TailraceError> {
  const { activePid } = await slotState(sql, origin.slot)
  return new TailraceError('HELD', `replication slot ${origin.slot} is read by the server process ${activePid ?? 'unknown'}`, {
    hint: `another runner of this pipeline? If it is a dead one: SELECT pg_terminate_backend(${activePid ?? 'pid'})`,
    retry: 'retry',
  })
}

function startError(error: unknown, origin: Origin): TailraceError {
  if (error instanceof PgError && (error.code === '55000' || error.code === '42704')) {
    return historyLost(`replication slot ${origin.slot} cannot be read: ${error.message}`)
  }
  return translate(error, `starting replication slot ${origin.slot}`, 'source')
}

/** Batches of an open stream until it ends or is disposed. */
export async function* readStream({ reader, relations }: OpenStream): AsyncGenerator<StreamBatch, void, undefined> {
  for (;;) {
    const next = await reader.next()
    if (next === null) return
    if (!isQuestion(next)) yield next
    else await answer(reader, relations, next)
  }
}

function isQuestion(next: StreamBatch | Question): next is Question {
  return 'kind' in next
}

async function answer(reader: StreamReader, relations: Relations, question: Question): Promise<void> {
  if (question.kind === 'truncate') {
    const barrier = relations.truncate(question)
    reader.answer((assembler, buffer) => {
      if (barrier !== null) assembler.barrier(barrier, buffer)
    })
    return
  }
  const { schema, columns, barrier } = await relations.resolve(question)
  reader.answer((assembler, buffer, targets) => {
    if (barrier !== null) assembler.barrier(barrier, buffer)
    targets.set(question.relation.id, schema === null ? null : assembler.target(schema, columns))
  })
}
