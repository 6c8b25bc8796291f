import assert from 'node:assert/strict'
import { test } from 'node:test'
import { z } from 'zod'
import { defineConnector } from '../connector.ts'
import { declarationFaults, findOption, isSwitch, kebabCase, optionsOf } from './option-spec.ts'

const schema = z.strictObject({
  host: z.string().describe('Host.'),
  sslMode: z.enum(['off', 'on']).default('off').describe('TLS.'),
  bufferSize: z.int().default(1024).meta({ unit: 'bytes' }).describe('Buffer.'),
  apiKey: z.string().meta({ secret: true }).describe('Key.').optional(),
  timeout: z.coerce.number().default(10).describe('Timeout.'),
  failover: z.stringbool().or(z.boolean()).default(false).describe('Failover.'),
  nothing: z.string().nullable().default(null).describe('Nothing.'),
  tags: z
    .array(z.enum(['a', 'b']))
    .default([])
    .describe('Tags.'),
  slot: z.string().optional().meta({ role: 'source' }).describe('Slot.'),
})

test('every spelling of an option comes from its field', () => {
  const specs = new Map(optionsOf(schema).map((spec) => [spec.key, spec]))
  const ssl = specs.get('sslMode')!
  assert.deepEqual(ssl, {
    key: 'sslMode',
    name: 'ssl-mode',
    variable: 'SSL_MODE',
    shape: { kind: 'enum', values: ['off', 'on'] },
    required: false,
    default: 'off',
    secret: false,
    role: null,
    description: 'TLS.',
  })
  assert.equal(specs.get('host')!.required, true)
  assert.deepEqual(specs.get('bufferSize')!.shape, { kind: 'integer', unit: 'bytes' })
  assert.equal(specs.get('slot')!.role, 'source')
  assert.deepEqual(specs.get('timeout')!.shape, { kind: 'number', unit: null })
  assert.deepEqual(specs.get('nothing')!.shape, { kind: 'string' })
  assert.deepEqual(specs.get('tags')!.shape, { kind: 'list', element: { kind: 'enum', values: ['a', 'b'] } })
  assert.equal(isSwitch(specs.get('failover')!), true)
})

test('a secret stays one through wrappers', () => {
  const wrapped = z.object({
    a: z.string().meta({ secret: true }).describe('A.').optional(),
    b: z.string().meta({ secret: true }).describe('B.').default('x'),
    c: z.string().optional().meta({ secret: true }).describe('C.'),
    d: z.string().describe('D.').optional().meta({ secret: true }),
    e: z.string().nullable().optional().describe('E.').meta({ secret: true }),
    f: z.string().min(1).meta({ secret: true }).nullish().describe('F.'),
    g: z
      .string()
      .meta({ secret: true })
      .transform((text) => text.trim())
      .describe('G.'),
  })
  assert.deepEqual(
    optionsOf(wrapped).map((spec) => [spec.key, spec.secret, spec.description]),
    ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((key) => [key, true, `${key.toUpperCase()}.`]),
  )
})

test('names', () => {
  const cases = {
    sslMode: 'ssl-mode',
    host: 'host',
    useTLSNow: 'use-tls-now',
    walLimitMegabytes: 'wal-limit-megabytes',
    http2: 'http2',
    maxAgeMS: 'max-age-ms',
  }
  for (const [key, name] of Object.entries(cases)) assert.equal(kebabCase(key), name)
  for (const name of ['ssl-mode', 'sslMode', 'ssl_mode', 'sslmode', 'SSL_MODE'])
    assert.equal(findOption(optionsOf(schema), name)?.key, 'sslMode')
  assert.equal(findOption(optionsOf(schema), 'ssl'), null)
})

test('a connector may not take a global name, nor two names that cannot be told apart', () => {
  const connector = defineConnector({
    schemes: ['bad'],
    title: 'Bad',
    summary: '',
    example: '',
    config: z.object({
      ifExists: z.string().describe('x'),
      ab_c: z.string().describe('x'),
      abC: z.string().describe('x'),
      mute: z.string(),
    }),
    fromUri: () => ({}),
    identity: () => 'bad',
  })
  assert.deepEqual(declarationFaults(connector), [
    'option if-exists has the name of the global option --if-exists',
    'options ab_c and ab-c cannot be told apart',
    'option mute has no description',
    'it is neither a source nor a sink',
  ])
})
