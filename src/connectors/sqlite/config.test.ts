import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import { describe, it } from 'node:test'
import { parseConnectorUri } from '../../sdk/uri.ts'
import { sqliteConfig, sqliteFromUri, sqliteIdentity } from './config.ts'
import { sqlite } from './index.ts'

const pathOf = (uri: string): unknown => sqliteFromUri(parseConnectorUri(uri))['path']
const identityOf = (uri: string): string => sqliteIdentity(sqliteConfig.parse(sqliteFromUri(parseConnectorUri(uri))))

describe('SQLite configuration', () => {
  it('takes absolute and relative paths from a URI', () => {
    assert.equal(pathOf('sqlite:///srv/a%20b.db'), '/srv/a b.db')
    assert.equal(pathOf('sqlite:rel.db'), 'rel.db')
    assert.equal(pathOf('sqlite://./rel.db'), './rel.db')
    assert.equal(pathOf('sqlite:../rel.db'), '../rel.db')
  })

  it('refuses what looks like a host', () => {
    assert.throws(() => pathOf('sqlite://rel.db'), { code: 'USAGE' })
  })

  it('is identified by the absolute path', () => {
    assert.equal(identityOf('sqlite:rel.db'), `sqlite://${resolve('rel.db')}`)
    assert.equal(identityOf('sqlite://./rel.db'), identityOf('sqlite:rel.db'))
    assert.equal(identityOf('sqlite:///srv/x/../a.db'), 'sqlite:///srv/a.db')
  })

  it('takes numbers as text, as flags bring them, and refuses unknown options', () => {
    assert.equal(sqliteConfig.parse({ path: 'a.db', walAutocheckpoint: '4000' }).walAutocheckpoint, 4000)
    assert.equal(sqliteConfig.safeParse({ path: 'a.db', cache: 5 }).success, false)
    assert.equal(sqliteConfig.safeParse({ path: '' }).success, false)
    assert.equal(sqliteConfig.safeParse({ path: 'a.db', decimals: 'float' }).success, false)
  })

  it('is named by its scheme', () => {
    assert.deepEqual(sqlite.schemes, ['sqlite'])
    assert.equal(sqlite.sink?.capabilities.commit, 'transactional')
    assert.equal(sqlite.source, undefined)
  })
})
