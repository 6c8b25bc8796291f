import { cpSync, existsSync, lstatSync, mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface PostgresBinaries {
  readonly major: number
  readonly postgres: string
  readonly initdb: string
  /** A folder for new clusters to copy from; may be removed at any time. */
  readonly templates: string
}

/** Who a server runs as, where that is not ourselves. */
export interface Account {
  readonly uid: number
  readonly gid: number
}

/** PostgreSQL refuses to run as root; `nobody` exists on every system, and initdb insists on a name for the uid. */
export const NOBODY: Account = { uid: 65534, gid: 65534 }

const PACKAGE_ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

export function serverAccount(): Account | null {
  return process.getuid?.() === 0 ? NOBODY : null
}

/** The first folder on the way to `path` that others may not enter, or null. */
export function closedFolder(path: string): string | null {
  const parts = resolve(path).split(sep)
  for (let length = 1; length < parts.length; length++) {
    const folder = parts.slice(0, length).join(sep) || sep
    if ((statSync(folder).mode & 0o001) === 0) return folder
  }
  return null
}

/** `TAILRACE_PG_BIN_<major>`, else what the bootstrap fetched for the project or for the working folder. */
export function findPostgres(major: number): PostgresBinaries {
  const variable = `TAILRACE_PG_BIN_${major}`
  const given = process.env[variable]
  if (given !== undefined) {
    if (!existsSync(join(given, 'postgres'))) throw new Error(`${variable} is "${given}", and there is no "postgres" in it.`)
    return binariesIn(given, major, join(sharedFolder(), `templates-${major}`))
  }
  const home = [PACKAGE_ROOT, process.cwd()].map((root) => join(root, '.tools', `pg${major}`)).find((path) => existsSync(path))
  if (home === undefined) {
    throw new Error(
      `PostgreSQL ${major} is not installed; "node scripts/bootstrap.mjs --pg ${major}" fetches it, or ${variable} names a folder that holds it.`,
    )
  }
  const usable = enterable(realpathSync(home), major)
  return binariesIn(join(usable, 'native', 'bin'), major, join(usable, 'templates'))
}

function binariesIn(folder: string, major: number, templates: string): PostgresBinaries {
  return { major, postgres: join(folder, 'postgres'), initdb: join(folder, 'initdb'), templates }
}

/** Kept between runs, whatever TMPDIR a run has; must be our own, since /tmp is everybody's. */
function sharedFolder(): string {
  const folder = join(existsSync('/tmp') ? '/tmp' : tmpdir(), `tailrace-${process.getuid?.() ?? 'shared'}`)
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  const { uid } = lstatSync(folder)
  if (process.getuid !== undefined && uid !== process.getuid()) throw new Error(`${folder} belongs to uid ${uid}; remove it.`)
  return folder
}

/** The binaries, or a copy of them where the server's account can reach it: a project under /root is closed to others. */
function enterable(home: string, major: number): string {
  if (serverAccount() === null || closedFolder(home) === null) return home
  const copy = join(sharedFolder(), `pg${major}`)
  if (existsSync(copy)) return copy
  const staging = mkdtempSync(`${copy}.`)
  try {
    const filter = (path: string): boolean => basename(path) !== 'templates'
    cpSync(home, join(staging, 'copy'), { recursive: true, verbatimSymlinks: true, filter })
    renameSync(join(staging, 'copy'), copy)
  } catch (error) {
    if (!existsSync(copy)) throw error
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
  return copy
}
