import { join, dirname, resolve } from 'node:path'
import { existsSync } from 'node:fs'
import type { Environment } from '../engine/options.ts'
import { nearest } from '../sdk/config/nearest.ts'
import { quoteWord, usage } from '../sdk/config/problems.ts'
import type { StateStore } from '../state/store.ts'

const DEFAULT_STATE = '.tailrace/state.db'

/** Where state lies: null is the memory of this process. */
export interface StatePlace {
  readonly file: string | null
}

/** `./state.db`, `sqlite:state.db`, `sqlite:///var/lib/state.db` or `memory:`. */
export function statePlace(text: string | null, folder: string): StatePlace {
  if (text === null) return { file: join(folder, DEFAULT_STATE) }
  const match = /^([a-z][a-z0-9+-]+):(.*)$/is.exec(text)
  if (match === null) return { file: resolve(folder, text) }
  const scheme = match[1]!.toLowerCase()
  const path = match[2]!.replace(/^\/\/(?=\/|\.)/, '')
  if (scheme === 'memory' && path === '') return { file: null }
  if (scheme === 'sqlite' && path !== '' && !path.startsWith('//')) return { file: resolve(folder, path) }
  if (scheme === 'sqlite' || scheme === 'memory')
    throw usage('the state is no file', 'write sqlite:./state.db, sqlite:///var/lib/state.db or memory:')
  const near = nearest(scheme, ['sqlite', 'memory'])
  throw usage(
    `state cannot be kept in ${quoteWord(scheme)}`,
    near === null ? 'it is kept in sqlite:<file> or memory:' : `did you mean \`${near}:\`?`,
  )
}

export async function openState(place: StatePlace): Promise<StateStore> {
  if (place.file === null) return (await import('../state/memory.ts')).memoryStore()
  return await (await import('../state/sqlite.ts')).openSqliteStore(place.file)
}

/** Looking must not make: null when there is no state yet. */
export async function findState(place: StatePlace): Promise<StateStore | null> {
  return place.file === null || !existsSync(place.file) ? null : await openState(place)
}

export function scratchFolder(place: StatePlace, folder: string): string {
  return place.file === null ? join(folder, '.tailrace', 'scratch') : join(dirname(place.file), 'scratch')
}

export type Surroundings = Omit<Environment, 'store' | 'holder' | 'scratchFolder'>

/** The engine's environment on an open store, with this process as the holder of leases. */
export async function environmentOn(store: StateStore, place: StatePlace, folder: string, rest: Surroundings): Promise<Environment> {
  const { thisHolder } = await import('../state/lease.ts')
  return { store, holder: thisHolder(), scratchFolder: scratchFolder(place, folder), ...rest }
}
