import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memory, memoryDatabase } from '../connectors/memory/index.ts'
import { endpoint, nullSink, plan, sync } from '../index.ts'
import { schemaOf } from '../testing/sink-batches.ts'
import { tempFolder } from '../testing/temp-folder.ts'

test('a table whose rows may come twice is judged by the key that is asked for now, in the plan as well', async () => {
  await using tmp = await tempFolder()
  const people = schemaOf({
    name: 'people',
    columns: [
      { name: 'id', type: { kind: 'int32' } },
      { name: 'name', type: { kind: 'string' } },
    ],
    key: [],
  })
  const database = memoryDatabase('prepare-keyless')
  database.createTable(people)
  database.transaction((tx) => tx.insert(people.id, { id: '1', name: 'a' }))
  const source = endpoint(memory, { database: database.name })
  const settings = { source, sink: nullSink, state: tmp.join('state.db'), until: 'caught-up' } as const
  const keyed = { ...settings, key: { people: ['id'] } }
  const warned = ({ problems }: { problems: readonly { message: string }[] }): boolean =>
    problems.some(({ message }) => message.includes('has no key'))

  assert.equal(warned(await plan(settings)), true)
  assert.equal(warned(await sync(settings)), true)
  assert.equal(warned(await plan(keyed)), false)
  assert.equal(warned(await sync(keyed)), false)
  assert.equal(warned(await sync(settings)), true)
})
