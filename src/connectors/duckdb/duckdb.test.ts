import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, symlink } from 'node:fs/promises'
import { resolve } from 'node:path'
import { describe, test } from 'node:test'
import { Op } from '../../model/batch.ts'
import { formatType, type LogicalType } from '../../model/logical-type.ts'
import { textRowsToSlice } from '../../model/slice-builder.ts'
import type { RetryClass, TailraceError } from '../../sdk/errors.ts'
import { LOGICAL_KINDS } from '../../sdk/sql/type-table.ts'
import { parseConnectorUri } from '../../sdk/uri.ts'
import { schemaOf, sinkTable, type ColumnSpec } from '../../testing/sink-batches.ts'
import { isError } from '../../testing/sink-bench.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import { checkWithoutOpening } from './check.ts'
import { duckdbConfig, duckdbFromUri, duckdbIdentity } from './config.ts'
import { Conflicts } from './conflicts.ts'
import { CsvEncoder } from './csv-encoder.ts'
import { isInvalidating, kindOf, translate } from './duckdb-errors.ts'
import { MemoryLimit, megabytes } from './memory-limit.ts'
import { loadPeer, type DuckDbPeer } from './peer.ts'
import { Semaphore } from './semaphore.ts'
import { softRuns } from './soft-runs.ts'
import { openTestTarget } from './test-target.ts'
import { columnType, valueOf } from './type-table.ts'

const signal = new AbortController().signal
const id: ColumnSpec = { name: 'id', type: { kind: 'int64' } }

describe('DuckDB configuration', () => {
  const pathOf = (uri: string): unknown => duckdbFromUri(parseConnectorUri(uri))['path']

  test('takes absolute and relative paths from a URI and refuses what looks like a host', () => {
    assert.equal(pathOf('duckdb:///srv/a%20b.duckdb'), '/srv/a b.duckdb')
    assert.equal(pathOf('duckdb:rel.duckdb'), 'rel.duckdb')
    assert.equal(pathOf('duckdb://./rel.duckdb'), './rel.duckdb')
    assert.throws(() => pathOf('duckdb://rel.duckdb'), isError('USAGE'))
  })

  test('is identified by the file, whatever folder or link leads there', async () => {
    const identityOf = (path: string): string => duckdbIdentity(duckdbConfig.parse({ path }))
    assert.equal(identityOf('rel.duckdb'), `duckdb://${resolve('rel.duckdb')}`)
    await using folder = await tempFolder()
    await mkdir(folder.join('real'))
    await symlink(folder.join('real'), folder.join('link'))
    assert.equal(identityOf(folder.join('link', 'a.duckdb')), identityOf(folder.join('real', 'a.duckdb')))
  })

  test('takes numbers as text and refuses unknown options', () => {
    assert.equal(duckdbConfig.parse({ path: 'a', threads: '4' }).threads, 4)
    assert.equal(duckdbConfig.safeParse({ path: 'a', thread: 4 }).success, false)
    assert.equal(duckdbConfig.safeParse({ path: 'a', memoryLimit: 1000 }).success, false)
  })
})

describe('the peer package', () => {
  test('missing: ENVIRONMENT with the line that installs it', async () => {
    const missing = Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' })
    await assert.rejects(
      loadPeer(() => Promise.reject(missing)),
      (error: TailraceError) => {
        assert.equal(error.code, 'ENVIRONMENT')
        assert.equal(error.hint, 'npm install @duckdb/node-api')
        assert.match(error.message, /not installed/)
        return true
      },
    )
  })

  test('too old: ENVIRONMENT naming the version; the one at hand will do', async () => {
    await assert.rejects(
      loadPeer(async () => ({ version: () => 'v1.4.9' }) as unknown as DuckDbPeer),
      /DuckDB v1\.4\.9, expected 1\.5 or later/,
    )
    assert.equal(typeof (await loadPeer()).DuckDBInstance, 'function')
  })
})

describe('types', () => {
  const sample = (kind: LogicalType['kind']): LogicalType => {
    if (kind === 'decimal') return { kind, precision: 38, scale: 10 }
    if (kind === 'enum') return { kind, name: 'mood', values: ['a'] }
    if (kind === 'array') return { kind, element: { kind: 'int32' } }
    return kind === 'other' ? { kind, name: 'thing' } : { kind }
  }

  test('every logical type has a place, spelled as the catalog spells it', async () => {
    await using folder = await tempFolder()
    const target = await openTestTarget(folder)
    const all = schemaOf({ name: 'all', columns: LOGICAL_KINDS.map((kind) => ({ name: kind, type: sample(kind) })) })
    await target.sink.checkpoints?.claim(signal)
    await target.sink.applySchema(sinkTable(all), null, signal)
    await target.sink.applySchema(sinkTable(all), sinkTable(all), signal)
    await target.close()
  })

  test('decimals that DuckDB cannot bound, and those that the user wants so, are text', () => {
    for (const [precision, scale] of [
      [null, null],
      [39, 0],
      [5, -2],
      [5, 7],
      [0, 0],
    ] as const) {
      const type: LogicalType = { kind: 'decimal', precision, scale }
      assert.equal(columnType(type, { numeric: 'decimal' }).sql, 'VARCHAR', formatType(type))
    }
    assert.equal(columnType({ kind: 'decimal', precision: 10, scale: 2 }, { numeric: 'text' }).sql, 'VARCHAR')
    assert.equal(columnType({ kind: 'uuid' }, { numeric: 'decimal' }, true).sql, 'VARCHAR')
    assert.equal(valueOf(columnType({ kind: 'int32' }, { numeric: 'decimal' }), 's.c0'), 'CAST(s.c0 AS INTEGER)')
  })
})

describe('CsvEncoder', () => {
  const encode = (...rows: readonly (readonly (string | null)[])[]): CsvEncoder => {
    const csv = new CsvEncoder()
    for (const row of rows) {
      for (const value of row) {
        const bytes = Buffer.from(value ?? '')
        csv.cell(bytes, 0, value === null ? -1 : bytes.length)
      }
      csv.endRow()
    }
    return csv
  }

  test('writes what PostgreSQL writes: quotes where needed, nothing for null, "" for empty', () => {
    const csv = encode(['a', null, '', 'x,y'], ['"', 'line\nend\r', '\\.', 'null'])
    assert.equal(csv.bytes.toString(), 'a,,"","x,y"\n"""","line\nend\r",\\.,null\n')
    assert.equal(csv.rows, 2)
    assert.equal(csv.longest, Buffer.byteLength('"""","line\nend\r",\\.,null\n'))
  })

  test('grows with its values, and is empty after reset', () => {
    const long = '"'.repeat(100_000)
    const csv = encode([long, 'b'.repeat(200_000)])
    assert.equal(csv.bytes.length, 200_002 + 1 + 200_000 + 1)
    csv.reset()
    assert.deepEqual([csv.bytes.length, csv.rows, csv.longest], [0, 0, 0])
  })
})

describe("DuckDB's errors", () => {
  const examples: readonly (readonly [string, ReturnType<typeof kindOf>, string])[] = [
    ['Out of Memory Error: failed to allocate data of size 4.0 MiB', 'memory', 'SINK_FAILED'],
    ['TransactionContext Error: Failed to commit: failed to pin block of size 256.0 KiB (99.4 MiB/99.1 MiB used)', 'memory', 'SINK_FAILED'],
    ["Conversion Error: Could not convert string 'secret' to INT32", 'value', 'ROW_REJECTED'],
    ['Constraint Error: Duplicate key "id: 4711" violates primary key constraint.', 'constraint', 'ROW_REJECTED'],
    ['TransactionContext Error: Conflict on tuple deletion!', 'conflict', 'SINK_FAILED'],
    ['IO Error: Could not set lock on file "/x": Conflicting lock is held in /usr/bin/duckdb (PID 42). See also', 'held', 'HELD'],
    ['IO Error: Could not write file "/x": No space left on device', 'full', 'ENVIRONMENT'],
    ['TransactionContext Error: Failed to commit: Could not write file "/x.wal": No space left on device', 'full', 'ENVIRONMENT'],
    ['FATAL Error: Failed to checkpoint: Could not write file "/x": No space left on device', 'full', 'ENVIRONMENT'],
    ['ENOSPC: no space left on device, write', 'full', 'ENVIRONMENT'],
    ["Conversion Error: Could not convert string 'secret: No space left on device' to INT32", 'value', 'ROW_REJECTED'],
    [
      'TransactionContext Error: Failed to commit: PRIMARY KEY or UNIQUE constraint violation: duplicate key "4711"',
      'constraint',
      'ROW_REJECTED',
    ],
    ['IO Error: Could not write file "/x": Input/output error', 'disk', 'ENVIRONMENT'],
    ['IO Error: Cannot open file "/disks/x": Not a directory', 'other', 'SINK_FAILED'],
    ['IO Error: The file "/x" exists, but it is not a valid DuckDB database file!', 'unreadable', 'CONFIG'],
    [
      'IO Error: Corrupt database file: computed checksum 1 does not match stored checksum 0 in block at location 0',
      'damaged',
      'ENVIRONMENT',
    ],
    ['Catalog Error: Table with name t does not exist!', 'shape', 'SCHEMA_CHANGED'],
    ['INTERRUPT Error: Interrupted!', 'interrupted', 'ABORTED'],
    ['FATAL Error: Failed', 'broken', 'SINK_FAILED'],
    ['Something new', 'other', 'SINK_FAILED'],
  ]

  test('are told apart, and rows are in none of ours', () => {
    for (const [text, kind, code] of examples) {
      assert.equal(kindOf(new Error(text)), kind, text)
      const ours = translate(new Error(text), 'writing', 't')
      assert.equal(ours.code, code, text)
      assert.doesNotMatch(`${ours.message} ${String(ours.cause)}`, /secret|4711/)
    }
    const held = examples.find(([, kind]) => kind === 'held')![0]
    assert.match(translate(new Error(held), 'opening').message, /held by process 42 \(\/usr\/bin\/duckdb\)/)
    assert.ok(
      isInvalidating(
        new Error(
          'IO Error: Transaction COMMIT succeeded and is durable, but the autocheckpoint failed. The database has been invalidated.',
        ),
      ),
    )
  })
})

test('a conflict passes, but not when it comes again and again', () => {
  const conflicts = new Conflicts()
  const met = (): RetryClass => {
    const error = translate(new Error('TransactionContext Error: Conflict on tuple deletion!'), 'writing', 't')
    return conflicts.settle(error).retry
  }
  assert.deepEqual([met(), met(), met(), met()], ['retry', 'retry', 'retry', 'retry'])
  conflicts.passed()
  assert.deepEqual([met(), met(), met(), met(), met()], ['retry', 'retry', 'retry', 'retry', 'operator'])
  assert.equal(conflicts.settle(translate(new Error('FATAL Error: Failed'), 'writing', 't')).retry, 'retry')
})

describe('MemoryLimit', () => {
  test('is small, grows with width, with big values while they are there, and after failures up to half of the machine', () => {
    const memory = new MemoryLimit({ fixed: null, inserts: 1, machine: 400e6 })
    assert.equal(megabytes(memory.bytes), 40)
    memory.widen(61)
    assert.equal(megabytes(memory.bytes), 104)
    memory.widen(10)
    assert.equal(megabytes(memory.bytes), 104)
    const lent = memory.lend(10e6)
    assert.equal(megabytes(memory.bytes), 184)
    memory.giveBack(lent)
    assert.equal(memory.grow(), true)
    assert.equal(memory.grow(), true)
    assert.equal(megabytes(memory.bytes), 200)
    assert.equal(memory.grow(), false)
  })

  test("a user's limit is kept", () => {
    const memory = new MemoryLimit({ fixed: 64e6, inserts: 4, machine: 1e9 })
    memory.widen(1000)
    memory.lend(1e9)
    assert.deepEqual([memory.grow(), memory.setVersions(1e9), memory.bytes], [false, false, 64e6])
  })
})

test('a semaphore lets so many through at once, in order', async () => {
  const semaphore = new Semaphore(2)
  const order: string[] = []
  const gates = new Map<string, () => void>()
  const work = (name: string): Promise<void> =>
    semaphore.run(async () => {
      order.push(name)
      await new Promise<void>((open) => gates.set(name, open))
    })
  const all = ['a', 'b', 'c', 'd'].map(work)
  await Promise.resolve()
  assert.deepEqual(order, ['a', 'b'])
  gates.get('b')?.()
  await all[1]
  assert.deepEqual(order, ['a', 'b', 'c'])
  for (const name of ['a', 'c']) gates.get(name)?.()
  await all[2]
  gates.get('d')?.()
  await Promise.all(all)
  assert.deepEqual(order, ['a', 'b', 'c', 'd'])
})

test('soft deletes: a batch is cut only where a row goes that was touched before', () => {
  const schema = schemaOf({ name: 't', columns: [id, { name: 'v', type: { kind: 'string' } }], key: ['id'] })
  const key = (value: string): { kind: 1; values: (string | undefined)[] } => ({ kind: 1, values: [value, undefined] })
  const slice = textRowsToSlice(schema, [
    { op: Op.insert, after: ['1', 'a'] },
    { op: Op.delete, after: null, before: key('2') },
    { op: Op.insert, after: ['2', 'b'] },
    { op: Op.delete, after: null, before: key('2') },
    { op: Op.update, after: ['3', 'c'], before: key('1') },
    { op: Op.delete, after: null, before: key('3') },
  ])
  assert.deepEqual(
    softRuns(slice, [0]).map((run) => run.rows),
    [3, 2, 1],
  )
})

describe('check', () => {
  const parts = (path: string, softDeletes = false): Parameters<typeof checkWithoutOpening>[0] => ({
    path,
    schema: 'tailrace',
    shape: { softDeletes, primaryKeys: false, numeric: 'decimal', textColumns: [] },
  })
  const errors = (...given: Parameters<typeof checkWithoutOpening>): readonly string[] =>
    checkWithoutOpening(...given).flatMap((problem) => (problem.severity === 'error' ? [`${problem.code} ${problem.message}`] : []))

  test('names that DuckDB does not tell apart, the place of our bookkeeping, the mark of soft deletes', async () => {
    await using folder = await tempFolder()
    const path = folder.join('a.duckdb')
    const twins = schemaOf({
      name: 'Orders',
      columns: [id, { name: 'Id', type: { kind: 'int64' } }, { name: '_deleted', type: { kind: 'boolean' } }],
    })
    const orders = schemaOf({ name: 'orders', columns: [id] })
    const found = errors(parts(path, true), [sinkTable(twins), sinkTable(orders), sinkTable(orders, 'TAILRACE')])
    assert.equal(found.length, 4)
    assert.match(found.join('\n'), /columns id and Id.*\n.*mark of soft deletes.*\n.*our bookkeeping.*\n.*would be one table, main\.orders/)
  })

  test(
    'the folder: missing, not writable, a folder in the place of the file',
    { skip: process.platform === 'win32' ? 'modes are of POSIX' : false },
    async () => {
      await using folder = await tempFolder()
      assert.match(errors(parts(folder.join('no', 'a.duckdb')), [])[0] ?? '', /^USAGE the folder .* does not exist/)
      assert.match(errors(parts(folder.path), [])[0] ?? '', /^CONFIG .* is no file/)
      await mkdir(folder.join('sealed'))
      await chmod(folder.join('sealed'), 0o555)
      // Root may write anywhere.
      if (process.getuid?.() !== 0) assert.match(errors(parts(folder.join('sealed', 'a.duckdb')), [])[0] ?? '', /^NOT_ALLOWED/)
    },
  )

  test('what plan says of types: those that become text, those that are narrower, those that were asked for', async () => {
    await using folder = await tempFolder()
    const target = await openTestTarget(folder, { config: { textColumns: ['t.u'] } })
    const table = sinkTable(
      schemaOf({
        name: 't',
        columns: [
          id,
          { name: 'n', type: { kind: 'decimal', precision: null, scale: null } },
          { name: 'a', type: { kind: 'timestamp' } },
          { name: 'b', type: { kind: 'timestamp' } },
          { name: 'u', type: { kind: 'uuid' } },
          { name: 'r', type: { kind: 'other', name: 'int4range' } },
        ],
        key: ['id'],
      }),
    )
    assert.deepEqual(target.sink.describeTypes?.(table), [
      'column n: decimal becomes VARCHAR: DuckDB has no decimal without limits; cast it in queries',
      'columns a, b: timestamp becomes TIMESTAMP: after 294247-01-10 is refused',
      'column u: uuid becomes VARCHAR, as asked',
    ])
    await target.close()
  })

  test('plan makes nothing: check, inspect and describeSchema leave no file', async () => {
    await using folder = await tempFolder()
    const target = await openTestTarget(folder)
    const table = sinkTable(schemaOf({ name: 't', columns: [id], key: ['id'] }), 'sales')
    await target.sink.check([table], signal)
    assert.equal(await target.sink.inspect(table, signal), 'absent')
    assert.deepEqual(target.sink.describeSchema?.(table), ['CREATE SCHEMA IF NOT EXISTS "sales"', 'CREATE TABLE "sales"."t" ("id" BIGINT)'])
    assert.deepEqual(await target.sink.remove?.(signal), [])
    await target.close()
    assert.deepEqual(await readdir(folder.path), [])
  })
})
