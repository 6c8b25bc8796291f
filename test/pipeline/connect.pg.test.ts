import assert from 'node:assert/strict'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { networkInterfaces } from 'node:os'
import { describe, test } from 'node:test'
import { connect as connectTls, TLSSocket } from 'node:tls'
import { connectorContext } from '../../src/engine/open.ts'
import { startPostgres, type PostgresServer } from '../../src/testing/postgres-server.ts'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import type { KeyPair } from '../../src/testing/tls-certificates.ts'
import { endpoint, MAJOR, Oracle, testEnvironment } from './kit.ts'

interface Session {
  readonly ok: boolean
  readonly code: string
  readonly message: string
  readonly hint: string
}

/** Opens the connector as source, as a pipeline would, and closes it. */
async function connect(uri: string, variables: Readonly<Record<string, string>> = {}): Promise<Session> {
  const { connector, config } = await endpoint('source', uri, variables)
  const never = new AbortController().signal
  const environment = testEnvironment('')
  const context = connectorContext(
    { pipeline: 'connect', deletes: 'hard', memory: { get: async () => null, set: async () => {} }, environment },
    'source',
  )
  try {
    await using source = await connector.source?.open(config, context)
    assert.ok(source !== undefined)
    await source.discover({ tables: [], columns: new Map(), exclude: [], where: new Map(), keys: new Map() }, never)
    return { ok: true, code: '', message: '', hint: '' }
  } catch (error) {
    const { code, message, hint } = error as { code?: string; message?: string; hint?: string }
    return { ok: false, code: code ?? '', message: message ?? '', hint: hint ?? '' }
  }
}

async function withVariables<T>(variables: Readonly<Record<string, string>>, work: () => Promise<T>): Promise<T> {
  const before = Object.keys(variables).map((name) => [name, process.env[name]] as const)
  Object.assign(process.env, variables)
  try {
    return await work()
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
}

async function sql(server: PostgresServer, text: string): Promise<void> {
  await using oracle = await Oracle.connect(server.socketUri())
  await oracle.run(text)
}

function refused(result: Session, code: string, message: RegExp): void {
  assert.equal(result.ok, false, 'it must not connect')
  assert.equal(result.code, code, result.message)
  assert.match(result.message, message)
  assert.doesNotMatch(result.message + result.hint, /s3cret/)
}

describe('TLS', () => {
  const params = (server: PostgresServer, host: string, more: Record<string, string>): string => {
    const query = new URLSearchParams(more).toString()
    return `postgres://postgres@${host}:${server.port}/postgres?${query}`
  }

  test('each mode against a server that demands TLS', async () => {
    await using server = await startPostgres({
      major: MAJOR,
      ssl: true,
      hba: ['hostssl all all all trust', 'hostssl replication all all trust'],
    })
    const { tls } = server
    assert.ok(tls !== null)
    const local = '127.0.0.1'
    refused(await connect(params(server, local, { sslmode: 'disable' })), 'NOT_ALLOWED', /./)
    assert.equal((await connect(params(server, local, { sslmode: 'prefer' }))).ok, true)
    assert.equal((await connect(params(server, local, { sslmode: 'require' }))).ok, true)
    assert.equal((await connect(params(server, local, { sslmode: 'verify-ca', sslrootcert: tls.ca }))).ok, true)
    assert.equal((await connect(params(server, local, { sslmode: 'verify-full', sslrootcert: tls.ca }))).ok, true)
    assert.equal((await connect(params(server, 'localhost', { sslmode: 'verify-full', sslrootcert: tls.ca }))).ok, true)
    // An authority that signed nothing here; none at all; a name that is not in the certificate.
    refused(
      await connect(params(server, local, { sslmode: 'verify-ca', sslrootcert: tls.strangerCa })),
      'NOT_ALLOWED',
      /certificate|trust|verif/i,
    )
    refused(
      await connect(params(server, local, { sslmode: 'verify-full', sslrootcert: tls.strangerCa })),
      'NOT_ALLOWED',
      /certificate|trust|verif/i,
    )
    refused(await connect(params(server, local, { sslmode: 'verify-full' })), 'NOT_ALLOWED', /certificate|trust|verif/i)
    assert.equal(
      (await connect(params(server, '127.0.0.2', { sslmode: 'verify-ca', sslrootcert: tls.ca }))).ok,
      false,
      'the server does not listen there',
    )
  })

  test('a name that the certificate does not hold: verify-ca takes it, verify-full does not', async () => {
    await using server = await startPostgres({
      major: MAJOR,
      ssl: true,
      settings: { listen_addresses: '127.0.0.1,127.0.0.2' },
      hba: ['hostssl all all all trust'],
    })
    const ca = server.tls?.ca ?? ''
    assert.equal((await connect(params(server, '127.0.0.2', { sslmode: 'verify-ca', sslrootcert: ca }))).ok, true)
    refused(await connect(params(server, '127.0.0.2', { sslmode: 'verify-full', sslrootcert: ca })), 'NOT_ALLOWED', /name|certificate/i)
  })

  test('a server without TLS: prefer goes on without, require does not', async () => {
    await using server = await startPostgres({ major: MAJOR })
    assert.equal((await connect(params(server, '127.0.0.1', { sslmode: 'prefer' }))).ok, true)
    assert.equal((await connect(params(server, '127.0.0.1', { sslmode: 'disable' }))).ok, true)
    for (const sslmode of ['require', 'verify-ca', 'verify-full'])
      refused(await connect(params(server, '127.0.0.1', { sslmode })), 'NOT_ALLOWED', /TLS|SSL/)
  })

  test('a client certificate', async () => {
    await using server = await startPostgres({ major: MAJOR, ssl: true, hba: ['hostssl all all all cert'] })
    const { tls } = server
    assert.ok(tls !== null)
    await sql(server, 'CREATE ROLE walter LOGIN')
    const pair = await tls.client('walter')
    const uri = (user: string, more: Record<string, string>): string =>
      `postgres://${user}@127.0.0.1:${server.port}/postgres?${new URLSearchParams({ sslmode: 'verify-full', sslrootcert: tls.ca, ...more }).toString()}`
    assert.equal((await connect(uri('walter', { sslcert: pair.cert, sslkey: pair.key }))).ok, true)
    refused(await connect(uri('postgres', { sslcert: pair.cert, sslkey: pair.key })), 'NOT_ALLOWED', /./)
    refused(await connect(uri('walter', {})), 'NOT_ALLOWED', /./)
    assert.equal((await withVariables({ PGSSLCERT: pair.cert, PGSSLKEY: pair.key }, () => connect(uri('walter', {})))).ok, true)
  })
})

describe('passwords', () => {
  for (const method of ['scram-sha-256', 'md5', 'password'] as const) {
    test(`${method}: from the URI, PGPASSWORD, the password file and a reference`, async () => {
      const setting = method === 'md5' ? 'md5' : 'scram-sha-256'
      await using server = await startPostgres({
        major: MAJOR,
        settings: { password_encryption: setting },
        hba: [`host all all all ${method}`],
      })
      const password = "s3cret: ä/@%\\ '"
      await sql(server, `CREATE ROLE walter LOGIN PASSWORD '${password.replaceAll("'", "''")}'`)
      await using folder = await tempFolder('tr-pass-')
      const bare = `postgres://walter@127.0.0.1:${server.port}/postgres`
      assert.equal((await connect(server.uri('postgres', { user: 'walter', password }))).ok, true)
      refused(await connect(server.uri('postgres', { user: 'walter', password: 's3cret wrong' })), 'NOT_ALLOWED', /./)
      assert.equal(
        (await connect(`postgres://walter:\${env:DB_PASSWORD}@127.0.0.1:${server.port}/postgres`, { DB_PASSWORD: password })).ok,
        true,
      )
      const none = { PGPASSFILE: folder.join('missing') }
      refused(await withVariables(none, () => connect(bare)), 'NOT_ALLOWED', /password/)
      assert.equal((await withVariables({ ...none, PGPASSWORD: password }, () => connect(bare))).ok, true)
      const file = folder.join('pgpass')
      await writeFile(
        file,
        `# first fit wins\nother:*:*:walter:no\n127.0.0.1:${server.port}:post*:walter:no\n*:${server.port}:postgres:walter:${password.replaceAll('\\', '\\\\').replaceAll(':', '\\:')}\n*:*:*:*:no\n`,
      )
      await chmod(file, 0o644)
      refused(await withVariables({ PGPASSFILE: file }, () => connect(bare)), 'NOT_ALLOWED', /password/)
      await chmod(file, 0o600)
      assert.equal((await withVariables({ PGPASSFILE: file }, () => connect(bare))).ok, true)
      assert.equal((await connect(`${bare}?passfile=${encodeURIComponent(file)}`)).ok, true)
    })
  }

  test('SCRAM over TLS (channel binding is offered)', async () => {
    await using server = await startPostgres({ major: MAJOR, ssl: true, hba: ['hostssl all all all scram-sha-256'] })
    await sql(server, "CREATE ROLE walter LOGIN PASSWORD 's3cret'")
    assert.equal(
      (
        await connect(
          server.uri('postgres', {
            user: 'walter',
            password: 's3cret',
            params: { sslmode: 'verify-full', sslrootcert: server.tls?.ca ?? '' },
          }),
        )
      ).ok,
      true,
    )
    refused(
      await connect(server.uri('postgres', { user: 'walter', password: 's3cret!', params: { sslmode: 'require' } })),
      'NOT_ALLOWED',
      /./,
    )
  })

  test('SCRAM bound to its TLS session: who stands between cannot pass the log-in on', async () => {
    await using server = await startPostgres({
      major: MAJOR,
      ssl: true,
      hba: ['hostssl all all all scram-sha-256', 'hostnossl all all all md5'],
    })
    await sql(server, "CREATE ROLE walter LOGIN PASSWORD 's3cret'")
    const { tls: certificates } = server
    assert.ok(certificates !== null)
    const uri = (port: number, params: Record<string, string>): string =>
      `postgres://walter:s3cret@127.0.0.1:${port}/postgres?${new URLSearchParams({ sslmode: 'require', ...params }).toString()}`
    assert.equal((await connect(uri(server.port, { channel_binding: 'require' }))).ok, true)
    assert.equal((await connect(uri(server.port, { channel_binding: 'disable' }))).ok, true)
    refused(await connect(uri(server.port, { channel_binding: 'require', sslmode: 'disable' })), 'NOT_ALLOWED', /channel/i)
    await using between = await standBetween(server.port, await certificates.client('somebody'))
    refused(await connect(uri(between.port, {})), 'NOT_ALLOWED', /channel binding/)
    refused(await connect(uri(between.port, { channel_binding: 'require' })), 'NOT_ALLOWED', /channel binding/)
    assert.equal((await connect(uri(between.port, { channel_binding: 'disable' }))).ok, true, 'without it nothing is noticed')
  })

  test('require with an authority asks for it, as libpq does', async () => {
    await using server = await startPostgres({ major: MAJOR, ssl: true, hba: ['hostssl all all all trust'] })
    const { tls: certificates } = server
    assert.ok(certificates !== null)
    const uri = (ca: string): string =>
      `postgres://postgres@127.0.0.1:${server.port}/postgres?${new URLSearchParams({ sslmode: 'require', sslrootcert: ca }).toString()}`
    assert.equal((await connect(uri(certificates.ca))).ok, true)
    refused(await connect(uri(certificates.strangerCa)), 'NOT_ALLOWED', /sslmode=require: .*CERT/)
  })

  test('no such user, no such database, nobody there: each says what to do', async () => {
    await using server = await startPostgres({ major: MAJOR })
    const database = await connect(server.uri('nowhere'))
    assert.deepEqual([database.ok, /nowhere/.test(database.message), database.hint !== ''], [false, true, true])
    const user = await connect(server.uri('postgres', { user: 'nobody' }))
    assert.deepEqual([user.ok, /nobody/.test(user.message)], [false, true])
    await server.stop()
    refused(await connect(server.uri()), 'UNREACHABLE', /./)
  })
})

describe('addresses', () => {
  test('PGHOST, PGPORT, PGUSER, PGDATABASE, and what the URI says goes first', async () => {
    await using server = await startPostgres({ major: MAJOR })
    await sql(server, 'CREATE DATABASE other')
    const variables = { PGHOST: '127.0.0.1', PGPORT: String(server.port), PGUSER: 'postgres', PGDATABASE: 'other' }
    assert.equal((await withVariables(variables, () => connect('postgres://'))).ok, true)
    assert.equal(
      (await withVariables({ ...variables, PGDATABASE: 'nowhere', PGUSER: 'nobody' }, () => connect('postgres://postgres@/other'))).ok,
      true,
    )
    assert.equal((await withVariables({ ...variables, PGDATABASE: 'nowhere' }, () => connect('postgres://'))).ok, false)
  })

  test('a unix socket', async () => {
    await using server = await startPostgres({ major: MAJOR, hba: [] })
    assert.equal((await connect(server.socketUri())).ok, true)
    assert.equal((await connect(`postgres://postgres@/postgres?host=${encodeURIComponent(server.socketDir)}&port=${server.port}`)).ok, true)
    assert.equal(
      (await withVariables({ PGHOST: server.socketDir, PGPORT: String(server.port) }, () => connect('postgres://postgres@/postgres'))).ok,
      true,
    )
    assert.equal((await connect(server.uri())).ok, false)
  })

  test('several hosts: the first that answers', async () => {
    await using server = await startPostgres({ major: MAJOR })
    assert.equal((await connect(`postgres://postgres@127.0.0.1:1,127.0.0.1:${server.port}/postgres`)).ok, true)
  })

  const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some((address) => address.address === '::1') === true)
  test('IPv6', { skip: hasIpv6 ? false : 'this machine has no ::1' }, async () => {
    await using server = await startPostgres({ major: MAJOR, settings: { listen_addresses: '::1' } })
    assert.equal((await connect(`postgres://postgres@[::1]:${server.port}/postgres`)).ok, true)
  })
})

/** Ends the TLS of a client with a certificate of its own and opens another to the server. */
async function standBetween(upstream: number, pair: KeyPair): Promise<AsyncDisposable & { readonly port: number }> {
  const [cert, key] = [await readFile(pair.cert), await readFile(pair.key)]
  const sockets = new Set<net.Socket>()
  const open = (socket: net.Socket): net.Socket => {
    sockets.add(socket.on('error', () => {}))
    return socket
  }
  const server = net.createServer((client) => {
    const behind = open(net.connect(upstream, '127.0.0.1'))
    // Both sides ask for TLS first, and both are told yes.
    open(client).once('data', (request: Buffer) => behind.write(request))
    behind.once('data', (yes: Buffer) => {
      client.write(yes)
      const near = open(new TLSSocket(client, { isServer: true, cert, key }))
      const far = open(connectTls({ socket: behind, rejectUnauthorized: false }))
      near.pipe(far).pipe(near)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as net.AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
