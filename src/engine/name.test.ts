import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memory, memoryDatabase } from '../connectors/memory/index.ts'
import { endpoint, plan, remove, reset, sync, type TypedEndpoint } from '../index.ts'
import { problemsOf, ProblemsError } from '../sdk/config/problems.ts'
import type { Connector } from '../sdk/connector.ts'
import { TailraceError, type Problem } from '../sdk/errors.ts'
import type { Source } from '../sdk/source.ts'
import { schemaOf } from '../testing/sink-batches.ts'
import { tempFolder } from '../testing/temp-folder.ts'

const FOUND: Problem = { severity: 'warning', code: 'CONFIG', message: 'something is odd', hint: 'tailrace reset <pipeline> mends it' }
const NAME = 'mine'
const MENDED = `tailrace reset ${NAME} mends it`

/** A source that a test has something to say about when it is opened. */
function watched(database: string, opened: (source: Source) => void): TypedEndpoint {
  const { source } = memory
  if (source === undefined) throw new Error('memory has no source')
  const connector: Connector<typeof memory.config> = {
    ...memory,
    source: {
      ...source,
      open: async (config, context) => {
        const object = await source.open(config, context)
        opened(object)
        return object
      },
    },
  }
  return endpoint(connector, { database })
}

function someTable(name: string): string {
  const database = memoryDatabase(name)
  database.createTable(schemaOf({ name: 'people', columns: [{ name: 'id', type: { kind: 'int32' } }], key: ['id'] }))
  return database.name
}

test('what a connector tells people to type names the pipeline, in a report and in a plan', async () => {
  await using tmp = await tempFolder()
  const source = watched(someTable('name-problems'), (object) => {
    object.check = async () => [FOUND]
  })
  const settings = { source, sink: endpoint(memory, { database: 'name-problems-copy' }), state: tmp.join('state.db'), name: NAME }
  for (const { problems } of [await plan(settings), await sync(settings)])
    assert.deepEqual(
      problems.map(({ hint }) => hint),
      [MENDED],
    )
})

test('so does what ends a command before there is a report', async () => {
  await using tmp = await tempFolder()
  const database = someTable('name-errors')
  const sink = endpoint(memory, { database: 'name-errors-copy' })
  const place = { sink, state: tmp.join('state.db'), name: NAME }
  await sync({ ...place, source: endpoint(memory, { database }) })
  const failures = [
    () => new TailraceError('ENVIRONMENT', 'the file is damaged', { hint: FOUND.hint!, cause: new Error('why') }),
    () => new ProblemsError([{ ...FOUND, severity: 'error' }, FOUND]),
  ]
  for (const failure of failures)
    for (const command of [plan, sync, reset, remove]) {
      const thrown = failure()
      const source = watched(database, () => {
        throw thrown
      })
      await assert.rejects(command({ ...place, source }), (error: unknown) => {
        assert.equal(error, thrown, 'the same, with its stack and cause')
        assert.deepEqual(
          [thrown.hint, ...problemsOf(thrown).map(({ hint }) => hint)].filter((hint) => hint !== MENDED),
          [],
        )
        return true
      })
    }
})
