import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import type { PgOptions } from '../../src/connectors/postgres/wire/options.ts'

const READY = 0x5a

/** Options for a server on this machine that asks no questions. */
export function optionsFor(port: number, more: Partial<PgOptions> = {}): PgOptions {
  return {
    hosts: [{ host: '127.0.0.1', port }],
    user: 'postgres',
    password: 'secret',
    database: 'postgres',
    sslmode: 'disable',
    channelBinding: 'prefer',
    sslrootcert: null,
    sslcert: null,
    sslkey: null,
    applicationName: 'fuzz',
    connectTimeoutMs: 5000,
    ...more,
  }
}

/** What a real server said on one connection. */
export interface Recording {
  /** Up to and with the first ReadyForQuery. */
  readonly login: Buffer
  readonly answers: Buffer
}

export interface Recorder extends AsyncDisposable {
  readonly port: number
  /** Of the connection made last. */
  taken(): Recording
}

/** A proxy that keeps what the server says. */
export async function record(upstream: { readonly host: string; readonly port: number }): Promise<Recorder> {
  let heard: Buffer[] = []
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    heard = []
    const mine = heard
    const real = connect(upstream.port, upstream.host)
    for (const socket of [client, real]) {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => [client, real].forEach((each) => each.destroy()))
    }
    real.on('data', (data) => mine.push(data))
    real.pipe(client)
    client.pipe(real)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    taken: () => {
      const all = Buffer.concat(heard)
      const end = frames(all).find(({ type }) => type === READY)?.end ?? 0
      return { login: all.subarray(0, end), answers: all.subarray(end) }
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

/** The messages of a stretch of bytes, as far as they are whole. */
export function frames(bytes: Buffer): { readonly type: number; readonly at: number; readonly end: number }[] {
  const found: { type: number; at: number; end: number }[] = []
  for (let at = 0; at + 5 <= bytes.length;) {
    const end = at + 1 + bytes.readInt32BE(at + 1)
    if (end > bytes.length || end < at + 5) break
    found.push({ type: bytes[at]!, at, end })
    at = end
  }
  return found
}

export interface LyingServer extends AsyncDisposable {
  readonly port: number
  /** Says to whoever connects next: the first pieces at once, the others when something was asked, then hangs up. */
  say(first: readonly Buffer[], then: readonly Buffer[]): void
}

/** A server that says what it is told to, whatever it hears. */
export async function lyingServer(): Promise<LyingServer> {
  let [first, then]: readonly (readonly Buffer[])[] = [[], []]
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    socket.on('error', () => {})
    socket.on('close', () => sockets.delete(socket))
    let heard = 0
    socket.on('data', () => {
      heard++
      if (heard === 1) for (const piece of first ?? []) socket.write(piece)
      if (heard !== ((then ?? []).length === 0 ? 1 : 2)) return
      for (const piece of then ?? []) socket.write(piece)
      socket.end()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    say: (greeting, answers) => {
      first = greeting
      then = answers
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

/** One message of the backend. */
export function message(type: string, ...parts: readonly (Buffer | string | number)[]): Buffer {
  const body = Buffer.concat(
    parts.map((part) => {
      if (typeof part !== 'number') return Buffer.from(part)
      const number = Buffer.alloc(4)
      number.writeInt32BE(part)
      return number
    }),
  )
  const head = Buffer.alloc(5)
  head.write(type, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}
