import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { ConnectorContext, Memory } from '../sdk/connector.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Sink } from '../sdk/sink.ts'
import type { Source } from '../sdk/source.ts'
import type { Endpoint, Environment } from './options.ts'

/** What connectors get from the engine. */
export interface Lent {
  readonly pipeline: string
  readonly deletes: 'hard' | 'soft'
  readonly memory: Memory
  readonly environment: Environment
}

/** For who only looks, as a plan or a comparison does: what connectors remember is forgotten. */
export function lentToLook(pipeline: string, environment: Environment, deletes: Lent['deletes'] = 'hard'): Lent {
  return { pipeline, deletes, memory: readOnlyMemory(), environment }
}

function readOnlyMemory(): Memory {
  const own = new Map<string, string | null>()
  return {
    get: async (key) => own.get(key) ?? null,
    set: async (key, value) => {
      own.set(key, value)
    },
  }
}

export function connectorContext(lent: Lent, side: 'source' | 'sink'): ConnectorContext {
  const { environment } = lent
  let folder: string | null = null
  return {
    pipeline: lent.pipeline,
    deletes: lent.deletes,
    memory: lent.memory,
    logger: environment.logger.child({ side }),
    clock: environment.clock,
    random: environment.random,
    signal: environment.abort,
    scratch: () => {
      if (folder !== null) return folder
      folder = join(environment.scratchFolder, `${lent.pipeline}-${side}`)
      rmSync(folder, { recursive: true, force: true })
      mkdirSync(folder, { recursive: true, mode: 0o700 })
      return folder
    },
  }
}

export async function openSource(endpoint: Endpoint, context: ConnectorContext): Promise<Source> {
  const { connector, config } = endpoint
  if (connector.source === undefined)
    throw new TailraceError('CONFIG', `${connector.title} cannot be a source`, { hint: `tailrace connectors lists what can` })
  return connector.source.open(config, context)
}

export async function openSink(endpoint: Endpoint, context: ConnectorContext): Promise<Sink> {
  const { connector, config } = endpoint
  if (connector.sink === undefined)
    throw new TailraceError('CONFIG', `${connector.title} cannot be a sink`, { hint: `tailrace connectors lists what can` })
  return connector.sink.open(config, context)
}
