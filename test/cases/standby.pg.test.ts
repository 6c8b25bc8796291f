import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { connectors } from '../../src/connectors/index.ts'
import { resolveEndpoint } from '../../src/sdk/config/endpoint.ts'
import { References } from '../../src/sdk/config/references.ts'
import { testContext } from '../../src/testing/test-context.ts'
import { startPostgres, type PostgresServer } from '../../src/testing/postgres-server.ts'
import { assertHistoryLost, setPositions } from '../kit/positions.ts'
import { lsnOf } from '../kit/lsn.ts'
import { logEnd, onePipeline, type OnePipeline } from '../kit/one-pipeline.ts'
import { MAJOR, slots } from '../kit/source-database.ts'
import { runCli } from '../kit/run-cli.ts'
import { until } from '../kit/until.ts'

const run = promisify(execFile)

/** A hot standby of the source: its files as they are now, fed by streaming. */
async function startStandby({ source }: OnePipeline): Promise<PostgresServer> {
  const { server } = source
  await server.stop()
  const dataDir = await server.makeFolder('standby')
  await run('cp', ['-Rp', `${server.dataDir}/.`, dataDir])
  await writeFile(join(dataDir, 'standby.signal'), '')
  await server.start()
  const settings = { primary_conninfo: `host=127.0.0.1 port=${server.port} user=postgres`, hot_standby_feedback: 'on' }
  return startPostgres({ major: MAJOR, dataDir, settings })
}

interface Report {
  readonly ok: boolean
  readonly problems: readonly { readonly code: string; readonly severity?: string }[]
  readonly tables: readonly { readonly state: string }[]
}

interface Balancer extends AsyncDisposable {
  readonly port: number
  /** Connections go to the servers in turn; those from now on to the first. */
  stopBalancing(): void
}

async function startBalancer(ports: readonly number[]): Promise<Balancer> {
  const sockets = new Set<Socket>()
  let [turn, step] = [0, 1]
  const server = createServer((client) => {
    const upstream = connect(ports[turn % ports.length]!, '127.0.0.1')
    turn += step
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.pipe(to)
      from.on('error', () => to.destroy())
      from.on('close', () => to.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    stopBalancing: () => {
      turn = step = 0
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

for (const mode of [[], ['--until', 'caught-up']] as const) {
  test(`CASE 15: a load balancer sends the sessions of one snapshot to a primary and its standby (${mode.join(' ') || 'a copy'}): refused, nothing is called done (pgstream)`, async () => {
    await using p = await onePipeline()
    await p.source.query(
      `CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('v', 500) FROM generate_series(1, 2000) i; ANALYZE t`,
    )
    await using standby = await startStandby(p)
    await using balancer = await startBalancer([p.source.server.port, standby.port])
    const sourceUri = `postgres://postgres@127.0.0.1:${balancer.port}/postgres?sslmode=disable`
    const args = ['--source.chunk-bytes', '65536', ...mode]
    {
      await using cli = p.sync(['--json', ...args], { sourceUri })
      const { code, stdout, stderr } = await cli.ended()
      assert.equal(code, 3, stderr)
      const report = JSON.parse(stdout) as Report
      assert.equal(report.ok, false)
      assert.deepEqual(
        report.problems.filter((problem) => problem.severity !== 'warning').map((problem) => problem.code),
        ['ENVIRONMENT'],
      )
      assert.match(stderr, /load balancer/)
      assert.deepEqual(new Set(report.tables.map((table) => table.state)), new Set(['pending']))
    }
    // With one server it works, and of what the first run made nothing is in the way.
    balancer.stopBalancing()
    await using cli = p.sync(args, { sourceUri })
    assert.equal((await cli.ended()).code, 0, cli.stderr)
    await p.equal('t')
    assert.equal((await slots(p.source)).length, mode.length === 0 ? 0 : 1)
  })
}

test('a standby can be copied from; to follow it is refused, and it is said why', async () => {
  await using p = await onePipeline()
  await p.source.query(`CREATE TABLE t (id integer PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i`)
  await using standby = await startStandby(p)
  {
    await using cli = p.sync([], { sourceUri: standby.uri() })
    assert.equal((await cli.ended()).code, 0, cli.stderr)
  }
  await p.equal('t')
  await using cli = runCli(['sync', standby.uri(), `sqlite:${p.folder.join('other.db')}`, '--follow'], { folder: p.folder.path })
  const { code, stderr } = await cli.ended()
  assert.equal(code, 3, stderr)
  assert.match(stderr, /standby/)
})

test('the end of the log of a standby is what it shows', async () => {
  await using p = await onePipeline()
  await using standby = await startStandby(p)
  const { connector, config } = await resolveEndpoint(
    { role: 'source', uri: standby.uri(), flags: [], variables: {} },
    connectors,
    new References({ variables: {} }),
  )
  const signal = AbortSignal.timeout(60_000)
  await using source = await connector.source!.open(config, testContext())
  for (const end of [() => source.head!(signal), () => source.endAt!(0, signal)]) {
    await p.source.query('CREATE TABLE IF NOT EXISTS t (id integer); INSERT INTO t VALUES (1)')
    const written = await logEnd(p.source)
    await until('the standby to show it', async () => lsnOf(await end()) >= written)
  }
})

/** A new timeline begins in the source's own files: what a failover to an up-to-date standby with its slot leaves. */
async function promote({ source }: OnePipeline): Promise<void> {
  await source.server.stop()
  await writeFile(join(source.server.dataDir, 'standby.signal'), '')
  await source.server.start()
  await until('the source promoted', async () => {
    const [row] = await source.query<{ promoted: boolean }>('SELECT pg_promote() AND NOT pg_is_in_recovery() AS promoted')
    return row?.promoted
  })
}

async function keylessTable(p: OnePipeline): Promise<void> {
  await p.source.query(`CREATE TABLE log (n integer, v text); ALTER TABLE log REPLICA IDENTITY FULL; INSERT INTO log VALUES (1, 'a')`)
}

test('TRAP 19: the source is on a new timeline that holds the saved position: the pipeline goes on', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await p.catchUp()
  await p.source.query(`INSERT INTO log VALUES (2, 'not followed yet')`)
  await promote(p)
  for (let round = 0; round < 2; round++) {
    await p.source.query(`INSERT INTO log VALUES (3, 'after')`)
    await p.catchUp()
    await p.equal('log')
  }
})

test('TRAP 19: the source left the timeline of the saved position before it: lost history', async () => {
  await using p = await onePipeline()
  await keylessTable(p)
  await p.catchUp()
  const timeline = p.checkpoint()?.split(':')[2]
  await promote(p)
  await p.source.query(`INSERT INTO log VALUES (4, 'on the new timeline')`)
  const end = await logEnd(p.source)
  // What the old primary had written after the switch, and the pipeline had read.
  setPositions(p, (position) => position.replace(/[^:]+$/, `${(end >> 32n).toString(16)}/${(end & 0xffffffffn).toString(16)}`))
  assert.equal(p.checkpoint()?.split(':')[2], timeline)
  assert.equal(lsnOf(p.checkpoint()), end)
  // Nothing is to be read after it, and all the same it is found out.
  await assertHistoryLost(p)
  await p.source.query(`INSERT INTO log VALUES (5, 'later')`)
  await assertHistoryLost(p)
})
