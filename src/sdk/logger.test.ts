import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLogger, redact, redactData, type LoggerOptions } from './logger.ts'

function logged(options: Partial<LoggerOptions>, log: (logger: ReturnType<typeof createLogger>) => void): readonly string[] {
  const lines: string[] = []
  log(createLogger({ level: 'info', format: 'text', write: (line) => lines.push(line), clock: () => 0, secrets: new Set(), ...options }))
  return lines
}

test('levels, fields and children', () => {
  const lines = logged({}, (logger) => {
    logger.debug('quiet')
    logger.info('hello', { table: 'a.b', rows: 3, none: undefined, text: 'two words' })
    logger.child({ side: 'source' }).warn('careful', { x: null })
  })
  assert.deepEqual(lines, ['hello table=a.b rows=3 text="two words"', 'warn: careful side=source x=null'])
  assert.deepEqual(
    logged({ level: 'silent' }, (logger) => logger.error('x')),
    [],
  )
})

test('JSON lines', () => {
  const [line] = logged({ format: 'json' }, (logger) => logger.error('a "quoted"\nline', { n: 1 }))
  assert.deepEqual(JSON.parse(line!), { time: '1970-01-01T00:00:00.000Z', level: 'error', message: 'a "quoted"\nline', n: 1 })
})

test('one call is one line, whatever it holds', () => {
  const [line] = logged({}, (logger) => logger.info('a\nerror: forged\x1b[2J\r', { f: 'x\ny' }))
  assert.equal(line, 'a\\nerror: forged[2J f="x\\ny"')
})

test('secrets are taken out in every spelling, in both formats', () => {
  const secrets = new Set(['p"a\\ss wörd', 'p"a'])
  for (const format of ['text', 'json'] as const) {
    const [line] = logged({ format, secrets }, (logger) =>
      logger.info(`login with p"a\\ss wörd failed`, {
        uri: `x?${encodeURIComponent('p"a\\ss wörd')}`,
        json: JSON.stringify({ a: 'p"a\\ss wörd' }),
      }),
    )
    assert.ok(!/a\\+ss|w(ö|%C3%B6)rd/.test(line!), line)
    assert.ok(line!.includes('***'))
    if (format === 'json') JSON.parse(line!)
  }
})

test('the set of secrets is live, and a secret that begins another leaves nothing of it', () => {
  const secrets = new Set(['abcd'])
  const lines = logged({ secrets }, (logger) => {
    secrets.add('abcdefgh')
    logger.info('abcdefgh')
  })
  assert.deepEqual(lines, ['***'])
})

test('what looks like a secret is one', () => {
  const none = new Set<string>()
  assert.equal(redact('postgres://me:pw@h/db', none), 'postgres://me:***@h/db')
  assert.equal(redact('postgres://me:p/w@x@h/db', none), 'postgres://me:***@h/db')
  assert.equal(redact('host=h password=abc dbname=x', none), 'host=h password=*** dbname=x')
  assert.equal(redact('PGPASSWORD="a b" psql', none), 'PGPASSWORD=*** psql')
  assert.equal(redact('password authentication failed for user "me"', none), 'password authentication failed for user "me"')
  assert.equal(redact('postgres://me@h:5432/db', none), 'postgres://me@h:5432/db')
})

test('data keeps its form: keys, numbers and words of the format are never touched', () => {
  const data = { true: true, rows: 5432, nested: [{ text: 'true 5432 rows' }] }
  assert.deepEqual(redactData(data, new Set(['true', '5432', 'rows'])), { true: true, rows: 5432, nested: [{ text: '*** *** ***' }] })
})

test('secrets with unpaired surrogates do not break a line', () => {
  assert.equal(redact('x', new Set(['abc\ud800'])), 'x')
})
