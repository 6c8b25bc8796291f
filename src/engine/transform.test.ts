import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { Op, type Slice, type StreamBatch } from '../model/batch.ts'
import type { Change } from '../model/change.ts'
import { changesOf, sequencesOf } from '../model/row-view.ts'
import { pickRows, textAt, textRowsToSlice } from '../model/slice-builder.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Transform, TransformContext } from '../sdk/transform.ts'
import { at, batchOf, insert, remove, schemaOf, update, type RowChange } from '../testing/sink-batches.ts'
import { deadLetterOf, transformBatch, transformSnapshot, type Transformed } from './transform.ts'

const context: TransformContext = { pipeline: 'p', signal: new AbortController().signal }
const people = schemaOf({
  name: 'people',
  columns: [
    { name: 'id', type: { kind: 'int32' } },
    { name: 'name', type: { kind: 'string' } },
    { name: 'n', type: { kind: 'array', element: { kind: 'int32' } } },
  ],
  key: ['id'],
})
const pets = schemaOf({ name: 'pets', columns: [{ name: 'id', type: { kind: 'int32' } }], key: ['id'] })

function sample(): StreamBatch {
  return batchOf([
    { number: 1, changes: [insert(people, ['1', 'a', '[0:0]={7}']), insert(pets, ['1']), insert(people, ['2', 'b', null])] },
    {
      number: 2,
      changes: [update(people, ['1', 'c', undefined]), remove(pets, ['1']), update(people, ['9', undefined, undefined], ['2', null, null])],
    },
  ])
}

function run(transform: Transform, batch = sample()): Promise<{ readonly batch: StreamBatch } & Transformed> {
  return transformBatch(batch, transform, context, sequencesOf(batch, null))
}

/** Rows of all slices in order: op, table, transaction, texts. */
function rowsOf(slices: readonly Slice[]): string[] {
  const rows = slices.flatMap((slice) =>
    Array.from({ length: slice.rows }, (_, row) => ({
      order: slice.order[row]!,
      text: [
        slice.ops[row],
        slice.schema.name,
        slice.transactions[row],
        ...slice.schema.columns.map((_, column) => textAt(slice, row, column) ?? '-'),
      ].join(' '),
    })),
  )
  return rows.sort((a, b) => a.order - b.order).map((row) => row.text)
}

const all = ['1 people 0 1 a [0:0]={7}', '1 pets 0 1', '1 people 0 2 b -', '2 people 1 1 c -', '3 pets 1 -', '2 people 1 9 - -']

function patch(change: Change, values: Record<string, string | number | null>): Change {
  return change.after === null ? change : { ...change, after: { ...change.after, ...values } }
}

describe('a transform of a batch', () => {
  test('that changes nothing gives the same rows, and the same bytes', async () => {
    const batch = sample()
    const done = await run((change) => change, batch)
    assert.deepEqual(rowsOf(done.batch.slices), all)
    assert.deepEqual(
      done.slices.map((slice) => slice.bytes),
      batch.slices.map((slice) => slice.bytes),
    )
    assert.deepEqual([done.batch.position, done.batch.transactions, done.rows], [batch.position, batch.transactions, 6])
    assert.deepEqual([done.filtered.size, done.added.size, done.failed], [0, 0, []])
  })

  test('sees the changes one after the other in the order of the source, promises included', async () => {
    const seen: string[] = []
    const transform: Transform = async (change) => {
      await new Promise((resolve) => setImmediate(resolve))
      seen.push(`${change.op} ${change.table}`)
      return change
    }
    const done = await run(transform)
    assert.deepEqual(seen, [
      'insert public.people',
      'insert public.pets',
      'insert public.people',
      'update public.people',
      'delete public.pets',
      'update public.people',
    ])
    assert.deepEqual(rowsOf(done.slices), all)
  })

  test('changes, filters and multiplies rows, and says how many', async () => {
    const done = await run((change) => {
      if (change.table === pets.id) return null
      if (change.op !== 'insert') return patch(change, { name: 'x' })
      return change.after?.['id'] === 2 ? [] : [change, patch(change, { id: 100 }), patch(change, { id: 101, n: null })]
    })
    assert.deepEqual(rowsOf(done.slices), [
      '1 people 0 1 a [0:0]={7}',
      '1 people 0 100 a [0:0]={7}',
      '1 people 0 101 a -',
      '2 people 1 1 x -',
      '2 people 1 9 x -',
    ])
    assert.deepEqual(
      [...done.filtered],
      [
        [pets.id, 2],
        [people.id, 1],
      ],
    )
    assert.deepEqual([...done.added], [[people.id, 2]])
    assert.equal(done.rows, 6 - 3 + 2)
    const sequences = changesOf(sample()).map((change) => change.sequence)
    const [slice] = done.slices
    assert.deepEqual(
      [0, 1, 2, 3].map((row) => done.sequences.get(slice!.order[row]!)),
      [`${sequences[0]}.0`, `${sequences[0]}.1`, `${sequences[0]}.2`, sequences[3]],
    )
  })

  test('TRAP 24: a row keeps its sequence when rows of its place are left out: a replay may leave out others', async () => {
    const rows = [0, 1, 2, 3].map((n) => ({ op: Op.insert, after: [String(n)], order: n, place: 7n }))
    const batch: StreamBatch = { ...batchOf([{ number: 1, changes: [insert(pets, ['1'])] }]), slices: [textRowsToSlice(pets, rows)] }
    const refuse: Transform = () => {
      throw new Error('not this one')
    }
    const fenced = { ...batch, slices: batch.slices.map((slice) => pickRows(slice, [2, 3])) }
    const { failed } = await transformBatch(fenced, refuse, context, sequencesOf(batch, null))
    assert.deepEqual(
      failed.map(({ sequence }) => sequence),
      [`${at(1)}/7/2`, `${at(1)}/7/3`],
    )
  })

  test('a batch of which nothing is left still moves the position', async () => {
    const done = await run((change) => (change.op === 'insert' ? null : []), { ...sample(), slices: sample().slices.slice(1) })
    assert.deepEqual([done.batch.slices, done.batch.rows, done.batch.position], [[], 0, at(2)])
  })

  test('TRAP 45: null for an update is a delete by the key that the row had, and counts as filtered', async () => {
    const done = await run((change) => (change.op === 'update' ? null : change))
    assert.deepEqual(rowsOf(done.slices), [...all.slice(0, 3), '3 people 1 - - -', '3 pets 1 -', '3 people 1 - - -'])
    assert.deepEqual(
      changesOf(done.batch).flatMap(({ op, table, before }) => (op === 'delete' && table === people.id ? [before] : [])),
      [{ id: 1 }, { id: 2 }],
      'the second one had changed its key',
    )
    assert.deepEqual([[...done.filtered], [...done.added], done.rows], [[[people.id, 2]], [[people.id, 2]], 6])
  })

  test('TRAP 45: an update of a row that the target may not hold is an insert, which replaces, where all columns are known', async () => {
    const full = { ...people, identity: 'full' as const }
    const deferrable = {
      ...full,
      indexes: [{ name: 'k', unique: true, primary: true, deferrable: true, columns: ['id'], definition: 'USING btree (id)' }],
    }
    const kept = async (change: RowChange): Promise<{ readonly rows: string[]; readonly counts: readonly number[] }> => {
      const done = await run((each) => each, batchOf([{ number: 1, changes: [change] }]))
      const counts = [done.replacing, done.moved, done.added].map((each) => each.get(people.id) ?? 0)
      return { rows: rowsOf(done.slices), counts }
    }
    assert.deepEqual(await kept(update(people, ['1', 'a', null])), { rows: ['1 people 0 1 a -'], counts: [1, 0, 0] })
    assert.deepEqual(await kept(update(people, ['1', 'a', undefined])), { rows: ['2 people 0 1 a -'], counts: [0, 0, 0] })
    assert.deepEqual(await kept(update(people, ['9', 'a', null], ['1', null, null])), {
      rows: ['3 people 0 - - -', '1 people 0 9 a -'],
      counts: [1, 1, 1],
    })
    const unsent = [
      ['1', 'a', undefined],
      ['1', 'b', '[0:0]={7}'],
    ] as const
    assert.deepEqual((await kept(update(full, ...unsent))).rows, ['1 people 0 1 a [0:0]={7}'], 'what was not sent stands in the old row')
    assert.deepEqual((await kept(update(deferrable, ...unsent))).rows, ['2 people 0 1 a -'])
  })

  test('an update may become a delete of another key: where keys are mapped', async () => {
    const done = await run((change) =>
      change.op === 'update' ? { ...change, op: 'delete', after: null, before: { id: change.after!['id']! }, beforeKind: 'key' } : change,
    )
    assert.deepEqual(rowsOf(done.slices), [...all.slice(0, 3), '3 people 1 - - -', '3 pets 1 -', '3 people 1 - - -'])
  })
})

describe('a transform that fails', () => {
  const failing: Readonly<Record<string, readonly [Transform, RegExp]>> = {
    throws: [
      () => {
        throw new TypeError('secret value')
      },
      /^the transform threw TypeError for a row of public.people$/,
    ],
    'throws no error': [
      () => {
        throw 'secret value'
      },
      /threw string for a row/,
    ],
    rejects: [() => Promise.reject(new RangeError('secret value')), /threw RangeError/],
    'forgets to return': [() => undefined as never, /it gave undefined: expected a change, several, or null/],
    'gives a text': [() => 'x' as never, /it gave string/],
    'gives a list of something': [(change) => [change, 5 as never], /does not hold changes only/],
    'moves the row': [(change) => ({ ...change, table: pets.id }), /moved the row to another table/],
    'makes a snapshot row': [(change) => ({ ...change, op: 'read' }), /made a snapshot row of a change/],
    'misspells a column': [(change) => patch(change, { nmae: 'secret value' }), /has no column "nmae"/],
    'gives a wrong type': [(change) => patch(change, { id: 'secret value' }), /column id: a value of type string does not fit int32/],
    'loses the key': [(change) => patch(change, { id: null }), /key column id has no value/],
    'gives one good and one bad': [(change) => [change, patch(change, { id: 2 ** 40 })], /does not fit int32/],
  }

  for (const [what, [transform, message]] of Object.entries(failing)) {
    test(`${what}: the row is named and given back as it was, the others are written (CASE 34)`, async () => {
      const done = await run((change, given) =>
        change.table === people.id && change.op === 'insert' && change.after?.['id'] === 1 ? transform(change, given) : change,
      )
      assert.deepEqual(rowsOf(done.slices), all.slice(1))
      const [failed] = done.failed
      assert.equal(done.failed.length, 1)
      assert.equal(failed!.error.code, 'TRANSFORM_FAILED')
      assert.match(failed!.error.message, message)
      assert.ok(!failed!.error.message.includes('secret'))
      const letter = deadLetterOf({ ...failed!, stage: 'transform', at: 3 })
      assert.deepEqual(
        [letter.table, letter.op, letter.code, letter.place],
        [people.id, 'insert', 'TRANSFORM_FAILED', `${at(1)}/100000000/0`],
      )
      assert.deepEqual(JSON.parse(letter.record), { before: null, after: { id: '1', name: 'a', n: '[0:0]={7}' } })
    })
  }

  test('a misspelt column comes with the nearest name', async () => {
    const done = await run((change) => patch(change, { nmae: 'x' }))
    assert.equal(done.failed[0]?.error.hint, 'did you mean name?')
  })

  test('even when it spoilt the change before', async () => {
    const done = await run((change) => {
      if (change.after !== null) change.after['name'] = 'spoilt'
      Object.assign(change, { sequence: 'spoilt', table: 'spoilt' })
      throw new Error('late')
    })
    assert.equal(done.failed.length, 6)
    assert.deepEqual(JSON.parse(deadLetterOf({ ...done.failed[0]!, stage: 'transform', at: 0 }).record).after.name, 'a')
    assert.equal(done.failed[0]?.sequence, `${at(1)}/100000000/0`)
  })

  test('because the pipeline is stopped makes no dead letters', async () => {
    const stop = new AbortController()
    const work = transformBatch(
      sample(),
      async () => {
        stop.abort(new TailraceError('ABORTED', 'stopped'))
        throw new Error('fetch failed')
      },
      { pipeline: 'p', signal: stop.signal },
      new Map(),
    )
    await assert.rejects(work, { code: 'ABORTED' })
  })
})

describe('a transform of snapshot rows', () => {
  const slice = textRowsToSlice(
    people,
    [
      ['1', 'a', '{1}'],
      ['2', 'b', null],
      ['3', 'c', null],
    ].map((after) => ({ op: Op.read, after })),
  )

  test('keeps them snapshot rows', async () => {
    const done = await transformSnapshot(slice, (change) => (change.after?.['id'] === 2 ? null : patch(change, { name: 'x' })), context)
    assert.deepEqual(rowsOf(done.slices), ['0 people 0 1 x {1}', '0 people 0 3 x -'])
    assert.deepEqual([...done.filtered], [[people.id, 1]])
    const wrong = await transformSnapshot(slice, (change) => ({ ...change, op: 'insert' }), context)
    assert.match(wrong.failed[0]!.error.message, /made insert of a snapshot row/)
  })

  test('a failed one is the same letter however often it is read', async () => {
    const fail: Transform = () => {
      throw new Error('x')
    }
    const one = await transformSnapshot(slice, fail, context)
    const again = await transformSnapshot(textRowsToSlice(people, [{ op: Op.read, after: ['2', 'changed', null] }]), fail, context)
    const letters = [...one.failed, ...again.failed].map((failed) => deadLetterOf({ ...failed, stage: 'transform', at: 0 }))
    const places = letters.map((letter) => letter.place)
    assert.equal(new Set(places).size, 3)
    assert.equal(places[1], places[3])
    assert.ok(places.every((place) => /^snapshot\/[0-9a-f]{32}$/.test(place)))
  })
})

test('a dead letter tells null, unchanged and not known apart', () => {
  const batch = batchOf([
    { number: 1, changes: [update(people, ['2', undefined, null], ['1', null, null]), remove(people, ['1', null, null])] },
  ])
  const error = new TailraceError('ROW_REJECTED', 'the target refused a row', { cause: new Error('value too long') })
  const letters = [0, 1].map((row) => deadLetterOf({ slice: batch.slices[0]!, row, sequence: `s${row}`, stage: 'sink', error, at: 7 }))
  assert.deepEqual(
    letters.map((letter) => letter.record),
    ['{"before":{"id":"1"},"after":{"id":"2","n":null}}', '{"before":{"id":"1"},"after":null}'],
  )
  assert.deepEqual(
    { ...letters[1], record: '' },
    {
      table: people.id,
      place: 's1',
      op: 'delete',
      stage: 'sink',
      code: 'ROW_REJECTED',
      reason: 'the target refused a row: value too long',
      record: '',
      at: 7,
    },
  )
})

test('any mixture of keep, drop, double and throw accounts for every row, in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.boolean(), fc.constantFrom('keep', 'drop', 'double', 'throw')), { maxLength: 30 }),
      async (fates) => {
        const changes = fates.map(([first], index) => insert(first ? people : pets, first ? [String(index), null, null] : [String(index)]))
        const batch = batchOf([{ number: 1, changes }])
        let n = 0
        const done = await run((change) => {
          const fate = fates[n++]![1]
          if (fate === 'throw') throw new Error('no')
          return fate === 'drop' ? null : fate === 'double' ? [change, change] : change
        }, batch)
        const sum = (counts: ReadonlyMap<unknown, number>): number => [...counts.values()].reduce((a, b) => a + b, 0)
        assert.equal(done.rows, fates.length + sum(done.added) - sum(done.filtered) - done.failed.length)
        const expected = fates.flatMap(([, fate], index) => (fate === 'keep' ? [index] : fate === 'double' ? [index, index] : []))
        assert.deepEqual(
          rowsOf(done.slices).map((row) => Number(row.split(' ')[3])),
          expected,
        )
      },
    ),
  )
})
