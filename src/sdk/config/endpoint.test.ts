import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineConnector, type Connector } from '../connector.ts'
import { resolveEndpoint, validateConfig, type ConnectorRegistry } from './endpoint.ts'
import { ProblemsError } from './problems.ts'
import { References } from './references.ts'

const base = {
  schemes: ['box'],
  title: 'Box',
  summary: '',
  example: 'box:name',
  fromUri: (uri: { readonly path: string }) => ({ path: uri.path }),
  identity: () => 'box',
  source: {
    capabilities: { formats: ['rows'], snapshot: true, stream: false, parallelSnapshot: false },
    open: () => Promise.reject(new Error('opened')),
  },
} as const

function registryOf(connector: Connector): ConnectorRegistry {
  return { schemes: connector.schemes, load: async (scheme) => (connector.schemes.includes(scheme) ? connector : null) }
}

async function problemsOf(connector: Connector, uri: string): Promise<readonly string[]> {
  try {
    await resolveEndpoint({ role: 'source', uri, flags: [], variables: {} }, registryOf(connector), new References({ variables: {} }))
  } catch (error) {
    if (error instanceof ProblemsError) return error.problems.map((problem) => `${problem.path}: ${problem.message}`)
    throw error
  }
  return []
}

test('a plain z.object, which would drop unknown keys, is as strict as z.strictObject', () => {
  const connector = defineConnector({ ...base, config: z.object({ path: z.string().describe('Path.') }) })
  assert.throws(() => validateConfig(connector, { path: 'x', pth: 'y' }, 'source'), /`pth` is no option of Box/)
})

test('every problem at once, with its path, and never a value', async () => {
  const config = z
    .object({
      path: z.string().max(3).describe('Path.'),
      size: z.int().max(5).describe('Size.'),
      nested: z
        .string()
        .refine((text) => text === 'x', 'must be x')
        .describe('N.'),
    })
    .refine((all) => all.path !== 'abc', 'not abc')
  const connector = defineConnector({ ...base, config })
  assert.deepEqual(await problemsOf(connector, 'box:secret-path?size=77&nested=secret'), [
    'source.path: the URI is not valid: too big: expected string to have <=3 characters',
    'source.size: the parameter size is not valid: too big: expected number to be <=5',
    'source.nested: the parameter nested is not valid: must be x',
  ])
  assert.deepEqual(await problemsOf(connector, 'box:a?nested=x'), ['source.size: the source needs the option size (Size.)'])
  assert.deepEqual(await problemsOf(connector, 'box:abc?nested=x&size=1'), ["source: the source's options contradict each other: not abc"])
})

test('a connector that takes a global name is not loaded', async () => {
  const connector = defineConnector({
    ...base,
    config: z.object({ path: z.string().describe('P.'), tables: z.string().optional().describe('T.') }),
  })
  await assert.rejects(problemsOf(connector, 'box:a'), /has the name of the global option --tables/)
})
