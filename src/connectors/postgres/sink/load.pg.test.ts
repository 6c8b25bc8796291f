import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { finished } from 'node:stream/promises'
import pg from 'pg'
import { to } from 'pg-copy-streams'
import type { SnapshotFormat } from '../../../model/batch.ts'
import type { TableSchema } from '../../../model/schema.ts'
import type { Chunk } from '../../../sdk/source.ts'
import { startPostgres } from '../../../testing/postgres-server.ts'
import { sinkTable } from '../../../testing/sink-batches.ts'
import { isError } from '../../../testing/sink-bench.ts'
import type { PostgresSink } from './sink.ts'
import { pgTable } from './test-data/tables.ts'
import { TargetServer, type Target } from './test-data/target-server.ts'

const server = await TargetServer.start(startPostgres)
after(() => server[Symbol.asyncDispose]())
const signal = new AbortController().signal
const whole: Chunk = { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 }

const things = pgTable({ name: 'things', columns: ['id bigint', 'v numeric(12,2)', 's text', 'j jsonb'], key: ['id'] })
const SOURCE = `CREATE SCHEMA src; CREATE TABLE src.things (id bigint, v numeric(12,2), s text, j jsonb);
  INSERT INTO src.things SELECT i, i / 7.0, CASE WHEN i % 5 > 0 THEN E'tab\\t line\\n back\\\\ "q", ' || repeat('ä', i % 90) END, jsonb_build_object('i', i) FROM generate_series(1, 5000) i`

/** What COPY sends, by another client: for binary as CopyData messages. */
async function copyOut(target: Target, sql: string, framed: boolean): Promise<Buffer[]> {
  const client = new pg.Client({ host: target.config.host, port: target.config.port, user: 'postgres', database: target.database })
  await client.connect()
  const stream = client.query(to(sql))
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(framed ? asMessage(chunk) : chunk))
  await finished(stream)
  await client.end()
  return chunks
}

function asMessage(payload: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head[0] = 0x64
  head.writeInt32BE(payload.length + 4, 1)
  return Buffer.concat([head, payload])
}

async function load(
  sink: PostgresSink,
  schema: TableSchema,
  format: Exclude<SnapshotFormat, 'rows'>,
  data: readonly Buffer[],
  chunk = whole,
  replace = false,
): Promise<number> {
  await using loader = await sink.load({ table: sinkTable(schema), chunk, format, replace }, signal)
  for (const piece of data) await loader.write({ format, data: piece, rows: 0, bytes: piece.length })
  return (await loader.finish()).rows
}

async function open(target: Target, ...schemas: readonly TableSchema[]): Promise<PostgresSink> {
  const sink = await target.sink()
  await sink.checkpoints.claim(signal)
  for (const schema of schemas) await sink.applySchema(sinkTable(schema), null, signal)
  return sink
}

describe(`loading into PostgreSQL ${server.major}`, () => {
  for (const format of ['pg-copy-binary', 'csv'] as const) {
    it(`rows in ${format} arrive as they were`, async () => {
      await using target = await server.target()
      await target.oracle.run(SOURCE)
      const sink = await open(target, things)
      const binary = format === 'pg-copy-binary'
      const data = await copyOut(target, `COPY src.things (id, v, s, j) TO STDOUT (FORMAT ${binary ? 'binary' : 'csv'})`, binary)
      assert.equal(await load(sink, things, format, data), 5000)
      assert.equal(await target.oracle.value('SELECT count(*) FROM (TABLE src.things EXCEPT ALL TABLE things) d'), '0')
      assert.equal(await load(sink, things, format, [], whole, true), 0)
      assert.equal(await sink.count(sinkTable(things), signal), 0n)
    })
  }

  it('TRAP 4: a chunk that comes again takes the place of its range, typed as the column is', async () => {
    await using target = await server.target()
    await target.oracle.run(SOURCE)
    const sink = await open(target, things)
    const range = (from: string | null, upTo: string | null): Chunk => ({ ...whole, range: { kind: 'key', column: 'id', from, to: upTo } })
    const data = (where: string): Promise<Buffer[]> =>
      copyOut(target, `COPY (SELECT * FROM src.things WHERE ${where}) TO STDOUT (FORMAT csv)`, false)
    await load(sink, things, 'csv', await data('id < 1000'), range(null, '1000'))
    await load(sink, things, 'csv', await data('id >= 1000'), range('1000', null))
    await target.oracle.run('DELETE FROM src.things WHERE id IN (9, 999, 1000, 5000)')
    await load(sink, things, 'csv', await data('id < 1000'), range(null, '1000'), true)
    assert.equal(
      await target.oracle.value(
        'SELECT string_agg(id::text, $$,$$) FROM (SELECT id FROM things EXCEPT SELECT id FROM src.things ORDER BY 1) d',
      ),
      '1000,5000',
    )
    await assert.rejects(load(sink, things, 'csv', [], { ...whole, range: { kind: 'heap', from: 0, to: null } }, true), isError('BUG'))
  })

  it('binary is refused where it would mean something else: names by number, arrays of made types, other types', async () => {
    await using target = await server.target()
    await target.oracle.run(`CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (x integer); CREATE DOMAIN short AS text`)
    const column = (sourceType: string) =>
      pgTable({
        name: `t${sourceType.replaceAll(/\W/g, '_')}`,
        columns: ['id integer', { name: 'v', type: { kind: 'other', name: sourceType }, sourceType }],
        key: ['id'],
      })
    const wanted = {
      'public.mood': true,
      'public.short': true,
      int4range: true,
      'text[]': true,
      'public.mood[]': false,
      'public.pair': false,
      regclass: false,
      oid: false,
      'public.missing': false,
    }
    const sink = await open(target)
    for (const [type, binary] of Object.entries(wanted)) {
      const table = sinkTable(column(type))
      await sink.applySchema(table, null, signal)
      assert.equal((await sink.formats(table, signal)).includes('pg-copy-binary'), binary, type)
    }
    await assert.rejects(load(sink, column('regclass'), 'pg-copy-binary', []), isError('SCHEMA_UNSUPPORTED'))
  })

  it('a row that the target refuses says so without its values', async () => {
    await using target = await server.target()
    const sink = await open(target, things)
    await assert.rejects(
      load(sink, things, 'csv', [Buffer.from('1,1,a,{}\n2,secret,a,{}\n')]),
      (error: Error) => isError('ROW_REJECTED')(error) && !error.message.includes('secret'),
    )
    assert.equal(await sink.count(sinkTable(things), signal), 0n)
    assert.equal(await load(sink, things, 'csv', [Buffer.from('1,1,a,{}\n')]), 1)
  })

  it('a session lost in a load is ended before anything else is written', async () => {
    await using target = await server.target()
    const sink = await open(target, things)
    const loader = await sink.load({ table: sinkTable(things), chunk: whole, format: 'csv', replace: false }, signal)
    await loader.write({ format: 'csv', data: Buffer.from('1,1,a,{}\n'), rows: 1, bytes: 1 })
    await target.oracle.run(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY "public"."things"%'`)
    await assert.rejects(loader.finish(), (error: { retry?: string }) => error.retry === 'retry')
    await loader[Symbol.asyncDispose]()
    assert.equal(await load(sink, things, 'csv', [Buffer.from('1,1,a,{}\n')]), 1)
  })
})
