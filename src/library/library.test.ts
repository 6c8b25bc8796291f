import assert from 'node:assert/strict'
import { test } from 'node:test'
import { memory, memoryDatabase, type MemoryDatabase } from '../connectors/memory/index.ts'
import {
  endpoint,
  openSource,
  plan,
  remove,
  reset,
  status,
  sync,
  SyncError,
  tables,
  TailraceError,
  type Change,
  type TypedEndpoint,
} from '../index.ts'
import { tableId, type TableSchema } from '../model/schema.ts'
import { parseConnectorUri } from '../sdk/uri.ts'
import { tempFolder, type TempFolder } from '../testing/temp-folder.ts'

const USERS = tableId('public', 'users')

let databases = 0

/** A database with a table of three users; as source and as its endpoint. */
function world(tmp: TempFolder): {
  readonly database: MemoryDatabase
  readonly source: TypedEndpoint
  readonly sink: TypedEndpoint
  readonly copy: MemoryDatabase
  readonly state: string
} {
  const name = `library-${++databases}`
  const database = memoryDatabase(name)
  database.createTable(usersSchema())
  database.transaction((tx) => {
    for (const id of ['1', '2', '3']) tx.insert(USERS, { id, email: `${id}@example.org` })
  })
  const end = (place: string): TypedEndpoint =>
    endpoint(memory, memory.fromUri(parseConnectorUri(`memory:${place}`)) as Parameters<typeof endpoint<typeof memory.config>>[1])
  return { database, source: end(name), sink: end(`${name}-copy`), copy: memoryDatabase(`${name}-copy`), state: tmp.join('state.db') }
}

function usersSchema(): TableSchema {
  const column = (name: string, kind: 'int32' | 'string', ordinal: number): TableSchema['columns'][number] => {
    return {
      name,
      type: { kind },
      nullable: kind === 'string',
      sourceType: kind,
      sourceTypeId: 0,
      ordinal,
      generated: 'no',
      identity: 'no',
    }
  }
  const rest = {
    identity: 'key',
    indexes: [],
    foreignKeys: [],
    sequences: [],
    estimate: { rows: 3, bytes: 100 },
    relation: 1,
    dialect: 'memory',
  } as const
  return {
    id: USERS,
    namespace: 'public',
    name: 'users',
    columns: [column('id', 'int32', 1), column('email', 'string', 2)],
    key: [0],
    ...rest,
  }
}

test('a copy, its status, its tables, its reset and its end', async () => {
  await using tmp = await tempFolder()
  const { source, sink, copy, state } = world(tmp)
  const planned = await plan({ source, sink, state })
  assert.deepEqual(
    planned.tables.map((table) => table.source),
    [USERS],
  )
  const seen: string[] = []
  const report = await sync({ source, sink, state, name: 'copy', onProgress: (progress) => seen.push(progress.state) })
  assert.equal(report.ok, true, JSON.stringify(report.problems))
  assert.equal(report.tables[0]!.written, 3)
  assert.equal(
    [...copy.tables.values()].reduce((sum, table) => sum + table.rows.size, 0),
    3,
  )
  assert.equal((await status('copy', { state })).state, report.state)
  assert.deepEqual(
    (await tables('copy', { state })).map((table) => [table.source, table.key]),
    [[USERS, ['id']]],
  )
  assert.equal((await reset({ name: 'copy', state, source, sink })).pipeline, 'copy')
  assert.equal((await remove({ name: 'copy', state, source: null, sink })).ok, true)
  await assert.rejects(status('copy', { state }), (error) => error instanceof TailraceError && error.code === 'USAGE')
})

test('a run that failed rejects, with the report', async () => {
  await using tmp = await tempFolder()
  const { source, sink, state } = world(tmp)
  assert.equal((await sync({ source, sink, state, name: 'one' })).ok, true)
  await assert.rejects(sync({ source, sink, state, name: 'two' }), (error) => {
    assert.ok(error instanceof SyncError && error instanceof TailraceError, String(error))
    assert.deepEqual([error.code, error.exitCode, error.report.ok, error.report.pipeline], ['TARGET_NOT_EMPTY', 1, false, 'two'])
    assert.match(error.message, /public\.users/)
    assert.match(error.hint ?? '', /--if-exists/)
    assert.deepEqual(
      error.problems.map(({ code, severity }) => [code, severity]),
      [['TARGET_NOT_EMPTY', 'error']],
    )
    return true
  })
  const stopped = sync({
    source,
    sink,
    state,
    name: 'three',
    ifExists: 'append',
    transform: () => {
      throw new Error('no')
    },
  })
  await assert.rejects(stopped, { name: 'SyncError', code: 'TRANSFORM_FAILED' })
})

test('mistakes of a caller without a type checker', async () => {
  await using tmp = await tempFolder()
  const { source, sink, state } = world(tmp)
  const wrong: readonly (readonly [object, RegExp])[] = [
    [{ source, sink, folow: true }, /no option `folow`/],
    [{ source }, /no sink is given/],
    [{ source, sink, ifExists: 'apend' }, /ifExists must be one of/],
    [{ source, sink, workers: 1.5 }, /whole number/],
    [{ source, sink, until: new Date('x') }, /is no time/],
    [{ source: endpoint(memory, { nmae: 'x' } as never), sink }, /`nmae` is no option of Memory/],
    [{ source: 'memroy:x', sink }, /no connector has the scheme/],
  ]
  for (const [options, message] of wrong) {
    await assert.rejects(sync({ state, ...options } as Parameters<typeof sync>[0]), (error) => {
      assert.ok(error instanceof TailraceError, String(error))
      assert.equal(error.code, 'USAGE')
      assert.match(error.message, message)
      return true
    })
  }
})

interface User extends Record<string, string | number> {
  id: number
  email: string
}

test('the everyday program: ten lines', async () => {
  await using tmp = await tempFolder()
  const { database, source: input, state } = world(tmp)
  const stop = new AbortController()
  const seen: string[] = []
  {
    await using source = await openSource(input, { state })
    assert.deepEqual(
      (await source.tables()).map((table) => table.id),
      [USERS],
    )
    const reading = (async () => {
      for await (const tx of source.stream<User>({ tables: ['users'], signal: stop.signal })) {
        for (const change of tx.changes) seen.push(`${change.op} ${change.after?.id}: ${change.after?.email}`)
        await source.confirm(tx.position)
        stop.abort()
      }
    })()
    await anchored(database)
    database.transaction((tx) => {
      tx.insert(USERS, { id: '4', email: 'four' })
      tx.update(USERS, { id: '1' }, { email: 'one' })
    })
    await reading
  }
  assert.deepEqual(seen, ['insert 4: four', 'update 1: one'])
  // What happened while nobody read, and only that.
  database.transaction((tx) => tx.delete(USERS, { id: '2' }))
  await using again = await openSource(input, { state })
  const changes: Change<User>[] = []
  const end = new AbortController()
  for await (const tx of again.stream<User>({ signal: end.signal })) {
    changes.push(...tx.changes)
    end.abort()
  }
  assert.deepEqual(
    changes.map((change) => [change.op, change.before?.id]),
    [['delete', 2]],
  )
  await again.remove()
})

/** Resolves when the reader has made its place in the log. */
async function anchored(database: MemoryDatabase): Promise<void> {
  while (database.slots.size === 0) await new Promise((resolve) => setImmediate(resolve))
}

test('a second reader of the same name is told who holds it', async () => {
  await using tmp = await tempFolder()
  const { source, state } = world(tmp)
  await using _first = await openSource(source, { state, name: 'reader' })
  await assert.rejects(openSource(source, { state, name: 'reader' }), (error) => error instanceof TailraceError && error.code === 'HELD')
})
