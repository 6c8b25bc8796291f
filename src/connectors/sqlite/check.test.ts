import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { getuid } from 'node:process'
import { describe, it } from 'node:test'
import { batchOf, insert, schemaOf, sinkTable } from '../../testing/sink-batches.ts'
import { tempFolder } from '../../testing/temp-folder.ts'
import type { Problem } from '../../sdk/errors.ts'
import type { SinkTable } from '../../sdk/sink.ts'
import { loadSqlite } from './database.ts'
import { openSink, query, type OpenOptions } from './test-data/open-sink.ts'

const signal = new AbortController().signal
const things = schemaOf({
  name: 'things',
  columns: [
    { name: 'id', type: { kind: 'int64' } },
    { name: 'v', type: { kind: 'string' } },
  ],
  key: ['id'],
})

async function check(
  path: string,
  tables: readonly SinkTable[] = [sinkTable(things)],
  options: OpenOptions = {},
): Promise<readonly Problem[]> {
  await using sink = openSink(path, options)
  return await sink.check(tables, signal)
}

const shown = (problems: readonly Problem[]): string[] =>
  problems.map((problem) => `${problem.severity} ${problem.code}: ${problem.message}`)

describe('check of the SQLite sink', () => {
  it('finds nothing wrong with a new file, and makes none', async () => {
    await using folder = await tempFolder()
    assert.deepEqual(await check(folder.join('t.db')), [])
    assert.equal(existsSync(folder.join('t.db')), false)
  })

  it('names a folder that is missing, with what makes it', async () => {
    await using folder = await tempFolder()
    const [problem] = await check(folder.join('no', 't.db'))
    assert.equal(problem?.code, 'USAGE')
    assert.equal(problem?.hint, `mkdir -p ${folder.join('no')}`)
  })

  it('refuses a folder at the place, a file that is no database, and one in UTF-16', async () => {
    await using folder = await tempFolder()
    mkdirSync(folder.join('d.db'))
    writeFileSync(folder.join('text.db'), 'this is certainly no database, but it is long enough for a header of 100 bytes: '.repeat(20))
    const wide = new (loadSqlite().DatabaseSync)(folder.join('wide.db'))
    wide.exec("PRAGMA encoding = 'UTF-16le'; CREATE TABLE x (a)")
    wide.close()
    const found = await Promise.all(['d.db', 'text.db', 'wide.db'].map((name) => check(folder.join(name))))
    assert.deepEqual(
      found.map((problems) => problems[0]?.code),
      ['CONFIG', 'CONFIG', 'SCHEMA_UNSUPPORTED'],
    )
  })

  it('refuses what this user may not write', { skip: getuid?.() === 0 ? 'root may write everywhere' : false }, async () => {
    await using folder = await tempFolder()
    chmodSync(folder.path, 0o555)
    assert.equal((await check(folder.join('t.db')))[0]?.code, 'NOT_ALLOWED')
  })

  it('CASE 30: names that SQLite does not tell apart, or keeps for itself', async () => {
    await using folder = await tempFolder()
    const named = (name: string, namespace: string): SinkTable => ({
      ...sinkTable(schemaOf({ name, namespace, columns: [{ name: 'id', type: { kind: 'int64' } }], key: ['id'] })),
      target: { namespace, name },
    })
    const columns = schemaOf({
      name: 'cols',
      columns: [
        { name: 'id', type: { kind: 'int64' } },
        { name: 'Name', type: { kind: 'string' } },
        { name: 'name', type: { kind: 'string' } },
      ],
      key: ['id'],
    })
    const problems = await check(folder.join('t.db'), [
      named('Users', 'public'),
      named('users', 'public'),
      named('users', 'hr'),
      named('sqlite_x', 'public'),
      sinkTable(columns),
    ])
    assert.deepEqual(shown(problems), [
      'error CONFIG: tables public."Users" and public.users would both become users',
      'error SCHEMA_UNSUPPORTED: table name sqlite_x is reserved in SQLite or by Tailrace',
      'error SCHEMA_UNSUPPORTED: table public.cols has two columns named name, which SQLite does not tell apart',
    ])
  })

  it('a column of the name that marks deletes is in the way of soft deletes only', async () => {
    await using folder = await tempFolder()
    const marked = sinkTable(
      schemaOf({
        name: 'm',
        columns: [
          { name: 'id', type: { kind: 'int64' } },
          { name: '_deleted', type: { kind: 'boolean' } },
        ],
        key: ['id'],
      }),
    )
    assert.deepEqual(await check(folder.join('t.db'), [marked]), [])
    assert.equal((await check(folder.join('t.db'), [marked], { deletes: 'soft' }))[0]?.severity, 'error')
  })

  it('a table without a key is slow; one that hides the rowid cannot be followed', async () => {
    await using folder = await tempFolder()
    const keyless = (...names: string[]): SinkTable =>
      sinkTable(schemaOf({ name: names[0]!, columns: names.map((name) => ({ name, type: { kind: 'string' } })) }))
    const problems = await check(folder.join('t.db'), [keyless('a'), keyless('rowid', 'oid', '_ROWID_')])
    assert.deepEqual(
      problems.map((problem) => problem.severity),
      ['warning', 'error'],
    )
  })

  it('a column of somebody else that would change values is told', async () => {
    await using folder = await tempFolder()
    const made = new (loadSqlite().DatabaseSync)(folder.join('t.db'))
    made.exec(
      'CREATE TABLE things (id INTEGER PRIMARY KEY, v NUMERIC); CREATE TABLE floats (id INTEGER PRIMARY KEY, f REAL); CREATE VIEW seen AS SELECT 1',
    )
    made.close()
    const seen = schemaOf({ name: 'seen', columns: [{ name: 'id', type: { kind: 'int64' } }], key: ['id'] })
    await using sink = openSink(folder.join('t.db'))
    assert.deepEqual(await sink.misfits(sinkTable(things), signal), [{ column: 'v', found: 'NUMERIC', wanted: 'TEXT' }])
    const floats = schemaOf({
      name: 'floats',
      columns: [
        { name: 'id', type: { kind: 'int64' } },
        { name: 'f', type: { kind: 'float64' } },
      ],
      key: ['id'],
    })
    assert.deepEqual(await sink.misfits(sinkTable(floats), signal), [
      { column: 'f', found: 'REAL', wanted: 'ANY', bends: '-0.0 becomes 0.0' },
    ])
    // Not a word of them from `check`: it is not told whether the table is to be made anew.
    assert.deepEqual(shown(await check(folder.join('t.db'), [sinkTable(things), sinkTable(floats), sinkTable(seen)])), [
      'error SCHEMA_UNSUPPORTED: seen is a view in the target, expected a table',
    ])
  })

  it('more bytes than the disk has free', async () => {
    await using folder = await tempFolder()
    const huge = sinkTable({ ...things, estimate: { rows: 1, bytes: 1e18 } })
    assert.match((await check(folder.join('t.db'), [huge]))[0]?.message ?? '', /MB free/)
  })
})

describe('tables and indexes of the SQLite sink', () => {
  it('describes what it will make', async () => {
    await using folder = await tempFolder()
    await using sink = openSink(folder.join('t.db'), { deletes: 'soft', config: { indexes: 'plain' } })
    const index = { name: 'things_v', unique: true, primary: false, deferrable: false, columns: ['v'], definition: 'USING btree (v)' }
    const lines = schemaOf({
      name: 'lines',
      columns: [
        { name: 'v', type: { kind: 'string' } },
        { name: 'n', type: { kind: 'int32' } },
      ],
      key: ['v', 'n'],
    })
    assert.deepEqual(sink.describeSchema(sinkTable({ ...things, indexes: [index] })), [
      'CREATE TABLE "things" ("id" INTEGER PRIMARY KEY, "v" TEXT, "_deleted" INTEGER NOT NULL DEFAULT 0) STRICT',
      'CREATE INDEX "things_things_v" ON "things" ("v")',
    ])
    assert.deepEqual(sink.describeSchema(sinkTable(lines)), [
      'CREATE TABLE "lines" ("v" TEXT, "n" INTEGER, "_deleted" INTEGER NOT NULL DEFAULT 0) STRICT',
      'CREATE UNIQUE INDEX "tailrace_key_lines" ON "lines" ("v", "n")',
    ])
  })

  it('seal makes the indexes once; the key of text is indexed before its first change', async () => {
    await using folder = await tempFolder()
    const path = folder.join('t.db')
    const table = sinkTable(
      schemaOf({
        name: 'words',
        columns: [
          { name: 'w', type: { kind: 'string' } },
          { name: 'v', type: { kind: 'string' } },
        ],
        key: ['w'],
      }),
    )
    const sealed = {
      ...table,
      schema: {
        ...table.schema,
        indexes: [{ name: 'words_v', unique: true, primary: false, deferrable: false, columns: ['v'], definition: '' }],
      },
    }
    await using sink = openSink(path, { config: { indexes: 'plain' } })
    const indexes = (): unknown[] =>
      query(path, "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'words' ORDER BY 1").map((row) => row['name'])
    await sink.checkpoints.claim(signal)
    await sink.applySchema(table, null, signal)
    assert.deepEqual(indexes(), [])
    await sink.write(batchOf([{ number: 1, changes: [insert(table.schema, ['a', 'x']), insert(table.schema, ['b', 'x'])] }]), signal)
    assert.deepEqual(indexes(), ['tailrace_key_words'])
    for (const _time of [1, 2]) await sink.seal([sealed], signal)
    assert.deepEqual(indexes(), ['tailrace_key_words', 'words_words_v'])
  })
})
