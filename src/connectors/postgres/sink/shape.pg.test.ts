import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import type { TableSchema } from '../../../model/schema.ts'
import { startPostgres } from '../../../testing/postgres-server.ts'
import { batchOf, insert, remove, schemaChange, sinkTable, update } from '../../../testing/sink-batches.ts'
import { isError } from '../../../testing/sink-bench.ts'
import { pgTable, primaryKey, uniqueIndex } from './test-data/tables.ts'
import { TargetServer, type Target } from './test-data/target-server.ts'

const server = await TargetServer.start(startPostgres)
after(() => server[Symbol.asyncDispose]())
const signal = new AbortController().signal

const base = pgTable({ name: 't', columns: ['id integer', 'a text', 'b integer'], key: ['id'], indexes: [primaryKey('t', 'id')] })

function change(schema: TableSchema, columns: (columns: TableSchema['columns']) => TableSchema['columns']): TableSchema {
  return { ...schema, columns: columns(schema.columns) }
}

async function columnsOf(target: Target, table = 't'): Promise<string[]> {
  const rows = await target.oracle.run(
    `SELECT attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null' ELSE '' END AS c FROM pg_attribute WHERE attrelid = '${table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname`,
  )
  return rows.map((row) => row['c'] ?? '')
}

describe(`tables made and changed in PostgreSQL ${server.major}`, () => {
  it('seal makes indexes, constraints and sequences with their names, as often as it is called', async () => {
    await using target = await server.target()
    const table = pgTable({
      name: 'Orders',
      columns: ['id bigint', 'sku text', 'qty integer not null'],
      key: ['id'],
      indexes: [
        primaryKey('Orders', 'id'),
        uniqueIndex('orders_sku', 'sku'),
        { name: 'orders_lower', definition: 'USING btree (lower(sku)) WHERE (qty > 1)' },
        { name: 'orders_sku_excl', constraint: 'EXCLUDE USING btree (sku WITH =)' },
      ],
      sequences: [{ column: 'id', last: '4711', increment: '10', options: 'INCREMENT BY 10' }],
    })
    const bench = await target.bench()
    await bench.start(table)
    const tables = [bench.table(table)]
    assert.deepEqual(await bench.sink.seal?.(tables, signal), [])
    assert.deepEqual(await bench.sink.seal?.(tables, signal), [])
    const indexes = await target.oracle.run(
      `SELECT relname FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE indrelid = '"Orders"'::regclass ORDER BY relname COLLATE "C"`,
    )
    assert.deepEqual(
      indexes.map((row) => row['relname']),
      ['Orders_pkey', 'orders_lower', 'orders_sku', 'orders_sku_excl'],
    )
    assert.equal(await target.oracle.value(`SELECT nextval(pg_get_serial_sequence('"Orders"', 'id'))`), '4721')
    await bench.sink.seal?.(tables, signal)
    assert.equal(await target.oracle.value(`SELECT nextval(pg_get_serial_sequence('"Orders"', 'id'))`), '4731')
  })

  it('seal reports what the target cannot make and makes the rest', async () => {
    await using target = await server.target()
    const table = pgTable({
      name: 't',
      columns: ['id integer', 'a text'],
      key: ['id'],
      indexes: [primaryKey('t', 'id'), { name: 'odd', definition: 'USING btree (no_such_function(a))' }, uniqueIndex('t_a', 'a')],
    })
    const bench = await target.bench()
    await bench.start(table)
    const problems = (await bench.sink.seal?.([bench.table(table)], signal)) ?? []
    assert.equal(problems.length, 1)
    assert.match(`${problems[0]?.message} ${problems[0]?.hint}`, /index odd of public.t.*CREATE INDEX "odd"/)
    assert.equal(await target.oracle.value(`SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass`), '2')
  })

  it('two source schemas in one target schema do not quarrel over index names', async () => {
    await using target = await server.target()
    const [one, two] = ['one', 'two'].map((namespace) => ({ ...base, namespace, id: `${namespace}.t` as TableSchema['id'] }))
    const sink = await target.sink()
    await sink.checkpoints.claim(signal)
    const tables = [one, two].map((schema, i) => ({ id: schema!.id, schema: schema!, target: { namespace: 'public', name: `t${i}` } }))
    for (const table of tables) await sink.applySchema(table, null, signal)
    assert.deepEqual(await sink.seal(tables, signal), [])
    assert.deepEqual(await sink.seal(tables, signal), [])
    assert.equal(
      await target.oracle.value(
        `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace`,
      ),
      't1_t_pkey t_pkey',
    )
  })

  it('a foreign key is made once both tables are sealed, under their names in the target', async () => {
    await using target = await server.target()
    const parent = pgTable({ name: 'p', columns: ['id integer'], key: ['id'], indexes: [primaryKey('p', 'id')], namespace: 'src' })
    const reference = {
      name: 'c_p',
      columns: ['p'],
      references: { table: parent.id, columns: ['id'] },
      definition: 'FOREIGN KEY (p) REFERENCES src.p(id) ON UPDATE CASCADE ON DELETE SET NULL (p) DEFERRABLE INITIALLY DEFERRED',
    }
    const definition = server.major < 15 ? reference.definition.replace(' (p) DEF', ' DEF') : reference.definition
    const child = pgTable({
      name: 'c',
      columns: ['id integer', 'p integer'],
      key: ['id'],
      indexes: [primaryKey('c', 'id')],
      namespace: 'src',
      foreignKeys: [{ ...reference, definition }],
    })
    const sink = await target.sink()
    await sink.checkpoints.claim(signal)
    const [p, c] = [sinkTable(parent, 'dst'), sinkTable(child, 'dst')]
    for (const table of [p, c]) await sink.applySchema(table, null, signal)
    assert.deepEqual(await sink.seal([c], signal), [])
    assert.deepEqual(await sink.seal([p], signal), [])
    assert.equal(
      await target.oracle.value(`SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f'`),
      definition.replace('src.p', 'dst.p'),
    )
  })

  it('CASE 26: enum types are made, used in arrays, and get the labels that the source added', async () => {
    await using target = await server.target()
    const mood = (values: readonly string[]) => ({ kind: 'enum', name: 'app.mood', values }) as const
    const table = (...values: readonly string[]): TableSchema =>
      pgTable({
        name: 't',
        columns: [
          'id integer',
          { name: 'm', type: mood(values), sourceType: 'app.mood' },
          { name: 'all', type: { kind: 'array', element: mood(values) }, sourceType: 'app.mood[]' },
        ],
        key: ['id'],
      })
    const [before, between] = [table('sad', 'glad'), table('sad', "so-so's", 'glad')]
    const bench = await target.bench()
    await bench.start(before)
    await bench.commit(insert(before, ['1', 'sad', '{sad,glad}']))
    await bench.part(2, insert(before, ['2', 'glad', null]))
    await bench.barrier(schemaChange(before, between, { kind: 'type-changed', before: 'm', after: 'm' }), 2, true)
    await bench.write(batchOf([{ number: 2, changes: [insert(between, ['3', "so-so's", `{so-so's}`])] }]))
    assert.equal(await target.oracle.value(`SELECT string_agg(id::text, ' ' ORDER BY m) FROM t`), '1 3 2')
  })

  it('CASE 29: generated columns are computed by the target; identity columns take the values of the source', async () => {
    await using target = await server.target()
    const table: TableSchema = {
      ...pgTable({ name: 't', columns: ['id integer', 'a text'], key: ['id'] }),
      computed: [
        { name: 'size', sourceType: 'integer', expression: 'length(a)', kind: 'stored' },
        { name: 'low', sourceType: 'text', expression: 'lower(a)', kind: 'virtual' },
      ],
    }
    const numbered = {
      ...table,
      columns: table.columns.map((column, i) => (i === 0 ? { ...column, identity: 'always' as const } : column)),
    }
    const bench = await target.bench()
    await bench.start(numbered)
    await bench.commit(insert(numbered, ['5', 'ABC']))
    await bench.commit(update(numbered, ['5', 'ABCD']))
    await bench.expect(numbered, [{ id: '5', a: 'ABCD', size: '4', low: 'abcd' }])
  })

  it('CASE 29: generated columns that the target cannot compute are left out', async () => {
    await using target = await server.target()
    const table: TableSchema = {
      ...pgTable({ name: 't', columns: ['id integer'], key: ['id'] }),
      computed: [{ name: 'x', sourceType: 'integer', expression: 'app.secret(id)', kind: 'stored' }],
    }
    const bench = await target.bench()
    await bench.start(table)
    await bench.commit(insert(table, ['5']))
    await bench.expect(table, [{ id: '5' }])
  })

  it('a type that the target does not have is kept as text', async () => {
    await using target = await server.target()
    const table = pgTable({
      name: 't',
      columns: ['id integer', { name: 'p', type: { kind: 'other', name: 'public.geometry' }, sourceType: 'public.geometry(Point,4326)' }],
      key: ['id'],
    })
    const bench = await target.bench()
    await bench.start(table)
    assert.deepEqual(await columnsOf(target), ['id integer not null', 'p text'])
    await bench.commit(insert(table, ['1', '0101000020E6100000']))
    await bench.expect(table, [{ id: '1', p: '0101000020E6100000' }])
  })

  it('CASE 30: long, odd and reserved names are kept; a name that is too long is refused, not cut', async () => {
    await using target = await server.target()
    const long = 'ä'.repeat(31)
    const table = pgTable({
      name: `${long}x`,
      columns: [
        { name: 'order', type: { kind: 'int32' }, sourceType: 'integer' },
        { name: 'a"b;--', type: { kind: 'string' }, sourceType: 'text' },
      ],
      key: ['order'],
      namespace: 'Select',
    })
    const sink = await target.sink()
    await sink.checkpoints.claim(signal)
    const own = sinkTable(table, 'Select')
    await sink.applySchema(own, null, signal)
    await sink.write(batchOf([{ number: 1, changes: [insert(table, ['1', 'x'])] }]), signal)
    assert.deepEqual(await target.rows(own), [{ order: '1', 'a"b;--': 'x' }])
    const longer = sinkTable({ ...table, name: `${long}xy` }, 'Select')
    assert.equal((await sink.check([longer], signal)).filter((problem) => problem.severity === 'error').length, 1)
    await assert.rejects(sink.applySchema(longer, null, signal), isError('SCHEMA_UNSUPPORTED'))
  })

  it('TRAP 46: a column added with a constant default shows it in old rows, and the target keeps no default', async () => {
    await using target = await server.target()
    const next = change(base, (columns) => [...columns, { ...columns[2]!, name: 'c', ordinal: 4, nullable: false, missing: '42' }])
    const bench = await target.bench()
    await bench.start(base)
    await bench.commit(insert(base, ['1', 'x', '1']))
    await bench.barrier(schemaChange(base, next, { kind: 'column-added', before: null, after: 'c' }))
    await bench.commit(insert(next, ['2', 'y', '2', '43']))
    await bench.expect(next, [
      { id: '1', a: 'x', b: '1', c: '42' },
      { id: '2', a: 'y', b: '2', c: '43' },
    ])
    assert.equal((await columnsOf(target))[2], 'c integer not null')
    assert.equal(await target.oracle.value(`SELECT count(*) FROM pg_attrdef WHERE adrelid = 't'::regclass`), '0')
  })

  it('TRAP 47: two columns change names; a column dropped and added anew does not show old values; neither is done twice', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(base)
    await bench.commit(insert(base, ['1', 'x', '1']))
    const swapped = change(base, ([id, a, b]) => [id!, { ...a!, name: 'b' }, { ...b!, name: 'a' }])
    for (const _time of [1, 2]) await bench.sink.applySchema(bench.table(swapped), bench.table(base), signal)
    await bench.expect(swapped, [{ id: '1', b: 'x', a: '1' }])
    const anew = change(swapped, ([id, a, b]) => [id!, a!, { ...b!, ordinal: 9 }])
    for (const _time of [1, 2]) await bench.sink.applySchema(bench.table(anew), bench.table(swapped), signal)
    await bench.commit(insert(anew, ['2', 'y', '7']))
    await bench.expect(anew, [
      { id: '1', b: 'x', a: null, a_dropped: '1' },
      { id: '2', b: 'y', a: '7', a_dropped: null },
    ])
  })

  it('CASE 31: a type that is narrowed stops with SCHEMA_CHANGED and changes nothing', async () => {
    await using target = await server.target()
    const narrow = change(base, ([id, a, b]) => [id!, a!, { ...b!, sourceType: 'smallint', type: { kind: 'int16' } }])
    const bench = await target.bench()
    await bench.start(base)
    await bench.commit(insert(base, ['1', 'x', '70000']))
    await assert.rejects(
      bench.barrier(schemaChange(base, narrow, { kind: 'type-changed', before: 'b', after: 'b' })),
      isError('SCHEMA_CHANGED'),
    )
    assert.deepEqual(await columnsOf(target), ['a text', 'b integer', 'id integer not null'])
    await bench.expectPosition('suite/1:1' as never)
  })

  it('CASE 31: the key changes, the table is renamed, in order with the rows', async () => {
    await using target = await server.target()
    const other = {
      ...change(base, ([id, a, b]) => [{ ...id!, nullable: true }, a!, { ...b!, nullable: false }]),
      key: [2],
      indexes: [primaryKey('t', 'b')],
    }
    const renamed: TableSchema = { ...other, name: 'u', id: 'public.u' as TableSchema['id'] }
    const bench = await target.bench()
    await bench.start(base)
    await bench.part(1, insert(base, ['1', 'x', '10']), insert(base, ['2', 'y', '20']))
    await bench.barrier(schemaChange(base, other, { kind: 'key-changed', before: 'id', after: 'b' }), 1, true)
    await bench.part(1, update(other, [null, 'x2', '10']))
    await bench.barrier(schemaChange(other, renamed, { kind: 'table-renamed', before: 't', after: 'u' }), 1, true)
    await bench.part(1, remove(renamed, [undefined, undefined, '20']))
    await bench.idle(1)
    await bench.expect(renamed, [{ id: null, a: 'x2', b: '10' }])
    assert.equal(
      await target.oracle.value(`SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'u'::regclass AND contype = 'p'`),
      'PRIMARY KEY (b)',
    )
  })

  it('the key is made before the first change when the stream comes before seal; rows that it cannot hold are said so', async () => {
    await using target = await server.target()
    await target.oracle.run(`CREATE TABLE t (id integer, a text, b integer); INSERT INTO t VALUES (1), (1)`)
    const bench = await target.bench()
    await bench.start(base)
    await assert.rejects(bench.commit(insert(base, ['2', null, null])), isError('NOT_ACCOUNTED'))
    await target.oracle.run('DELETE FROM t')
    await bench.expectPosition('suite/1:0' as never)
    await bench.commit(insert(base, ['2', null, null]))
    assert.equal(await target.oracle.value(`SELECT conname FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'p'`), 't_pkey')
  })
})
