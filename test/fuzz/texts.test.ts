import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { COMMAND_SPECS } from '../../src/cli/commands.ts'
import { OWN_OPTIONS } from '../../src/cli/own-options.ts'
import { fakeEngine } from '../../src/cli/testing/fake-engine.ts'
import { run, TestIo } from '../../src/cli/testing/test-io.ts'
import { connectors } from '../../src/connectors/index.ts'
import { addressesOf, postgresConfig } from '../../src/connectors/postgres/config.ts'
import { parseErrorFields } from '../../src/connectors/postgres/wire/pg-error.ts'
import { serverEndPoint } from '../../src/connectors/postgres/wire/channel-binding.ts'
import { comparePositions, formatLsn, parseLsn, readPosition, writePosition } from '../../src/connectors/postgres/source/position.ts'
import { formatArray, parseArray, type Nested } from '../../src/model/array-text.ts'
import type { LogicalType } from '../../src/model/logical-type.ts'
import type { Position } from '../../src/model/position.ts'
import { decoderOf } from '../../src/model/value-text.ts'
import { resolveEndpoint } from '../../src/sdk/config/endpoint.ts'
import { References } from '../../src/sdk/config/references.ts'
import { TailraceError } from '../../src/sdk/errors.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import type { Random } from '../kit/random.ts'
import { fuzz, FUZZ_SECONDS, pick, randomBytes, randomText } from './mutate.ts'

const SECONDS = FUZZ_SECONDS / 4

/** Gives a result, or an error with one of these codes. */
async function judged(work: () => unknown, codes: readonly string[], what: string): Promise<void> {
  try {
    await work()
  } catch (error) {
    assert.ok(
      error instanceof TailraceError && codes.includes(error.code),
      `${JSON.stringify(what)}: ${error instanceof Error ? error.stack : String(error)}`,
    )
  }
}

const URI_PIECES = [
  'postgres://', 'postgresql:', 'duckdb:', 'sqlite:', 'sqlite://', '/dev/null', 'user', ':', 'pass', '@', 'localhost', '[::1]', '[fe80::1%25eth0]', ':5432', ':99999', ':0', ',', '/db', '?', 'slot=x', 'sslmode=',
  'verify-full', '&', '%zz', '%', '%00', '%2F', '${env:NAME}', '${file:/none}', '${env:', '}', 'connect-timeout=1e999', 'port=abc', 'port=0x10', 'host=', './a.db', '///', '\u{e000}',
] // prettier-ignore

test('a URI: an endpoint, or what is wrong with it', async () => {
  const references = new References({ variables: { NAME: 'a@b/c%' }, readFile: () => 'secret' })
  await fuzz(async (random) => {
    const uri = pick(random, ['', 'postgres://', 'sqlite:', 'duckdb:']) + randomText(random, URI_PIECES, 12)
    const role = pick(random, ['source', 'sink'] as const)
    await judged(
      async () => {
        const { connector, config } = await resolveEndpoint({ role, uri, flags: [], variables: {} }, connectors, references)
        if (connector.schemes.includes('postgres')) addressesOf(config as never, {})
      },
      ['USAGE', 'CONFIG'],
      uri,
    )
  }, SECONDS)
})

test('hosts and ports of an option or a variable', async () => {
  await fuzz(async (random) => {
    const host = randomText(random, URI_PIECES, 6)
    const config = postgresConfig.parse(random.next() < 0.5 ? { host } : {})
    const env = { PGHOST: host, PGPORT: pick(random, ['5432', 'abc', '', '-1', '1e9', '5432.5']) }
    const work = (): void => {
      for (const address of addressesOf(config, env))
        assert.ok(Number.isInteger(address.port) && address.port >= 0 && address.port < 65_536)
    }
    await judged(work, ['USAGE', 'CONFIG'], `${host} ${env.PGPORT}`)
  }, SECONDS)
})

test('positions and places in the log', async () => {
  await fuzz(async (random) => {
    const lsn = (BigInt(random.between(0, 2 ** 32 - 1)) << 32n) | BigInt(random.between(0, 2 ** 32 - 1))
    assert.equal(parseLsn(formatLsn(lsn)), lsn)
    const position = { system: '7301234567890123456', timeline: random.between(1, 1000), lsn }
    assert.deepEqual(readPosition(writePosition(position)), position)
    const text = randomText(random, ['pg1:', '7301234567890123456', ':1:', '0/16B3748', '/', 'FFFFFFFF', '123456789', ':', 'pg2'], 8)
    const found = parseLsn(text)
    assert.ok(found === null || (found >= 0n && found < 1n << 64n), text)
    await judged(() => readPosition(text as Position), ['STATE_DAMAGED'], text)
    await judged(() => comparePositions(text as Position, writePosition(position)), ['STATE_DAMAGED'], text)
  }, SECONDS)
})

const ARRAY_PIECES = ['{', '}', '"', '\\', ',', 'NULL', '[0:1]=', '1', ' ', '{{', '}}', '""', ';', '[-1:99999999999]=']
const TYPES: readonly LogicalType[] = [
  ...(['boolean', 'int32', 'int64', 'float64', 'string', 'bytes', 'timestamptz', 'interval', 'json'] as const).map((kind) => ({ kind })),
  { kind: 'array', element: { kind: 'int64' } },
  { kind: 'array', element: { kind: 'array', element: { kind: 'bytes' } } },
  { kind: 'decimal', precision: null, scale: null },
]

function nested(random: Random, depth: number): Nested<string>[] {
  return Array.from({ length: random.between(0, 4) }, () => {
    if (depth > 0 && random.next() < 0.3) return nested(random, depth - 1)
    return random.next() < 0.2 ? null : randomText(random, ARRAY_PIECES, 4)
  })
}

test('arrays and values: what is read, or the text as it is; never a failure', async () => {
  const deep = '{'.repeat(1_000_000)
  assert.equal(parseArray(deep, String), null)
  assert.equal(parseArray(`${deep}${'}'.repeat(1_000_000)}`, String), null)
  assert.deepEqual(parseArray('{{{{{{1}}}}}}', Number), [[[[[[1]]]]]])
  await fuzz((random) => {
    const text = randomText(random, ARRAY_PIECES, 20)
    parseArray(text, String)
    for (const type of TYPES) decoderOf(type)(text)
    const items = nested(random, 5)
    assert.deepEqual(parseArray(formatArray(items, String), String), items)
  }, SECONDS)
})

test('fields of an error and certificates are read to their end and no further', async () => {
  await fuzz((random) => {
    const bytes = randomBytes(random, random.between(0, 60))
    const [start = 0, end = 0] = random.numbers(2, 0, bytes.length).toSorted((a, b) => a - b)
    const size = [...parseErrorFields(bytes, start, end).values()].reduce((sum, text) => sum + text.length, 0)
    assert.ok(size <= end - start)
    const der = Buffer.from([0x30, random.between(0, 255), 0x30, random.between(0, 255), ...bytes])
    serverEndPoint(der)
  }, SECONDS)
})

const WORDS = [
  ...COMMAND_SPECS.keys(),
  ...[...OWN_OPTIONS.keys()].flatMap((name) => [`--${name}`, `--no-${name}`, `--${name}=`, `--${name}=x`]),
  'toy://h', 'toy://user:pw@h/db', '/dev/well', "'", '"', "toy://h --slot x", "toy://h --slot 'x", '--source.slot', '--sink.x=1', '--source=', '--slot', '-', '--', '---', '-abc', '-15', '--=x', '=', '', ' ', '\0', '\ud800', '__proto__', '--__proto__', '--constructor', 'constructor', 'toString', '--toString=1', '${env:X}', '*', 'a,b', '99999999999999999999', '--source.__proto__=x', '--source.constructor', 'x'.repeat(5000),
] // prettier-ignore

test('a command line: obeyed or refused with exit code 2, never a crash; what is refused leaves nothing behind', async () => {
  await using tmp = await tempFolder()
  await fuzz(async (random) => {
    const first = random.next() < 0.8 ? [pick(random, [...COMMAND_SPECS.keys()])] : []
    const args = [...first, ...Array.from({ length: random.between(0, 6) }, () => pick(random, WORDS)), '--state', 'memory:']
    const variables = random.next() < 0.2 ? { TAILRACE_SOURCE: pick(random, WORDS), TAILRACE_SINK: pick(random, WORDS) } : {}
    const { code, err } = await run(new TestIo(tmp.path, variables), args, { engine: fakeEngine() })
    // The fakes obey everything; what says 3 is a place that a word of ours names by chance.
    assert.ok([0, 2].includes(code), `${JSON.stringify(args)} ${JSON.stringify(variables)}: ${code} ${err}`)
    assert.ok(code === 0 || /^error: |"severity"|"error"/m.test(err), `${JSON.stringify(args)}: ${err}`)
    assert.doesNotMatch(err, /\bBUG\b|TypeError|RangeError|\n\s+at .*\.ts:/, JSON.stringify(args))
  }, SECONDS * 4)
  assert.ok(!existsSync(tmp.join('.tailrace')), 'a state was made')
})
