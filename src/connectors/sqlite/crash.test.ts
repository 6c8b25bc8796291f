import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { tempFolder } from '../../testing/temp-folder.ts'
import { latest, left, right } from './test-data/crash-child.ts'
import { query } from './test-data/open-sink.ts'

const CHILD = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? './test-data/crash-child.ts' : './test-data/crash-child.js', import.meta.url),
)
const KILLS = 10

interface Life {
  readonly start: number
  /** The last transaction whose write resolved. */
  readonly acknowledged: number
  readonly errors: string
}

/** Runs the writer and kills it once `acks` writes were acknowledged, somewhere in the next ones. */
async function liveUntilKilled(path: string, acks: number): Promise<Life> {
  const child = spawn(process.execPath, [CHILD, path], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(child, 'close')
  let errors = ''
  child.stderr.on('data', (data: Buffer) => void (errors += data.toString()))
  let [start, acknowledged, count] = [-1, 0, 0]
  for await (const line of createInterface(child.stdout)) {
    if (line.startsWith('start ')) start = Number(line.slice(6))
    else acknowledged = Number(line)
    if (++count === acks) child.kill('SIGKILL')
  }
  await ended
  return { start, acknowledged, errors }
}

function expectWhole(path: string): number {
  const position = String(query(path, 'SELECT position FROM tailrace_checkpoints')[0]?.['position'])
  const stored = Number(position.slice(position.indexOf(':') + 1))
  const [row] = query(
    path,
    `SELECT (SELECT count(*) FROM ${left.name}) AS l, (SELECT max(n) FROM ${left.name}) AS lmax, (SELECT count(*) FROM ${right.name}) AS r, (SELECT n FROM ${latest.name}) AS n`,
  )
  assert.deepEqual({ ...row }, { l: BigInt(3 * stored), lmax: BigInt(stored), r: BigInt(stored), n: BigInt(stored) })
  assert.equal(query(path, 'PRAGMA integrity_check')[0]?.['integrity_check'], 'ok')
  return stored
}

it(`TRAP 44: kill -9, ${KILLS} times: what was acknowledged is there, and never half a transaction`, async () => {
  await using folder = await tempFolder()
  const path = folder.join('t.db')
  let stored = 0
  for (let kill = 1; kill <= KILLS; kill++) {
    const life = await liveUntilKilled(path, 3 + kill * 7)
    assert.equal(life.errors, '', 'nothing is printed, no ExperimentalWarning either')
    assert.equal(life.start, stored, 'the runner goes on from what is stored')
    stored = expectWhole(path)
    assert.ok(stored >= life.acknowledged && life.acknowledged > life.start, `stored ${stored}, acknowledged ${life.acknowledged}`)
  }
})
