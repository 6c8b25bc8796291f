import { TailraceError } from '../../../sdk/errors.ts'
import type { Position } from '../../../model/position.ts'

/**
 * A position: version, the cluster's system identifier, timeline, LSN: `pg1:7301234567890123456:1:0/16B3748`. The LSN is
 * always the end of a commit or of what a keepalive covered, never a change's own (TRAPS 18, 20).
 */
export interface PgPosition {
  readonly system: string
  readonly timeline: number
  readonly lsn: bigint
}

export function formatLsn(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
}

/** Null when it is not an LSN. */
export function parseLsn(text: string): bigint | null {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text)
  if (match === null) return null
  return (BigInt(`0x${match[1] ?? '0'}`) << 32n) | BigInt(`0x${match[2] ?? '0'}`)
}

export function writePosition(position: PgPosition): Position {
  return `pg1:${position.system}:${position.timeline}:${formatLsn(position.lsn)}` as Position
}

export function readPosition(position: Position): PgPosition {
  const [version, system, timeline = '', lsnText, ...more] = position.split(':')
  const lsn = parseLsn(lsnText ?? '')
  if (version !== 'pg1' || system === undefined || !/^\d{1,10}$/.test(timeline) || lsn === null || more.length > 0) {
    throw new TailraceError('STATE_DAMAGED', `the stored position ${JSON.stringify(position)} is not one of a PostgreSQL source`, {
      hint: 'it was written by another release or another connector; tailrace reset <pipeline> starts over',
    })
  }
  return { system, timeline: Number(timeline), lsn }
}

/** Undefined between different clusters: their logs have nothing to do with each other. */
export function comparePositions(a: Position, b: Position): -1 | 0 | 1 | undefined {
  const left = readPosition(a)
  const right = readPosition(b)
  if (left.system !== right.system) return undefined
  return left.lsn < right.lsn ? -1 : left.lsn > right.lsn ? 1 : 0
}
