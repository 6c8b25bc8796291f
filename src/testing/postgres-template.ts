import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, chown, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Account, PostgresBinaries } from './postgres-binaries.ts'

const run = promisify(execFile)

/** macOS has no C.UTF-8. */
const LOCALE = process.platform === 'darwin' ? 'C' : 'C.UTF-8'
const INIT = ['--username=postgres', '--auth=trust', '--no-sync', '--encoding=UTF8', `--locale=${LOCALE}`]

/**
 * A new cluster in `dataDir`: initdb takes 450 ms and copying what it makes 60 ms, so each set of arguments is
 * initialised once per version and copied from then on.
 */
export async function copyTemplate(
  binaries: PostgresBinaries,
  account: Account | null,
  dataDir: string,
  initOptions: readonly string[],
): Promise<void> {
  const options = [...INIT, ...initOptions]
  const name = createHash('sha256')
    .update(JSON.stringify([options, account]))
    .digest('hex')
    .slice(0, 12)
  const template = join(binaries.templates, name)
  if (!existsSync(template)) await makeTemplate(binaries, account, template, options)
  await run('cp', ['-Rp', `${template}/.`, await ownFolder(dataDir, account)])
}

async function ownFolder(path: string, account: Account | null): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  await chmod(path, 0o700)
  if (account !== null) await chown(path, account.uid, account.gid)
  return path
}

/** Two processes may do this at once: the first to rename wins, and both results are the same. */
async function makeTemplate(
  binaries: PostgresBinaries,
  account: Account | null,
  template: string,
  options: readonly string[],
): Promise<void> {
  await mkdir(binaries.templates, { recursive: true })
  const staging = await mkdtemp(`${template}.`)
  try {
    await ownFolder(staging, account)
    await run(binaries.initdb, [...options, '--pgdata', staging], { ...account, cwd: binaries.templates })
    await rename(staging, template).catch((error: unknown) => {
      if (!existsSync(template)) throw error
    })
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}
