import assert from 'node:assert/strict'
import { renameSync, rmSync, statSync } from 'node:fs'
import { describe, it } from 'node:test'
import type { SnapshotFrame } from '../../model/batch.ts'
import type { TableSchema } from '../../model/schema.ts'
import type { Loader } from '../../sdk/sink.ts'
import type { Chunk } from '../../sdk/source.ts'
import { at, batchOf, insert, remove, schemaOf, sinkTable, update, type RowChange } from '../../testing/sink-batches.ts'
import { isError } from '../../testing/sink-bench.ts'
import { people } from '../../testing/sink-stream-cases.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import { Connection } from './connection.ts'
import { sqliteConfig } from './config.ts'
import { loadSqlite, value } from './database.ts'
import type { SqliteSink } from './sink.ts'
import { openSink, query, readRows, recordingLogger, type Line, type OpenOptions } from './test-data/open-sink.ts'
import type { WorkerLink } from './worker-link.ts'

const signal = new AbortController().signal

/** Its key is deferrable: only whole old rows tell which row is meant. */
const shifting = schemaOf({
  name: 'shifting',
  columns: [
    { name: 'id', type: { kind: 'int32' } },
    { name: 'v', type: { kind: 'string' } },
    { name: 'd', type: { kind: 'decimal', precision: 10, scale: 2 } },
  ],
  key: ['id'],
  identity: 'full',
})

interface Bench extends AsyncDisposable {
  readonly path: string
  readonly sink: SqliteSink
  commit(number: number, ...changes: RowChange[]): Promise<void>
  rows(schema: TableSchema): readonly (string | null)[][]
  /** Loads the whole first table in one chunk, beside what is there. */
  load(): Promise<Loader>
}

async function start(schemas: readonly TableSchema[], options: OpenOptions = {}): Promise<Bench> {
  const folder = await tempFolder()
  const path = folder.join('t.db')
  const sink = openSink(path, options)
  await sink.checkpoints.claim(signal)
  for (const schema of schemas) await sink.applySchema(sinkTable(schema), null, signal)
  return {
    path,
    sink,
    commit: (number, ...changes) => sink.write(batchOf([{ number, changes }]), signal),
    rows: (schema) =>
      readRows(path, sinkTable(schema))
        .map((row) => schema.columns.map((column) => row[column.name] ?? null))
        .sort((a, b) => (String(a) < String(b) ? -1 : 1)),
    load: () => {
      const chunk: Chunk = { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 }
      return sink.load({ table: sinkTable(schemas[0]!), chunk, format: 'rows', replace: false }, signal)
    },
    async [Symbol.asyncDispose]() {
      await sink[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

/** A chunk's frame of one row. */
function frame(row: RowChange): SnapshotFrame {
  return { format: 'rows', slice: batchOf([{ number: 1, changes: [row] }]).slices[0]!, rows: 1, bytes: 1 }
}

describe('SQLite sink against the traps', () => {
  it('TRAP 22: the main thread goes on while SQLite works', async () => {
    await using bench = await start([people])
    const changes = Array.from({ length: 20_000 }, (_, i) => insert(people, [String(i), 'name', 'x'.repeat(100)]))
    const loop = { turns: 0, ends: false }
    const written = bench.commit(1, ...changes).finally(() => void (loop.ends = true))
    while (!loop.ends) {
      loop.turns++
      await new Promise((resolve) => setImmediate(resolve))
    }
    await written
    assert.ok(loop.turns > 20, `the event loop turned ${loop.turns} times`)
  })

  it('TRAP 35: id = id + 1 under a deferrable key, in the order of the heap', async () => {
    await using bench = await start([shifting])
    await bench.commit(1, ...['1', '2', '3'].map((id) => insert(shifting, [id, `v${id}`, '1.10'])))
    await bench.commit(
      2,
      ...['1', '2', '3'].map((id) => update(shifting, [String(Number(id) + 1), undefined, undefined], [id, `v${id}`, '1.10'])),
    )
    assert.deepEqual(bench.rows(shifting), [
      ['2', 'v1', '1.10'],
      ['3', 'v2', '1.10'],
      ['4', 'v3', '1.10'],
    ])
  })

  it('TRAP 35: the same when the transaction comes in parts, and rows change while two have one key', async () => {
    await using bench = await start([shifting])
    await bench.commit(1, insert(shifting, ['1', 'a', null]), insert(shifting, ['2', 'b', null]))
    await bench.sink.write(batchOf([{ number: 2, changes: [update(shifting, ['2', 'a', null], ['1', 'a', null])] }], true), signal)
    await bench.sink.write(
      batchOf(
        [
          {
            number: 2,
            changes: [update(shifting, ['2', 'b!', null], ['2', 'b', null]), update(shifting, ['2', 'a!', null], ['2', 'a', null])],
          },
        ],
        true,
      ),
      signal,
    )
    await bench.commit(2, update(shifting, ['3', 'b!', null], ['2', 'b!', null]))
    assert.deepEqual(bench.rows(shifting), [
      ['2', 'a!', null],
      ['3', 'b!', null],
    ])
  })

  it('TRAP 35: the elder row is deleted, or the younger one goes and the elder returns', async () => {
    await using bench = await start([shifting])
    await bench.commit(1, insert(shifting, ['1', 'a', null]), insert(shifting, ['2', 'b', null]), insert(shifting, ['7', 'x', null]))
    await bench.commit(2, update(shifting, ['2', 'a', null], ['1', 'a', null]), remove(shifting, ['2', 'b', null]))
    assert.deepEqual(bench.rows(shifting), [
      ['2', 'a', null],
      ['7', 'x', null],
    ])
    await bench.commit(3, update(shifting, ['7', 'a', null], ['2', 'a', null]), remove(shifting, ['7', 'a', null]))
    assert.deepEqual(bench.rows(shifting), [['7', 'x', null]])
  })

  it('TRAP 41: an error in the middle of a batch leaves nothing of it, and nothing is written before recover', async () => {
    await using bench = await start([people])
    await bench.commit(1, insert(people, ['1', 'a', null]))
    await assert.rejects(
      bench.commit(2, insert(people, ['2', 'b', null]), insert(people, ['no number', 'c', null])),
      isError('ROW_REJECTED'),
    )
    await assert.rejects(bench.commit(3, insert(people, ['3', 'c', null])), isError('SINK_FAILED'))
    assert.deepEqual(bench.rows(people), [['1', 'a', null]])
    assert.deepEqual(await bench.sink.checkpoints.recover(signal), { epoch: 1, position: at(1) })
    await bench.commit(2, insert(people, ['2', 'b', null]))
    assert.deepEqual(bench.rows(people), [
      ['1', 'a', null],
      ['2', 'b', null],
    ])
  })

  it('TRAP 41: an error names the table and what failed, never a value', async () => {
    await using bench = await start([people])
    await assert.rejects(bench.commit(1, insert(people, ['secret', 'secret', 'secret'])), (error: Error & { path?: string }) => {
      assert.match(error.message, /the insert of a row of table public\.people failed/)
      assert.equal(error.path, 'public.people')
      assert.doesNotMatch(JSON.stringify([error.message, String(error.cause)]), /secret/)
      return true
    })
  })

  it('TRAP 42: a second unique value refuses the row, and no other row vanishes', async () => {
    await using bench = await start([people])
    await bench.commit(1, insert(people, ['1', 'a', 'x']))
    const other = new (loadSqlite().DatabaseSync)(bench.path)
    other.exec('CREATE UNIQUE INDEX people_name ON people (name)')
    other.close()
    await assert.rejects(bench.commit(2, insert(people, ['2', 'a', 'y'])), isError('ROW_REJECTED'))
    await bench.sink.checkpoints.recover(signal)
    await assert.rejects(
      bench.commit(2, insert(people, ['2', 'b', 'y']), update(people, ['3', 'a', undefined], ['2', null, null])),
      isError('ROW_REJECTED'),
    )
    assert.deepEqual(bench.rows(people), [['1', 'a', 'x']])
  })

  it('TRAP 44: the connection is durable, whatever the defaults of SQLite are', async () => {
    await using folder = await tempFolder()
    const path = folder.join('t.db')
    const connection = new Connection({
      path,
      config: sqliteConfig.parse({ path }),
      pipeline: 'p',
      softDeletes: false,
      epoch: null,
      tables: [],
    })
    const pragmas = ['synchronous', 'journal_mode', 'foreign_keys', 'wal_autocheckpoint', 'busy_timeout', 'cache_size'].map((name) =>
      value(connection.db, `PRAGMA ${name}`),
    )
    connection.close()
    assert.deepEqual(pragmas, [2, 'wal', 0, 20_000, 5000, -32 * 1024])
  })

  it('TRAP 60: a lock that we did not get is to be retried; after a take-over it is the fence', async () => {
    await using bench = await start([people], { config: { busyTimeout: 0.05 } })
    const other = new (loadSqlite().DatabaseSync)(bench.path)
    other.exec('BEGIN IMMEDIATE')
    await assert.rejects(
      bench.commit(1, insert(people, ['1', 'a', null])),
      (error: { code?: string; retry?: string }) => error.code === 'SINK_FAILED' && error.retry === 'retry',
    )
    other.exec('ROLLBACK')
    await bench.sink.checkpoints.recover(signal)
    await bench.commit(1, insert(people, ['1', 'a', null]))
    other.exec('UPDATE tailrace_checkpoints SET epoch = epoch + 1; BEGIN IMMEDIATE')
    await assert.rejects(bench.commit(2, insert(people, ['2', 'a', null])), isError('FENCED'))
    other.close()
    assert.deepEqual(bench.rows(people), [['1', 'a', null]])
  })

  it('TRAP 60: whoever cannot take over because of a lock is told who may hold it', async () => {
    await using bench = await start([people])
    await using later = openSink(bench.path, { config: { busyTimeout: 0.05 } })
    await bench.sink.write(batchOf([{ number: 1, changes: [insert(people, ['1', 'a', null])] }], true), signal)
    await assert.rejects(
      later.checkpoints.claim(signal),
      (error: Error & { code?: string }) => error.code === 'HELD' && error.message.includes(`:${process.pid}`),
    )
    await bench.sink.checkpoints.recover(signal)
    assert.equal((await later.checkpoints.claim(signal)).epoch, 2)
  })

  it('CASE 22: the largest keys work, on every Node', async () => {
    await using bench = await start([people])
    const largest = '9223372036854775807'
    await bench.commit(1, insert(people, [largest, 'a', null]), insert(people, ['-9223372036854775808', 'b', null]))
    await bench.commit(
      2,
      update(people, [largest, 'A', undefined]),
      update(people, ['9007199254740993', undefined, undefined], ['-9223372036854775808', null, null]),
    )
    await bench.commit(3, remove(people, [largest, null, null]))
    assert.deepEqual(bench.rows(people), [['9007199254740993', 'b', null]])
  })

  it('CASE 27: an unchanged value stays, also when two updates share a batch and one sets it to null', async () => {
    await using bench = await start([people])
    await bench.commit(1, insert(people, ['1', 'a', 'big']), insert(people, ['2', 'b', 'big']))
    await bench.commit(
      2,
      update(people, ['1', 'a2', undefined]),
      update(people, ['2', undefined, null]),
      update(people, ['2', 'b2', undefined]),
    )
    assert.deepEqual(bench.rows(people), [
      ['1', 'a2', 'big'],
      ['2', 'b2', null],
    ])
  })

  it('a worker that dies rejects what waits, and recover starts another one', async () => {
    const links: WorkerLink[] = []
    await using bench = await start([people], { onLink: (link) => void links.push(link) })
    await bench.commit(1, insert(people, ['1', 'a', null]))
    await bench.sink.write(batchOf([{ number: 2, changes: [insert(people, ['2', 'half', null])] }], true), signal)
    await links[0]?.kill()
    await assert.rejects(
      bench.commit(2, insert(people, ['3', 'b', null])),
      (error: { code?: string; retry?: string }) => error.code === 'SINK_FAILED' && error.retry === 'retry',
    )
    assert.deepEqual(await bench.sink.checkpoints.recover(signal), { epoch: 1, position: at(1) })
    await bench.commit(2, insert(people, ['2', 'whole', null]))
    assert.deepEqual(bench.rows(people), [
      ['1', 'a', null],
      ['2', 'whole', null],
    ])
    assert.equal(links.length, 2)
  })

  it('a write that is given up rejects at once; recover finds what was really stored', async () => {
    await using bench = await start([people])
    const abort = new AbortController()
    const written = bench.sink.write(batchOf([{ number: 1, changes: [insert(people, ['1', 'a', null])] }]), abort.signal)
    abort.abort(new Error('enough'))
    await assert.rejects(written, /enough/)
    assert.equal((await bench.sink.checkpoints.recover(signal)).position, at(1))
    await bench.commit(2, insert(people, ['2', 'b', null]))
    assert.equal(bench.rows(people).length, 2)
  })

  it('recover gives up a chunk that is being loaded; its late frames are not written', async () => {
    await using bench = await start([people])
    await using loader = await bench.load()
    await loader.write(frame(insert(people, ['1', 'a', null])))
    await bench.sink.checkpoints.recover(signal)
    await bench.commit(1, insert(people, ['2', 'b', null]))
    await assert.rejects(loader.finish(), isError('SINK_FAILED'))
    assert.deepEqual(bench.rows(people), [['2', 'b', null]])
  })

  it('a chunk and a streamed transaction wait for each other', async () => {
    await using bench = await start([people])
    const loader = await bench.load()
    const written = bench.commit(1, insert(people, ['2', 'b', null]))
    await loader.write(frame(insert(people, ['1', 'a', null])))
    assert.deepEqual(await loader.finish(), { rows: 1 })
    await loader[Symbol.asyncDispose]()
    await written
    assert.equal(bench.rows(people).length, 2)
  })

  const primary = { name: 'people_pkey', unique: true, primary: true, deferrable: false, columns: ['id'], definition: '' }
  for (const [who, schema, code] of [
    ['the source', { ...people, indexes: [primary] }, 'ROW_REJECTED'],
    ['nobody', people, 'NOT_ACCOUNTED'],
  ] as const)
    it(`a loaded row whose key is there already, which ${who} keeps unique, is refused: ${code}`, async () => {
      await using bench = await start([schema])
      await bench.commit(1, insert(schema, ['1', 'a', null]))
      const load = async (): Promise<void> => {
        await using loader = await bench.load()
        await loader.write(frame(insert(schema, ['1', 'b', null])))
        await loader.finish()
      }
      await assert.rejects(load, isError(code))
      await bench.commit(2, insert(schema, ['2', 'b', null]))
      assert.deepEqual(bench.rows(schema), [
        ['1', 'a', null],
        ['2', 'b', null],
      ])
    })

  it('signs of another writer are logged: deletes without a row, inserts on a key that is taken', async () => {
    const lines: Line[] = []
    await using bench = await start([people], { logger: recordingLogger(lines) })
    await bench.commit(1, insert(people, ['1', 'a', null]))
    await bench.commit(2, insert(people, ['1', 'b', null]), remove(people, ['9', null, null]))
    assert.deepEqual(
      lines.map((line) => [line.level, line.fields?.['rows']]),
      [
        ['warn', 1],
        ['warn', 1],
      ],
    )
    assert.deepEqual(bench.rows(people), [['1', 'b', null]])
  })

  it('a file that was removed or replaced under us is noticed, not written to', async () => {
    await using bench = await start([people])
    await bench.commit(1, insert(people, ['1', 'a', null]))
    renameSync(bench.path, `${bench.path}.away`)
    await assert.rejects(bench.commit(2, insert(people, ['2', 'a', null])), isError('ENVIRONMENT'))
    await assert.rejects(bench.sink.checkpoints.recover(signal), isError('ENVIRONMENT'))
    renameSync(`${bench.path}.away`, bench.path)
    assert.equal((await bench.sink.checkpoints.recover(signal)).position, at(1))
  })

  it('a log that readers keep from being emptied is reported, and emptied when they end', async () => {
    const lines: Line[] = []
    await using bench = await start([people], { logger: recordingLogger(lines), config: { walLimitMegabytes: 0.25 } })
    const reader = new (loadSqlite().DatabaseSync)(bench.path, { readOnly: true })
    reader.exec('BEGIN')
    reader.prepare('SELECT count(*) FROM people').get()
    const grow = (number: number): Promise<void> =>
      bench.commit(
        number,
        ...Array.from({ length: 2000 }, (_, i) => insert(people, [`${number}${String(i).padStart(5, '0')}`, 'n', 'x'.repeat(200)])),
      )
    await grow(1)
    assert.match(lines[0]?.message ?? '', /write-ahead log/)
    assert.equal((await bench.sink.seal([], signal)).length, 1)
    reader.close()
    await grow(2)
    assert.equal(statSync(`${bench.path}-wal`).size, 0)
    assert.deepEqual(await bench.sink.seal([], signal), [])
  })

  it('after it is closed, every call says so, and closing again is quiet', async () => {
    await using bench = await start([people])
    await bench.sink[Symbol.asyncDispose]()
    await bench.sink[Symbol.asyncDispose]()
    await assert.rejects(bench.commit(1, insert(people, ['1', 'a', null])), isError('CLOSED'))
    await assert.rejects(bench.sink.checkpoints.recover(signal), isError('CLOSED'))
  })

  it('nothing is written before the pipeline is claimed', async () => {
    await using folder = await tempFolder()
    await using sink = openSink(folder.join('t.db'))
    await assert.rejects(sink.applySchema(sinkTable(people), null, signal), isError('BUG'))
  })

  it('several pipelines share a file; remove takes only its own bookkeeping, the last one all', async () => {
    await using bench = await start([people])
    await using other = openSink(bench.path, { pipeline: 'q' })
    assert.equal((await other.checkpoints.claim(signal)).epoch, 1)
    await bench.commit(1, insert(people, ['1', 'a', null]))
    assert.equal((await other.remove(signal)).length, 1)
    assert.deepEqual(
      query(bench.path, 'SELECT pipeline FROM tailrace_checkpoints').map((row) => row['pipeline']),
      ['p'],
    )
    assert.deepEqual(await bench.sink.remove(signal), [
      'table tailrace_checkpoints',
      'table tailrace_dropped_columns',
      'table tailrace_writers',
    ])
    assert.deepEqual(bench.rows(people), [['1', 'a', null]])
    rmSync(bench.path)
  })
})
