import assert from 'node:assert/strict'
import { test } from 'node:test'
import { declarationFaults, optionsOf } from '../sdk/config/option-spec.ts'
import { connectors } from './index.ts'

test('the registry says of every connector what it says of itself', async () => {
  const all = await connectors.all()
  assert.deepEqual(
    connectors.schemes,
    all.flatMap((connector) => connector.schemes),
  )
  for (const scheme of connectors.schemes) assert.ok((await connectors.load(scheme))?.schemes.includes(scheme), scheme)
  assert.equal(await connectors.load('nothing'), null)
})

test('every connector is well declared, and no global name is taken', async () => {
  for (const connector of await connectors.all()) assert.deepEqual(declarationFaults(connector), [], connector.title)
})

test('what looks like a secret is marked as one', async () => {
  for (const connector of await connectors.all()) {
    for (const option of optionsOf(connector.config)) {
      if (/password|secret|token/.test(option.name)) assert.ok(option.secret, `${connector.title}: ${option.name}`)
    }
  }
})
