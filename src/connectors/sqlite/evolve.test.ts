import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { SchemaChangeDetail } from '../../model/batch.ts'
import type { TableSchema } from '../../model/schema.ts'
import {
  barrierBatch,
  batchOf,
  insert,
  remove,
  schemaChange,
  schemaOf,
  sinkTable,
  update,
  type ColumnSpec,
  type RowChange,
} from '../../testing/sink-batches.ts'
import { isError } from '../../testing/sink-bench.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import { loadSqlite } from './database.ts'
import type { SqliteSink } from './sink.ts'
import { openSink, query } from './test-data/open-sink.ts'

const signal = new AbortController().signal
const id: ColumnSpec = { name: 'id', type: { kind: 'int32' }, ordinal: 1 }
const a: ColumnSpec = { name: 'a', type: { kind: 'int32' }, ordinal: 2 }
const base = table(id, a)

function table(...columns: readonly ColumnSpec[]): TableSchema {
  return schemaOf({ name: 't', columns, key: ['id'] })
}

function keyed(key: readonly string[], ...columns: readonly ColumnSpec[]): TableSchema {
  return schemaOf({ name: 't', columns, key })
}

interface Bench extends AsyncDisposable {
  readonly path: string
  readonly sink: SqliteSink
  change(from: TableSchema, to: TableSchema, ...changes: SchemaChangeDetail[]): Promise<void>
  commit(...changes: RowChange[]): Promise<void>
  all(): Record<string, unknown>[]
}

async function start(schema: TableSchema): Promise<Bench> {
  const folder = await tempFolder()
  const path = folder.join('t.db')
  const sink = openSink(path)
  await sink.checkpoints.claim(signal)
  await sink.applySchema(sinkTable(schema), null, signal)
  let number = 0
  return {
    path,
    sink,
    change: (from, to, ...changes) => sink.write(barrierBatch(schemaChange(from, to, ...changes), ++number, false), signal),
    commit: (...changes) => sink.write(batchOf([{ number: ++number, changes }]), signal),
    all: () => query(path, 'SELECT * FROM t ORDER BY 1').map((row) => ({ ...row })),
    async [Symbol.asyncDispose]() {
      await sink[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

describe('schema changes in SQLite', () => {
  it('CASE 31: a column that is dropped and added again starts empty, the old values stand aside (TRAP 47)', async () => {
    await using bench = await start(base)
    await bench.commit(insert(base, ['1', '10']))
    const dropped = table(id)
    const again = table(id, { ...a, ordinal: 3 })
    await bench.change(base, dropped, { kind: 'column-dropped', before: 'a', after: null })
    await bench.commit(insert(dropped, ['2']))
    await bench.change(dropped, again, { kind: 'column-added', before: null, after: 'a' })
    await bench.commit(insert(again, ['3', '30']))
    assert.deepEqual(bench.all(), [
      { id: 1n, a_dropped: 10n, a: null },
      { id: 2n, a_dropped: null, a: null },
      { id: 3n, a_dropped: null, a: 30n },
    ])
  })

  it('CASE 31: drop and add of one name in one step', async () => {
    await using bench = await start(base)
    await bench.commit(insert(base, ['1', '10']))
    const again = table(id, { ...a, type: { kind: 'string' }, sourceType: 'text', ordinal: 3 })
    await bench.change(
      base,
      again,
      { kind: 'column-dropped', before: 'a', after: null },
      { kind: 'column-added', before: null, after: 'a' },
    )
    await bench.commit(update(again, ['1', '007']))
    assert.deepEqual(bench.all(), [{ id: 1n, a_dropped: 10n, a: '007' }])
  })

  it('CASE 31: an integer column that becomes text is text from then on, and keeps index and values', async () => {
    await using bench = await start(base)
    await bench.commit(insert(base, ['1', '10']))
    const other = new (loadSqlite().DatabaseSync)(bench.path)
    other.exec('CREATE INDEX by_person ON t (a)')
    other.close()
    const text = table(id, { ...a, type: { kind: 'string' }, sourceType: 'text' })
    const change: SchemaChangeDetail = { kind: 'type-changed', before: 'a', after: 'a' }
    await bench.change(base, text, change)
    await bench.change(base, text, change)
    await bench.commit(insert(text, ['2', '007']))
    assert.deepEqual(bench.all(), [
      { id: 1n, a: '10' },
      { id: 2n, a: '007' },
    ])
    assert.deepEqual(
      query(bench.path, "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 't'").map((row) => row['name']),
      ['by_person'],
    )
  })

  it('CASE 31: a key that becomes text, and one that moves to other columns', async () => {
    await using bench = await start(base)
    await bench.commit(insert(base, ['1', '10']), insert(base, ['2', '10']))
    const text = table({ ...id, type: { kind: 'string' }, sourceType: 'text' }, a)
    await bench.change(base, text, { kind: 'type-changed', before: 'id', after: 'id' })
    await bench.commit(insert(text, ['01', '20']), update(text, ['1', '11']))
    assert.deepEqual(
      bench.all().map((row) => row['id']),
      ['01', '1', '2'],
    )
    const both = keyed(['id', 'a'], { ...id, type: { kind: 'string' }, sourceType: 'text' }, a)
    await bench.change(text, both, { kind: 'key-changed', before: null, after: null })
    await bench.commit(insert(both, ['1', '12']), remove(both, ['2', '10']), update(both, ['01', '21'], ['01', '20']))
    assert.deepEqual(bench.all(), [
      { id: '01', a: 21n },
      { id: '1', a: 11n },
      { id: '1', a: 12n },
    ])
  })

  it('CASE 31: a key that leaves its integer column may repeat there', async () => {
    await using bench = await start(base)
    await bench.commit(insert(base, ['1', '10']), insert(base, ['2', '20']))
    const moved = keyed(['a'], id, a)
    await bench.change(base, moved, { kind: 'key-changed', before: null, after: null })
    await bench.commit(insert(moved, ['1', '30']), update(moved, ['5', '10']))
    assert.deepEqual(
      bench.all().map((row) => [row['id'], row['a']]),
      [
        [1n, 30n],
        [2n, 20n],
        [5n, 10n],
      ],
    )
  })

  it('a view that reads the table survives a new type', async () => {
    await using bench = await start(base)
    const other = new (loadSqlite().DatabaseSync)(bench.path)
    other.exec('CREATE VIEW seen AS SELECT a FROM t')
    other.close()
    const text = table(id, { ...a, type: { kind: 'string' }, sourceType: 'text' })
    await bench.change(base, text, { kind: 'type-changed', before: 'a', after: 'a' })
    await bench.commit(insert(text, ['1', 'x']))
    assert.deepEqual(
      query(bench.path, 'SELECT * FROM seen').map((row) => row['a']),
      ['x'],
    )
  })

  it('two columns swap their names', async () => {
    const pair = table(id, { name: 'a', type: { kind: 'string' }, ordinal: 2 }, { name: 'b', type: { kind: 'string' }, ordinal: 3 })
    const swapped = table(id, { name: 'b', type: { kind: 'string' }, ordinal: 2 }, { name: 'a', type: { kind: 'string' }, ordinal: 3 })
    await using bench = await start(pair)
    await bench.commit(insert(pair, ['1', 'A', 'B']))
    await bench.change(
      pair,
      swapped,
      { kind: 'column-renamed', before: 'a', after: 'b' },
      { kind: 'column-renamed', before: 'b', after: 'a' },
    )
    assert.deepEqual(bench.all(), [{ id: 1n, b: 'A', a: 'B' }])
  })

  it('TRAP 46: rows written before a column was added show its value, exactly', async () => {
    await using bench = await start(base)
    await bench.commit(insert(base, ['1', '10']))
    const added: readonly ColumnSpec[] = [
      { name: 'i', type: { kind: 'int64' }, missing: '9223372036854775807', ordinal: 3 },
      { name: 'f', type: { kind: 'float64' }, missing: '-0', ordinal: 4 },
      { name: 'n', type: { kind: 'float64' }, missing: 'NaN', ordinal: 5 },
      { name: 'x', type: { kind: 'bytes' }, missing: '\\x00ff', ordinal: 6 },
      { name: 'd', type: { kind: 'decimal', precision: 5, scale: 2 }, missing: '1.10', ordinal: 7 },
      { name: 'b', type: { kind: 'boolean' }, missing: 't', ordinal: 8 },
      { name: 'z', type: { kind: 'timestamptz' }, missing: '2024-02-29 12:00:00+00', ordinal: 9 },
      { name: 's', type: { kind: 'string' }, missing: "it's", ordinal: 10 },
    ]
    const wide = table(id, a, ...added)
    await bench.change(base, wide, ...added.map((column) => ({ kind: 'column-added', before: null, after: column.name }) as const))
    const row = bench.all()[0]!
    assert.ok(Object.is(row['f'], -0))
    assert.deepEqual(
      { ...row, f: 0 },
      {
        id: 1n,
        a: 10n,
        i: 9223372036854775807n,
        f: 0,
        n: 'NaN',
        x: new Uint8Array([0, 255]),
        d: '1.10',
        b: 1n,
        z: '2024-02-29T12:00:00.000000Z',
        s: "it's",
      },
    )
  })

  it('a table that people made is filled as far as its columns take values as they are, else refused', async () => {
    await using folder = await tempFolder()
    const path = folder.join('t.db')
    const made = new (loadSqlite().DatabaseSync)(path)
    made.exec('CREATE TABLE t (ID BIGINT PRIMARY KEY, a INT, extra TEXT); CREATE TABLE u (id INTEGER PRIMARY KEY, a NUMERIC)')
    made.close()
    await using sink = openSink(path)
    await sink.checkpoints.claim(signal)
    await sink.applySchema(sinkTable(base), null, signal)
    await sink.write(
      batchOf([{ number: 1, changes: [insert(base, ['9007199254740993', '5']), update(base, ['9007199254740993', '6'])] }]),
      signal,
    )
    assert.deepEqual(
      query(path, 'SELECT * FROM t').map((row) => ({ ...row })),
      [{ ID: 9007199254740993n, a: 6n, extra: null }],
    )
    const decimals = schemaOf({ name: 'u', columns: [id, { name: 'a', type: { kind: 'decimal', precision: 5, scale: 2 } }], key: ['id'] })
    await assert.rejects(sink.applySchema(sinkTable(decimals), null, signal), isError('SCHEMA_UNSUPPORTED'))
    await sink.applySchema(sinkTable(decimals), null, signal, { replace: true })
  })
})
