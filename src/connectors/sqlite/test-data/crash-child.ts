import { batchOf, insert, schemaOf, sinkTable, update, type RowChange } from '../../../testing/sink-batches.ts'
import { openSink } from './open-sink.ts'

/**
 * Writes transactions until it is killed: `node crash-child.ts file`. Prints the number of each one that was acknowledged.
 * Transaction n inserts rows 3n, 3n+1, 3n+2 on the left, n on the right, and notes n in the row that all update. Every
 * other transaction comes in two parts.
 */

export const left = schemaOf({ name: 'left_rows', columns: [{ name: 'id', type: { kind: 'int64' } }, { name: 'n', type: { kind: 'int64' } }, { name: 'pad', type: { kind: 'string' } }], key: ['id'] })
export const right = schemaOf({ name: 'right_rows', columns: [{ name: 'n', type: { kind: 'string' } }], key: ['n'] })
export const latest = schemaOf({ name: 'latest', columns: [{ name: 'id', type: { kind: 'int32' } }, { name: 'n', type: { kind: 'int64' } }], key: ['id'] })

const PAD = 'x'.repeat(500)

function changesOf(n: number): RowChange[] {
  const note = n === 1 ? insert(latest, ['0', '1']) : update(latest, ['0', String(n)])
  return [insert(left, [String(3 * n), String(n), PAD]), insert(right, [String(n)]), insert(left, [String(3 * n + 1), String(n), PAD]), note, insert(left, [String(3 * n + 2), String(n), PAD])]
}

async function run(path: string): Promise<void> {
  const { signal } = new AbortController()
  const sink = openSink(path, { config: { walAutocheckpoint: 100 } })
  const { position } = await sink.checkpoints.claim(signal)
  for (const schema of [left, right, latest]) await sink.applySchema(sinkTable(schema), sinkTable(schema), signal)
  let n = position === null ? 0 : Number(position.slice(position.indexOf(':') + 1))
  process.stdout.write(`start ${n}\n`)
  for (;;) {
    n++
    const changes = changesOf(n)
    if (n % 2 === 0) await sink.write(batchOf([{ number: n, changes: changes.splice(0, 2) }], true), signal)
    const more = n % 3 === 0 ? [{ number: n + 1, changes: changesOf(n + 1) }] : []
    await sink.write(batchOf([{ number: n, changes }, ...more]), signal)
    n += more.length
    process.stdout.write(`${n}\n`)
  }
}

const [, script, path] = process.argv
if (path !== undefined && script?.includes('crash-child') === true) await run(path)
