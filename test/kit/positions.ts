import assert from 'node:assert/strict'
import type { OnePipeline } from './one-pipeline.ts'
import { slots } from './source-database.ts'
import { openSqlite } from './sqlite-file.ts'

/** Changes the saved position, in the state file and in the target. */
export function setPositions(p: OnePipeline, change: (position: string) => string): void {
  for (const [file, table] of [
    [p.stateFile, 'pipelines'],
    [p.targetFile, 'tailrace_checkpoints'],
  ] as const) {
    const database = openSqlite(file, 'write')
    const position = String(database.prepare(`SELECT position FROM ${table}`).get()?.['position'])
    database.prepare(`UPDATE ${table} SET position = ?`).run(change(position))
    database.close()
  }
}

/** The pipeline stops for that reason alone, and changes nothing on either side. */
export async function assertHistoryLost(p: OnePipeline): Promise<void> {
  const before = [await slots(p.source), p.checkpoint()]
  const { stdout } = await p.catchUp([], 1)
  const { problems } = JSON.parse(stdout) as { problems: { code: string; severity?: string }[] }
  assert.deepEqual(
    problems.filter((each) => each.severity !== 'warning').map((each) => each.code),
    ['HISTORY_LOST'],
  )
  const after = [await slots(p.source), p.checkpoint()]
  assert.deepEqual(after, before)
}
