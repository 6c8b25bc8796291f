import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isKeptUnique, type Index, type TableSchema } from '../../model/schema.ts'
import { insert, schemaOf, update } from '../../testing/sink-batches.ts'
import { isError, SinkBench } from '../../testing/sink-bench.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import { duckdbSinkCapabilities } from './capabilities.ts'
import { openTestTarget, type TestTarget } from './test-target.ts'

const t = schemaOf({
  name: 't',
  columns: [
    { name: 'a', type: { kind: 'int64' }, nullable: false },
    { name: 'b', type: { kind: 'string' } },
  ],
  key: ['a'],
})

async function withTarget(schema: TableSchema, work: (bench: SinkBench, target: TestTarget) => Promise<void>): Promise<void> {
  await using folder = await tempFolder()
  const target = await openTestTarget(folder)
  const bench = new SinkBench(target, { open: () => Promise.reject(new Error('one target only')), capabilities: duckdbSinkCapabilities })
  try {
    await bench.start(schema)
    await work(bench, target)
  } finally {
    await target.close()
  }
}

/** As a snapshot leaves them. */
function fill(target: TestTarget, select: string): Promise<number> {
  return target.read((connection) => connection.run(`INSERT INTO target.main.t ${select}`))
}

describe('CASE 16: keys that nobody keeps unique', () => {
  test('CASE 16: a key that is there twice is refused when the copy is complete, and before the first change; all rows stay', () =>
    withTarget(t, async (bench, target) => {
      await fill(target, "VALUES (1, 'x'), (2, 'y'), (1, 'z')")
      await assert.rejects(Promise.resolve(bench.sink.seal?.([bench.table(t)], bench.signal)), isError('NOT_ACCOUNTED'))
      await assert.rejects(bench.commit(update(t, ['1', 'changed'])), isError('NOT_ACCOUNTED'))
      await bench.expect(t, [
        { a: '1', b: 'x' },
        { a: '1', b: 'z' },
        { a: '2', b: 'y' },
      ])
    }))

  test('CASE 16: it is looked at again when the table was emptied and read again', () =>
    withTarget(t, async (bench, target) => {
      await bench.commit(insert(t, ['1', 'x']))
      await bench.sink.clear(bench.table(t), bench.signal)
      await fill(target, "VALUES (1, 'x'), (1, 'y')")
      await assert.rejects(bench.commit(update(t, ['1', 'changed'])), isError('NOT_ACCOUNTED'))
    }))

  test('CASE 16: the one pair among 600,000 rows is found, in several passes', () =>
    withTarget(t, async (bench, target) => {
      await fill(target, "SELECT i, 'x' FROM range(600000) r(i)")
      await bench.sink.seal?.([bench.table(t)], bench.signal)
      await bench.sink.clear(bench.table(t), bench.signal)
      await fill(target, "SELECT CASE i WHEN 599999 THEN 17 ELSE i END, 'x' FROM range(600000) r(i)")
      await assert.rejects(Promise.resolve(bench.sink.seal?.([bench.table(t)], bench.signal)), isError('NOT_ACCOUNTED'))
    }))

  test('an index of the source keeps a key unique when it has no other columns and takes no nulls', () => {
    const index = (columns: readonly string[] | null, unique = true): Index => ({
      name: 'i',
      unique,
      primary: false,
      deferrable: false,
      columns,
      definition: '',
    })
    const kept = (...indexes: readonly Index[]): boolean => isKeptUnique({ ...t, indexes })
    assert.equal(kept(index(['a'])), true)
    assert.equal(kept(index(['b']), index(['a', 'b']), index(['a'], false), index(null)), false)
    assert.equal(isKeptUnique({ ...t, key: [0, 1], indexes: [index(['a'])] }), true)
    assert.equal(isKeptUnique({ ...t, key: [1], indexes: [index(['b'])] }), false)
  })
})
