import assert from 'node:assert/strict'
import type { Barrier, SchemaChangeDetail } from '../model/batch.ts'
import type { TableSchema } from '../model/schema.ts'
import { at, insert, remove, schemaChange, schemaOf, update, type ColumnSpec, type RowChange } from './sink-batches.ts'
import { onlySchemaChanges, onlyTransactional, type SinkBench, type SinkCase, type TargetRow } from './sink-bench.ts'

const id: ColumnSpec = { name: 'id', type: { kind: 'int32' }, ordinal: 1 }
const a: ColumnSpec = { name: 'a', type: { kind: 'string' }, ordinal: 2 }
const b: ColumnSpec = { name: 'b', type: { kind: 'int32' }, ordinal: 3 }

function tableOf(...columns: readonly ColumnSpec[]): TableSchema {
  return schemaOf({ name: 't', columns, key: ['id'] })
}

const base = tableOf(id, a, b)

interface Evolution {
  readonly title: string
  readonly from: TableSchema
  readonly to: TableSchema
  readonly changes: readonly SchemaChangeDetail[]
  /** Before and after the barrier, in one transaction; then the rows. */
  readonly before: readonly RowChange[]
  readonly after: readonly RowChange[]
  readonly rows: readonly TargetRow[]
}

const added = tableOf(id, a, b, { name: 'c', type: { kind: 'string' }, ordinal: 4, missing: 'it\'s "x"' })
const addedNull = tableOf(id, a, b, { name: 'c', type: { kind: 'int64' }, ordinal: 4 })
const dropped = tableOf(id, a)
const strict = tableOf(id, a, { ...b, nullable: false })
const renamed = tableOf(id, { ...a, name: 'A 2' }, b)
const swapped = tableOf(id, { ...a, name: 'a_old' }, b, { name: 'a', type: { kind: 'string' }, ordinal: 4 })
const wide = tableOf(id, a, { ...b, type: { kind: 'int64' }, sourceType: 'bigint' })
const two = tableOf(id, { ...a, name: 'x' }, { name: 'c', type: { kind: 'string' }, ordinal: 4 })

const evolutions: readonly Evolution[] = [
  {
    title: 'a column is added, with the value that old rows show',
    from: base,
    to: added,
    changes: [{ kind: 'column-added', before: null, after: 'c' }],
    before: [insert(base, ['1', 'x', '1']), insert(base, ['2', 'y', '2'])],
    after: [update(added, ['2', 'y', '2', null]), insert(added, ['3', 'z', '3', 'new'])],
    rows: [
      { id: '1', a: 'x', b: '1', c: 'it\'s "x"' },
      { id: '2', a: 'y', b: '2', c: null },
      { id: '3', a: 'z', b: '3', c: 'new' },
    ],
  },
  {
    title: 'a column is added without a value for old rows',
    from: base,
    to: addedNull,
    changes: [{ kind: 'column-added', before: null, after: 'c' }],
    before: [insert(base, ['1', 'x', '1'])],
    after: [insert(addedNull, ['3', 'z', '3', '9007199254740993'])],
    rows: [
      { id: '1', a: 'x', b: '1', c: null },
      { id: '3', a: 'z', b: '3', c: '9007199254740993' },
    ],
  },
  {
    title: 'a dropped column stays with its values and takes nulls, even when it did not before',
    from: strict,
    to: dropped,
    changes: [{ kind: 'column-dropped', before: 'b', after: null }],
    before: [insert(strict, ['1', 'x', '1']), insert(strict, ['2', 'y', '2'])],
    after: [insert(dropped, ['3', 'z']), update(dropped, ['1', 'X']), remove(dropped, ['2', null])],
    rows: [
      { id: '1', a: 'X', b: '1' },
      { id: '3', a: 'z', b: null },
    ],
  },
  {
    title: 'a renamed column takes its values along, never nulls under the new name (PeerDB)',
    from: base,
    to: renamed,
    changes: [{ kind: 'column-renamed', before: 'a', after: 'A 2' }],
    before: [insert(base, ['1', 'x', '1'])],
    after: [insert(renamed, ['2', 'y', '2']), update(renamed, ['1', undefined, '5'])],
    rows: [
      { id: '1', 'A 2': 'x', b: '5' },
      { id: '2', 'A 2': 'y', b: '2' },
    ],
  },
  {
    title: 'a column is renamed and another takes its name (TRAPS 47)',
    from: base,
    to: swapped,
    changes: [
      { kind: 'column-renamed', before: 'a', after: 'a_old' },
      { kind: 'column-added', before: null, after: 'a' },
    ],
    before: [insert(base, ['1', 'old', '1'])],
    after: [insert(swapped, ['2', 'y', '2', 'new'])],
    rows: [
      { id: '1', a_old: 'old', b: '1', a: null },
      { id: '2', a_old: 'y', b: '2', a: 'new' },
    ],
  },
  {
    title: 'a type is widened',
    from: base,
    to: wide,
    changes: [{ kind: 'type-changed', before: 'b', after: 'b' }],
    before: [insert(base, ['1', 'x', '2147483647'])],
    after: [insert(wide, ['2', 'y', '9223372036854775807']), update(wide, ['1', 'x', '-9223372036854775808'])],
    rows: [
      { id: '1', a: 'x', b: '-9223372036854775808' },
      { id: '2', a: 'y', b: '9223372036854775807' },
    ],
  },
  {
    title: 'a column may be null now',
    from: strict,
    to: base,
    changes: [{ kind: 'nullability-changed', before: 'b', after: 'b' }],
    before: [insert(strict, ['1', 'x', '1'])],
    after: [insert(base, ['2', 'y', null])],
    rows: [
      { id: '1', a: 'x', b: '1' },
      { id: '2', a: 'y', b: null },
    ],
  },
  {
    title: 'several changes in one',
    from: base,
    to: two,
    changes: [
      { kind: 'column-renamed', before: 'a', after: 'x' },
      { kind: 'column-dropped', before: 'b', after: null },
      { kind: 'column-added', before: null, after: 'c' },
    ],
    before: [insert(base, ['1', 'x', '1'])],
    after: [insert(two, ['2', 'y', 'z'])],
    rows: [
      { id: '1', x: 'x', b: '1', c: null },
      { id: '2', x: 'y', b: null, c: 'z' },
    ],
  },
]

function barrierOf({ from, to, changes }: Evolution): Barrier {
  return schemaChange(from, to, ...changes)
}

const inOneTransaction = evolutions.map((evolution): SinkCase => ({
  title: `schema change in the stream: ${evolution.title}`,
  unfit: onlySchemaChanges,
  async run(bench) {
    await bench.start(evolution.from)
    const number = bench.next()
    await bench.part(number, ...evolution.before)
    await bench.barrier(barrierOf(evolution), number, true)
    await bench.part(number, ...evolution.after)
    await bench.idle(number)
    await bench.expect(evolution.to, evolution.rows)
    await goesOn(bench, evolution)
  },
}))

const betweenRuns = evolutions.map((evolution): SinkCase => ({
  title: `schema change by applySchema, repeated: ${evolution.title}`,
  unfit: onlySchemaChanges,
  async run(bench) {
    await bench.start(evolution.from)
    await bench.commit(...evolution.before)
    const [previous, table] = [bench.table(evolution.from), bench.table(evolution.to)]
    await bench.sink.applySchema(table, previous, bench.signal)
    await bench.sink.applySchema(table, previous, bench.signal)
    await bench.sink.applySchema(table, table, bench.signal)
    await bench.commit(...evolution.after)
    await bench.expect(evolution.to, evolution.rows)
    await goesOn(bench, evolution)
  },
}))

/** A table that is read again takes the shape of its new view, wherever its target stands on the way there. */
const way = [base, tableOf(id, { ...a, name: 'a_old' }, b), swapped]
const fromAnywhere = way.map((_, steps): SinkCase => ({
  title: `applySchema with a rename and a new column of the old name, ${steps} of 2 steps done before (TRAPS 47)`,
  unfit: onlySchemaChanges,
  async run(bench) {
    await bench.start(base)
    await bench.commit(insert(base, ['1', 'old', '1']))
    const tables = way.map((schema) => bench.table(schema))
    for (let step = 1; step <= steps; step++) await bench.sink.applySchema(tables[step]!, tables[step - 1]!, bench.signal)
    await bench.sink.applySchema(tables[2]!, tables[0]!, bench.signal)
    await bench.commit(insert(swapped, ['2', 'y', '2', 'new']))
    await bench.expect(swapped, [
      { id: '1', a_old: 'old', b: '1', a: null },
      { id: '2', a_old: 'y', b: '2', a: 'new' },
    ])
  },
}))

/** A new run finds the evolved table and writes to it. */
async function goesOn(bench: SinkBench, { to, rows }: Evolution): Promise<void> {
  const again = await bench.target.reopen()
  await bench.restart(again, to)
  await bench.expect(to, rows)
  assert.equal(await again.inspect(bench.table(to), bench.signal), 'filled')
}

export const schemaCases: readonly SinkCase[] = [
  ...inOneTransaction,
  ...betweenRuns,
  ...fromAnywhere,
  {
    title: 'a schema change of a transaction that is given up is not seen, and can come again',
    unfit: (capabilities) => onlyTransactional(capabilities) ?? onlySchemaChanges(capabilities),
    async run(bench) {
      await bench.start(base)
      await bench.commit(insert(base, ['1', 'x', '1']))
      const barrier = schemaChange(base, renamed, { kind: 'column-renamed', before: 'a', after: 'A 2' })
      await bench.barrier(barrier, 2, true)
      await bench.part(2, insert(renamed, ['2', 'y', '2']))
      await bench.expectPosition(at(1))
      await bench.barrier(barrier, 2, true)
      await bench.part(2, insert(renamed, ['2', 'y', '2']))
      await bench.idle(2)
      await bench.expect(renamed, [
        { id: '1', 'A 2': 'x', b: '1' },
        { id: '2', 'A 2': 'y', b: '2' },
      ])
    },
  },
  {
    title: 'a table without a key loses a column: rows come, change and go as before (TRAPS 40)',
    unfit: onlySchemaChanges,
    async run(bench) {
      const [before, after] = [[a, b], [a]].map((columns) => schemaOf({ name: 't', columns, key: [] })) as [TableSchema, TableSchema]
      await bench.start(before)
      await bench.commit(insert(before, ['x', '1']), insert(before, ['y', '2']))
      await bench.barrier(schemaChange(before, after, { kind: 'column-dropped', before: 'b', after: null }))
      await bench.commit(insert(after, ['z']))
      await bench.commit(update(after, ['Z'], ['z']), insert(after, ['z']))
      await bench.commit(remove(after, ['y']))
      await bench.expect(after, [
        { a: 'x', b: '1' },
        { a: 'z', b: null },
        { a: 'Z', b: null },
      ])
    },
  },
  {
    title: 'applySchema of a table that is there keeps its rows, as often as it is called',
    async run(bench) {
      await bench.start(base)
      await bench.commit(insert(base, ['1', 'x', '1']))
      const table = bench.table(base)
      await bench.sink.applySchema(table, null, bench.signal)
      await bench.sink.applySchema(table, table, bench.signal)
      await bench.expect(base, [{ id: '1', a: 'x', b: '1' }])
    },
  },
  {
    title: 'applySchema with replace drops what stands there, whatever it was',
    async run(bench) {
      await bench.start(base)
      await bench.commit(insert(base, ['1', 'x', '1']))
      const other = schemaOf({
        name: 't',
        columns: [
          { name: 'b', type: { kind: 'string' } },
          { name: 'z', type: { kind: 'int64' } },
        ],
        key: ['z'],
      })
      await bench.sink.applySchema(bench.table(other), null, bench.signal, { replace: true })
      await bench.expect(other, [])
      await bench.commit(insert(other, ['text', '5']))
      await bench.expect(other, [{ b: 'text', z: '5' }])
    },
  },
  {
    title: 'missingColumns tells a table that is gone from one that lacks columns',
    async run(bench) {
      const { sink, signal } = bench
      if (sink.missingColumns === undefined) return
      assert.equal(await sink.missingColumns(bench.table(base), signal), null)
      await bench.start(base)
      assert.deepEqual(await sink.missingColumns(bench.table(base), signal), [])
      assert.deepEqual(await sink.missingColumns(bench.table(added), signal), ['c'])
    },
  },
  {
    title: 'inspect tells absent, empty and filled apart; count counts',
    async run(bench) {
      const table = bench.table(base)
      assert.equal(await bench.sink.inspect(table, bench.signal), 'absent')
      await bench.start(base)
      assert.equal(await bench.sink.inspect(table, bench.signal), 'empty')
      await bench.commit(insert(base, ['1', 'x', '1']), insert(base, ['2', 'x', '1']))
      assert.equal(await bench.sink.inspect(table, bench.signal), 'filled')
      if (bench.sink.count !== undefined) assert.equal(await bench.sink.count(table, bench.signal), 2n)
      await bench.sink.clear(table, bench.signal)
      assert.equal(await bench.sink.inspect(table, bench.signal), 'empty')
      await bench.expect(base, [])
      await bench.commit(insert(base, ['3', 'x', null]))
      await bench.expect(base, [{ id: '3', a: 'x', b: null }])
    },
  },
]
