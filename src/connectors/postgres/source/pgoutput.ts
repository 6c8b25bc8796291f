import { ABSENT_VALUE, NULL_VALUE, Op, UNCHANGED_VALUE, type OpCode } from '../../../model/batch.ts'
import type { SliceBuilder } from '../../../model/slice-builder.ts'
import { TailraceError } from '../../../sdk/errors.ts'

/**
 * Decoder of pgoutput, protocol version 1 (manual 55.9, "Logical Replication Message Formats"), in place: values become
 * offsets into the receive buffer, nothing is copied, no object is made per row.
 */

/** A column of a Relation message. */
export interface RelationColumn {
  readonly name: string
  readonly typeId: number
  readonly typeModifier: number
  readonly key: boolean
}

export interface Relation {
  readonly id: number
  readonly namespace: string
  readonly name: string
  readonly replicaIdentity: string
  readonly columns: readonly RelationColumn[]
}

/** How the rows of one relation id are taken: into which slice, and which wire column is which of ours (−1: not taken). */
export interface RelationTarget {
  readonly builder: SliceBuilder
  readonly columns: Int16Array
}

export const Message = {
  begin: 0x42, // B
  commit: 0x43, // C
  origin: 0x4f, // O
  relation: 0x52, // R
  type: 0x59, // Y
  insert: 0x49, // I
  update: 0x55, // U
  delete: 0x44, // D
  truncate: 0x54, // T
  message: 0x4d, // M
} as const

const NULL_FIELD = 0x6e // n
const UNCHANGED_FIELD = 0x75 // u
const TEXT_FIELD = 0x74 // t
const KEY_IMAGE = 0x4b // K
const OLD_IMAGE = 0x4f // O
const NEW_IMAGE = 0x4e // N

export function damaged(what: string): TailraceError {
  return new TailraceError('PROTOCOL', `the change stream is damaged: ${what}`, {
    hint: 'is what lies between us and PostgreSQL changing bytes?',
  })
}

function zeroAt(buffer: Buffer, at: number, end: number): number {
  const zero = buffer.indexOf(0, at)
  if (zero < 0 || zero >= end) throw damaged('a name without an end')
  return zero
}

export function readRelation(buffer: Buffer, at: number, end: number): Relation {
  if (end - at < 10) throw damaged('a Relation message is too short')
  const id = buffer.readUInt32BE(at)
  const namespaceEnd = zeroAt(buffer, at + 4, end)
  const nameEnd = zeroAt(buffer, namespaceEnd + 1, end)
  if (nameEnd + 4 > end) throw damaged('a Relation message is too short')
  const columns: RelationColumn[] = []
  let next = nameEnd + 4
  for (let left = buffer.readInt16BE(nameEnd + 2); left > 0; left--) {
    const zero = zeroAt(buffer, next + 1, end)
    if (zero + 9 > end) throw damaged('a Relation message is too short')
    columns.push({
      name: buffer.toString('utf8', next + 1, zero),
      typeId: buffer.readUInt32BE(zero + 1),
      typeModifier: buffer.readInt32BE(zero + 5),
      key: (buffer[next]! & 1) !== 0,
    })
    next = zero + 9
  }
  return {
    id,
    namespace: buffer.toString('utf8', at + 4, namespaceEnd) || 'pg_catalog',
    name: buffer.toString('utf8', namespaceEnd + 1, nameEnd),
    replicaIdentity: String.fromCharCode(buffer[nameEnd + 1]!),
    columns,
  }
}

/** Decodes I, U or D from after its relation id, as one row. `place` is the change's own LSN. */
export function readRow(
  type: number,
  buffer: Buffer,
  at: number,
  end: number,
  target: RelationTarget,
  order: number,
  transaction: number,
  placeHigh: number,
  placeLow: number,
): void {
  const { builder, columns } = target
  const op: OpCode = type === Message.insert ? Op.insert : type === Message.update ? Op.update : Op.delete
  const cell = builder.begin(op, order, transaction, placeHigh, placeLow)
  let next = at
  let kind = next < end ? buffer[next]! : 0
  if (kind === KEY_IMAGE || kind === OLD_IMAGE) {
    const old = builder.beginOld(kind === KEY_IMAGE ? 1 : 2)
    // A key image carries null for the columns that it does not carry.
    next = readTuple(
      buffer,
      next + 1,
      end,
      columns,
      builder.oldStarts,
      builder.oldLengths,
      old,
      kind === KEY_IMAGE ? ABSENT_VALUE : NULL_VALUE,
    )
    if (op === Op.delete) {
      if (next !== end) throw damaged('a row is longer than what it holds')
      builder.lengths.fill(ABSENT_VALUE, cell, cell + builder.columns)
      return
    }
    kind = next < end ? buffer[next]! : 0
  }
  if (op === Op.delete) throw damaged('a deleted row without the row that it was')
  if (kind !== NEW_IMAGE) throw damaged(`a row image of the unknown kind ${kind}`)
  if (readTuple(buffer, next + 1, end, columns, builder.starts, builder.lengths, cell, NULL_VALUE) !== end)
    throw damaged('a row is longer than what it holds')
}

function readTuple(
  buffer: Buffer,
  at: number,
  end: number,
  columns: Int16Array,
  starts: Int32Array,
  lengths: Int32Array,
  cell: number,
  nullLength: number,
): number {
  if (end - at < 2) throw damaged('a row is too short')
  const count = (buffer[at]! << 8) | buffer[at + 1]!
  if (count !== columns.length) throw damaged(`a row has ${count} columns where the relation has ${columns.length}`)
  let next = at + 2
  for (let i = 0; i < count; i++) {
    if (next >= end) throw damaged('a row is too short')
    const field = buffer[next++]!
    const column = columns[i]!
    if (field === TEXT_FIELD) {
      const length = (buffer[next]! << 24) | (buffer[next + 1]! << 16) | (buffer[next + 2]! << 8) | buffer[next + 3]!
      next += 4
      if (length < 0 || next + length > end) throw damaged('a value is longer than its message')
      if (column >= 0) {
        starts[cell + column] = next
        lengths[cell + column] = length
      }
      next += length
    } else if (field === NULL_FIELD) {
      if (column >= 0) lengths[cell + column] = nullLength
    } else if (field === UNCHANGED_FIELD) {
      if (column >= 0) lengths[cell + column] = UNCHANGED_VALUE
    } else throw damaged(`a value of the unknown kind ${field}`)
  }
  return next
}
