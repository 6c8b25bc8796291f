import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { after, describe, it } from 'node:test'
import { splitList } from '../../../sdk/config/values.ts'
import { EVERYTHING } from '../../../sdk/selection.ts'
import { startPostgres } from '../../../testing/postgres-server.ts'
import { TargetServer } from '../sink/test-data/target-server.ts'
import { PostgresSource } from './source.ts'

const server = await TargetServer.start(startPostgres)
after(() => server[Symbol.asyncDispose]())
const signal = new AbortController().signal

/** What a shell makes of the option in a hint. */
function typed(hint: string, option: string): readonly string[] {
  const at = hint.indexOf(option)
  assert.ok(at >= 0, hint)
  return splitList(execFileSync('sh', ['-c', `printf %s ${hint.slice(at + option.length)}`], { encoding: 'utf8' }))
}

describe(`check of a PostgreSQL ${server.major} source`, () => {
  it('what it says to type leaves out the table that it is said of, whatever its name', async () => {
    await using database = await server.target()
    await database.oracle.run(
      `CREATE UNLOGGED TABLE "It's, 1" (id integer PRIMARY KEY); CREATE TABLE "No Key" (id integer); CREATE TABLE plain (id integer PRIMARY KEY)`,
    )
    await using source = await PostgresSource.open(database.config, database.context())
    const tables = await source.discover(EVERYTHING, signal)
    const problems = (await source.check(tables, 'follow', signal)).filter(({ code }) => code === 'SCHEMA_UNSUPPORTED')
    assert.deepEqual(
      problems.map(({ path }) => path),
      [`public."It's, 1"`, 'public."No Key"'],
    )
    const refusals = problems.flatMap(({ hint = '' }) => typed(hint, '--tables '))
    const left = await source.discover({ ...EVERYTHING, tables: refusals }, signal)
    assert.deepEqual(
      left.map(({ id }) => id),
      ['public.plain'],
    )
  })

  it(
    "TRAP 54: what it says to type leaves out the columns that a person's publication does not send, whatever their names",
    { skip: server.major < 15 ? 'column lists came with PostgreSQL 15' : false },
    async () => {
      await using database = await server.target()
      await database.oracle.run(
        `CREATE TABLE "My Docs" (id integer PRIMARY KEY, "It's" text, note text, "a.b" text, "c, d" text, "e ""f""" text, more text); CREATE PUBLICATION mine FOR TABLE "My Docs" (id, more)`,
      )
      await using source = await PostgresSource.open({ ...database.config, publication: 'mine' }, database.context())
      const tables = await source.discover(EVERYTHING, signal)
      const [problem, ...others] = (await source.check(tables, 'follow', signal)).filter(({ severity }) => severity === 'error')
      assert.deepEqual(others, [])
      const exclude = typed(problem?.hint ?? '', '--exclude ')
      const narrowed = await source.discover({ ...EVERYTHING, exclude }, signal)
      assert.deepEqual(
        narrowed.map(({ schema }) => schema.columns.map(({ name }) => name)),
        [['id', 'more']],
      )
      assert.deepEqual(
        (await source.check(narrowed, 'follow', signal)).filter(({ severity }) => severity === 'error'),
        [],
      )
    },
  )

  it('CASE 10: a slot that was invalidated is not read from, and the publication is left as it was', async () => {
    await using database = await server.target()
    await database.oracle.run('CREATE TABLE t (id integer PRIMARY KEY); CREATE TABLE later (id integer PRIMARY KEY)')
    const memory = new Map<string, string | null>()
    const context = {
      ...database.context(),
      memory: {
        get: async (key: string) => memory.get(key) ?? null,
        set: async (key: string, value: string | null) => void memory.set(key, value),
      },
    }
    await using source = await PostgresSource.open(database.config, context)
    const tables = await source.discover(EVERYTHING, signal)
    const [t] = tables.filter(({ id }) => id === 'public.t')
    assert.ok(t !== undefined)
    await source.anchor([t], signal)
    const slot = memory.get('postgres.slot') ?? ''
    await database.oracle.run(
      `SELECT pg_drop_replication_slot('${slot}'); SELECT pg_create_logical_replication_slot('${slot}', 'test_decoding')`,
    )
    await assert.rejects(source.anchor(tables, signal), {
      code: 'HISTORY_LOST',
      message: `replication slot ${slot} uses the plugin test_decoding, not pgoutput`,
    })
    assert.equal(await database.oracle.value('SELECT string_agg(tablename, $$,$$) FROM pg_publication_tables'), 't')
    await database.oracle.run(`SELECT pg_drop_replication_slot('${slot}')`)
  })
})
