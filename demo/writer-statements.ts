import type { DemoTable } from './tables.ts'

/** Keys of rows, each the key columns as text. */
export type Keys = readonly (readonly string[])[]

export interface Statement {
  readonly name: string
  readonly text: string
  readonly values: unknown[]
}

const typeOf = (table: DemoTable, column: string): string => table.columns.find(([name]) => name === column)?.[1] ?? 'text'

/** A statement that PostgreSQL plans once; its name is its text, shortened. */
function statement(text: string, values: readonly unknown[]): Statement {
  let hash = 0
  for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) | 0
  return { name: `${hash}:${text.length}`, text, values: [...values] }
}

/** `$1 …` as a table `k` of keys with a number `n` for each that was never used, and how its rows match those of `t`. */
function keyTable(table: DemoTable, keys: Keys, firstNumber = 0): { from: string; match: string; values: unknown[] } {
  const parameters = table.key.map((_, i) => `$${i + 1}::text[]`).join(', ')
  const names = table.key.map((_, i) => `k${i + 1}`).join(', ')
  const number = `$${table.key.length + 1}::bigint`
  return {
    from: `(SELECT ${names}, ${number} + row_number() OVER () AS n FROM unnest(${parameters}) AS u(${names})) AS k`,
    match: table.key.map((name, i) => `t.${name} = k.k${i + 1}::${typeOf(table, name)}`).join(' AND '),
    values: [...table.key.map((_, i) => keys.map((key) => key[i])), firstNumber],
  }
}

const returning = (table: DemoTable): string => `RETURNING ${table.key.map((name) => `t.${name}::text`).join(', ')}`

/** Copies of rows under new keys. */
export function insertion(table: DemoTable, keys: Keys, firstNumber: number): Statement {
  const { from, match, values } = keyTable(table, keys, firstNumber)
  const columns = table.columns.map(([name]) => name)
  const selected = columns.map((name) => (name === table.key[0] ? table.newKey : `t.${name}`))
  return statement(
    `INSERT INTO ${table.name} AS t (${columns.join(', ')}) SELECT ${selected.join(', ')} FROM ${from} JOIN ${table.name} AS t ON ${match} ${returning(table)}`,
    values,
  )
}

export function update(table: DemoTable, keys: Keys, set: string): Statement {
  const { from, match, values } = keyTable(table, keys)
  return statement(`UPDATE ${table.name} AS t SET ${set} FROM ${from} WHERE ${match}`, values)
}

export function deletion(table: DemoTable, keys: Keys): Statement {
  const { from, match, values } = keyTable(table, keys)
  return statement(`DELETE FROM ${table.name} AS t USING ${from} WHERE ${match}`, values)
}

/** New keys for rows. */
export function keyChange(table: DemoTable, keys: Keys, firstNumber: number): Statement {
  const { from, match, values } = keyTable(table, keys, firstNumber)
  return statement(
    `UPDATE ${table.name} AS t SET ${table.key[0]} = ${table.newKey} FROM ${from} WHERE ${match} ${returning(table)}`,
    values,
  )
}

/** The row at key `from` moves to key `to`; for tables with one key column. */
export function move(table: DemoTable, from: readonly string[], to: readonly string[]): Statement {
  const key = table.key[0] ?? ''
  const type = typeOf(table, key)
  return statement(`UPDATE ${table.name} SET ${key} = $1::text::${type} WHERE ${key} = $2::text::${type}`, [to[0], from[0]])
}
