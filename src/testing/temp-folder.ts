import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TempFolder extends AsyncDisposable {
  readonly path: string
  /** A path inside the folder. */
  join(...parts: string[]): string
}

/**
 * A new empty folder that goes with its scope: `await using tmp = await tempFolder()`. Other users may enter it (mode
 * 755), because a database server started by root runs as somebody else.
 */
export async function tempFolder(prefix = 'tailrace-'): Promise<TempFolder> {
  const path = await mkdtemp(join(tmpdir(), prefix))
  await chmod(path, 0o755)
  return {
    path,
    join: (...parts) => join(path, ...parts),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 5 }),
  }
}
