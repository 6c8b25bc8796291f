import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Op, type StreamBatch } from '../model/batch.ts'
import type { Position, Transaction } from '../model/position.ts'
import { tableId, type TableSchema } from '../model/schema.ts'
import { textRowsToSlice } from '../model/slice-builder.ts'
import { TransactionReader, type SourceTransaction } from './transactions.ts'

function schemaOf(name: string): TableSchema {
  const column = {
    name: 'id',
    type: { kind: 'int32' },
    nullable: false,
    sourceType: 'integer',
    sourceTypeId: 23,
    ordinal: 1,
    generated: 'no',
    identity: 'no',
  } as const
  const rest = {
    identity: 'key',
    indexes: [],
    foreignKeys: [],
    sequences: [],
    estimate: { rows: -1, bytes: -1 },
    relation: 1,
    dialect: 'toy',
  } as const
  return { id: tableId('s', name), namespace: 's', name, columns: [column], key: [0], ...rest }
}

const TABLES = { a: schemaOf('a'), b: schemaOf('b') } as const

/** `a1 b2 | a3`: rows of tables a and b with these keys, transactions parted by |; a last `…` leaves the last one open. */
function batch(text: string, firstId = 1): StreamBatch {
  const open = text.endsWith('…')
  const groups = text
    .replace('…', '')
    .split('|')
    .map((group) =>
      group
        .trim()
        .split(/\s+/)
        .filter((row) => row !== ''),
    )
  const transactions = groups.map((_, index): Transaction => {
    const id = firstId + index
    return {
      id: String(id),
      position: `c${id}` as Position,
      end: open && index === groups.length - 1 ? null : (`e${id}` as Position),
      committedAt: id,
    }
  })
  const rows = groups
    .flatMap((group, transaction) => group.map((row) => ({ table: row[0] as 'a' | 'b', key: row.slice(1), transaction })))
    .map((row, order) => ({ ...row, order }))
  const slices = (['a', 'b'] as const)
    .map((name) =>
      textRowsToSlice(
        TABLES[name],
        rows
          .filter((row) => row.table === name)
          .map(({ key, order, transaction }) => ({ op: Op.insert, after: [key], order, transaction, place: BigInt(order) })),
      ),
    )
    .filter((slice) => slice.rows > 0)
  return { slices, barrier: null, transactions, position: transactions.at(-1)?.end ?? null, rows: rows.length, bytes: 0 }
}

function shown(transactions: Iterable<SourceTransaction>): readonly string[] {
  return Array.from(transactions, ({ id, position, changes, barrier }) => {
    const rows = changes.map((change) => `${change.table.slice(2)}${String(change.after?.['id'])}`).join(' ')
    return `${id}: ${barrier === null ? rows : barrier.kind} → ${position ?? '…'}`
  })
}

test('rows come in the order of the source, by transaction', () => {
  const reader = new TransactionReader(100)
  assert.deepEqual(shown(reader.read(batch('a1 b2 a3 | b4 | a5'))), ['1: a1 b2 a3 → e1', '2: b4 → e2', '3: a5 → e3'])
})

test('a transaction that is spread over batches is joined', () => {
  const reader = new TransactionReader(100)
  assert.deepEqual(shown(reader.read(batch('a1 | a2 …'))), ['1: a1 → e1'])
  assert.deepEqual(shown(reader.read(batch('b3 …', 2))), [])
  assert.equal(reader.isWithinTransaction, false)
  assert.deepEqual(shown(reader.read(batch('a4 | a5', 2))), ['2: a2 b3 a4 → e2', '3: a5 → e3'])
})

test('a large one comes in parts, of which only the last has a position', () => {
  const reader = new TransactionReader(2)
  assert.deepEqual(shown(reader.read(batch('a1 a2 a3 …'))), ['1: a1 a2 → …'])
  assert.equal(reader.isWithinTransaction, true)
  assert.deepEqual(shown(reader.read(batch('a4 a5'))), ['1: a3 a4 → …', '1: a5 → e1'])
  assert.equal(reader.isWithinTransaction, false)
})

test('a barrier stands alone, where it was', () => {
  const reader = new TransactionReader(100)
  const barrier = { kind: 'truncate', tables: [TABLES.a], cascade: false, restartIdentity: false } as const
  const alone: StreamBatch = { ...batch('…'), barrier }
  assert.deepEqual(shown(reader.read(batch('a1 …'))), [])
  assert.deepEqual(shown(reader.read(alone)), ['1: a1 → …', '1: truncate → …'])
  assert.deepEqual(shown(reader.read(batch('a2'))), ['1: a2 → e1'])
})

test('after a lost connection the transaction begins again', () => {
  const reader = new TransactionReader(100)
  assert.deepEqual(shown(reader.read(batch('a1 …'))), [])
  reader.forget()
  assert.deepEqual(shown(reader.read(batch('a1 a2'))), ['1: a1 a2 → e1'])
})

test('an idle batch gives nothing', () => {
  const reader = new TransactionReader(100)
  assert.deepEqual(shown(reader.read({ slices: [], barrier: null, transactions: [], position: 'p' as Position, rows: 0, bytes: 0 })), [])
})
