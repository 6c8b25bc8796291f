import assert from 'node:assert/strict'
import type { VerifyReport } from '../../src/library/verification.ts'
import { cases, MAJOR, pipelineCase, useBench, type SinkName, type World } from './kit.ts'

const bench = useBench()

/** Type → literals at its limits. `extension`: needs it. */
interface TypeCase {
  readonly type: string
  readonly values: readonly string[]
  /** Sinks whose documented mapping refuses some of the values, which are then left out. */
  readonly refused?: Partial<Record<SinkName, RegExp>>
}

const duckNumeric = { duckdb: /NaN|Infinity/ }
const TYPES: readonly TypeCase[] = [
  { type: 'boolean', values: ['true', 'false'] },
  { type: 'int2', values: ['-32768', '32767', '0'] },
  { type: 'int4', values: ['-2147483648', '2147483647'] },
  { type: 'int8', values: ['-9223372036854775808', '9223372036854775807', '9007199254740993', '-9007199254740993'] },
  { type: 'oid', values: ['0', '4294967295'] },
  {
    type: 'numeric',
    values: [
      '0',
      '-0.000',
      '1e-50',
      '123456789012345678901234567890.123456789012345678901234567890',
      `1${'0'.repeat(300)}`,
      'NaN',
      ...(MAJOR >= 14 ? ['Infinity', '-Infinity'] : []),
    ],
  },
  { type: 'numeric(38,10)', values: ['-9999999999999999999999999999.9999999999', '0.0000000001', '1.5', 'NaN'], refused: duckNumeric },
  { type: 'numeric(5,0)', values: ['99999', '-99999', '0'] },
  ...(MAJOR >= 15
    ? [
        { type: 'numeric(5,-2)', values: ['1234567', '-100'] },
        { type: 'numeric(3,5)', values: ['0.00999', '-0.00001'] },
      ]
    : []),
  { type: 'float4', values: ['NaN', 'Infinity', '-Infinity', '-0', '0.1', '3.4028235e+38', '1e-45', '16777217'] },
  {
    type: 'float8',
    values: [
      'NaN',
      'Infinity',
      '-Infinity',
      '-0',
      '0.1',
      '1.7976931348623157e+308',
      '5e-324',
      '0.30000000000000004',
      '1e22',
      '123456789012345680',
    ],
  },
  { type: 'money', values: ['-92233720368547758.08', '92233720368547758.07', '1.5'] },
  {
    type: 'text',
    values: [
      "''",
      "' '",
      "'NULL'",
      "'\\N'",
      "'\\.'",
      "'a\tb\nc\rd'",
      `'quote "double" ''single'' back\\slash'`,
      "'comma,semi;pipe|'",
      "'emoji 😀 é ẞ ﷽ \\0 \\x00'",
      "'{a,b}'",
      "E'\\b\\f\\v\\x01\\x7f'",
      "repeat('long ', 20000)",
    ].map(asIs),
  },
  { type: 'varchar(5)', values: ['abc', 'äöü€😀', ''] },
  { type: 'char(5)', values: ['ab', '     ', 'abcde'] },
  { type: '"char"', values: ['a', ''] },
  { type: 'name', values: ['some_name'] },
  { type: 'bytea', values: ['', '\\x00', '\\x00ff5c27220a0d7f', '\\xdeadbeef'] },
  {
    type: 'date',
    values: ['0001-01-01', '9999-12-31', '2024-02-29', '0044-03-15 BC', 'infinity', '-infinity', '5874897-12-31', '4713-01-01 BC'],
  },
  { type: 'time', values: ['00:00:00', '24:00:00', '23:59:59.999999', '12:34:56.1'] },
  { type: 'time(3)', values: ['12:34:56.789'] },
  { type: 'timetz', values: ['12:34:56.789+05:30', '00:00:00+15:59', '23:59:59.999999-12'] },
  {
    type: 'timestamp',
    values: [
      '2024-01-02 03:04:05.678901',
      '1970-01-01',
      '1969-12-31 23:59:59.999999',
      '9999-12-31 23:59:59.999999',
      'infinity',
      '-infinity',
      '0044-03-15 12:00:00 BC',
      '294276-12-31 23:59:59.999999',
      '4713-01-01 00:00:00 BC',
      '0001-01-01',
    ],
    refused: { duckdb: /294276/ },
  },
  { type: 'timestamp(3)', values: ['2024-01-02 03:04:05.678'] },
  {
    type: 'timestamptz',
    values: [
      '2024-01-02 03:04:05.678901+05:30',
      '2024-06-01 00:00:00 Europe/Berlin',
      'infinity',
      '-infinity',
      '0044-03-15 12:00:00+00 BC',
      '294276-12-31 23:59:59.999999+00',
      '1900-01-01 00:00:00+00',
    ],
    refused: { duckdb: /294276/ },
  },
  {
    type: 'interval',
    values: [
      '1 year 2 mons 3 days 04:05:06.789',
      '-1 year -2 mons +3 days -04:05:06.000001',
      '0',
      '178000000 years',
      '-178000000 years',
      '1 mon -30 days 720:00:00',
      '00:00:00.000001',
    ],
  },
  {
    type: 'uuid',
    values: ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'],
  },
  { type: 'json', values: ['{"b":1,  "a":[1,2.50,null,true],"a":"dup"}', '"\\u00e9 \\" \\\\"', '12345678901234567890.1234567890', 'null'] },
  {
    type: 'jsonb',
    values: ['{"b":1,  "a":[1,2.50,null,true],"a":"dup"}', '"\\u00e9 \\" \\\\"', '12345678901234567890.1234567890', 'null', '[]'],
  },
  { type: 'int4[]', values: ['{}', '{1,NULL,-3}', '{{1,2},{3,4}}', '[0:1]={7,8}'] },
  { type: 'text[]', values: ['{}', '{NULL,"NULL","","a,b","q\\"x","back\\\\slash","{}"," sp "}', '{{a,b},{c,d}}'] },
  { type: 'numeric(10,2)[]', values: ['{1.00,NULL,-99999999.99}'] },
  { type: 'timestamptz[]', values: ['{"2024-01-02 03:04:05+00",infinity,NULL}'] },
  { type: 'bytea[]', values: ['{"\\\\x00ff",NULL}'] },
  { type: 'bool[]', values: ['{t,f,NULL}'] },
  { type: 'mood', values: ['sad', `o'k ,"x"`, ''] },
  { type: 'mood[]', values: ['{sad,NULL}'] },
  { type: 'positive', values: ['1', '2147483647'] },
  { type: 'short_text', values: ['abc'] },
  { type: 'pair', values: ['(1,"a b")', '(,)', '(2,"q""x")'] },
  { type: 'int4range', values: ['[1,5)', 'empty', '(,)', '[3,)'] },
  { type: 'tstzrange', values: ['["2024-01-01 00:00:00+00","2024-02-01 00:00:00+00")'] },
  ...(MAJOR >= 14 ? [{ type: 'int4multirange', values: ['{[1,3),[5,7)}', '{}'] }] : []),
  { type: 'bit(8)', values: ['10101010', '00000000'] },
  { type: 'varbit', values: ['', '1', '101010101'] },
  { type: 'inet', values: ['192.168.0.1', '192.168.0.0/24', '::1', 'fe80::1/64'] },
  { type: 'cidr', values: ['10.0.0.0/8', '2001:db8::/32'] },
  { type: 'macaddr', values: ['08:00:2b:01:02:03'] },
  { type: 'macaddr8', values: ['08:00:2b:01:02:03:04:05'] },
  { type: 'tsvector', values: ["'a':1 'cat':3A 'it''s':2", ''] },
  { type: 'tsquery', values: ["'fat' & ('rat' | !'cat')"] },
  { type: 'xml', values: ['<a b="1">x &amp; y</a>', ''] },
  { type: 'point', values: ['(1.5,-2.25)', '(NaN,Infinity)'] },
  { type: 'box', values: ['(3,4),(1,2)'] },
  { type: 'polygon', values: ['((0,0),(1,1),(2,0))'] },
  { type: 'circle', values: ['<(1,2),3>'] },
  { type: 'pg_lsn', values: ['16/B374D848', 'FFFFFFFF/FFFFFFFF'] },
  { type: 'xid8', values: ['18446744073709551615'] },
  { type: 'regclass', values: ['pg_class'] },
]

/** A literal that is SQL already. */
function asIs(sql: string): string {
  return `\u0001${sql}`
}

function literal(value: string, type: string): string {
  return value.startsWith('\u0001') ? `(${value.slice(1)})::${type}` : `'${value.replaceAll("'", "''")}'::${type}`
}

const TYPE_SETUP = `CREATE TYPE mood AS ENUM ('sad', 'ok', 'o''k ,"x"', ''); CREATE DOMAIN positive AS int CHECK (value > 0); CREATE DOMAIN short_text AS varchar(10); CREATE TYPE pair AS (a int, b text)`

/** One table per type, so that a failure names the type: rows of the snapshot, the same rows streamed, rows updated. */
function typeTable(each: TypeCase, index: number, sink: SinkName): { name: string; setup: string; stream: string } {
  const values = each.values.filter((value) => each.refused?.[sink]?.test(value) !== true)
  const name = `v${index}`
  const rows = (from: number): string => values.map((value, i) => `(${from + i}, ${literal(value, each.type)})`).join(', ')
  return {
    name,
    setup: `CREATE TABLE ${name} (id int PRIMARY KEY, v ${each.type}); INSERT INTO ${name} VALUES ${rows(1)}, (1000, NULL);`,
    stream: `INSERT INTO ${name} VALUES ${rows(2001)}, (3000, NULL); ${values.map((value, i) => `INSERT INTO ${name} VALUES (${4001 + i}, NULL); UPDATE ${name} SET v = ${literal(value, each.type)} WHERE id = ${4001 + i};`).join(' ')}`,
  }
}

async function compareTypes(world: World, tables: readonly { name: string }[]): Promise<void> {
  const wrong: string[] = []
  for (const [index, { name }] of tables.entries()) {
    await world
      .same([name])
      .catch((error: unknown) =>
        wrong.push(`${TYPES[index]?.type}: ${error instanceof Error ? error.message.slice(0, 1500) : String(error)}`),
      )
  }
  assert.equal(wrong.length, 0, wrong.join('\n'))
}

/** `verify` finds no difference where there is none, and the one that is planted: another row's value, or none. */
async function verifyTypes(world: World, tables: readonly { name: string }[]): Promise<void> {
  const equal = await world.pipeline.verify()
  assert.deepEqual([equal.ok, equal.problems, found(equal)], [true, [], {}])
  assert.equal(equal.tables.length, tables.length)
  const planted: Record<string, string[]> = {}
  for (const [index, { name }] of tables.entries()) {
    const [two] = await world.source.run(`SELECT count(DISTINCT v::text) AS n FROM ${name} WHERE id IN (1, 2)`)
    if (two?.['n'] === '2') await world.target.execute?.(`UPDATE ${name} SET v = (SELECT v FROM ${name} WHERE id = 2) WHERE id = 1`)
    await world.target.execute?.(`UPDATE ${name} SET v = NULL WHERE id = 2001`)
    planted[TYPES[index]!.type] = two?.['n'] === '2' ? ['1', '2001'] : ['2001']
  }
  assert.deepEqual(found(await world.pipeline.verify()), planted)
}

/** Type → keys of rows that differ. */
function found({ tables }: VerifyReport): Record<string, string[]> {
  const wrong = tables.filter(({ equal }) => !equal)
  return Object.fromEntries(
    wrong.map(({ source, keys }) => [
      TYPES[Number(source.slice('public.v'.length))]!.type,
      keys.map(({ kind, key }) => (kind === 'different' ? String(key['id']) : `${kind} ${key['id']}`)),
    ]),
  )
}

cases('CASE 26: values of every type at its limits', () => {
  for (const sink of ['memory', 'sqlite', 'duckdb', 'postgres'] as const) {
    const tables = TYPES.map((each, index) => typeTable(each, index, sink))
    pipelineCase(
      bench,
      'CASE 26: snapshot, inserts and updates give what PostgreSQL shows',
      { setup: `${TYPE_SETUP}; ${tables.map((table) => table.setup).join('\n')}`, sinks: [sink] },
      async (world) => {
        const running = await world.follow()
        await compareTypes(world, tables)
        for (const table of tables) await world.source.run(table.stream)
        await running.caughtUp()
        await compareTypes(world, tables)
        assert.equal((await running.stop()).ok, true)
        if (sink !== 'memory') await verifyTypes(world, tables)
      },
    )

    const wide = `CREATE TABLE wide (id int PRIMARY KEY, ${TYPES.map((each, index) => `c${index} ${each.type}`).join(', ')}, dropped int); ALTER TABLE wide DROP dropped`
    const values = (id: number): string =>
      `(${id}, ${TYPES.map((each) => literal(each.values.filter((value) => each.refused?.[sink]?.test(value) !== true)[0] ?? '', each.type)).join(', ')})`
    pipelineCase(
      bench,
      'CASE 26: one table with every type',
      { setup: `${TYPE_SETUP}; ${wide}; INSERT INTO wide VALUES ${values(1)}; INSERT INTO wide (id) VALUES (2)`, sinks: [sink] },
      async (world) => {
        const running = await world.follow()
        await world.source.run(
          `INSERT INTO wide VALUES ${values(3)}; INSERT INTO wide (id) VALUES (4); UPDATE wide SET c1 = 1 WHERE id = 1; UPDATE wide SET id = 20 WHERE id = 2`,
        )
        await running.caughtUp()
        await world.same(['wide'])
        assert.equal((await running.stop()).ok, true)
      },
    )
  }
})
