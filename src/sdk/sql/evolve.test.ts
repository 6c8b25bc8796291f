import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { TableSchema } from '../../model/schema.ts'
import { schemaOf, type ColumnSpec } from '../../testing/sink-batches.ts'
import { evolutionSteps } from './evolve.ts'

const column = (name: string, ordinal: number, kind: 'int32' | 'int64' | 'string' = 'string'): ColumnSpec => ({
  name,
  ordinal,
  type: { kind },
})
const table = (...columns: readonly ColumnSpec[]): TableSchema => schemaOf({ name: 't', columns, key: ['id'] })
const shown = (previous: TableSchema, next: TableSchema, changes?: Parameters<typeof evolutionSteps>[2]): string[] =>
  evolutionSteps(previous, next, changes).map((step) =>
    step.kind === 'rename' || step.kind === 'rename-table'
      ? `${step.kind} ${step.from} ${step.to}`
      : 'column' in step
        ? `${step.kind} ${step.column.name}`
        : step.kind,
  )

const base = table(column('id', 1), column('a', 2), column('b', 3))

it('TRAP 47: columns are told apart by number: rename and new column of the old name, drop and add of one name', () => {
  assert.deepEqual(shown(base, table(column('id', 1), column('a_old', 2), column('b', 3), column('a', 4))), ['rename a a_old', 'add a'])
  assert.deepEqual(shown(base, table(column('id', 1), column('b', 3), column('a', 4))), ['drop a', 'add a'])
  assert.deepEqual(shown(base, table(column('id', 1), column('b', 2), column('a', 3))), ['rename a b', 'rename b a'])
})

it('by name where there are no numbers, with the renames that the source names', () => {
  const plain = (...names: readonly string[]): TableSchema => table(...names.map((name) => column(name, 0)))
  assert.deepEqual(shown(plain('id', 'a'), plain('id', 'x')), ['drop a', 'add x'])
  assert.deepEqual(shown(plain('id', 'a'), plain('id', 'x'), [{ kind: 'column-renamed', before: 'a', after: 'x' }]), ['rename a x'])
  assert.deepEqual(shown(plain('id', 'a'), plain('id', 'a'), [{ kind: 'column-dropped', before: 'a', after: null }]), ['drop a', 'add a'])
})

it('types, nullability, key and table name, the key first and last', () => {
  const next = { ...table(column('id', 1), { ...column('a', 2, 'int64'), nullable: false }, column('b', 3)), name: 'u', key: [1] }
  assert.deepEqual(shown(base, next), ['rename-table t u', 'drop-key', 'retype', 'nullability a', 'make-key'])
  assert.deepEqual(shown(base, base), [])
})

it('a renamed key is no other key', () => {
  assert.deepEqual(
    shown(base, {
      ...table(column('id', 1), column('a', 2), column('b', 3)),
      columns: base.columns.map((each, i) => (i === 0 ? { ...each, name: 'k' } : each)),
    }),
    ['rename id k'],
  )
})
