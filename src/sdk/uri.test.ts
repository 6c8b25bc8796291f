import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { References } from './config/references.ts'
import { TailraceError } from './errors.ts'
import { filePathOf, parseConnectorUri, parseUriPieces, redactedUri } from './uri.ts'

function parts(text: string): object {
  const { scheme, user, password, host, path, parameters } = parseConnectorUri(text)
  return { scheme, user, password, host, path, ...Object.fromEntries(parameters) }
}

const NONE = { user: null, password: null, host: '', path: '' }

test('URIs of every form', () => {
  assert.deepEqual(parts('postgres://user:p%40ss@host:5432,host2/db?opt=x'), {
    scheme: 'postgres',
    user: 'user',
    password: 'p@ss',
    host: 'host:5432,host2',
    path: '/db',
    opt: 'x',
  })
  assert.deepEqual(parts('POSTGRESQL://h'), { ...NONE, scheme: 'postgresql', host: 'h' })
  assert.deepEqual(parts('postgres://'), { ...NONE, scheme: 'postgres' })
  assert.deepEqual(parts('postgres:///db'), { ...NONE, scheme: 'postgres', path: '/db' })
  assert.deepEqual(parts('postgres://[::1]:5432/db'), { ...NONE, scheme: 'postgres', host: '[::1]:5432', path: '/db' })
  assert.deepEqual(parts('postgres://u@%2Fvar%2Frun/db'), { ...NONE, scheme: 'postgres', user: 'u', host: '%2Fvar%2Frun', path: '/db' })
  assert.deepEqual(parts('postgres://u:@h/db'), { ...NONE, scheme: 'postgres', user: 'u', host: 'h', path: '/db' })
  assert.deepEqual(parts('postgres://:pw@h'), { ...NONE, scheme: 'postgres', password: 'pw', host: 'h' })
  assert.deepEqual(parts('duckdb:///abs/file.db'), { ...NONE, scheme: 'duckdb', path: '/abs/file.db' })
  assert.deepEqual(parts('duckdb:file.db'), { ...NONE, scheme: 'duckdb', path: 'file.db' })
  assert.deepEqual(parts('duckdb:/abs.db'), { ...NONE, scheme: 'duckdb', path: '/abs.db' })
  assert.deepEqual(parts('duckdb://./rel.db'), { ...NONE, scheme: 'duckdb', host: '.', path: '/rel.db' })
  assert.deepEqual(parts('duckdb:my%20file%3F.db?a=1&b'), { ...NONE, scheme: 'duckdb', path: 'my file?.db', a: '1', b: 'true' })
  assert.deepEqual(parts('/dev/null'), { ...NONE, scheme: '/dev/null' })
  assert.deepEqual(parts('/dev/random?rows=5'), { ...NONE, scheme: '/dev/random', rows: '5' })
  assert.deepEqual(parts('memory:name'), { ...NONE, scheme: 'memory', path: 'name' })
  assert.deepEqual(parts('toy://h/?x=a%26b=c+d'), { ...NONE, scheme: 'toy', host: 'h', path: '/', x: 'a&b=c+d' })
  assert.deepEqual(parts('  toy://h  '), { ...NONE, scheme: 'toy', host: 'h' })
})

test('an @ in the password may stand as it is; the last one ends it', () => {
  assert.deepEqual(parts('postgres://u:p@ss:w#rd@h/db'), {
    ...NONE,
    scheme: 'postgres',
    user: 'u',
    password: 'p@ss:w#rd',
    host: 'h',
    path: '/db',
  })
})

const SECRET = 'hunter2'

test('what cannot be read is refused without being repeated', () => {
  for (const text of [
    '',
    `user:${SECRET}`.replace(':', ' '),
    `host=h password=${SECRET}`,
    `postgres://u:${SECRET}/x@h/db`,
    `postgres://u:${SECRET}?x@h/db`,
    `postgres://u:12/${SECRET}@h/db`,
    `postgres://u:${SECRET}%zz@h/db`,
    `postgres://u:p@h/%zz${SECRET}`,
    `postgres://%zz${SECRET}/db`,
    `postgres://h/db?${SECRET}%zz=1`,
    `postgres://h/db?pass word=${SECRET}`,
    `postgres://h/db?password=%${SECRET}`,
    `postgres://h/db?=${SECRET}`,
    `postgres://h/db?password=${SECRET}&password=${SECRET}`,
    `postgres://h/db?a=b&&c=d`,
    `postgres://h:${SECRET}/db`,
    `://u:${SECRET}@h`,
  ]) {
    assert.throws(
      () => parseConnectorUri(text),
      (error) => {
        assert.ok(error instanceof TailraceError, text)
        assert.equal(error.code, 'USAGE')
        assert.ok(!`${error.message} ${error.hint}`.includes(SECRET), `${text}: ${error.message}`)
        assert.notEqual(error.hint, undefined)
        return true
      },
      text,
    )
  }
})

test('a reference is one value of its part, whatever it holds', () => {
  const references = new References({ variables: { PW: 'a@b/c?d%41&e', HOST: '[::1]:5432', DB: 'x/y', ALL: 'toy://me:secret@host/db' } })
  const read = (text: string): ReturnType<typeof parseUriPieces> => parseUriPieces(references.pieces(text))
  const parsed = read('toy://me:${env:PW}@${env:HOST}/${env:DB}?p=${env:PW}&q=1')
  assert.equal(parsed.uri.password, 'a@b/c?d%41&e')
  assert.equal(parsed.uri.host, '[::1]:5432')
  assert.equal(parsed.uri.path, '/x/y')
  assert.equal(parsed.uri.parameters.get('p'), 'a@b/c?d%41&e')
  assert.equal(parsed.rawPassword, null)
  assert.equal(
    redactedUri(parsed.shown, (name) => name === 'q'),
    'toy://me@${env:HOST}/${env:DB}?q=1',
  )
  const whole = read('${env:ALL}?q=1')
  assert.equal(whole.uri.password, 'secret')
  assert.equal(
    redactedUri(whole.shown, () => true),
    'toy://me@host/db?q=1',
  )
})

test('a value with a slash in the place of a host is encoded as the host is', () => {
  const references = new References({ variables: { DIR: '/var/run/pg' } })
  assert.equal(parseUriPieces(references.pieces('toy://${env:DIR}/db')).uri.host, '%2Fvar%2Frun%2Fpg')
})

test('characters that could pass for our marks stay themselves', () => {
  const references = new References({ variables: { A: 'value' } })
  assert.equal(parseUriPieces(references.pieces('toy://h/\ue000${env:A}')).uri.path, '/\ue000value')
})

test('the label reads as the same URI without its password', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 12 })
  fc.assert(
    fc.property(text, text, text, text, (user, password, path, value) => {
      const uri = `toy://${encodeURIComponent(user.toWellFormed())}:${encodeURIComponent(password.toWellFormed())}@h:1/${encodeURIComponent(path.toWellFormed())}?v=${encodeURIComponent(value.toWellFormed())}`
      const parsed = parseConnectorUri(uri)
      assert.equal(parsed.password ?? '', password.toWellFormed())
      const again = parseConnectorUri(redactedUri(parsed, () => true))
      assert.deepEqual({ ...again, text: '' }, { ...parsed, password: null, text: '' })
      assert.deepEqual({ ...parseConnectorUri(parsed.text), text: '' }, { ...parsed, text: '' })
    }),
    { numRuns: 300 },
  )
})

test('files', () => {
  assert.equal(filePathOf(parseConnectorUri('duckdb:///a/b.db')), '/a/b.db')
  assert.equal(filePathOf(parseConnectorUri('duckdb:a b.db')), 'a b.db')
  assert.equal(filePathOf(parseConnectorUri('duckdb://./b.db')), './b.db')
  assert.equal(filePathOf(parseConnectorUri('duckdb://../b.db')), '../b.db')
  assert.throws(
    () => filePathOf(parseConnectorUri('duckdb://b.db')),
    (error) => error instanceof TailraceError && /duckdb:b\.db .*duckdb:\/\/\/b\.db/.test(error.hint ?? ''),
  )
})
