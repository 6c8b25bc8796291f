import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tableId, type TableSchema } from '../model/schema.ts'
import { chooseTables, EVERYTHING, type NamedTable } from './selection.ts'

function table(namespace: string, name: string): NamedTable {
  // The choice looks at names only.
  const schema = { id: tableId(namespace, name), namespace, name } as TableSchema
  return { schema, names: [schema] }
}

const ALL = [table('app', 'logs'), table('public', '!odd'), table('public', 'items'), table('public', 'logs'), table('public', 'orders')]

function chosen(tables: readonly string[], anyway: readonly NamedTable[] = []): string[] {
  return chooseTables(ALL, { ...EVERYTHING, tables }, anyway).map(({ schema }) => schema.id)
}

test('tables are chosen by name and pattern, and left out by `!`', () => {
  assert.deepEqual(
    chosen([]),
    ALL.map(({ schema }) => schema.id),
  )
  assert.deepEqual(chosen(['public.o*', 'items']), ['public.items', 'public.orders'])
  assert.deepEqual(chosen(['!public.logs']), ['app.logs', 'public."!odd"', 'public.items', 'public.orders'])
  assert.deepEqual(chosen(['!logs', '!"!odd"']), ['public.items', 'public.orders'])
  assert.deepEqual(chosen(['!public.logs', 'public.*', '!*.orders']), ['public."!odd"', 'public.items'], 'whatever their order')
  assert.deepEqual(chosen(['"!odd"']), ['public."!odd"'], 'a name that begins with it is quoted')
})

test('a name that is to be left out and is not there is a typo, a pattern is not', () => {
  assert.throws(() => chosen(['!public.lgos']), { code: 'USAGE', hint: 'did you mean public.logs?' })
  assert.deepEqual(chosen(['app.*', '!tmp_*']), ['app.logs'])
})

test('what a person added is taken whatever the patterns say', () => {
  assert.deepEqual(chosen(['items'], [ALL[3]!]), ['public.items', 'public.logs'])
  assert.deepEqual(chosen(['!public.logs', '!public.items'], [ALL[3]!]), ['app.logs', 'public."!odd"', 'public.logs', 'public.orders'])
})
