import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { PostgresServer } from '../src/testing/postgres-server.ts'
import { must, paired, query, TAILRACE, type Finished, type Row } from './kit.ts'

const COLUMNS = `id bigint, a int, b text, c text, n numeric(12,2), ts timestamptz, flag boolean, j jsonb`

export async function makeTable(server: PostgresServer, rows: number): Promise<void> {
  await query(
    server,
    `DROP TABLE IF EXISTS usual; CREATE TABLE usual (${COLUMNS});
     INSERT INTO usual SELECT g, g % 1000, md5(g::text), md5((g * 7)::text), g * 1.5, timestamptz '2026-01-01' + g * interval '1 second', g % 2 = 0, jsonb_build_object('k', g) FROM generate_series(1, ${rows}) g;
     ALTER TABLE usual ADD PRIMARY KEY (id)`,
  )
  await query(server, 'VACUUM ANALYZE usual')
  await query(server, 'CHECKPOINT')
}

async function fingerprint(server: PostgresServer, database: string): Promise<string> {
  const { rows } = await query(server, 'SELECT count(*) AS c, sum(hashtextextended(usual::text, 0)) AS h FROM usual', database)
  return JSON.stringify(rows)
}

async function expectEqual(server: PostgresServer): Promise<void> {
  const [source, target] = [await fingerprint(server, 'postgres'), await fingerprint(server, 'target')]
  if (source !== target) throw new Error(`the copy differs: ${source} and ${target}`)
}

async function fresh(server: PostgresServer): Promise<void> {
  await query(server, 'DROP TABLE IF EXISTS usual; DROP SCHEMA IF EXISTS tailrace CASCADE', 'target')
  await query(server, 'CHECKPOINT')
}

/** A new copy by psql: COPY out, binary, piped into COPY in, then the primary key. */
export async function psqlCopy(server: PostgresServer): Promise<Finished> {
  await fresh(server)
  const script = `psql -q "${server.uri('target')}" -c 'CREATE TABLE usual (${COLUMNS})' && psql -q "${server.uri()}" -c 'COPY usual TO STDOUT BINARY' | psql -q "${server.uri('target')}" -c 'COPY usual FROM STDIN BINARY' && psql -q "${server.uri('target')}" -c 'ALTER TABLE usual ADD PRIMARY KEY (id)'`
  return must('bash', ['-c', script])
}

/** PostgreSQL → PostgreSQL: `psql` COPY out, binary, piped into COPY in, then the primary key; against `tailrace sync`. */
export async function benchRelay(server: PostgresServer, rows: number, rounds: number, workers: number): Promise<Row> {
  let peak = 0
  const peer = async (): Promise<number> => {
    const { seconds } = await psqlCopy(server)
    await expectEqual(server)
    return seconds
  }
  const ours = async (): Promise<number> => {
    await fresh(server)
    const state = join(process.env['TMPDIR'] ?? '/tmp', `bench-state-${process.pid}.db`)
    await rm(state, { force: true })
    const done = await must(process.execPath, [
      TAILRACE,
      'sync',
      server.uri(),
      server.uri('target'),
      '--tables',
      'usual',
      '--workers',
      String(workers),
      '--state',
      state,
      '--json',
    ])
    peak = Math.max(peak, done.peakMegabytes ?? 0)
    await expectEqual(server)
    await rm(state, { force: true })
    return done.seconds
  }
  const { peer: peerSeconds, ours: oursSeconds } = await paired(rounds, peer, ours)
  return {
    what: `snapshot, ${workers} worker${workers === 1 ? '' : 's'}`,
    rows,
    peer: 'psql COPY binary, piped into psql, then the key',
    peerSeconds,
    oursSeconds,
    ratio: peerSeconds / oursSeconds,
    peakMegabytes: peak,
  }
}
