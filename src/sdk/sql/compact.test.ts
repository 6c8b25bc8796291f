import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Op, OldImage, type Slice } from '../../model/batch.ts'
import type { Column, TableSchema } from '../../model/schema.ts'
import { tableId } from '../../model/schema.ts'
import { textRowsToSlice, type TextRow } from '../../model/slice-builder.ts'
import { TailraceError } from '../errors.ts'
import { compact, type Compaction, type MatchBy } from './compact.ts'

function column(name: string, ordinal: number): Column {
  return { name, type: { kind: 'string' }, nullable: true, sourceType: 'text', sourceTypeId: 25, ordinal, generated: 'no', identity: 'no' }
}

function table(key: readonly number[]): TableSchema {
  return {
    id: tableId('public', 't'),
    namespace: 'public',
    name: 't',
    columns: [column('id', 1), column('a', 2), column('toast', 3)],
    key,
    identity: key.length === 0 ? 'full' : 'key',
    indexes: [],
    foreignKeys: [],
    sequences: [],
    estimate: { rows: -1, bytes: -1 },
    relation: 0,
    dialect: 'postgres',
  }
}

type Image = readonly (string | null | undefined)[]
const insert = (after: Image): TextRow => ({ op: Op.insert, after })
const update = (after: Image, before?: Image): TextRow => ({
  op: Op.update,
  after,
  before: before === undefined ? null : { kind: before.length > 1 ? OldImage.full : OldImage.key, values: before },
})
const remove = (before: Image): TextRow => ({
  op: Op.delete,
  after: null,
  before: { kind: before.length > 1 ? OldImage.full : OldImage.key, values: before },
})

function text(slice: Slice, starts: Int32Array, lengths: Int32Array, cell: number): string | null | undefined {
  const length = lengths[cell]!
  return length >= 0 ? slice.bytes.toString('utf8', starts[cell]!, starts[cell]! + length) : length === -1 ? null : undefined
}

function base(c: Compaction, entry: number): (string | null | undefined)[] {
  const width = c.keyColumns.length
  return [...c.keyColumns.keys()].map((i) => text(c.slice, c.baseStarts, c.baseLengths, entry * width + i))
}

function final(c: Compaction, entry: number): (string | null | undefined)[] {
  const width = c.slice.schema.columns.length
  return c.slice.schema.columns.map((_, i) => text(c.slice, c.starts, c.lengths, c.rows[entry]! * width + i))
}

/** What a sink does with a compaction, on an array of rows. */
function applyTo(rows: Image[], c: Compaction): Image[] {
  const take = (key: readonly unknown[]): Image => {
    const at = rows.findIndex((row) => key.every((value, i) => row[c.keyColumns[i]!] === value))
    assert.notEqual(at, -1, 'a base row is in the target')
    return rows.splice(at, 1)[0]!
  }
  for (const entry of c.deletes) take(base(c, entry))
  const changed = [...c.updates, ...c.moves].map((entry) => ({ entry, old: take(base(c, entry)) }))
  const images = changed.map(({ entry, old }) => final(c, entry).map((value, i) => (value === undefined ? old[i] : value)))
  return [...rows, ...images, ...[...c.inserts].map((entry) => final(c, entry))]
}

const compactRows = (rows: readonly TextRow[], key: readonly number[] = [0], match?: MatchBy): Compaction =>
  compact(textRowsToSlice(table(key), rows), match)
const sorted = (rows: readonly Image[]): string[] => rows.map((row) => JSON.stringify(row)).sort()

describe('compaction by lineage', () => {
  it('keeps one update of a hot key', () => {
    const c = compactRows([update(['1', 'a', undefined]), update(['1', 'b', undefined]), update(['1', 'c', undefined])])
    assert.equal(c.updates.length, 1)
    assert.deepEqual(final(c, c.updates[0]!), ['1', 'c', undefined])
  })

  it('carries a value forward into a later UNCHANGED, a null too (CASE 27)', () => {
    const c = compactRows([update(['1', 'a', null]), update(['1', 'b', undefined]), update(['2', 'a', 'x']), update(['2', 'b', undefined])])
    assert.deepEqual(
      [...c.updates].map((entry) => final(c, entry)),
      [
        ['1', 'b', null],
        ['2', 'b', 'x'],
      ],
    )
  })

  it('insert then update stays an insert; insert then delete vanishes', () => {
    const c = compactRows([insert(['1', 'a', 'x']), update(['1', 'b', undefined]), insert(['2', 'a', 'x']), remove(['2'])])
    assert.deepEqual(
      [...c.inserts].map((entry) => final(c, entry)),
      [['1', 'b', 'x']],
    )
    assert.deepEqual([c.updates.length, c.moves.length, c.deletes.length, c.vanished.length], [0, 0, 0, 1])
  })

  it('a row that an insert replaces goes with it: deleted or moved away later, its first key is to be deleted, unless it is a base', () => {
    const c = compactRows([
      insert(['1', 'a', 'x']),
      remove(['1']),
      insert(['2', 'b', 'x']),
      update(['7', 'b', 'y'], ['2']),
      // Away, another one comes to the key and goes, and back: its row must stay.
      update(['8', 'c', undefined], ['3']),
      insert(['3', 'd', 'x']),
      remove(['3']),
      update(['3', 'c', undefined], ['8']),
    ])
    assert.deepEqual(
      [...c.vanished].map((entry) => base(c, entry)),
      [['1'], ['2']],
    )
    assert.deepEqual(
      [c.inserts, c.updates].map((entries) => [...entries].map((entry) => final(c, entry))),
      [[['7', 'b', 'y']], [['3', 'c', undefined]]],
    )
  })

  it('delete then insert of one key is an update with every column', () => {
    const c = compactRows([remove(['1']), insert(['1', 'a', 'new']), update(['1', 'b', undefined])])
    assert.deepEqual(
      [...c.updates].map((entry) => final(c, entry)),
      [['1', 'b', 'new']],
    )
    assert.equal(c.deletes.length, 0)
  })

  it('TRAP 34: a chain of key moves with an unchanged TOAST column keeps each row its own value', () => {
    const rows: TextRow[] = [update(['3', 'B', undefined], ['2']), update(['2', 'A', undefined], ['1']), update(['2', 'A2', undefined])]
    const c = compactRows(rows)
    assert.deepEqual(
      [...c.moves].map((entry) => [...base(c, entry), ...final(c, entry)]),
      [
        ['2', '3', 'B', undefined],
        ['1', '2', 'A2', undefined],
      ],
    )
    assert.deepEqual(
      sorted(
        applyTo(
          [
            ['1', 'A', 'tA'],
            ['2', 'B', 'tB'],
          ],
          c,
        ),
      ),
      sorted([
        ['3', 'B', 'tB'],
        ['2', 'A2', 'tA'],
      ]),
    )
  })

  it('CASE 22: two keys swapped through a third are two moves', () => {
    const c = compactRows([
      update(['9', 'A', undefined], ['1']),
      update(['1', 'B', undefined], ['2']),
      update(['2', 'A', undefined], ['9']),
    ])
    assert.deepEqual(
      [...c.moves].map((entry) => [base(c, entry)[0], final(c, entry)[0]]),
      [
        ['1', '2'],
        ['2', '1'],
      ],
    )
  })

  it('a row that moves away and back is an update', () => {
    const c = compactRows([update(['2', 'A', undefined], ['1']), update(['1', 'A2', undefined], ['2'])])
    assert.deepEqual(
      [...c.updates].map((entry) => final(c, entry)),
      [['1', 'A2', undefined]],
    )
    assert.equal(c.moves.length, 0)
  })

  it('a moved row that is deleted deletes its base; its first key may be inserted anew', () => {
    const c = compactRows([update(['2', 'A', undefined], ['1']), remove(['2']), insert(['2', 'n', 'n']), insert(['1', 'm', 'm'])])
    assert.deepEqual(
      [...c.updates].map((entry) => final(c, entry)),
      [['1', 'm', 'm']],
    )
    assert.deepEqual(
      [...c.inserts].map((entry) => final(c, entry)),
      [['2', 'n', 'n']],
    )
  })

  it('takes a TOASTed key that is unchanged, and every column under FULL, from the old image', () => {
    const c = compactRows([update([undefined, 'b', undefined], ['long', 'a', 'x'])])
    assert.deepEqual(
      [...c.updates].map((entry) => final(c, entry)),
      [['long', 'b', 'x']],
    )
  })

  it('TRAP 35: deferrable keys are matched by image while two rows have one key', () => {
    const rows = [update(['2', 'A', 'x'], ['1', 'A', 'x']), update(['3', 'B', 'y'], ['2', 'B', 'y'])]
    const c = compactRows(rows, [0], 'image')
    assert.deepEqual(
      sorted(
        applyTo(
          [
            ['1', 'A', 'x'],
            ['2', 'B', 'y'],
          ],
          c,
        ),
      ),
      sorted([
        ['2', 'A', 'x'],
        ['3', 'B', 'y'],
      ]),
    )
  })

  it('TRAP 40: a table without a key deletes one of three equal rows per change', () => {
    const c = compactRows([remove(['1', 'a', 'x']), insert(['1', 'a', 'x']), remove(['1', 'a', 'x'])], [])
    assert.equal(c.deletes.length + c.updates.length, 1)
    assert.equal(
      applyTo(
        [
          ['1', 'a', 'x'],
          ['1', 'a', 'x'],
          ['1', 'a', 'x'],
        ],
        c,
      ).length,
      2,
    )
  })

  it('TRAP 34: an insert that lacks a column, and a keyless change without its old row, are holes, not nulls', () => {
    const isHole = (error: unknown): boolean => error instanceof TailraceError && error.code === 'NOT_ACCOUNTED'
    assert.throws(() => compactRows([insert(['1', 'a', undefined])]), isHole)
    assert.throws(() => compactRows([update(['1', 'a', 'x'])], []), isHole)
    assert.throws(() => compactRows([{ op: Op.delete, after: null }]), isHole)
  })

  it('gives what the changes one by one give, for any history of a keyed table', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3), fc.nat(5), fc.nat(5), fc.boolean()), { maxLength: 40 }), (steps) =>
        checkHistory(steps, [0], 'key'),
      ),
    )
  })

  it('gives what the changes one by one give, for any history of a table matched by image', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3), fc.nat(5), fc.nat(5), fc.boolean()), { maxLength: 40 }), (steps) =>
        checkHistory(steps, [], 'image'),
      ),
    )
  })
})

/** Plays random steps against a source of at most six keys, logs them as PostgreSQL would, and compares. */
function checkHistory(steps: readonly (readonly [number, number, number, boolean])[], key: readonly number[], match: MatchBy): void {
  const start: Image[] = [
    ['0', 'a0', 't0'],
    ['1', 'a1', 't1'],
    ['2', 'a2', 't2'],
  ]
  const source: (string | null | undefined)[][] = start.map((row) => [...row])
  const log: TextRow[] = []
  steps.forEach(([kind, from, to, toast], n) => {
    const at = source.findIndex((row) => row[0] === String(from))
    const old = source[at]
    if (kind === 0 && (at === -1 || match === 'image')) {
      source.push([String(from), `i${n % 2}`, `t${n % 2}`])
      log.push(insert(source.at(-1)!.slice()))
    } else if (kind === 1 && old !== undefined) {
      source.splice(at, 1)
      log.push(remove(match === 'image' ? old : [old[0]]))
    } else if (old !== undefined && (match === 'image' || from === to || !source.some((row) => row[0] === String(to)))) {
      const next = [String(to), `u${n % 2}`, toast ? `n${n % 2}` : old[2]]
      log.push(update(toast ? next : [next[0], next[1], undefined], match === 'image' ? old : from === to ? undefined : [old[0]]))
      source[at] = next
    }
  })
  assert.deepEqual(sorted(applyTo([...start], compactRows(log, key, match))), sorted(source))
}
