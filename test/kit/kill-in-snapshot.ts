import assert from 'node:assert/strict'
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { OnePipeline } from './one-pipeline.ts'
import type { LedgerChunk } from './run-cli.ts'

/** Waits at the first row of the snapshot until it is told how many rows it lets through; of those after them, none. */
const HOLDING_AT = `
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
let [seen, limit] = [0, 0]
export async function transform(change) {
  if (change.op !== 'read') return change
  if (seen++ === 0) {
    writeFileSync('begun', '')
    while (!existsSync('hold-at')) await new Promise((resolve) => setTimeout(resolve, 5))
    limit = Number(readFileSync('hold-at', 'utf8'))
  }
  if (seen > limit) {
    writeFileSync('held', '')
    await new Promise(() => {})
  }
  return change
}
`

const FILES = ['begun', 'hold-at', 'held']

/**
 * Starts, and kills when about that part of the chunks is done: where the rows end that a transform lets through, so that it
 * is the same however slow the machine is. `args` must ask for one worker.
 */
export async function killInSnapshot(p: OnePipeline, part: number | 'last', args: readonly string[], options = {}): Promise<void> {
  writeFileSync(p.folder.join('hold-at.ts'), HOLDING_AT)
  await using cli = p.sync([...args, '--transform', 'hold-at.ts'], options)
  await cli.until('the first row', () => existsSync(p.folder.join('begun')))
  const { chunks } = p.state()
  const done = chunks.filter((chunk) => chunk.done).length
  // In the middle of the last chunk but one.
  const goal = part === 'last' ? chunks.length - 1.5 : chunks.length * part
  const share = Math.max(0, goal - done) / (chunks.length - done)
  writeFileSync(p.folder.join('hold-at.part'), String(Math.floor((await rowsLeft(p, chunks)) * share)))
  // At once: it must not be read half written.
  renameSync(p.folder.join('hold-at.part'), p.folder.join('hold-at'))
  await cli.until('that part of the snapshot', () => existsSync(p.folder.join('held')))
  await cli.kill()
  for (const name of FILES) rmSync(p.folder.join(name), { force: true })
  assert.ok(p.state().chunks.some((chunk) => !chunk.done))
}

/** Rows of the chunks that are not done, chunks of a table taken as equal. */
async function rowsLeft(p: OnePipeline, chunks: readonly LedgerChunk[]): Promise<number> {
  let rows = 0
  for (const table of new Set(chunks.map((chunk) => chunk.table))) {
    const own = chunks.filter((chunk) => chunk.table === table)
    const [row] = await p.source.query<{ count: string }>(`SELECT count(*) FROM ${table}`)
    rows += (Number(row?.count) * own.filter((chunk) => !chunk.done).length) / own.length
  }
  return rows
}
