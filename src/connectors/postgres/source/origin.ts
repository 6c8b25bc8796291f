import { onAbort } from '../../../async/abort.ts'
import { delay } from '../../../async/abort.ts'
import { TailraceError } from '../../../sdk/errors.ts'
import type { ConnectorContext } from '../../../sdk/connector.ts'
import type { PostgresConfig } from '../config.ts'
import { quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { PgError, translate } from '../wire/pg-error.ts'
import { parseLsn } from './position.ts'
import { PUBLISHED } from './publication.ts'

/** Keys in the connector's memory. */
const SLOT = 'postgres.slot'
/** `creating` from before the command that makes the slot, `made` after it; absent: a slot of that name is not ours. */
const SLOT_STATE = 'postgres.slot-state'
const PUBLICATION = 'postgres.publication'
const PUBLICATION_OURS = 'postgres.publication-ours'
const PUBLICATION_OID = 'postgres.publication-oid'

export interface Origin {
  readonly slot: string
  readonly publication: string
  /** The publication that stood when the slot was made; another one of its name is not it (TRAPS 50). Null: none was made yet. */
  readonly publicationOid: string | null
}

export interface SlotState {
  readonly exists: boolean
  readonly active: boolean
  readonly activePid: number | null
  readonly plugin: string | null
  readonly database: string | null
  readonly confirmed: bigint | null
  readonly restart: bigint | null
  readonly walStatus: string
  readonly retainedBytes: number
  readonly remainingBytes: number | null
  readonly invalidation: string | null
}

export function historyLost(message: string): TailraceError {
  return new TailraceError('HISTORY_LOST', message, {
    hint: 'tailrace reset <pipeline> starts over with a new slot and snapshot; tailrace resnapshot <pipeline> --diff reads again only what differs',
  })
}

/** A slot that we did not make is never touched. */
export function slotTaken(slot: string, cause?: unknown): TailraceError {
  return new TailraceError('HELD', `a replication slot ${slot} exists already and was not made by this pipeline`, {
    hint: 'choose another with --source.slot, or drop it if nobody reads it',
    path: 'slot',
    cause,
  })
}

/** Why a slot that was made gives no changes any more; null: it does. */
export function lostSlot({ slot }: Origin, { exists, plugin, walStatus, invalidation }: SlotState): string | null {
  if (!exists) return `replication slot ${slot} does not exist any more`
  if (plugin !== 'pgoutput') return `replication slot ${slot} uses the plugin ${plugin ?? 'none'}, not pgoutput`
  if (walStatus !== 'lost' && invalidation === null) return null
  return `replication slot ${slot} was invalidated by the server (${invalidation ?? 'wal_status lost'})`
}

/** A name that the server takes: lower case, digits, underscore, 63 bytes. */
function safeName(pipeline: string): string {
  return pipeline
    .toLowerCase()
    .replace(/[^a-z0-9_]+/g, '_')
    .slice(0, 40)
}

/** What tells the origins of one pipeline apart, as a regular expression. */
export const ORIGIN_SUFFIX = '[0-9a-z]{6}'

/** The name of slot and publication, where a person gives none. */
export function originName(pipeline: string, suffix: string): string {
  return `tailrace_${safeName(pipeline)}_${suffix}`
}

/**
 * What the pipeline keeps upstream: a publication, then a slot (TRAPS 50), each remembered before it is made (TRAPS 11),
 * never made anew implicitly (Invariant 3).
 */
export class OriginKeeper {
  readonly #config: PostgresConfig
  readonly #context: ConnectorContext

  constructor(config: PostgresConfig, context: ConnectorContext) {
    this.#config = config
    this.#context = context
  }

  /** The origin that was made in an earlier run, or null. */
  async known(): Promise<Origin | null> {
    const { memory } = this.#context
    const [slot, publication] = [await memory.get(SLOT), await memory.get(PUBLICATION)]
    if (slot === null || publication === null || (await memory.get(SLOT_STATE)) !== 'made') return null
    return { slot, publication, publicationOid: await memory.get(PUBLICATION_OID) }
  }

  #names(suffix: string): { slot: string; publication: string } {
    const own = originName(this.#context.pipeline, suffix)
    return { slot: this.#config.slot ?? own, publication: this.#config.publication ?? own }
  }

  /** What a new origin would be made of. */
  planned(): { what: string; drop: string }[] {
    const { slot, publication } = this.#names('…')
    const drop = `tailrace remove ${this.#context.pipeline}`
    const theirs = this.#config.publication !== undefined
    return [...(theirs ? [] : [{ what: `publication ${publication}`, drop }]), { what: `replication slot ${slot}`, drop }]
  }

  /** Names for a new origin, written down before anything is made. */
  async intend(): Promise<Origin> {
    const { memory, random } = this.#context
    const suffix = Math.floor(random() * 36 ** 6)
      .toString(36)
      .padStart(6, '0')
    const names = this.#names(suffix)
    const slot = (await memory.get(SLOT)) ?? names.slot
    const publication = (await memory.get(PUBLICATION)) ?? names.publication
    await memory.set(SLOT, slot)
    await memory.set(PUBLICATION, publication)
    await memory.set(PUBLICATION_OURS, this.#config.publication === undefined ? 'yes' : null)
    return { slot, publication, publicationOid: null }
  }

  /** The publication as it stands before the slot is made. */
  async rememberPublication(connection: PgConnection, { publication }: Origin): Promise<void> {
    await this.#context.memory.set(PUBLICATION_OID, await publicationOid(connection, publication))
  }

  /** Names that the state knows, also of an origin that was only begun. */
  async names(): Promise<readonly string[]> {
    const { memory } = this.#context
    return [await memory.get(SLOT), await memory.get(PUBLICATION)].filter((name) => name !== null)
  }

  /** Whether a slot of the intended name would be ours. */
  async mine(): Promise<boolean> {
    return (await this.#context.memory.get(SLOT_STATE)) !== null
  }

  async mark(state: 'creating' | 'made' | null): Promise<void> {
    await this.#context.memory.set(SLOT_STATE, state)
  }

  /** What stands upstream, and how to drop it by hand. */
  async upstream(): Promise<{ what: string; drop: string }[]> {
    const { memory } = this.#context
    const [slot, publication, ours] = [await memory.get(SLOT), await memory.get(PUBLICATION), await memory.get(PUBLICATION_OURS)]
    const list: { what: string; drop: string }[] = []
    if (slot !== null && (await this.mine()))
      list.push({ what: `replication slot ${slot}`, drop: `SELECT pg_drop_replication_slot(${quoteText(slot)})` })
    if (publication !== null && ours !== null)
      list.push({ what: `publication ${publication}`, drop: `DROP PUBLICATION ${quoteName(publication)}` })
    return list
  }

  /** Drops what this pipeline made; a slot in use by another session is left and named. */
  async remove(connection: PgConnection): Promise<string[]> {
    const { memory } = this.#context
    const dropped: string[] = []
    const [slot, publication, ours] = [await memory.get(SLOT), await memory.get(PUBLICATION), await memory.get(PUBLICATION_OURS)]
    if (slot !== null && (await this.mine()) && (await slotState(connection, slot)).exists) {
      await dropSlot(connection, slot)
      dropped.push(`replication slot ${slot}`)
    }
    if (publication !== null && ours !== null && (await publicationOid(connection, publication)) !== null) {
      await connection.query(`DROP PUBLICATION ${quoteName(publication)}`)
      dropped.push(`publication ${publication}`)
    }
    for (const key of [SLOT, SLOT_STATE, PUBLICATION, PUBLICATION_OURS, PUBLICATION_OID, PUBLISHED]) await memory.set(key, null)
    return dropped
  }
}

/** Null: there is none of that name. */
export async function publicationOid(connection: PgConnection, publication: string): Promise<string | null> {
  const [row] = await connection.rows(`SELECT oid FROM pg_publication WHERE pubname = ${quoteText(publication)}`)
  return row?.[0] ?? null
}

/**
 * Without the publication that stood when the slot was made nothing can be decoded, and making it anew mends nothing (TRAPS
 * 50): up to 17 the decoder fails for ever, from 18 on it leaves out what was written meanwhile, without a word.
 */
export async function assertPublication(connection: PgConnection, origin: Origin): Promise<void> {
  const oid = await publicationOid(connection, origin.publication)
  if (oid === null || (origin.publicationOid !== null && oid !== origin.publicationOid)) throw publicationLost(origin)
}

export function publicationLost({ publication }: Origin): TailraceError {
  return historyLost(`the publication ${publication} was dropped, or made anew: what was committed meanwhile cannot be read`)
}

export async function slotState(connection: PgConnection, slot: string): Promise<SlotState> {
  const version = connection.serverVersion
  const invalidation = version >= 170_000 ? 'invalidation_reason' : 'NULL'
  const { rows } = await connection.execute(
    `SELECT active, active_pid, plugin, database, confirmed_flush_lsn, restart_lsn, wal_status,
            CASE WHEN pg_is_in_recovery() THEN 0 ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) END, safe_wal_size, ${invalidation}
       FROM pg_replication_slots WHERE slot_name = $1`,
    [slot],
  )
  const row = rows[0]
  return {
    exists: row !== undefined,
    active: row?.[0] === 't',
    activePid: row?.[1] === null || row === undefined ? null : Number(row[1]),
    plugin: row?.[2] ?? null,
    database: row?.[3] ?? null,
    confirmed: row?.[4] === null || row?.[4] === undefined ? null : parseLsn(row[4]),
    restart: row?.[5] === null || row?.[5] === undefined ? null : parseLsn(row[5]),
    walStatus: row?.[6] ?? 'unknown',
    retainedBytes: Number(row?.[7] ?? 0),
    remainingBytes: row?.[8] === null || row?.[8] === undefined ? null : Number(row[8]),
    invalidation: row?.[9] ?? null,
  }
}

/**
 * TRAPS 9, 11: a slot whose making was cut short stays active until every transaction that it waits for has ended. Its
 * walsender serves a client that is dead (we hold the lease), so it is ended; the slot then goes by itself or is dropped.
 */
export async function dropUnreadSlot(connection: PgConnection, slot: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    signal.throwIfAborted()
    const { exists, activePid } = await slotState(connection, slot)
    if (!exists) return
    if (activePid === null) {
      await connection.execute('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active', [
        slot,
      ])
      continue
    }
    await connection.execute('SELECT pg_terminate_backend($1)', [String(activePid)])
    await delay(100, signal)
  }
}

async function dropSlot(connection: PgConnection, slot: string): Promise<void> {
  try {
    await connection.execute('SELECT pg_drop_replication_slot($1)', [slot])
  } catch (error) {
    if (!(error instanceof PgError) || error.code !== '55006') throw translate(error, `dropping replication slot ${slot}`, 'source')
    const { activePid } = await slotState(connection, slot)
    throw new TailraceError('HELD', `replication slot ${slot} is in use by the server process ${activePid ?? 'unknown'}`, {
      hint: `stop the runner that reads it, or: SELECT pg_terminate_backend(${activePid ?? 'pid'}), then repeat`,
    })
  }
}

export interface MadeSlot {
  readonly consistentPoint: bigint
  /** Name under which the walsender exported its snapshot; lives while the session is idle. */
  readonly snapshot: string | null
}

/**
 * CREATE_REPLICATION_SLOT on a walsender session. Waits for every transaction open in the whole cluster (TRAPS 9), so the
 * caller must hold no xid, and the wait is cut by the signal.
 */
export async function createSlot(walsender: PgConnection, slot: string, failover: boolean, signal: AbortSignal): Promise<MadeSlot> {
  const modern = walsender.serverVersion >= 150_000
  const choices = modern
    ? `(SNAPSHOT 'export'${failover && walsender.serverVersion >= 170_000 ? ', FAILOVER true' : ''})`
    : 'EXPORT_SNAPSHOT'
  try {
    using _ = onAbort(signal, () => void walsender.cancel())
    const [row] = await walsender.rows(`CREATE_REPLICATION_SLOT ${quoteName(slot)} LOGICAL pgoutput ${choices}`)
    const point = parseLsn(row?.[1] ?? '')
    if (point === null) throw new TailraceError('PROTOCOL', 'CREATE_REPLICATION_SLOT gave no consistent point')
    return { consistentPoint: point, snapshot: row?.[2] ?? null }
  } catch (error) {
    throw slotError(error, slot)
  }
}

function slotError(error: unknown, slot: string): TailraceError {
  if (!(error instanceof PgError)) return translate(error, `creating replication slot ${slot}`, 'source')
  if (error.code === '53400') {
    return new TailraceError('ENVIRONMENT', 'all replication slots of the source are in use', {
      hint: 'raise max_replication_slots (restart needed), or drop a slot that nobody reads: SELECT slot_name, active FROM pg_replication_slots',
      cause: error,
    })
  }
  if (error.code === '42710') return slotTaken(slot, error)
  return translate(error, `creating replication slot ${slot}`, 'source')
}
