import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { LogicalType } from '../../model/logical-type.ts'
import { LOGICAL_KINDS, targetType, typeNote } from '../../sdk/sql/type-table.ts'
import { POSTGRES_TYPES } from './type-table.ts'

function sample(kind: LogicalType['kind']): LogicalType {
  switch (kind) {
    case 'decimal':
      return { kind, precision: 38, scale: 10 }
    case 'enum':
      return { kind, name: 'mood', values: ['a'] }
    case 'array':
      return { kind, element: { kind: 'array', element: { kind: 'int32' } } }
    case 'other':
      return { kind, name: 'thing' }
    default:
      return { kind }
  }
}

it('every logical type has a place in PostgreSQL', () => {
  const types = Object.fromEntries(LOGICAL_KINDS.map((kind) => [kind, targetType(POSTGRES_TYPES, sample(kind)).sql]))
  assert.equal(types['decimal'], 'numeric(38,10)')
  assert.equal(types['array'], 'integer[][]')
  assert.equal(types['uint64'], 'numeric(20,0)')
})

it('decimals that PostgreSQL cannot bound are unbounded', () => {
  for (const [precision, scale] of [
    [null, null],
    [2000, 0],
    [5, -2],
  ] as const)
    assert.equal(targetType(POSTGRES_TYPES, { kind: 'decimal', precision, scale }).sql, 'numeric')
})

it('what changes is said, for elements of arrays too', () => {
  assert.equal(typeNote(POSTGRES_TYPES, { kind: 'int64' }), null)
  assert.match(
    typeNote(POSTGRES_TYPES, { kind: 'array', element: { kind: 'enum', name: 'mood', values: [] } }) ?? '',
    /enum\(mood\) becomes text/,
  )
})
