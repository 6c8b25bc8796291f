import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TailraceError } from '../errors.ts'
import { References } from './references.ts'

const files: Record<string, string> = { '/run/pw': 'from file\n', '/run/empty': '\n', '/run/crlf': 'line\r\n', '/run/two': 'a\n\n' }

function references(): References {
  return new References({
    variables: { PASSWORD: 'p@ss/w:rd', EMPTY: '', HOST: 'db' },
    readFile: (path) => {
      const text = files[path]
      if (text === undefined) throw Object.assign(new Error(`ENOENT: no such file ${path}`), { code: 'ENOENT' })
      return text
    },
  })
}

test('references are resolved and remembered as secrets', () => {
  const all = references()
  assert.equal(all.expand('x${env:PASSWORD}y${file:/run/pw}'), 'xp@ss/w:rdyfrom file')
  assert.deepEqual([...all.secrets], ['p@ss/w:rd', 'from file'])
  assert.equal(all.expand('${file:/run/crlf}'), 'line')
  assert.equal(all.expand('${file:/run/two}'), 'a\n')
  assert.equal(all.expand('no reference, $env, {x}, $'), 'no reference, $env, {x}, $')
})

test('the value of a reference is not read for references again', () => {
  const all = new References({ variables: { A: '${env:B}', B: 'secret' } })
  assert.equal(all.expand('${env:A}'), '${env:B}')
})

function failure(text: string): TailraceError {
  try {
    references().expand(text)
  } catch (error) {
    assert.ok(error instanceof TailraceError)
    assert.equal(error.code, 'USAGE')
    return error
  }
  return assert.fail(`${text} was accepted`)
}

test('what cannot be resolved is told without values', () => {
  assert.equal(failure('${env:PASWORD}').message, 'the environment variable PASWORD is not set')
  assert.equal(failure('${env:PASWORD}').hint, 'did you mean ${env:PASSWORD}?')
  assert.equal(failure('${env:EMPTY}').message, 'the environment variable EMPTY is empty')
  assert.match(failure('${file:/run/none}').message, /\/run\/none .*ENOENT/)
  assert.match(failure('${file:/run/empty}').message, /is empty/)
  assert.match(failure('${vault:x}').message, /neither/)
  assert.match(failure('${env:}').message, /neither/)
  assert.match(failure('${}').message, /neither/)
  assert.match(failure('a${env:HOST').message, /no closing/)
})
