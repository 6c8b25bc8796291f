import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { LogicalType } from '../../model/logical-type.ts'
import { batchOf, insert, remove, schemaOf, sinkTable, update } from '../../testing/sink-batches.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import type { SqliteConfig } from './config.ts'
import { openSink, query } from './test-data/open-sink.ts'

const signal = new AbortController().signal

/** Text in, storage class and value out. */
async function store(type: LogicalType, texts: readonly string[], config: Partial<SqliteConfig> = {}): Promise<unknown[][]> {
  await using folder = await tempFolder()
  const schema = schemaOf({
    name: 't',
    columns: [
      { name: 'id', type: { kind: 'int32' } },
      { name: 'v', type },
    ],
    key: ['id'],
  })
  await using sink = openSink(folder.join('t.db'), { config })
  await sink.checkpoints.claim(signal)
  await sink.applySchema(sinkTable(schema), null, signal)
  await sink.write(batchOf([{ number: 1, changes: texts.map((text, i) => insert(schema, [String(i), text])) }]), signal)
  return query(folder.join('t.db'), 'SELECT typeof(v) AS type, v FROM t ORDER BY id').map((row) => [row['type'], row['v']])
}

describe('values in SQLite', () => {
  it('CASE 26: integers are INTEGER to the last digit', async () => {
    assert.deepEqual(await store({ kind: 'int64' }, ['-9223372036854775808', '9007199254740993', '0']), [
      ['integer', -9223372036854775808n],
      ['integer', 9007199254740993n],
      ['integer', 0n],
    ])
    assert.deepEqual(await store({ kind: 'boolean' }, ['t', 'f']), [
      ['integer', 1n],
      ['integer', 0n],
    ])
    assert.deepEqual(await store({ kind: 'uint64' }, ['7', '18446744073709551615']), [
      ['integer', 7n],
      ['text', '18446744073709551615'],
    ])
  })

  it('CASE 26: floats are REAL with -0 and infinities; NaN, which SQLite has not, is text', async () => {
    const stored = await store({ kind: 'float64' }, ['1', '-0', 'Infinity', '-Infinity', 'NaN', '0.1'])
    assert.deepEqual(
      stored.map(([type]) => type),
      ['real', 'real', 'real', 'real', 'text', 'real'],
    )
    assert.ok(Object.is(stored[1]?.[1], -0))
    assert.deepEqual(
      stored.map(([, value]) => value),
      [1, -0, Infinity, -Infinity, 'NaN', 0.1],
    )
  })

  it('CASE 26: decimals are exact text, or numbers where asked for', async () => {
    const decimal: LogicalType = { kind: 'decimal', precision: 38, scale: 10 }
    assert.deepEqual(await store(decimal, ['1.10', '007', '9999999999999999999999999999.9999999999']), [
      ['text', '1.10'],
      ['text', '007'],
      ['text', '9999999999999999999999999999.9999999999'],
    ])
    assert.deepEqual(await store(decimal, ['1.10', 'NaN'], { decimals: 'real' }), [
      ['real', 1.1],
      ['text', 'NaN'],
    ])
  })

  it('CASE 26: text and bytes are what they were, byte by byte', async () => {
    assert.deepEqual(await store({ kind: 'string' }, ['', '5', 'ß 表 🚲 e\u0301', "it's\n\\x"]), [
      ['text', ''],
      ['text', '5'],
      ['text', 'ß 表 🚲 e\u0301'],
      ['text', "it's\n\\x"],
    ])
    assert.deepEqual(await store({ kind: 'bytes' }, ['\\x', '\\x0061']), [
      ['blob', new Uint8Array()],
      ['blob', new Uint8Array([0, 0x61])],
    ])
    assert.deepEqual(await store({ kind: 'json' }, ['{"a":  1e400, "a": 2}', 'null']), [
      ['text', '{"a":  1e400, "a": 2}'],
      ['text', 'null'],
    ])
  })

  it('CASE 26: timestamps are RFC 3339, which the date functions of SQLite read; infinity and BC are not', async () => {
    const zoned = await store({ kind: 'timestamptz' }, ['2024-02-29 12:34:56.5+00', 'infinity', '0044-03-15 12:00:00+00 BC'])
    assert.deepEqual(
      zoned.map(([, value]) => value),
      ['2024-02-29T12:34:56.500000Z', 'infinity', '0044-03-15 12:00:00+00 BC'],
    )
  })

  it('keys of every kind find their row', async () => {
    await using folder = await tempFolder()
    const keys: readonly (readonly [LogicalType, string, string])[] = [
      [{ kind: 'uint64' }, '18446744073709551615', '9'],
      [{ kind: 'decimal', precision: null, scale: null }, '1.10', '1.1'],
      [{ kind: 'float64' }, 'NaN', 'Infinity'],
      [{ kind: 'timestamptz' }, '2024-02-29 12:34:56+00', 'infinity'],
      [{ kind: 'bytes' }, '\\x00', '\\x'],
      [{ kind: 'boolean' }, 't', 'f'],
      [{ kind: 'string' }, 'ß', ''],
    ]
    await using sink = openSink(folder.join('t.db'))
    await sink.checkpoints.claim(signal)
    for (const [n, [type, first, second]] of keys.entries()) {
      const schema = schemaOf({
        name: `t${n}`,
        columns: [
          { name: 'k', type },
          { name: 'v', type: { kind: 'string' } },
        ],
        key: ['k'],
      })
      await sink.applySchema(sinkTable(schema), null, signal)
      await sink.write(batchOf([{ number: n * 2 + 1, changes: [insert(schema, [first, 'a']), insert(schema, [second, 'b'])] }]), signal)
      await sink.write(
        batchOf([{ number: n * 2 + 2, changes: [update(schema, [first, 'changed']), remove(schema, [second, null])] }]),
        signal,
      )
      assert.deepEqual(
        query(folder.join('t.db'), `SELECT v FROM t${n}`).map((row) => row['v']),
        ['changed'],
        type.kind,
      )
    }
  })

  it('TRAP 4: a chunk of unsigned keys past 2^63 is emptied by their order as numbers', async () => {
    await using folder = await tempFolder()
    const schema = schemaOf({ name: 't', columns: [{ name: 'k', type: { kind: 'uint64' } }], key: ['k'] })
    await using sink = openSink(folder.join('t.db'))
    await sink.checkpoints.claim(signal)
    await sink.applySchema(sinkTable(schema), null, signal)
    const keys = ['5', '9223372036854775807', '9223372036854775808', '9999999999999999999', '10000000000000000000', '18446744073709551615']
    await sink.write(batchOf([{ number: 1, changes: keys.map((key) => insert(schema, [key])) }]), signal)
    await using loader = await sink.load(
      {
        table: sinkTable(schema),
        chunk: { id: 1, range: { kind: 'key', column: 'k', from: '9223372036854775807', to: '10000000000000000000' }, rows: -1, bytes: -1 },
        format: 'rows',
        replace: true,
      },
      signal,
    )
    await loader.finish()
    assert.deepEqual(
      query(folder.join('t.db'), 'SELECT k FROM t')
        .map((row) => String(row['k']))
        .sort(),
      ['10000000000000000000', '18446744073709551615', '5'],
    )
  })

  it('TRAP 40: equal rows with NaN, nulls and many columns are told apart by number only', async () => {
    await using folder = await tempFolder()
    const columns = Array.from({ length: 1200 }, (_, i) => ({
      name: `c${i}`,
      type: { kind: i % 2 === 0 ? 'float64' : 'string' } as LogicalType,
    }))
    const schema = schemaOf({ name: 't', columns })
    const row = columns.map((_, i) => (i % 3 === 0 ? null : i % 2 === 0 ? 'NaN' : 'x'))
    await using sink = openSink(folder.join('t.db'))
    await sink.checkpoints.claim(signal)
    await sink.applySchema(sinkTable(schema), null, signal)
    await sink.write(batchOf([{ number: 1, changes: [insert(schema, row), insert(schema, row), insert(schema, row)] }]), signal)
    await sink.write(
      batchOf([
        {
          number: 2,
          changes: [
            remove(schema, row),
            update(
              schema,
              row.map((value) => value),
              row,
            ),
          ],
        },
      ]),
      signal,
    )
    assert.equal(await sink.count(sinkTable(schema), signal), 2n)
  })
})
