import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import { Op, type SnapshotFrame } from '../../../model/batch.ts'
import { textRowsToSlice } from '../../../model/slice-builder.ts'
import type { Loader } from '../../../sdk/sink.ts'
import { startPostgres } from '../../../testing/postgres-server.ts'
import { at, batchOf, insert, update } from '../../../testing/sink-batches.ts'
import { isError, type SinkBench } from '../../../testing/sink-bench.ts'
import { pgTable, primaryKey } from './test-data/tables.ts'
import type { Oracle } from './test-data/oracle.ts'
import { TargetServer, type Target } from './test-data/target-server.ts'

const server = await TargetServer.start(startPostgres)
after(() => server[Symbol.asyncDispose]())

const docs = pgTable({ name: 'docs', columns: ['id integer', 'name text'], key: ['id'], indexes: [primaryKey('docs', 'id')] })
const others = pgTable({ name: 'others', columns: ['id integer'], key: ['id'] })
const whole = { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 } as const
const signal = new AbortController().signal

function startLoad(bench: SinkBench): Promise<Loader> {
  return bench.sink.load({ table: bench.table(docs), chunk: whole, format: 'rows', replace: false }, signal)
}

function frame(...rows: readonly (readonly string[])[]): SnapshotFrame {
  const slice = textRowsToSlice(
    docs,
    rows.map((image) => ({ op: Op.read, after: image })),
  )
  return { format: 'rows', slice, rows: slice.rows, bytes: slice.bytes.length }
}

/** Resolves when a session of the pipeline waits for a lock. */
async function untilBlocked(oracle: Oracle): Promise<void> {
  const waiting = `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tailrace:%' AND wait_event_type = 'Lock'`
  while ((await oracle.value(waiting)) === '0') await new Promise((resolve) => setImmediate(resolve))
}

async function sessions(target: Target): Promise<number> {
  return Number(
    await target.oracle.value(
      `SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tailrace:%' AND datname = current_database()`,
    ),
  )
}

/** Between a sink and its server: passes everything on until it is cut or told to swallow what the server answers. */
class Wire implements AsyncDisposable {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  deaf = false

  private constructor(port: number) {
    this.#server = createServer((client) => {
      const upstream = connect(port, '127.0.0.1')
      for (const socket of [client, upstream]) {
        this.#sockets.add(socket)
        socket.on('error', () => {})
      }
      client.pipe(upstream)
      upstream.on('data', (data) => void (this.deaf || client.write(data)))
      upstream.on('close', () => void (this.deaf || client.destroy()))
      client.on('close', () => upstream.destroy())
    })
  }

  static async open(port: number): Promise<Wire> {
    const wire = new Wire(port)
    wire.#server.listen(0, '127.0.0.1')
    await once(wire.#server, 'listening')
    return wire
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

describe(`fencing and lost connections on PostgreSQL ${server.major}`, () => {
  it('TRAP 56: of two runners that write at the same time the newer one wins and the older one stores nothing', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await bench.part(1, insert(docs, ['1', 'old']))
    const newer = await target.sink()
    const claim = newer.checkpoints.claim(signal)
    await untilBlocked(target.oracle)
    await bench.idle(1)
    assert.equal((await claim).position, at(1))
    await newer.applySchema(bench.table(docs), bench.table(docs), signal)
    await assert.rejects(bench.write(batchOf([{ number: 2, changes: [insert(docs, ['2', 'old'])] }])), isError('FENCED'))
    await assert.rejects(startLoad(bench), isError('FENCED'))
    await newer.write(batchOf([{ number: 2, changes: [insert(docs, ['2', 'new'])] }]), signal)
    await bench.expect(docs, [
      { id: '1', name: 'old' },
      { id: '2', name: 'new' },
    ])
  })

  it('TRAP 56: a chunk under way holds a take-over back, and does not hold back the stream or other chunks', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await using loader = await startLoad(bench)
    await using other = await startLoad(bench)
    await loader.write(frame(['1', 'a']))
    await other.write(frame(['2', 'b']))
    await bench.idle(5)
    await bench.expectPosition(at(5))
    const newer = await target.sink()
    const claim = newer.checkpoints.claim(signal)
    await untilBlocked(target.oracle)
    assert.deepEqual([await loader.finish(), await other.finish()], [{ rows: 1 }, { rows: 1 }])
    assert.equal((await claim).position, at(5))
    await bench.expect(docs, [
      { id: '1', name: 'a' },
      { id: '2', name: 'b' },
    ])
  })

  it('TRAP 57: a take-over ends the sessions of an earlier runner that hold the row', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await bench.part(1, insert(docs, ['1', 'never']))
    const newer = await target.sink()
    assert.equal((await newer.checkpoints.claim(signal)).position, at(0))
    await newer.applySchema(bench.table(docs), bench.table(docs), signal)
    await newer.write(batchOf([{ number: 1, changes: [insert(docs, ['1', 'once'])] }]), signal)
    await assert.rejects(bench.idle(1), isError('UNREACHABLE'))
    await assert.rejects(bench.checkpoints.recover(signal), isError('FENCED'))
    await bench.expect(docs, [{ id: '1', name: 'once' }])
  })

  it('TRAP 58: recovering takes no new epoch; two pipelines on one target do not fence each other', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    const { epoch } = (await bench.start(docs)) ?? { epoch: 0 }
    const other = await target.sink({ pipeline: 'other' })
    await other.checkpoints.claim(signal)
    await bench.commit(insert(docs, ['1', 'a']))
    assert.deepEqual(await bench.checkpoints.recover(signal), { epoch, position: at(1) })
    assert.deepEqual(await bench.checkpoints.recover(signal), { epoch, position: at(1) })
    await bench.commit(insert(docs, ['2', 'b']))
    assert.deepEqual(await other.remove(signal), ['row of other in "tailrace".checkpoints'])
    assert.equal((await bench.sink.remove?.(signal))?.length, 4)
    assert.equal(await target.oracle.value(`SELECT to_regnamespace('tailrace')`), null)
  })

  it('TRAP 41: a batch whose COMMIT was carried out but not answered is there once', async () => {
    await using target = await server.target()
    await using wire = await Wire.open(server.server.port)
    const sink = await target.sink({}, { port: wire.port })
    const bench = await target.bench()
    const table = bench.table(docs)
    await sink.checkpoints.claim(signal)
    await sink.applySchema(table, null, signal)
    await sink.write(batchOf([{ number: 1, changes: [insert(docs, ['1', 'a'])] }]), signal)
    wire.deaf = true
    const second = batchOf([{ number: 2, changes: [insert(docs, ['2', 'b'])] }])
    const lost = sink.write(second, signal)
    while ((await target.oracle.value('SELECT position FROM tailrace.checkpoints')) !== at(2))
      await new Promise((resolve) => setImmediate(resolve))
    wire.cut()
    await assert.rejects(lost, isError('UNREACHABLE'))
    wire.deaf = false
    await assert.rejects(sink.write(second, signal), isError('SINK_FAILED'))
    assert.equal((await sink.checkpoints.recover(signal)).position, at(2))
    await sink.write(batchOf([{ number: 3, changes: [update(docs, ['1', 'c'])] }]), signal)
    await bench.expect(docs, [
      { id: '1', name: 'c' },
      { id: '2', name: 'b' },
    ])
  })

  it('TRAP 41: a batch that the lost session has still to commit is not written twice', async () => {
    await using target = await server.target()
    await using wire = await Wire.open(server.server.port)
    const sink = await target.sink({}, { port: wire.port })
    const bench = await target.bench()
    await sink.checkpoints.claim(signal)
    await sink.applySchema(bench.table(docs), null, signal)
    await sink.write(batchOf([{ number: 1, changes: [insert(docs, ['1', 'a'])] }]), signal)
    // The whole batch with its COMMIT lies in the server; its first row waits for a lock when the connection breaks.
    await target.oracle.run(`BEGIN; LOCK TABLE docs IN EXCLUSIVE MODE`)
    wire.deaf = true
    const lost = sink.write(batchOf([{ number: 2, changes: [update(docs, ['1', 'b']), insert(docs, ['2', 'c'])] }]), signal)
    await using second = await target.connect()
    await untilBlocked(second)
    wire.cut()
    await assert.rejects(lost, isError('UNREACHABLE'))
    wire.deaf = false
    const recovered = await sink.checkpoints.recover(signal)
    assert.equal(recovered.position, at(1))
    await target.oracle.run('ROLLBACK')
    await sink.write(batchOf([{ number: 2, changes: [update(docs, ['1', 'b']), insert(docs, ['2', 'c'])] }]), signal)
    await bench.expect(docs, [
      { id: '1', name: 'b' },
      { id: '2', name: 'c' },
    ])
  })

  it('TRAP 41: an error that comes only with COMMIT rolls back and stores no position', async () => {
    await using target = await server.target()
    await target.oracle.run(`CREATE TABLE docs (id integer PRIMARY KEY, name text);
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''23514''; END';
      CREATE CONSTRAINT TRIGGER late AFTER INSERT ON docs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.name = 'bad') EXECUTE FUNCTION refuse();
      ALTER TABLE docs ENABLE ALWAYS TRIGGER late`)
    const bench = await target.bench()
    await bench.start(docs)
    await assert.rejects(
      bench.write(batchOf([{ number: 1, changes: [insert(docs, ['1', 'good']), insert(docs, ['2', 'bad'])] }])),
      isError('ROW_REJECTED'),
    )
    await bench.expectPosition(at(0))
    await bench.expect(docs, [])
  })

  it('a closed sink leaves no session behind, whatever it was doing', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs, others)
    await using loader = await startLoad(bench)
    await loader.write(frame(['1', 'a']))
    await bench.part(1, insert(others, ['2']))
    await bench.sink[Symbol.asyncDispose]()
    while ((await sessions(target)) > 0) await new Promise((resolve) => setImmediate(resolve))
    await bench.expect(docs, [])
  })

  it('an aborted write ends at once and can be recovered from', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await bench.commit(insert(docs, ['1', 'a']))
    await target.oracle.run('BEGIN; LOCK TABLE docs')
    const abort = new AbortController()
    const write = bench.sink.write(batchOf([{ number: 2, changes: [update(docs, ['1', 'b'])] }]), abort.signal)
    await using second = await target.connect()
    await untilBlocked(second)
    abort.abort()
    await assert.rejects(write, isError('ABORTED'))
    await bench.expectPosition(at(1))
    await target.oracle.run('ROLLBACK')
    await bench.write(batchOf([{ number: 2, changes: [update(docs, ['1', 'c'])] }]))
    await bench.expect(docs, [{ id: '1', name: 'c' }])
  })

  it('an error of the target that passes is one to retry: its restart, a terminated session, a lock held too long', async () => {
    await using target = await server.target()
    const bench = await target.bench()
    await bench.start(docs)
    await target.oracle.run(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tailrace:%' AND datname = current_database()`,
    )
    await assert.rejects(bench.commit(insert(docs, ['1', 'a'])), (error: { retry?: string }) => error.retry === 'retry')
    await bench.expectPosition(at(0))
    await bench.write(batchOf([{ number: 1, changes: [insert(docs, ['1', 'a'])] }]))
    await bench.expect(docs, [{ id: '1', name: 'a' }])
  })
})
