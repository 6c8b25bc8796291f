import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { describe, test } from 'node:test'
import type { LogicalType } from '../../model/logical-type.ts'
import type { TableSchema } from '../../model/schema.ts'
import type { Loader } from '../../sdk/sink.ts'
import { isError, sorted, type TargetRow } from '../../testing/sink-bench.ts'
import { schemaOf, sinkTable } from '../../testing/sink-batches.ts'
import { seeded } from '../../testing/sink-random-cases.ts'
import { tempFolder, type TempFolder } from '../../testing/temp-folder.ts'
import { openTestTarget, type TestTarget, type TestTargetOptions } from './test-target.ts'

const signal = new AbortController().signal
const text: LogicalType = { kind: 'string' }
const pairs = schemaOf({
  name: 'pairs',
  columns: [
    { name: 'a', type: text },
    { name: 'b', type: text },
  ],
})
const single = schemaOf({ name: 'single', columns: [{ name: 'a', type: text }] })

async function opened(
  schema: TableSchema,
  options: TestTargetOptions = {},
): Promise<{ folder: TempFolder; target: TestTarget } & AsyncDisposable> {
  const folder = await tempFolder()
  const target = await openTestTarget(folder, options)
  await target.sink.checkpoints?.claim(signal)
  await target.sink.applySchema(sinkTable(schema), null, signal)
  return {
    folder,
    target,
    [Symbol.asyncDispose]: async () => {
      await target.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}

function begin(target: TestTarget, schema: TableSchema): Promise<Loader> {
  return target.sink.load(
    { table: sinkTable(schema), chunk: { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 }, format: 'csv', replace: false },
    signal,
  )
}

async function loadCsv(target: TestTarget, schema: TableSchema, ...frames: readonly (string | Buffer)[]): Promise<number> {
  await using loader = await begin(target, schema)
  for (const frame of frames) {
    const data = Buffer.from(frame)
    await loader.write({ format: 'csv', data, rows: 1, bytes: data.length })
    data.fill(0x23)
  }
  return (await loader.finish()).rows
}

function scratchFiles(folder: TempFolder): readonly string[] {
  const path = folder.join('scratch', 'duckdb')
  return existsSync(path) ? readdirSync(path) : []
}

describe('loading CSV', () => {
  test('null, empty, quotes, line ends and words that look like null stay what they are', async () => {
    await using bench = await opened(pairs)
    const rows = await loadCsv(
      bench.target,
      pairs,
      'a,\n"",x\n,""\n,\n',
      'NULL,"NULL"\n\\N,"\\."\n"q""q",""""\n',
      '"a\rb","c\r\nd\n"\n" ", x \n#no comment,"a,b"\n',
    )
    assert.equal(rows, 10)
    const given: [string | null, string | null][] = [
      ['a', null],
      ['', 'x'],
      [null, ''],
      [null, null],
      ['NULL', 'NULL'],
      ['\\N', '\\.'],
      ['q"q', '"'],
      ['a\rb', 'c\r\nd\n'],
      [' ', ' x '],
      ['#no comment', 'a,b'],
    ]
    assert.deepEqual(sorted(await bench.target.rows(sinkTable(pairs))), sorted(given.map(([a, b]): TargetRow => ({ a, b }))))
  })

  test('a table of one column: an empty line is a null', async () => {
    await using bench = await opened(single)
    assert.equal(await loadCsv(bench.target, single, '\n""\n', '\nx\n'), 4)
    assert.deepEqual(sorted(await bench.target.rows(sinkTable(single))), sorted([{ a: null }, { a: '' }, { a: null }, { a: 'x' }]))
  })

  test('a first value that begins with a byte order mark keeps it', async () => {
    await using bench = await opened(pairs)
    await loadCsv(bench.target, pairs, '\ufeffa,\ufeffb\n')
    // As hex: the peer's own text decoder drops the mark when it reads.
    const rows = await bench.target.read((connection) => connection.rows('SELECT hex(a), hex(b) FROM target.main.pairs'))
    assert.deepEqual(rows, [['EFBBBF61', 'EFBBBF62']])
  })

  test('values whose lines look like rows, over several files, are not cut (DuckDB in parallel fails on them)', async () => {
    const evil = schemaOf({
      name: 'evil',
      columns: [
        { name: 'id', type: { kind: 'int64' } },
        { name: 'v', type: text },
        { name: 'n', type: { kind: 'int32' } },
      ],
      key: ['id'],
    })
    await using bench = await opened(evil)
    const random = seeded(7)
    let bytes = 0
    const frames = Array.from({ length: 60 }, (_, frame) => {
      const rows = Array.from({ length: 500 }, (_row, row) => {
        const lines = Array.from(
          { length: 1 + Math.floor(random() * 40) },
          () => `${Math.floor(random() * 1e6)},"${'x'.repeat(Math.floor(random() * 30))}",1`,
        )
        const value = lines.join('\n') + (random() < 0.5 ? '\n' : '')
        bytes += value.length
        return `${frame * 500 + row},"${value.replaceAll('"', '""')}",${row}\n`
      })
      return rows.join('')
    })
    assert.equal(await loadCsv(bench.target, evil, ...frames), 30_000)
    const [sums] = await bench.target.read((connection) =>
      connection.rows('SELECT sum(id)::VARCHAR, sum(strlen(v))::VARCHAR, sum(n)::VARCHAR FROM target.main.evil'),
    )
    assert.deepEqual(sums, [String((30_000 * 29_999) / 2), String(bytes), String(60 * ((500 * 499) / 2))])
  })

  test('a value of 20 MB gets the memory that it needs', async () => {
    await using bench = await opened(pairs)
    const value = Buffer.alloc(20 << 20, 'abc"')
    const csv = Buffer.from(`small,1\nbig,"${value.toString('latin1').replaceAll('"', '""')}"\n`)
    assert.equal(await loadCsv(bench.target, pairs, csv, 'after,2\n'), 3)
    const [row] = await bench.target.read((connection) =>
      connection.rows("SELECT strlen(b)::VARCHAR, (b = repeat('abc\"', 5242880))::VARCHAR FROM target.main.pairs WHERE a = 'big'"),
    )
    assert.deepEqual(row, [String(20 << 20), 'true'])
  })

  test('no scratch file is left: finished, given up, refused', async () => {
    const numbers = schemaOf({ name: 'numbers', columns: [{ name: 'n', type: { kind: 'int32' } }] })
    await using bench = await opened(numbers)
    await loadCsv(bench.target, numbers, '1\n')
    {
      await using loader = await begin(bench.target, numbers)
      const data = Buffer.from('2\n')
      await loader.write({ format: 'csv', data, rows: 1, bytes: 2 })
    }
    await assert.rejects(loadCsv(bench.target, numbers, 'x\n'), isError('ROW_REJECTED'))
    assert.deepEqual(scratchFiles(bench.folder), [])
    assert.deepEqual(await bench.target.rows(sinkTable(numbers)), [{ n: '1' }])
  })

  test('a generated column travels in the frames but has no place in the target', async () => {
    const base = schemaOf({
      name: 'computed',
      columns: [
        { name: 'a', type: text },
        { name: 'twice', type: text },
        { name: 'b', type: text },
      ],
    })
    const schema: TableSchema = {
      ...base,
      columns: base.columns.map((column) => (column.name === 'twice' ? { ...column, generated: 'stored' } : column)),
    }
    await using bench = await opened(schema)
    await loadCsv(bench.target, schema, 'x,xx,y\n')
    assert.deepEqual(await bench.target.rows(sinkTable(schema)), [{ a: 'x', b: 'y' }])
  })
})

describe('values that DuckDB cannot hold', () => {
  const measures = schemaOf({
    name: 'measures',
    columns: [
      { name: 'id', type: { kind: 'int64' } },
      { name: 'price', type: { kind: 'decimal', precision: 10, scale: 2 } },
      { name: 'at', type: { kind: 'timestamp' } },
    ],
    key: ['id'],
  })

  test('NaN in a decimal names table, column and the option that keeps it, and no value', async () => {
    await using bench = await opened(measures)
    await assert.rejects(
      loadCsv(bench.target, measures, '1,1.50,2024-01-01 00:00:00\n2,NaN,\n3,NaN,\n'),
      (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, 'ROW_REJECTED')
        assert.match(error.message, /public\.measures.*2 values do not fit column price \(decimal\(10,2\) as DECIMAL\(10,2\)\)/)
        assert.match(error.hint ?? '', /--sink\.numeric text/)
        assert.doesNotMatch(JSON.stringify([error.message, error.hint, String(error.cause)]), /1\.50|2024/)
        return true
      },
    )
    assert.equal(await bench.target.sink.count?.(sinkTable(measures), signal), 0n)
  })

  test("a timestamp beyond DuckDB's is refused, never bent", async () => {
    await using bench = await opened(measures)
    await assert.rejects(
      loadCsv(bench.target, measures, '1,1.50,294276-12-31 23:59:59.999999\n'),
      /1 value does not fit column at \(timestamp as TIMESTAMP\)/,
    )
  })

  test('numeric text keeps NaN and Infinity; textColumns keep one column', async () => {
    await using asText = await opened(measures, { config: { numeric: 'text', textColumns: ['measures.at'] } })
    await loadCsv(asText.target, measures, '1,NaN,294276-12-31 23:59:59\n2,-Infinity,\n')
    assert.deepEqual(
      sorted(await asText.target.rows(sinkTable(measures))),
      sorted([
        { id: '1', price: 'NaN', at: '294276-12-31 23:59:59' },
        { id: '2', price: '-Infinity', at: null },
      ]),
    )
  })
})
