import assert from 'node:assert/strict'
import { tableId } from '../../src/model/schema.ts'
import type { VerifiedTable } from '../../src/verify/verify.ts'
import { Random } from '../kit/random.ts'
import { cases, pipelineCase, quote, useBench, type Cells, type SinkName, type SourceDatabase } from './kit.ts'

const bench = useBench()

const SINKS: readonly SinkName[] = ['sqlite', 'duckdb', 'postgres']
const SEED = Number(process.env['TAILRACE_SEED'] ?? 1)
const RUNS = Number(process.env['TAILRACE_RUNS'] ?? 1)
const ROUNDS = 3

/** Values that are near each other, of every kind that a comparison could take for the same. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  boolean: ['true', 'false'],
  smallint: ['0', '1', '-1', '32767', '-32768', '256'],
  int: ['0', '1', '-1', '2147483647', '-2147483648', '10', '100'],
  bigint: ['0', '1', '-1', '9223372036854775807', '-9223372036854775808', '9007199254740993', '9007199254740992'],
  real: ['0', '-0', '1', '0.1', '0.10000001', 'NaN', 'Infinity', '-Infinity', '1e-45', '3.4028235e38'],
  'double precision': ['0', '-0', '1', '0.1', '0.10000000000000002', 'NaN', 'Infinity', '-Infinity', '5e-324', '1.7976931348623157e308'],
  'numeric(12,3)': ['0', '1', '1.001', '-1.001', '100', '10', '999999999.999'],
  numeric: ['0', '0.0', '1', '1.0', '1.00', '100', '1e2', 'NaN', '1e-20', '12345678901234567890123456789012345678901234567890'],
  text: ['', ' ', 'a', 'A', 'a ', 'ab', 'abc', 'bc', 'c', '1', '1:a', '~', '|', '~|', '#', '\\', 'NULL', 'é', 'e\u0301', '𝄞', '\t', '\n'],
  'varchar(20)': ['', 'a', 'ab', 'bc', 'c', '0:', '2:ab', '~'],
  'char(5)': ['', 'a', 'ab', 'A', 'é'],
  bytea: ['\\x', '\\x00', '\\x0000', '\\x01', '\\xff', '\\x7e', '\\x6162'],
  date: ['2000-01-01', '1999-12-31', '0001-01-01', '0044-03-15 BC', 'infinity', '-infinity', '9999-12-31'],
  time: ['00:00:00', '24:00:00', '12:34:56.000001', '12:34:56', '23:59:59.999999'],
  timetz: ['12:00:00+00', '13:00:00+01', '12:00:00.000001-07'],
  timestamp: [
    '2000-01-01 00:00:00',
    '2000-01-01 00:00:00.000001',
    '1999-12-31 23:59:59.999999',
    'infinity',
    '0044-03-15 12:00:00 BC',
    '12000-01-01',
  ],
  timestamptz: ['2000-01-01 00:00:00+00', '2000-01-01 00:00:00.000001+00', '-infinity', '2024-03-31 02:30:00+01'],
  interval: ['1 mon', '30 days', '24:00:00', '1 day', '-1 mon +1 day', '00:00:00.000001', '0'],
  uuid: ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '7fffffff-ffff-ffff-ffff-ffffffffffff'],
  jsonb: ['{"a": {"b": 1, "c": 2}}', '{"a": {"b": 1}, "c": 2}', '1', '"1"', 'null', '[]', '{}', '1.0', '[1, 2]', '["1", 2]'],
  json: ['{"a":1}', '{"a": 1}', '1', '"1"', 'null', '{"a":1,"a":2}'],
  'int[]': ['{}', '{1}', '{1,2}', '{12}', '{NULL}', '{{1},{2}}', '[0:1]={1,2}'],
  'text[]': ['{}', '{""}', '{NULL}', '{"NULL"}', '{"a,b"}', '{a,b}'],
  inet: ['10.0.0.1', '10.0.0.1/8', '::1'],
  'bit varying(8)': ['', '0', '00', '1', '01'],
}
const TYPES = Object.keys(VALUES)

interface KeyKind {
  readonly columns: readonly (readonly [name: string, type: string])[]
  /** A value for each column of the i-th row. */
  readonly at: (i: number, random: Random) => readonly string[]
}

const EXTREMES: readonly bigint[] = [-(2n ** 63n), 2n ** 63n - 1n, 0n, -1n]
const id = (type: string): KeyKind['columns'] => [['id', type]]

/** By which rows are found again: ranges of one and of more columns, buckets, and nothing at all. */
const KEYS: Readonly<Record<string, KeyKind>> = {
  int: { columns: id('int'), at: (i) => [String(i * 3 - 2000)] },
  bigint: { columns: id('bigint'), at: (i) => [String(EXTREMES[i] ?? BigInt(i) * 1_000_000_007n)] },
  uuid: {
    columns: id('uuid'),
    at: (i, random) => [
      `${(random.between(0, 2 ** 32 - 1) >>> 0).toString(16).padStart(8, '0')}-0000-4000-8000-${i.toString(16).padStart(12, '0')}`,
    ],
  },
  pair: {
    columns: [
      ['a', 'int'],
      ['b', 'bigint'],
    ],
    at: (i) => [String(i % 3), String(i)],
  },
  mixed: {
    columns: [
      ['a b', 'int'],
      ['B"x', 'text'],
    ],
    at: (i) => [String(i % 2), `${'aAéz'[i % 4]}${i}`],
  },
  bytes: { columns: id('text COLLATE "C"'), at: (i) => [`${'aAéz~'[i % 5]}:${i}`] },
  word: { columns: id('text'), at: (i) => [`${'aAéz '[i % 5]}${i}`] },
  keyless: { columns: [], at: () => [] },
}

interface Table {
  readonly name: string
  readonly key: readonly string[]
  readonly kind: KeyKind
  readonly columns: readonly (readonly [name: string, type: string])[]
}

const literal = (value: string | null): string => (value === null ? 'NULL' : `'${value.replaceAll("'", "''")}'`)

class Planter {
  readonly done: string[] = []
  readonly #random: Random
  readonly #source: SourceDatabase

  constructor(source: SourceDatabase, random: Random) {
    this.#source = source
    this.#random = random
  }

  #pick<T>(items: readonly T[]): T {
    return items[this.#random.between(0, items.length - 1)]!
  }

  #value(type: string): string | null {
    return this.#random.next() < 0.2 ? null : this.#pick(VALUES[type]!)
  }

  async run(sql: string): Promise<void> {
    this.done.push(sql.slice(0, 2000))
    await this.#source.run(sql)
  }

  async make(name: string, kind: KeyKind, rows: number): Promise<Table> {
    const values = Array.from({ length: this.#random.between(1, 9) }, (_, i) => [`v ${i}`, this.#pick(TYPES)] as const)
    const columns = [...kind.columns, ...values]
    const key = kind.columns.map(([column]) => column)
    const parts = columns.map(([column, type]) => `${quote(column)} ${type}`)
    if (key.length > 0) parts.push(`PRIMARY KEY (${key.map(quote).join(', ')})`)
    await this.run(`CREATE TABLE ${quote(name)} (${parts.join(', ')})`)
    const table = { name, key, kind, columns }
    for (let from = 0; from < rows; from += 1000)
      await this.run(
        `INSERT INTO ${quote(name)} VALUES ${Array.from({ length: Math.min(1000, rows - from) }, (_, i) => this.#row(table, from + i)).join(', ')}`,
      )
    if (this.#random.next() < 0.5) await this.run(`ANALYZE ${quote(name)}`)
    return table
  }

  #row({ kind, columns }: Table, i: number): string {
    const key = kind.at(i, this.#random)
    return `(${[...key, ...columns.slice(key.length).map(([, type]) => this.#value(type))].map(literal).join(', ')})`
  }

  /** One row is not what it was. */
  async change(table: Table, fresh: number): Promise<void> {
    const name = quote(table.name)
    const values = table.columns.slice(table.key.length)
    const [column, type] = this.#pick(values)
    const some = `ctid = (SELECT ctid FROM ${name} ORDER BY ctid OFFSET ${this.#random.between(0, 400)} LIMIT 1)`
    const [first = column, second = column] = values.filter((each) => each[1] === type).map(([each]) => each)
    switch (this.#random.between(0, 6)) {
      case 0:
        return this.run(`DELETE FROM ${name} WHERE ${some}`)
      case 1:
        return this.run(`INSERT INTO ${name} VALUES ${this.#row(table, fresh)} ON CONFLICT DO NOTHING`)
      case 2:
        if (first === second) return this.run(`UPDATE ${name} SET ${quote(first)} = NULL WHERE ${some}`)
        return this.run(`UPDATE ${name} SET (${quote(first)}, ${quote(second)}) = ROW(${quote(second)}, ${quote(first)}) WHERE ${some}`)
      case 3:
        if (table.key.length > 0) return this.run(`UPDATE ${name} SET ${quote(column)} = ${quote(column)} WHERE ${some}`)
        return this.run(`INSERT INTO ${name} SELECT * FROM ${name} WHERE ${some}`)
      default:
        return this.run(`UPDATE ${name} SET ${quote(column)} = ${literal(this.#value(type))} WHERE ${some}`)
    }
  }
}

interface Expected {
  missing: number
  extra: number
  different: number
  /** `kind key columns`, sorted. */
  keys: string[]
}

/** Row by row: the source as it is, against what it was when it was copied. */
function expected({ key, columns }: Table, now: readonly Cells[], then: readonly Cells[]): Expected {
  const result: Expected = { missing: 0, extra: 0, different: 0, keys: [] }
  const words = (row: Cells): string => JSON.stringify(columns.map(([name]) => row[name]))
  if (key.length === 0) {
    const counts = new Map<string, number>()
    for (const row of now) counts.set(words(row), (counts.get(words(row)) ?? 0) + 1)
    for (const row of then) counts.set(words(row), (counts.get(words(row)) ?? 0) - 1)
    for (const count of counts.values()) {
      if (count > 0) result.missing += count
      else result.extra -= count
    }
    return result
  }
  const keyOf = (row: Cells): string => JSON.stringify(key.map((name) => row[name]))
  const [left, right] = [new Map(now.map((row) => [keyOf(row), row])), new Map(then.map((row) => [keyOf(row), row]))]
  for (const [text, row] of left) {
    const other = right.get(text)
    if (other !== undefined && words(row) === words(other)) continue
    if (other === undefined) result.missing++
    else result.different++
    const changed = other === undefined ? [] : columns.map(([name]) => name).filter((name) => row[name] !== other[name])
    result.keys.push(`${other === undefined ? 'missing' : 'different'} ${text} ${changed.join()}`)
  }
  for (const text of right.keys()) {
    if (left.has(text)) continue
    result.extra++
    result.keys.push(`extra ${text} `)
  }
  result.keys.sort()
  return result
}

function reported({ key }: Table, { missing, extra, different, keys }: VerifiedTable): Expected {
  const lines = keys.map((found) => `${found.kind} ${JSON.stringify(key.map((name) => found.key[name]))} ${(found.columns ?? []).join()}`)
  return { missing, extra, different, keys: lines.sort() }
}

cases('verify against a comparison row by row', () => {
  for (let run = 0; run < RUNS; run++) {
    const seed = SEED + run
    pipelineCase(
      bench,
      `random tables, random differences: found exactly (TAILRACE_SEED=${seed})`,
      { setup: '', sinks: SINKS },
      async (world) => {
        const { source, pipeline } = world
        const random = new Random(seed)
        const planter = new Planter(source, random)
        const rowsOf = (table: Table): Promise<Cells[]> => source.run(`SELECT * FROM ${quote(table.name)}`)
        try {
          const tables: Table[] = []
          for (const [name, kind] of Object.entries(KEYS)) {
            tables.push(await planter.make(`T ${name}`, kind, [0, 1, 60, 400, 5000][random.between(0, 4)]!))
          }
          const copied = await pipeline.run('copy')
          assert.equal(copied.ok, true, JSON.stringify(copied.problems))
          const before = new Map<string, Cells[]>()
          for (const table of tables) before.set(table.name, await rowsOf(table))
          for (let round = 0; round < ROUNDS; round++) {
            const changes = round === 0 ? 0 : random.between(1, 12)
            for (const table of tables) for (let i = 0; i < changes; i++) await planter.change(table, 6000 + round * 100 + i)
            const report = await pipeline.verify({ limit: 1000, showValues: random.next() < 0.3 })
            assert.equal(report.tables.length, tables.length, JSON.stringify(report.problems))
            for (const table of tables) {
              const found = report.tables.find((each) => each.source === tableId('public', table.name))
              assert.ok(found !== undefined, table.name)
              const now = await rowsOf(table)
              const then = before.get(table.name) ?? []
              assert.deepEqual(reported(table, found), expected(table, now, then), `${table.name}, round ${round}`)
              assert.deepEqual(found.rows, { source: now.length, sink: then.length }, table.name)
            }
          }
        } catch (error) {
          throw new Error(
            `seed ${seed}: ${error instanceof Error ? error.message : String(error)}\n${planter.done.map((sql) => sql.slice(0, 300)).join('\n')}`,
            { cause: error },
          )
        }
      },
    )
  }
})
