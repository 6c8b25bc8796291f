import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { startPostgres } from './postgres-server.ts'
import { tempFolder } from './temp-folder.ts'

const major = Number(process.env['TAILRACE_TEST_PG'])

async function query(uri: string, sql: string, ssl?: pg.ClientConfig['ssl']): Promise<unknown[][]> {
  const client = new pg.Client({ connectionString: uri, ...(ssl === undefined ? {} : { ssl }) })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows
  } finally {
    await client.end()
  }
}

test('a server of the major asked for, ready for logical replication', async () => {
  await using server = await startPostgres({ major })
  const [row] = await query(
    server.uri(),
    `SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level'), current_setting('fsync'), pg_encoding_to_char(encoding)
     FROM pg_database WHERE datname = 'postgres'`,
  )
  assert.deepEqual(row, [major, 'logical', 'off', 'UTF8'])
  await query(server.socketUri(), `SELECT pg_create_logical_replication_slot('s', 'pgoutput')`)
})

test('settings are the caller’s to choose, also later', async () => {
  await using server = await startPostgres({ major, settings: { fsync: 'on', wal_level: 'replica' } })
  const ask = `SELECT current_setting('fsync'), current_setting('wal_level'), current_setting('statement_timeout')`
  assert.deepEqual(await query(server.uri(), ask), [['on', 'replica', '0']])
  await server.configure({ wal_level: 'logical', statement_timeout: '5s' })
  await server.restart()
  assert.deepEqual(await query(server.uri(), ask), [['on', 'logical', '5s']])
})

test('what was committed survives a kill, and nothing else does', async () => {
  await using server = await startPostgres({ major })
  await query(server.uri(), 'CREATE TABLE t (i int); INSERT INTO t VALUES (1)')
  const open = new pg.Client(server.uri())
  open.on('error', () => undefined)
  await open.connect()
  await open.query('BEGIN; INSERT INTO t VALUES (2)')
  const { pid, port } = server
  await server.kill()
  assert.throws(() => server.pid, /not running/)
  await server.start()
  assert.notEqual(server.pid, pid)
  assert.equal(server.port, port)
  assert.deepEqual(await query(server.uri(), 'SELECT * FROM t'), [[1]])
  assert.match(await server.log(100), /database system was not properly shut down/)
})

test('pg_hba lines decide over TCP, the socket stays open', async () => {
  await using server = await startPostgres({ major, hba: ['host all alice all scram-sha-256', 'host all all all reject'] })
  await query(server.socketUri(), `CREATE ROLE alice LOGIN PASSWORD 'p@ss/w:rd'`)
  const uri = server.uri('postgres', { user: 'alice', password: 'p@ss/w:rd' })
  assert.deepEqual(await query(uri, 'SELECT 1'), [[1]])
  await assert.rejects(query(server.uri('postgres', { user: 'alice', password: 'no' }), 'SELECT 1'), /password authentication failed/)
  await assert.rejects(query(server.uri(), 'SELECT 1'), /pg_hba.conf rejects/)
})

test('TLS with a client certificate', async () => {
  await using server = await startPostgres({ major, ssl: true, hba: ['hostssl all all all cert', 'host all all all reject'] })
  assert.ok(server.tls)
  const pair = await server.tls.client('postgres')
  const ca = readFileSync(server.tls.ca)
  const ssl = { ca, cert: readFileSync(pair.cert), key: readFileSync(pair.key) }
  assert.deepEqual(await query(server.uri(), 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()', ssl), [[true]])
  await assert.rejects(query(server.uri(), 'SELECT 1', { ca }), /certificate/)
  await assert.rejects(query(server.uri(), 'SELECT 1', { ...ssl, ca: readFileSync(server.tls.strangerCa) }))
  await assert.rejects(query(server.uri(), 'SELECT 1'), /rejects/)
})

test('a lasting data folder is found again', async () => {
  await using tmp = await tempFolder()
  const dataDir = tmp.join('data')
  {
    await using server = await startPostgres({ major, dataDir, initOptions: ['--data-checksums'] })
    await query(server.uri(), 'CREATE TABLE kept AS SELECT 1 AS i')
  }
  await using server = await startPostgres({ major, dataDir })
  assert.deepEqual(await query(server.uri(), `SELECT i, current_setting('data_checksums') FROM kept`), [[1, 'on']])
})

test('a server does not outlive the process that started it, even a killed one', async () => {
  const module = fileURLToPath(new URL('postgres-server.ts', import.meta.url))
  const program = `import { writeSync } from 'node:fs'
    import { startPostgres } from ${JSON.stringify(module)}
    const server = await startPostgres({ major: ${major} })
    writeSync(1, JSON.stringify([server.uri(), server.socketDir]))
    process.kill(process.pid, 'SIGKILL')`
  const result = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]).catch(
    (error: { stdout: string }) => error,
  )
  const [uri, folder] = JSON.parse(result.stdout) as [string, string]
  for (let tries = 0; existsSync(folder) && tries < 600; tries++) await sleep(50)
  assert.equal(existsSync(folder), false)
  await assert.rejects(query(uri, 'SELECT 1'), { code: 'ECONNREFUSED' })
})

test('a server that cannot start says why', async () => {
  await assert.rejects(
    startPostgres({ major, settings: { shared_buffers: 'many' } }),
    /did not start[^]*invalid value for parameter "shared_buffers"/,
  )
})
