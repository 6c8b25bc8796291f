import assert from 'node:assert/strict'
import { test } from 'node:test'
import { batchOf, insert, schemaOf } from '../../testing/sink-batches.ts'
import { framesOf } from '../../testing/sink-load-cases.ts'
import { testContext } from '../../testing/test-context.ts'
import { NullSink, nullSink } from './index.ts'

const table = schemaOf({ name: 't', columns: [{ name: 'id', type: { kind: 'int32' } }], key: ['id'] })

test('takes rows of chunks and of the stream and counts them', async () => {
  const opened = await nullSink.sink!.open({}, testContext())
  assert.ok(opened instanceof NullSink)
  await using sink = opened
  await using loader = await sink.load()
  for (const frame of framesOf(table, [['1'], ['2']], [['3']])) await loader.write(frame)
  await loader.write({ format: 'pg-copy-binary', data: Buffer.alloc(9), rows: 10, bytes: 9 })
  assert.deepEqual(await loader.finish(), { rows: 13 })
  await sink.write(batchOf([{ number: 1, changes: [insert(table, ['4']), insert(table, ['5'])] }]))
  assert.equal(sink.rows, 15)
  assert.deepEqual([await sink.check(), await sink.inspect()], [[], 'absent'])
})
