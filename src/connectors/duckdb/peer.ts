import { TailraceError } from '../../sdk/errors.ts'

/** DuckDB's own package for Node: 68 MB of library, so it is installed only by who wants it. */
export type DuckDbPeer = typeof import('@duckdb/node-api')

export const PEER = '@duckdb/node-api'

/** Loads the peer when a target is opened, not before. Throws ENVIRONMENT with the line that installs it. */
export async function loadPeer(load: () => Promise<DuckDbPeer> = () => import('@duckdb/node-api')): Promise<DuckDbPeer> {
  try {
    return await load()
  } catch (error) {
    throw new TailraceError('ENVIRONMENT', reason(error), { hint: `npm install ${PEER}`, cause: error })
  }
}

function reason(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code
  const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND'
  return missing ? `the DuckDB connector needs the package ${PEER}, which is not installed` : `the package ${PEER} cannot be loaded on this system`
}
