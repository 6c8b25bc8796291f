import { z } from 'zod'
import { defineConnector, type Connector } from '../../sdk/connector.ts'
import type { SinkCapabilities } from '../../sdk/sink.ts'
import type { Registry } from '../context.ts'

/** A connector with an option of every kind; it cannot be opened: the command line must not try. */
export const toy = defineConnector({
  schemes: ['toy', 'toys'],
  title: 'Toy',
  summary: 'For tests.',
  example: 'toy://user@host/box',
  config: z.strictObject({
    host: z.string().min(1).describe('Host.'),
    user: z.string().optional().describe('User.'),
    box: z.string().optional().describe('Box.'),
    password: z.string().optional().meta({ secret: true }).describe('Password.'),
    slot: z
      .string()
      .regex(/^[a-z_]+$/)
      .optional()
      .describe('Slot.'),
    sslMode: z.enum(['disable', 'require', 'verify-full']).default('disable').describe('TLS.'),
    bufferSize: z
      .int()
      .min(1024)
      .default(64 * 2 ** 20)
      .meta({ unit: 'bytes' })
      .describe('Buffer.'),
    patience: z.number().positive().default(300).meta({ unit: 's' }).describe('Patience.'),
    shiny: z.boolean().default(false).describe('Shiny.'),
    labels: z.array(z.string()).default([]).describe('Labels.'),
    schema: z.string().optional().meta({ role: 'sink' }).describe('Schema.'),
  }),
  fromUri: (uri) => ({
    ...(uri.host === '' ? {} : { host: uri.host }),
    ...(uri.user === null ? {} : { user: uri.user }),
    ...(uri.password === null ? {} : { password: uri.password }),
    ...(uri.path.length > 1 ? { box: uri.path.slice(1) } : {}),
  }),
  validate: (config) =>
    config.box === 'forbidden' ? [{ severity: 'error', code: 'CONFIG', message: 'this box must not be opened', hint: 'take another' }] : [],
  identity: (config) => `toy://${config.host}/${config.box ?? ''}`,
  source: {
    capabilities: { formats: ['rows'], snapshot: true, stream: true, parallelSnapshot: true },
    open: () => Promise.reject(new Error('the toy was opened')),
  },
  sink: { capabilities: sinkCapabilities(), open: () => Promise.reject(new Error('the toy was opened')) },
})

/** Only a sink, and a device without options. */
export const well = defineConnector({
  schemes: ['/dev/well'],
  title: 'Well',
  summary: 'Everything falls in.',
  example: '/dev/well',
  config: z.strictObject({}),
  fromUri: () => ({}),
  identity: () => '/dev/well',
  sink: { capabilities: sinkCapabilities(), open: () => Promise.reject(new Error('the well was opened')) },
})

function sinkCapabilities(): SinkCapabilities {
  return {
    commit: 'none',
    formats: ['rows'],
    parallelLoads: 1,
    delete: ['hard'],
    truncate: true,
    schemaChanges: false,
    maxBatch: { rows: 1000, bytes: 1 << 20 },
    limits: { identifierBytes: 63, columns: 100 },
  }
}

const ALL: readonly Connector[] = [toy, well]

export const toyRegistry: Registry = {
  schemes: ALL.flatMap((connector) => connector.schemes),
  load: async (scheme) => ALL.find((connector) => connector.schemes.includes(scheme)) ?? null,
  all: async () => ALL,
}
