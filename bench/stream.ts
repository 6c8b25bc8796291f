import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { PostgresServer } from '../src/testing/postgres-server.ts'
import { must, paired, query, TAILRACE, type Row } from './kit.ts'

/**
 * A backlog drained by `pg_recvlogical` to /dev/null and by `tailrace sync … /dev/null --until`, from copies of one slot.
 * Ours decodes every row; the peer only receives.
 */
export async function benchBacklog(server: PostgresServer, total: number, perTransaction: number, rounds: number): Promise<Row> {
  await query(
    server,
    `DROP TABLE IF EXISTS changes; CREATE TABLE changes (id bigint PRIMARY KEY, a int, b text, c text, n numeric(12,2), ts timestamptz, flag boolean, j jsonb)`,
  )
  const state = join(process.env['TMPDIR'] ?? '/tmp', `bench-stream-${process.pid}.db`)
  await rm(state, { force: true })
  const flags = ['--tables', 'changes', '--snapshot', 'never', '--name', 'bench', '--state', state, '--json']
  const sync = (...more: string[]): Promise<{ seconds: number; peakMegabytes: number | null }> =>
    must(process.execPath, [TAILRACE, 'sync', server.uri(), '/dev/null', ...flags, ...more])
  await sync('--until', 'caught-up')
  const { rows } = await query(server, `SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'tailrace_bench%'`)
  const slot = String((rows[0] as { slot_name: string }).slot_name)
  await query(server, `SELECT pg_copy_logical_replication_slot('${slot}', 'backlog')`)
  await query(
    server,
    `DO $$ BEGIN FOR i IN 1..${Math.ceil(total / perTransaction)} LOOP
       INSERT INTO changes SELECT i::bigint * 10000000 + g, g, md5(g::text), md5(i::text), g * 1.5, now(), true, '{"k": 1}' FROM generate_series(1, ${perTransaction}) g; COMMIT; END LOOP; END $$`,
  )
  const end = String(((await query(server, 'SELECT pg_current_wal_lsn() AS lsn')).rows[0] as { lsn: string }).lsn)
  const names = await backup(state)
  let peak = 0
  const peer = async (): Promise<number> => {
    await query(server, `SELECT pg_copy_logical_replication_slot('backlog', 'peer')`)
    const { seconds } = await must('pg_recvlogical', [
      '-d',
      server.uri(),
      '-S',
      'peer',
      '--start',
      '-o',
      'proto_version=1',
      '-o',
      `publication_names=${slot}`,
      '-f',
      '/dev/null',
      '-E',
      end,
      '-n',
    ])
    await query(server, `SELECT pg_drop_replication_slot('peer')`)
    return seconds
  }
  const ours = async (): Promise<number> => {
    await query(server, `SELECT pg_drop_replication_slot('${slot}'); SELECT pg_copy_logical_replication_slot('backlog', '${slot}')`)
    await names.restore()
    const done = await sync('--until', end)
    peak = Math.max(peak, done.peakMegabytes ?? 0)
    return done.seconds
  }
  const { peer: peerSeconds, ours: oursSeconds } = await paired(rounds, peer, ours)
  await query(server, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots; DROP PUBLICATION "${slot}"`)
  await rm(state, { force: true })
  return {
    what: `stream, ${perTransaction.toLocaleString('en')}-row transactions`,
    rows: total,
    peer: 'pg_recvlogical -f /dev/null (does not decode)',
    peerSeconds,
    oursSeconds,
    ratio: peerSeconds / oursSeconds,
    peakMegabytes: peak,
  }
}

/** The state as it was before the backlog, so that each round drains all of it. */
async function backup(state: string): Promise<{ restore(): Promise<void> }> {
  const { copyFile } = await import('node:fs/promises')
  await copyFile(state, `${state}.saved`)
  return {
    restore: async () => {
      for (const end of ['-wal', '-shm']) await rm(`${state}${end}`, { force: true })
      await copyFile(`${state}.saved`, state)
    },
  }
}
