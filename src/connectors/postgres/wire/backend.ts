import { TailraceError } from '../../../sdk/errors.ts'
import type { PgError } from './pg-error.ts'
import type { ReceiveBuffer } from './receive-buffer.ts'

/** Message types of the backend. */
export const Backend = {
  authentication: 0x52, // R
  keyData: 0x4b, // K
  parameterStatus: 0x53, // S
  ready: 0x5a, // Z
  error: 0x45, // E
  notice: 0x4e, // N
  notification: 0x41, // A
  rowDescription: 0x54, // T
  dataRow: 0x44, // D
  commandComplete: 0x43, // C
  emptyQuery: 0x49, // I
  copyIn: 0x47, // G
  copyOut: 0x48, // H
  copyBoth: 0x57, // W
  copyData: 0x64, // d
  copyDone: 0x63, // c
} as const

/** Takes the messages of one request. Bodies lie in `buffer[start..end)`, valid during the call only. */
export interface MessageHandler {
  message(type: number, buffer: Buffer, start: number, end: number): void
  /** ReadyForQuery, with the first error of the request if there was one. */
  ready(error: PgError | null): void
  failed(error: TailraceError): void
  /** Takes CopyData in bulk: called instead of `message` for each stretch of whole 'd' frames; see copy.ts. */
  bulk?: BulkHandler
}

export interface BulkHandler {
  /** Consumes from `receive.start`; gives false to pause the socket. */
  consume(receive: ReceiveBuffer): boolean
}

/** What COPY, pipelines and the walsender need of a connection. */
export interface Wire {
  /** Resolves when no request is under way. */
  idle(): Promise<void>
  /** Becomes the receiver of all messages up to the next ReadyForQuery. */
  start(handler: MessageHandler): void
  send(bytes: Buffer): boolean
  /** Resolves when the kernel has taken everything written so far. */
  sent(bytes: Buffer): Promise<void>
  resume(): void
  destroy(error?: TailraceError): void
}

/** Numbers of a message that end with it: reading on would take the next message's bytes for this one's. */
export function readInt16(buffer: Buffer, at: number, end: number): number {
  if (at + 2 > end) throw tooShort()
  return buffer.readInt16BE(at)
}

export function readInt32(buffer: Buffer, at: number, end: number): number {
  if (at + 4 > end) throw tooShort()
  return buffer.readInt32BE(at)
}

/** Where the zero is that ends a text of a message. */
export function endOfText(buffer: Buffer, at: number, end: number): number {
  const zero = buffer.indexOf(0, at)
  if (zero < 0 || zero >= end) throw new TailraceError('PROTOCOL', 'the PostgreSQL server sent a text without an end')
  return zero
}

export function tooShort(): TailraceError {
  return new TailraceError('PROTOCOL', 'the PostgreSQL server sent a message that is shorter than what it says it holds')
}

/** The text of a CommandComplete. */
export function parseTag(buffer: Buffer, start: number, end: number): string {
  return buffer.toString('utf8', start, endOfText(buffer, start, end))
}

/** What stands behind a column's name in a RowDescription. */
const COLUMN_BYTES = 18

/** Column names of a RowDescription. */
export function parseColumns(buffer: Buffer, start: number, end: number): string[] {
  const columns: string[] = []
  let at = start + 2
  for (let left = readInt16(buffer, start, end); left > 0; left--) {
    const zero = endOfText(buffer, at, end)
    columns.push(buffer.toString('utf8', at, zero))
    at = zero + 1 + COLUMN_BYTES
    if (at > end) throw tooShort()
  }
  return columns
}

/** DataRow in text format. */
export function parseRow(buffer: Buffer, start: number, end: number): (string | null)[] {
  const row: (string | null)[] = []
  let at = start + 2
  for (let left = readInt16(buffer, start, end); left > 0; left--) {
    const length = readInt32(buffer, at, end)
    at += 4
    if (length > end - at) throw tooShort()
    row.push(length < 0 ? null : buffer.toString('utf8', at, at + length))
    if (length > 0) at += length
  }
  return row
}
