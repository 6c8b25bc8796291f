import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { tableId, type ForeignKey, type TableSchema } from '../../../model/schema.ts'
import { startPostgres } from '../../../testing/postgres-server.ts'
import { at, batchOf, insert, remove, truncateOf, update } from '../../../testing/sink-batches.ts'
import { isError, type SinkBench } from '../../../testing/sink-bench.ts'
import { pgTable, primaryKey, uniqueIndex } from './test-data/tables.ts'
import { TargetServer } from './test-data/target-server.ts'

const server = await TargetServer.start(startPostgres)
after(() => server[Symbol.asyncDispose]())

const docs = pgTable({ name: 'docs', columns: ['id integer', 'name text', 'body text'], key: ['id'], indexes: [primaryKey('docs', 'id')] })
const users = pgTable({
  name: 'users',
  columns: ['id integer', 'email text', 'body text'],
  key: ['id'],
  indexes: [primaryKey('users', 'id'), uniqueIndex('users_email', 'email')],
})

function foreignKey(name: string, column: string, tail = ''): ForeignKey {
  return {
    name,
    columns: [column],
    references: { table: tableId('public', 'parents'), columns: ['id'] },
    definition: `FOREIGN KEY (${column}) REFERENCES public.parents(id)${tail}`,
  }
}
const parents = pgTable({ name: 'parents', columns: ['id integer', 'name text'], key: ['id'], indexes: [primaryKey('parents', 'id')] })
const children = pgTable({
  name: 'children',
  columns: ['id integer', 'parent integer'],
  key: ['id'],
  indexes: [primaryKey('children', 'id')],
  foreignKeys: [foreignKey('children_parent', 'parent', ' ON DELETE CASCADE')],
})

async function seal(bench: SinkBench, ...schemas: readonly TableSchema[]): Promise<void> {
  assert.deepEqual(
    await bench.sink.seal?.(
      schemas.map((schema) => bench.table(schema)),
      bench.signal,
    ),
    [],
  )
}

describe(`applying changes to PostgreSQL ${server.major}`, () => {
  it('TRAP 33: rows swap the values of a second unique column, in one batch and in parts', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(users)
    await seal(bench, users)
    await bench.commit(insert(users, ['1', 'a', 'x']), insert(users, ['2', 'b', 'y']))
    await bench.commit(update(users, ['1', 'tmp', undefined]), update(users, ['2', 'a', undefined]), update(users, ['1', 'b', undefined]))
    await bench.expect(users, [
      { id: '1', email: 'b', body: 'x' },
      { id: '2', email: 'a', body: 'y' },
    ])
    const number = bench.next()
    await bench.part(
      number,
      update(users, ['1', 'tmp', undefined]),
      update(users, ['2', 'b', undefined]),
      update(users, ['1', 'a', undefined]),
    )
    await bench.part(number, insert(users, ['3', 'c', 'z']), update(users, ['3', 'a2', undefined]))
    await bench.idle(number)
    await bench.expect(users, [
      { id: '1', email: 'a', body: 'x' },
      { id: '2', email: 'b', body: 'y' },
      { id: '3', email: 'a2', body: 'z' },
    ])
  })

  it('TRAP 33: an exclusion constraint whose ranges move past each other', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    const constraint = 'EXCLUDE USING gist (span WITH &&)'
    const rooms = pgTable({
      name: 'rooms',
      columns: ['id integer', 'span int4range'],
      key: ['id'],
      indexes: [primaryKey('rooms', 'id'), { name: 'rooms_span_excl', constraint }],
    })
    await bench.start(rooms)
    await seal(bench, rooms)
    await bench.commit(insert(rooms, ['1', '[1,5)']), insert(rooms, ['2', '[5,9)']))
    await bench.commit(update(rooms, ['1', '[20,21)']), update(rooms, ['2', '[1,5)']), update(rooms, ['1', '[5,9)']))
    await bench.expect(rooms, [
      { id: '1', span: '[5,9)' },
      { id: '2', span: '[1,5)' },
    ])
  })

  it('TRAP 34: chains of key moves take unchanged values from their own base rows', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await bench.commit(insert(docs, ['1', 'A', 'toast A']), insert(docs, ['2', 'B', 'toast B']))
    await bench.commit(
      update(docs, ['3', 'B', undefined], ['2']),
      update(docs, ['2', 'A', undefined], ['1']),
      update(docs, ['2', 'A2', undefined]),
    )
    await bench.expect(docs, [
      { id: '2', name: 'A2', body: 'toast A' },
      { id: '3', name: 'B', body: 'toast B' },
    ])
  })

  it('TRAP 34: an update or a move that finds no row is an error and stores nothing', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await bench.commit(insert(docs, ['1', 'A', 'a']))
    for (const change of [
      update(docs, ['7', 'x', 'whole']),
      update(docs, ['7', 'x', undefined]),
      update(docs, ['8', 'x', undefined], ['7']),
      update(docs, ['8', 'x', 'whole'], ['7']),
    ]) {
      await assert.rejects(
        bench.write(batchOf([{ number: 2, changes: [insert(docs, ['2', 'B', 'b']), change] }])),
        isError('NOT_ACCOUNTED'),
      )
      await bench.expectPosition(at(1))
    }
    await bench.expect(docs, [{ id: '1', name: 'A', body: 'a' }])
  })

  it('TRAP 35: a deferrable key under FULL, where two rows have one key for a while, also at the end of a part', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    const shelf = pgTable({
      name: 'shelf',
      columns: ['id integer', 'v text'],
      key: ['id'],
      identity: 'full',
      indexes: [{ ...primaryKey('shelf', 'id'), deferrable: true, constraint: 'PRIMARY KEY (id) DEFERRABLE' }],
    })
    await bench.start(shelf)
    await seal(bench, shelf)
    await bench.commit(insert(shelf, ['1', 'A']), insert(shelf, ['2', 'B']), insert(shelf, ['3', 'C']))
    await bench.commit(update(shelf, ['2', 'A'], ['1', 'A']), update(shelf, ['3', 'B'], ['2', 'B']), update(shelf, ['4', 'C'], ['3', 'C']))
    await bench.expect(shelf, [
      { id: '2', v: 'A' },
      { id: '3', v: 'B' },
      { id: '4', v: 'C' },
    ])
    const number = bench.next()
    await bench.part(number, update(shelf, ['3', 'A'], ['2', 'A']))
    await bench.part(number, update(shelf, ['4', 'B'], ['3', 'B']))
    await bench.part(number, update(shelf, ['5', 'C'], ['4', 'C']))
    await bench.idle(number)
    await bench.expect(shelf, [
      { id: '3', v: 'A' },
      { id: '4', v: 'B' },
      { id: '5', v: 'C' },
    ])
  })

  it('TRAP 36, CASE 23: a moved or updated parent does not cascade, and a cascade of the source is written once', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(parents, children)
    await seal(bench, parents, children)
    await bench.commit(
      insert(parents, ['1', 'a']),
      insert(parents, ['2', 'b']),
      insert(children, ['10', '1']),
      insert(children, ['20', '2']),
    )
    await bench.commit(update(parents, ['1', 'a2']), update(parents, ['2', 'b2']))
    await bench.expect(children, [
      { id: '10', parent: '1' },
      { id: '20', parent: '2' },
    ])
    await bench.commit(remove(parents, ['1']), remove(children, ['10']))
    await bench.expect(parents, [{ id: '2', name: 'b2' }])
    await bench.expect(children, [{ id: '20', parent: '2' }])
    assert.equal(await target.oracle.value(`SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated`), '1')
  })

  it('TRAP 36: without the right to the replica role rows go one by one in source order', async () => {
    await using target = await server.target({ user: 'plain' })
    await target.makeRole('plain')
    await using owner = await target.connect('plain')
    await owner.run(
      `CREATE TABLE parents (id integer PRIMARY KEY, name text); CREATE TABLE children (id integer PRIMARY KEY, parent integer REFERENCES parents ON DELETE CASCADE)`,
    )
    const bench = await target.bench()
    await bench.start(parents, children)
    await bench.commit(
      insert(parents, ['1', 'a']),
      insert(children, ['10', '1']),
      insert(parents, ['2', 'b']),
      insert(children, ['20', '2']),
    )
    await bench.commit(
      update(parents, ['2', 'b2']),
      update(children, ['20', '1']),
      remove(parents, ['2']),
      insert(parents, ['3', 'c']),
      update(children, ['20', '3']),
    )
    await bench.expect(parents, [
      { id: '1', name: 'a' },
      { id: '3', name: 'c' },
    ])
    await bench.expect(children, [
      { id: '10', parent: '1' },
      { id: '20', parent: '3' },
    ])
    await bench.commit(remove(parents, ['1']), remove(children, ['10']))
    await bench.expect(children, [{ id: '20', parent: '3' }])
  })

  it('TRAP 37: a truncated table is seen as it was by who reads it already; a table referenced by another one is emptied too', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(parents, docs)
    await target.oracle.run(`CREATE TABLE foreign_child (id integer, parent integer)`)
    await bench.commit(insert(parents, ['1', 'a']), insert(docs, ['1', 'a', 'b']))
    await target.oracle.run(`ALTER TABLE foreign_child ADD FOREIGN KEY (parent) REFERENCES parents`)
    await using reader = await target.connect()
    await reader.run('BEGIN ISOLATION LEVEL REPEATABLE READ')
    assert.equal(await reader.value('SELECT count(*) FROM pg_class WHERE false'), '0')
    await bench.barrier(truncateOf(parents, docs))
    await bench.expect(parents, [])
    await bench.expect(docs, [])
    assert.deepEqual([await reader.value('SELECT count(*) FROM parents'), await reader.value('SELECT count(*) FROM docs')], ['1', '1'])
    await reader.run('ROLLBACK')
  })

  it('TRAP 38, CASE 29: identity GENERATED ALWAYS in the target, as key and beside it, and generated columns', async () => {
    await using target = await server.target()
    await target.oracle.run(
      `CREATE TABLE docs (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, body text, size integer GENERATED ALWAYS AS (length(body)) STORED)`,
    )
    await target.oracle.run(`CREATE TABLE users (id integer PRIMARY KEY, email text, body integer GENERATED ALWAYS AS IDENTITY)`)
    const numbered = pgTable({ name: 'users', columns: ['id integer', 'email text', 'body integer'], key: ['id'] })
    const bench = await target.bench()
    await bench.start(docs, numbered)
    await bench.commit(insert(docs, ['7', 'a', 'xy']), insert(numbered, ['1', 'a', '41']))
    await bench.commit(update(docs, ['7', 'b', 'xyz']), update(numbered, ['1', 'b', '42']), update(docs, ['9', 'c', undefined], ['7']))
    await bench.expect(docs, [{ id: '9', name: 'c', body: 'xyz', size: '3' }])
    await bench.expect(numbered, [{ id: '1', email: 'b', body: '42' }])
  })

  it('TRAP 39, CASE 25: what only holds at the end of the transaction does not fail at the end of a part', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    const deferred = {
      ...uniqueIndex('users_email', 'email'),
      deferrable: true,
      constraint: 'UNIQUE (email) DEFERRABLE INITIALLY IMMEDIATE',
    }
    const table = pgTable({
      name: 'users',
      columns: ['id integer', 'email text', 'body text'],
      key: ['id'],
      indexes: [primaryKey('users', 'id'), deferred],
    })
    const late = { ...children, foreignKeys: [foreignKey('children_parent', 'parent', ' DEFERRABLE INITIALLY DEFERRED')] }
    await bench.start(table, parents, late)
    await seal(bench, table, parents, late)
    await bench.commit(insert(table, ['1', 'a', null]), insert(table, ['2', 'b', null]))
    const number = bench.next()
    await bench.part(number, update(table, ['1', 'b', null]), insert(late, ['10', '99']))
    await bench.part(number, update(table, ['2', 'a', null]), insert(parents, ['99', 'late']))
    await bench.idle(number)
    await bench.expect(table, [
      { id: '1', email: 'b', body: null },
      { id: '2', email: 'a', body: null },
    ])
    await bench.expect(late, [{ id: '10', parent: '99' }])
  })

  it('TRAP 40: a table without a key loses one of its equal rows per delete, with json, floats and nulls in it', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    const heap = pgTable({ name: 'heap', columns: ['a integer', 'j json', 'f double precision'], identity: 'full' })
    await bench.start(heap)
    const row = ['1', '{"b":1, "a":2}', '0.1'] as const
    const odd = [null, 'null', 'NaN'] as const
    await bench.commit(...[row, row, row, odd, odd].map((image) => insert(heap, image)))
    await bench.commit(remove(heap, row), remove(heap, odd))
    await bench.commit(update(heap, ['2', undefined, '-0'], row))
    await bench.expect(heap, [
      { a: '1', j: row[1], f: '0.1' },
      { a: '2', j: row[1], f: '-0' },
      { a: null, j: 'null', f: 'NaN' },
    ])
    await assert.rejects(bench.write(batchOf([{ number: 9, changes: [remove(heap, ['5', null, null])] }])), isError('NOT_ACCOUNTED'))
  })

  it('CASE 22: keys swapped through a third, and delete and insert of one key, over many rows', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    const ids = Array.from({ length: 1500 }, (_, i) => String(i + 1))
    await bench.commit(...ids.map((id) => insert(docs, [id, `n${id}`, `b${id}`])))
    const away = ids.map((id) => update(docs, [String(Number(id) + 10_000), `n${id}`, undefined], [id]))
    const back = ids.map((id) => update(docs, [String(1501 - Number(id)), `m${id}`, undefined], [String(Number(id) + 10_000)]))
    await bench.commit(...away, ...back, remove(docs, ['1']), insert(docs, ['1', 'new', 'new']))
    const rows = ids.map((id) => ({ id: String(1501 - Number(id)), name: `m${id}`, body: `b${id}` }))
    await bench.expect(docs, [...rows.filter((row) => row.id !== '1'), { id: '1', name: 'new', body: 'new' }])
  })

  it('CASE 24: hot keys end with the last value, whatever the batches', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await bench.commit(...['1', '2', '3', '4'].map((id) => insert(docs, [id, 'v', 'b'])))
    for (let n = 0; n < 40; n++)
      await bench.commit(...['1', '2', '3', '4', '1', '2'].map((id, i) => update(docs, [id, `${n}.${i}`, undefined])))
    await bench.expect(docs, [
      { id: '1', name: '39.4', body: 'b' },
      { id: '2', name: '39.5', body: 'b' },
      { id: '3', name: '39.2', body: 'b' },
      { id: '4', name: '39.3', body: 'b' },
    ])
  })

  it('CASE 25: a trigger of the target does not fire for what the source did', async () => {
    await using target = await server.target()
    await target.oracle.run(`CREATE TABLE docs (id integer PRIMARY KEY, name text, body text); CREATE TABLE fired (n integer);
      CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO fired VALUES (1); RETURN NULL; END';
      CREATE TRIGGER each AFTER INSERT OR UPDATE OR DELETE ON docs FOR EACH ROW EXECUTE FUNCTION note()`)
    const bench = await target.bench()
    await bench.start(docs)
    await bench.commit(insert(docs, ['1', 'a', null]), ...Array.from({ length: 50 }, (_, i) => insert(docs, [String(i + 10), 'x', null])))
    await bench.commit(update(docs, ['1', 'b', null]), remove(docs, ['10']))
    assert.equal(await target.oracle.value('SELECT count(*) FROM fired'), '0')
  })

  it('CASE 27: an unchanged TOAST column keeps its value, a null that came before it stays null', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    const big = 'long '.repeat(20_000)
    await bench.commit(insert(docs, ['1', 'a', big]), insert(docs, ['2', 'b', big]), insert(docs, ['3', 'c', big]))
    await bench.commit(
      update(docs, ['1', 'a2', undefined]),
      update(docs, ['2', 'b2', null]),
      update(docs, ['2', 'b3', undefined]),
      update(docs, ['4', 'c2', undefined], ['3']),
    )
    await bench.expect(docs, [
      { id: '1', name: 'a2', body: big },
      { id: '2', name: 'b3', body: null },
      { id: '4', name: 'c2', body: big },
    ])
  })

  it('a value that does not fit is refused without being shown, and is never cut', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    const short = pgTable({ name: 'short', columns: ['id integer', 'v character varying(3)'], key: ['id'] })
    await bench.start(short)
    await bench.commit(insert(short, ['1', 'abc']))
    for (const change of [insert(short, ['2', 'secret']), update(short, ['1', 'secret'])]) {
      await assert.rejects(
        bench.write(batchOf([{ number: 2, changes: [change] }])),
        (error: Error) => isError('ROW_REJECTED')(error) && !/secret/.test(error.message + String(error.cause)),
      )
      await bench.expectPosition(at(1))
    }
    await bench.expect(short, [{ id: '1', v: 'abc' }])
  })

  it('more columns than one mask holds', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    const names = Array.from({ length: 70 }, (_, i) => `c${i}`)
    const wide = pgTable({ name: 'wide', columns: ['id integer', ...names.map((name) => `${name} text`)], key: ['id'] })
    await bench.start(wide)
    await bench.commit(insert(wide, ['1', ...names]))
    await bench.commit(update(wide, ['1', ...names.map((name, i) => (i % 3 === 0 ? undefined : `${name}!`))]))
    await bench.expect(wide, [{ id: '1', ...Object.fromEntries(names.map((name, i) => [name, i % 3 === 0 ? name : `${name}!`])) }])
  })

  it('a key of an extension type is found by its own equality and index', async (t) => {
    await using target = await server.target()
    const has = await target.oracle.value(`SELECT count(*) FROM pg_available_extensions WHERE name = 'citext'`)
    if (has !== '1') return t.skip('citext is not among the extensions of this server')
    await target.oracle.run(
      'CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TABLE tags (tag ext.citext PRIMARY KEY, n integer)',
    )
    const tags = pgTable({
      name: 'tags',
      columns: [{ name: 'tag', type: { kind: 'string' }, sourceType: 'ext.citext' }, 'n integer'],
      key: ['tag'],
    })
    const bench = await target.bench()
    await bench.start(tags)
    await bench.commit(insert(tags, ['Abc', '1']), insert(tags, ['def', '2']))
    await bench.commit(update(tags, ['Abc', '3']), remove(tags, ['def', null]))
    await bench.expect(tags, [{ tag: 'Abc', n: '3' }])
  })
})
