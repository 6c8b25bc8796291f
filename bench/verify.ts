import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { VerifyReport } from '../src/library/verification.ts'
import type { PostgresServer } from '../src/testing/postgres-server.ts'
import { median, must, query, run, TAILRACE, type Row } from './kit.ts'
import { psqlCopy } from './snapshot.ts'

const SINKS = ['postgres', 'duckdb', 'sqlite'] as const

/**
 * `tailrace verify` of a table and its copy in which seven rows differ, against one full copy of the table: by psql where the
 * target is PostgreSQL, by `tailrace sync` elsewhere. Exactly the seven must be found.
 */
export async function benchVerify(server: PostgresServer, rows: number, rounds: number): Promise<Row[]> {
  const found: Row[] = []
  for (const sink of SINKS) {
    const folder = await mkdtemp(join(tmpdir(), 'bench-verify-'))
    try {
      found.push(await benchSink(server, sink, rows, rounds, folder))
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  }
  return found
}

async function benchSink(server: PostgresServer, sink: (typeof SINKS)[number], rows: number, rounds: number, folder: string): Promise<Row> {
  const target = sink === 'postgres' ? server.uri('target') : `${sink}:${join(folder, `copy.${sink}`)}`
  const common = ['--tables', 'usual', '--state', join(folder, 'state.db'), '--progress', 'none', '--json']
  const seconds = { copy: [] as number[], verify: [] as number[] }
  let peak = 0
  for (let round = 0; round < rounds; round++) {
    await must(process.execPath, [TAILRACE, 'remove', server.uri(), target, '--state', join(folder, 'state.db')]).catch(() => undefined)
    const copied =
      sink === 'postgres'
        ? await psqlCopy(server)
        : await must(process.execPath, [TAILRACE, 'sync', server.uri(), target, ...common, '--if-exists', 'replace'])
    seconds.copy.push(copied.seconds)
    await query(server, differences(rows))
    const verified = await run(process.execPath, [TAILRACE, 'verify', server.uri(), target, ...common], { keepOutput: true })
    await query(server, undo(rows))
    expectSeven(verified.stdout, verified.stderr)
    seconds.verify.push(verified.seconds)
    peak = Math.max(peak, verified.peakMegabytes ?? 0)
  }
  const [peerSeconds, oursSeconds] = [median(seconds.copy), median(seconds.verify)]
  const peer = sink === 'postgres' ? 'a full copy: psql COPY binary, piped into psql, then the key' : 'a full copy: tailrace sync'
  return {
    what: `verify, ${sink}, 7 rows differ`,
    rows,
    peer,
    peerSeconds,
    oursSeconds,
    ratio: peerSeconds / oursSeconds,
    peakMegabytes: peak,
  }
}

/** Changed in the source, so that it is the same for every target: two rows go, two come, three are changed. */
function differences(rows: number): string {
  return `CREATE TABLE kept AS SELECT * FROM usual WHERE id IN (7, ${rows - 5}); DELETE FROM usual WHERE id IN (7, ${rows - 5});
    INSERT INTO usual (id) VALUES (0), (${rows + 1}); UPDATE usual SET a = -a - 1 WHERE id IN (1, ${rows >> 1}, ${rows})`
}

function undo(rows: number): string {
  return `INSERT INTO usual SELECT * FROM kept; DROP TABLE kept; DELETE FROM usual WHERE id IN (0, ${rows + 1});
    UPDATE usual SET a = -a - 1 WHERE id IN (1, ${rows >> 1}, ${rows})`
}

function expectSeven(stdout: string, stderr: string): void {
  const { tables, problems } = JSON.parse(stdout) as VerifyReport
  const { missing, extra, different } = tables[0] ?? { missing: 0, extra: 0, different: 0 }
  if (missing !== 2 || extra !== 2 || different !== 3)
    throw new Error(
      `2 missing, 2 extra and 3 different were planted; found ${missing}, ${extra}, ${different}: ${JSON.stringify(problems)} ${stderr}`,
    )
}
