import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import {
  barrierBatch,
  at,
  batchOf,
  insert,
  remove,
  schemaOf,
  truncateOf,
  update,
  type Image,
  type RowChange,
} from '../testing/sink-batches.ts'
import { HARD_VALUES } from '../testing/sink-value-cases.ts'
import { Op, OldImage, type Slice, type StreamBatch } from './batch.ts'
import { UNCHANGED, type Change, type Row } from './change.ts'
import { carryOf, changesOf, changesOfSlice, sequencesOf, type PlaceCarry } from './row-view.ts'
import { oldTextAt, pickRows, textAt, textRowsToSlice } from './slice-builder.ts'
import { RowError, SliceEncoder, sliceOfChanges } from './slice-of-changes.ts'

const people = schemaOf({
  name: 'people',
  columns: [
    { name: 'id', type: { kind: 'int64' } },
    { name: 'name', type: { kind: 'string' } },
    { name: 'tags', type: { kind: 'array', element: { kind: 'string' } } },
    { name: 'score', type: { kind: 'float64' } },
  ],
  key: ['id'],
})
const other = schemaOf({ name: 'other', columns: [{ name: 'a', type: { kind: 'int32' } }] })

function place(change: Change, origin: Change | null, order = 0): Parameters<typeof sliceOfChanges>[1][number] {
  return { change, origin, order, transaction: 0, placeHigh: 0, placeLow: 0 }
}

/** Every cell's text, old and new. */
function texts(slice: Slice): unknown[] {
  return Array.from({ length: slice.rows }, (_, row) => ({
    op: slice.ops[row],
    kind: slice.oldKinds?.[row] ?? 0,
    after: slice.schema.columns.map((_, column) => textAt(slice, row, column)),
    before: slice.schema.columns.map((_, column) => oldTextAt(slice, row, column)),
  }))
}

function plain(changes: readonly Change[]): Pick<Change, 'op' | 'after' | 'before' | 'beforeKind'>[] {
  return changes.map(({ op, after, before, beforeKind }) => ({ op, after, before, beforeKind }))
}

describe('changes of a batch', () => {
  test('are in the order of the source, over all tables', () => {
    const batch = batchOf([
      { number: 1, changes: [insert(people, ['1', 'a', null, null]), insert(other, ['1'])] },
      {
        number: 2,
        changes: [
          update(people, ['2', undefined, '{x}', '-0'], ['1', null, null, null]),
          remove(other, ['1']),
          remove(people, ['2', null, null, null]),
        ],
      },
    ])
    const changes = changesOf(batch)
    assert.deepEqual(
      changes.map(({ table, position, committedAt }) => [table, position, committedAt]),
      [
        [people.id, at(1), batch.transactions[0]!.committedAt],
        [other.id, at(1), batch.transactions[0]!.committedAt],
        [people.id, at(2), batch.transactions[1]!.committedAt],
        [other.id, at(2), batch.transactions[1]!.committedAt],
        [people.id, at(2), batch.transactions[1]!.committedAt],
      ],
    )
    assert.deepEqual(plain(changes), [
      { op: 'insert', after: { id: 1n, name: 'a', tags: null, score: null }, before: null, beforeKind: 'none' },
      { op: 'insert', after: { a: 1 }, before: null, beforeKind: 'none' },
      { op: 'update', after: { id: 2n, name: UNCHANGED, tags: ['x'], score: -0 }, before: { id: 1n }, beforeKind: 'key' },
      { op: 'delete', after: null, before: { a: 1 }, beforeKind: 'full' },
      { op: 'delete', after: null, before: { id: 2n }, beforeKind: 'key' },
    ])
  })

  test('of a snapshot have no position', () => {
    const slice = textRowsToSlice(other, [{ op: Op.read, after: ['7'] }])
    assert.deepEqual(
      { ...changesOfSlice(slice, null)[0] },
      { op: 'read', table: other.id, after: { a: 7 }, before: null, beforeKind: 'none', position: null, sequence: '', committedAt: null },
    )
  })

  test('of a barrier or an idle batch are none', () => {
    assert.deepEqual(changesOf(barrierBatch(truncateOf(people), 1, false)), [])
  })

  test('a column of any name is a column', () => {
    const odd = schemaOf({
      name: 'odd',
      columns: ['__proto__', 'constructor', 'toString'].map((name) => ({ name, type: { kind: 'string' } })),
    })
    const [change] = changesOf(batchOf([{ number: 1, changes: [insert(odd, ['a', 'b', null])] }]))
    assert.deepEqual(Object.entries({ ...change!.after }), [
      ['__proto__', 'a'],
      ['constructor', 'b'],
      ['toString', null],
    ])
    const back = sliceOfChanges(odd, [place({ ...change!, after: JSON.parse('{"__proto__":"x"}') as Row }, change!)])
    assert.deepEqual(texts(back), texts(textRowsToSlice(odd, [{ op: Op.insert, after: ['x', null, null] }])))
  })
})

describe('sequence', () => {
  /** Rows of transactions with given places, cut into batches after the given rows. */
  function batchesOf(places: readonly bigint[], cuts: readonly number[]): StreamBatch[] {
    const borders = [0, ...cuts.filter((cut) => cut > 0 && cut < places.length), places.length]
    return borders.slice(1).map((end, index): StreamBatch => {
      const start = borders[index]!
      const rows = places.slice(start, end).map((one, n) => ({ op: Op.insert, after: [String(start + n)], order: n, place: one }))
      const last = end === places.length
      return {
        slices: [textRowsToSlice(other, rows)],
        barrier: null,
        transactions: [{ id: '9', position: at(5), end: last ? at(5) : null, committedAt: 0 }],
        position: last ? at(5) : null,
        rows: rows.length,
        bytes: 0,
      }
    })
  }

  function sequences(batches: readonly StreamBatch[]): string[] {
    let carry: PlaceCarry | null = null
    return batches.flatMap((batch) => {
      const numbers = sequencesOf(batch, carry)
      const found = changesOf(batch, numbers).map((change) => change.sequence)
      assert.deepEqual([...numbers.values()], found)
      carry = carryOf(batch, carry)
      return found
    })
  }

  test('numbers rows of one place', () => {
    const found = sequences(batchesOf([1n, 1n, 0x1_0000_0002n, 0x1_0000_0002n, 0x1_0000_0002n, 3n], []))
    assert.deepEqual(
      found,
      ['1/0', '1/1', '100000002/0', '100000002/1', '100000002/2', '3/0'].map((end) => `${at(5)}/${end}`),
    )
  })

  test('is the same however the transaction is cut into batches (TRAPS 24)', () => {
    const runs = fc.array(fc.tuple(fc.bigInt(0n, (1n << 64n) - 1n), fc.integer({ min: 1, max: 5 })), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(runs, fc.array(fc.nat(20)), (places, cuts) => {
        const rows = [...new Map(places).entries()].flatMap(([one, times]) => Array.from({ length: times }, () => one))
        const whole = sequences(batchesOf(rows, []))
        assert.deepEqual(
          sequences(
            batchesOf(
              rows,
              cuts.toSorted((a, b) => a - b),
            ),
          ),
          whole,
        )
        assert.equal(new Set(whole).size, whole.length)
      }),
    )
  })
})

describe('the way back', () => {
  const hard = schemaOf({ name: 'hard', columns: [{ name: 'id', type: { kind: 'int32' } }, ...HARD_VALUES], key: ['id'] })
  const image: fc.Arbitrary<Image> = fc.tuple(
    fc.nat(1000).map(String),
    ...HARD_VALUES.map((column) => fc.option(fc.constantFrom(...column.values))),
  )
  const change: fc.Arbitrary<RowChange> = fc.oneof(
    image.map((after) => insert(hard, after)),
    fc.tuple(image, fc.array(fc.boolean(), { minLength: 40, maxLength: 40 })).map(([after, sent]) =>
      update(
        hard,
        after.map((value, index) => (index === 0 || sent[index] ? value : undefined)),
      ),
    ),
    fc
      .tuple(image, image)
      .map(([after, before]): RowChange => ({ schema: hard, op: Op.update, after, before: { kind: OldImage.full, values: before } })),
    image.map((before) => remove(hard, before)),
  )

  test('gives the same bytes for every type, spread or not', () => {
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), fc.boolean(), (changes, spread) => {
        const [slice] = batchOf([{ number: 1, changes }]).slices
        const decoded = changesOfSlice(slice!, null)
        const given = decoded.map((one): Change =>
          spread ? { ...one, after: one.after && { ...one.after }, before: one.before && { ...one.before } } : one,
        )
        const again = sliceOfChanges(
          hard,
          given.map((one, index) => place(one, decoded[index]!, index)),
        )
        assert.deepEqual(texts(again), texts(slice!))
        assert.equal(again.bytes, slice!.bytes, 'nothing is copied')
      }),
      { numRuns: 60 },
    )
  })

  test('gives the same values without the bytes', () => {
    fc.assert(
      fc.property(change, (one) => {
        const [slice] = batchOf([{ number: 1, changes: [one] }]).slices
        const [decoded] = changesOfSlice(slice!, null)
        const [again] = changesOfSlice(sliceOfChanges(hard, [place({ ...decoded! }, null)]), null)
        assert.deepEqual(plain([again!]), plain([decoded!]))
      }),
      { numRuns: 60 },
    )
  })

  const [first] = changesOf(batchOf([{ number: 1, changes: [insert(people, ['1', 'Ann', '[0:1]={a,b}', '1e+20'])] }])) as [Change]
  const [moved] = changesOf(batchOf([{ number: 1, changes: [update(people, ['2', undefined, null, '1'], ['1', null, null, null])] }])) as [
    Change,
  ]

  function back(one: Change, origin: Change = first): unknown {
    return texts(sliceOfChanges(people, [place(one, origin)]))[0]
  }

  test('writes what was changed and leaves the rest as it was spelt', () => {
    assert.deepEqual(back({ ...first, after: { ...first.after!, name: 'Eve' } }), {
      op: 1,
      kind: 0,
      after: ['1', 'Eve', '[0:1]={a,b}', '1e+20'],
      before: [undefined, undefined, undefined, undefined],
    })
    assert.deepEqual(back({ ...first, after: { ...first.after!, id: 7n, tags: ['a', 'b', null] } }), {
      op: 1,
      kind: 0,
      after: ['7', 'Ann', '{a,b,NULL}', '1e+20'],
      before: [undefined, undefined, undefined, undefined],
    })
  })

  test('sees what was changed in place', () => {
    const [mutable] = changesOf(batchOf([{ number: 1, changes: [insert(people, ['1', 'Ann', '[0:1]={a,b}', '2'])] }])) as [Change]
    const row = mutable.after!
    row['name'] = null
    const tags = row['tags'] as string[]
    tags.push('c')
    assert.deepEqual(back(mutable, mutable), {
      op: 1,
      kind: 0,
      after: ['1', null, '{a,b,c}', '2'],
      before: [undefined, undefined, undefined, undefined],
    })
  })

  test('a missing column is null in an insert, unchanged in an update', () => {
    const { name: _name, ...rest } = first.after!
    assert.deepEqual(back({ ...first, after: rest }), {
      op: 1,
      kind: 0,
      after: ['1', null, '[0:1]={a,b}', '1e+20'],
      before: [undefined, undefined, undefined, undefined],
    })
    const { score: _score, ...less } = moved.after!
    assert.deepEqual(back({ ...moved, after: less }, moved), {
      op: 2,
      kind: 1,
      after: ['2', undefined, null, undefined],
      before: ['1', undefined, undefined, undefined],
    })
  })

  test('a key column that was not sent stays so, as long as the old image has it', () => {
    const [large] = changesOf(
      batchOf([{ number: 1, changes: [update(people, [undefined, 'x', null, null], ['1', null, null, null])] }]),
    ) as [Change]
    assert.deepEqual(back(large, large), {
      op: 2,
      kind: 1,
      after: [undefined, 'x', null, null],
      before: ['1', undefined, undefined, undefined],
    })
    assert.throws(() => back({ ...large, before: null }, large), RowError)
  })

  test('an incomplete full image is one of the key', () => {
    const full = { ...moved, before: { id: 1n, name: 'x' }, beforeKind: 'full' as const }
    assert.deepEqual(back(full, moved), {
      op: 2,
      kind: 1,
      after: ['2', undefined, null, '1'],
      before: ['1', undefined, undefined, undefined],
    })
  })

  test('refuses what cannot be a row, and names the column', () => {
    const refused: readonly (readonly [Change, string | null])[] = [
      [{ ...first, after: { ...first.after!, nmae: 'x' } }, 'nmae'],
      [{ ...first, after: { name: 'x' } }, 'id'],
      [{ ...first, after: { ...first.after!, id: null } }, 'id'],
      [{ ...first, after: { ...first.after!, id: UNCHANGED } }, 'id'],
      [{ ...first, after: { ...first.after!, id: 'x' } }, 'id'],
      [{ ...first, after: { ...first.after!, tags: [1] } }, 'tags'],
      [{ ...first, after: null }, null],
      [{ ...first, op: 'upsert' as 'insert' }, null],
      [{ ...first, before: { id: 1n }, beforeKind: 'key' }, null],
      [{ ...moved, before: { name: 'x' } }, 'id'],
      [{ ...moved, beforeKind: 'none' }, null],
      [{ ...moved, op: 'delete' }, null],
      [{ ...moved, op: 'delete', after: null, before: null }, null],
    ]
    for (const [one, column] of refused)
      assert.throws(
        () => back(one, moved),
        (error) => error instanceof RowError && error.column === column,
        JSON.stringify(column),
      )
  })

  test('of several that belong together takes all or none', () => {
    const encoder = new SliceEncoder(people)
    encoder.addAll([place({ ...first, after: { ...first.after!, name: 'one' } }, first)])
    assert.throws(
      () =>
        encoder.addAll([
          place(moved, moved),
          place({ ...first, after: { ...first.after!, name: 'two' } }, first),
          place({ ...first, after: {} }, first),
        ]),
      RowError,
    )
    encoder.addAll([place({ ...first, after: { ...first.after!, name: 'three' } }, first)])
    const expected = ['one', 'three'].map((name) => ({
      op: 1,
      kind: 0,
      after: ['1', name, '[0:1]={a,b}', '1e+20'],
      before: [undefined, undefined, undefined, undefined],
    }))
    assert.deepEqual(texts(encoder.finish()), expected)
  })

  test('keeps the bytes of a change that was held back over batches', () => {
    const held = changesOf(batchOf([{ number: 1, changes: [insert(people, ['5', 'held', '[5:5]={x}', '1e+15'])] }]))[0]!
    const slice = sliceOfChanges(people, [place(first, first, 0), place(held, first, 1)])
    assert.deepEqual(
      texts(slice).map((row) => (row as { after: unknown }).after),
      [
        ['1', 'Ann', '[0:1]={a,b}', '1e+20'],
        ['5', 'held', '[5:5]={x}', '1e+15'],
      ],
    )
  })

  test('of picked rows is of those rows', () => {
    const [slice] = batchOf([
      {
        number: 1,
        changes: [insert(people, ['1', 'a', null, null]), remove(people, ['2', null, null, null]), insert(people, ['3', 'c', null, null])],
      },
    ]).slices
    const picked = pickRows(slice!, [2, 1])
    const decoded = changesOfSlice(picked, null)
    assert.deepEqual(
      decoded.map((one) => one.after?.['id'] ?? one.before?.['id']),
      [3n, 2n],
    )
    assert.deepEqual(
      texts(
        sliceOfChanges(
          people,
          decoded.map((one, n) => place(one, one, n)),
        ),
      ),
      texts(picked),
    )
  })
})
