import type * as duckdb from '@duckdb/node-api'
import { TailraceError } from '../../sdk/errors.ts'

/** DuckDB's own package for Node: 68 MB of library, so it is installed only by who wants it. */
export type DuckDbPeer = typeof duckdb

export const PEER = '@duckdb/node-api'

/** The release that everything here was measured with; what is told apart by error texts may be worded otherwise before. */
const OLDEST = [1, 5] as const

/** Loads the peer when a target is opened, not before. Throws ENVIRONMENT with the line that installs it. */
export async function loadPeer(load: () => Promise<DuckDbPeer> = () => import('@duckdb/node-api')): Promise<DuckDbPeer> {
  let peer: DuckDbPeer
  try {
    peer = await load()
  } catch (error) {
    throw new TailraceError('ENVIRONMENT', reason(error), { hint: `npm install ${PEER}`, cause: error })
  }
  const [major = 0, minor = 0] = peer.version().replace(/^v/, '').split('.').map(Number)
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return peer
  throw new TailraceError('ENVIRONMENT', `the package ${PEER} is of DuckDB ${peer.version()}, expected ${OLDEST.join('.')} or later`, {
    hint: `npm install ${PEER}`,
  })
}

function reason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code
  const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND'
  return missing
    ? `the DuckDB connector needs the package ${PEER}, which is not installed`
    : `the package ${PEER} cannot be loaded on this system`
}
