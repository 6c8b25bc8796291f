import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { tempFolder, type TempFolder } from '../../src/testing/temp-folder.ts'
import { assertEqual, sqliteTarget, type Target } from './compare.ts'
import { lsnOf } from './lsn.ts'
import { openSqlite } from './sqlite-file.ts'
import { readState, runCli, type Cli, type CliOptions, type Ended, type StateView } from './run-cli.ts'
import { slots, startSource, type SlotRow, type SourceDatabase } from './source-database.ts'
import { until } from './until.ts'

/** A server, a folder and a SQLite target for one pipeline named `p`, run by the command. */
export interface OnePipeline extends AsyncDisposable {
  readonly source: SourceDatabase
  readonly folder: TempFolder
  readonly target: Target
  readonly targetFile: string
  readonly stateFile: string
  sync(args: readonly string[], options?: Partial<CliOptions> & { readonly sourceUri?: string }): Cli
  /** `--follow`, with every table streaming and the slot being read. */
  follow(args?: readonly string[], options?: Partial<CliOptions> & { readonly sourceUri?: string }): Promise<Cli>
  /** Until caught up; fails unless it exits with `code`. */
  catchUp(args?: readonly string[], code?: number): Promise<Ended>
  equal(...tables: readonly string[]): Promise<void>
  state(): StateView
  slot(): Promise<SlotRow>
  /** Position in the target's own checkpoint. */
  checkpoint(): string | null
}

export async function onePipeline(settings: Readonly<Record<string, string | number>> = {}): Promise<OnePipeline> {
  const folder = await tempFolder('tr-case-')
  const source = await startSource(settings)
  const targetFile = folder.join('target.db')
  const stateFile = folder.join('state.db')
  const target = sqliteTarget(targetFile)
  const sync: OnePipeline['sync'] = (args, { sourceUri = source.uri, ...options } = {}) =>
    runCli(['sync', sourceUri, target.uri, '--name', 'p', ...args], { folder: folder.path, ...options })
  const state = (): StateView => {
    const found = readState(stateFile)
    assert.ok(found !== null, 'there is no pipeline in the state file')
    return found
  }
  return {
    source,
    folder,
    target,
    targetFile,
    stateFile,
    sync,
    state,
    follow: async (args = [], options = {}) => {
      const cli = sync(['--follow', ...args], options)
      await cli.until('every table streaming', async () => {
        const tables = [...(readState(stateFile)?.tables.values() ?? [])]
        return (
          tables.length > 0 && tables.every((table) => table.state === 'streaming') && (await slots(source)).some((slot) => slot.active)
        )
      })
      return cli
    },
    catchUp: async (args = [], code = 0) => {
      await using cli = sync(['--until', 'caught-up', '--json', ...args])
      const ended = await cli.ended()
      assert.equal(ended.code, code, ended.stderr)
      return ended
    },
    equal: async (...tables) => void (await assertEqual(source, target, tables)),
    slot: async () => {
      const [slot] = await slots(source)
      assert.ok(slot !== undefined, 'there is no slot')
      return slot
    },
    checkpoint: () => checkpointOf(targetFile),
    [Symbol.asyncDispose]: async () => {
      await source[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

function checkpointOf(file: string): string | null {
  const database = openSqlite(file, 'read')
  try {
    database.exec('BEGIN')
    const name = database.prepare(`SELECT name FROM sqlite_schema WHERE sql LIKE '%epoch%' AND sql LIKE '%position%'`).get()?.['name']
    return (database.prepare(`SELECT position FROM "${String(name)}"`).get()?.['position'] as string | null | undefined) ?? null
  } finally {
    database.close()
  }
}

/** All that was written to the log so far, made durable: only that is ever sent. */
export async function logEnd(source: SourceDatabase): Promise<bigint> {
  await source.query(`SELECT pg_logical_emit_message(true, 'test', 'flush')`)
  const [row] = await source.query<{ lsn: string }>('SELECT pg_current_wal_flush_lsn()::text AS lsn')
  return lsnOf(row?.lsn ?? null)
}

/** What is in the target now, however far the run is; undefined while file or table are not there yet. */
export function targetValue(file: string, sql: string): unknown {
  if (!existsSync(file)) return undefined
  const database = openSqlite(file, 'read')
  try {
    return Object.values(database.prepare(sql).get() ?? {})[0]
  } catch (error) {
    if (error instanceof Error && error.message.startsWith('no such table')) return undefined
    throw error
  } finally {
    database.close()
  }
}

export async function untilTarget(file: string, sql: string, expected: unknown): Promise<void> {
  await until(`${sql} = ${String(expected)}`, () => targetValue(file, sql) === expected)
}

/** A module for `--transform` that lets no row through while the file `hold` exists; touches `held` when it waits. */
export const HOLDING_TRANSFORM = `
import { existsSync, writeFileSync } from 'node:fs'
export async function transform(change) {
  if (existsSync('hold')) writeFileSync('held', '')
  while (existsSync('hold')) await new Promise((resolve) => setTimeout(resolve, 5))
  return change
}
`
