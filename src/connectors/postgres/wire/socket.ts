import { readFile } from 'node:fs/promises'
import net from 'node:net'
import tls from 'node:tls'
import { TailraceError } from '../../../sdk/errors.ts'
import type { PgOptions } from './options.ts'

/** Where received bytes go. `space` gives a place to read into; `received` is told what arrived there (or elsewhere, under TLS). */
export interface Receiver {
  space(): Buffer
  /** False: pause until `resume`. */
  received(chunk: Buffer): boolean
  closed(error: Error | null): void
}

export interface PgSocket {
  readonly stream: net.Socket
  /** The server's, DER, when TLS was agreed on. */
  readonly certificate: Buffer | null
}

const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f])

type Address = PgOptions['hosts'][number]

/** Opens a socket to the first host that answers, with TLS as the mode says. */
export async function openSocket(options: PgOptions, receiver: Receiver, signal: AbortSignal): Promise<PgSocket> {
  const failures: TailraceError[] = []
  for (const address of options.hosts) {
    try {
      return await openOne(address, options, receiver, signal)
    } catch (error) {
      if (signal.aborted) throw error
      failures.push(error as TailraceError)
    }
  }
  const refused = failures.find((failure) => failure.code !== 'UNREACHABLE')
  throw refused ?? failures[0] ?? new TailraceError('CONFIG', 'no PostgreSQL host is given')
}

export function describeAddress(address: Address): string {
  return address.host.startsWith('/') ? `${address.host}/.s.PGSQL.${address.port}` : `${address.host}:${address.port}`
}

async function openOne(address: Address, options: PgOptions, receiver: Receiver, signal: AbortSignal): Promise<PgSocket> {
  const local = address.host.startsWith('/')
  if (local || options.sslmode === 'disable') return { stream: await connectPlain(address, options, receiver, signal), certificate: null }
  // A socket that reads into our own buffers cannot be wrapped in TLS later, so the question is asked on a plain one.
  const stream = await connect({ host: address.host, port: address.port }, address, options, signal)
  const answer = await askForTls(stream, address, options)
  if (answer === 'S') {
    const secure = await upgrade(stream, address, options, receiver)
    return { stream: secure, certificate: secure.getPeerX509Certificate()?.raw ?? null }
  }
  if (options.sslmode === 'prefer') {
    attachPlain(stream, receiver)
    return { stream, certificate: null }
  }
  stream.destroy()
  throw new TailraceError(
    'NOT_ALLOWED',
    `PostgreSQL at ${describeAddress(address)} does not speak TLS, which sslmode=${options.sslmode} demands`,
    {
      hint: 'turn on ssl at the server, or say sslmode=disable if the network between is trusted',
    },
  )
}

function unreachable(address: Address, error: Error & { code?: string }): TailraceError {
  const reason = error.code ?? error.message
  return new TailraceError('UNREACHABLE', `cannot reach PostgreSQL at ${describeAddress(address)}: ${reason}`, {
    cause: error,
    hint: 'is the server running, and is this its host and port?',
  })
}

function connect(where: net.NetConnectOpts, address: Address, options: PgOptions, signal: AbortSignal): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const stream = net.connect(where)
    const fail = (error: Error): void => {
      cleanUp()
      stream.destroy()
      reject(signal.aborted ? (signal.reason as Error) : unreachable(address, error))
    }
    const onAbort = (): void => fail(signal.reason as Error)
    const timer = setTimeout(() => fail(new Error(`no answer within ${options.connectTimeoutMs / 1000} s`)), options.connectTimeoutMs)
    const cleanUp = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      stream.off('error', fail)
    }
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    stream.once('error', fail)
    stream.once('connect', () => {
      cleanUp()
      stream.setNoDelay(true)
      stream.setKeepAlive(true, 30_000)
      resolve(stream)
    })
  })
}

function connectPlain(address: Address, options: PgOptions, receiver: Receiver, signal: AbortSignal): Promise<net.Socket> {
  // onread: the kernel writes straight into the receiver's buffer, no Buffer per read.
  const onread = {
    buffer: () => receiver.space(),
    callback: (count: number, buffer: Uint8Array) => receiver.received(Buffer.from(buffer.buffer, buffer.byteOffset, count)),
  }
  const where = address.host.startsWith('/')
    ? { path: `${address.host}/.s.PGSQL.${address.port}`, onread }
    : { host: address.host, port: address.port, onread }
  return connect(where as net.NetConnectOpts, address, options, signal).then((stream) => watch(stream, receiver))
}

function watch(stream: net.Socket, receiver: Receiver): net.Socket {
  stream.on('error', (error) => receiver.closed(error))
  stream.on('close', () => receiver.closed(null))
  return stream
}

function attachPlain(stream: net.Socket, receiver: Receiver): void {
  stream.on('data', (chunk: Buffer) => {
    if (!receiver.received(chunk)) stream.pause()
  })
  watch(stream, receiver)
}

function askForTls(stream: net.Socket, address: Address, options: PgOptions): Promise<'S' | 'N'> {
  return new Promise((resolve, reject) => {
    const cleanUp = (): void => {
      clearTimeout(timer)
      stream.off('data', onData)
      stream.off('error', onError)
      stream.off('close', onClose)
      stream.pause()
    }
    const fail = (error: TailraceError): void => {
      cleanUp()
      stream.destroy()
      reject(error)
    }
    const onData = (chunk: Buffer): void => {
      const letter = String.fromCharCode(chunk[0]!)
      // More than the one byte before the handshake would be a man in the middle's (CVE-2021-23222).
      if (chunk.length !== 1 || (letter !== 'S' && letter !== 'N')) {
        return fail(
          new TailraceError(
            'PROTOCOL',
            `what answers at ${describeAddress(address)} is not PostgreSQL: unexpected reply to the TLS request`,
          ),
        )
      }
      cleanUp()
      resolve(letter)
    }
    const onError = (error: Error): void => fail(unreachable(address, error))
    const onClose = (): void => fail(unreachable(address, new Error('connection closed during the TLS request')))
    const timer = setTimeout(() => fail(unreachable(address, new Error('no answer to the TLS request'))), options.connectTimeoutMs)
    stream.on('data', onData)
    stream.once('error', onError)
    stream.once('close', onClose)
    stream.write(SSL_REQUEST)
  })
}

async function readPem(path: string | null, what: string): Promise<Buffer | undefined> {
  if (path === null) return undefined
  try {
    return await readFile(path)
  } catch (error) {
    throw new TailraceError('CONFIG', `cannot read ${what} ${path}: ${(error as NodeJS.ErrnoException).code ?? 'unreadable'}`, {
      path: what,
    })
  }
}

async function upgrade(stream: net.Socket, address: Address, options: PgOptions, receiver: Receiver): Promise<tls.TLSSocket> {
  const [ca, cert, key] = await Promise.all([
    readPem(options.sslrootcert, 'sslrootcert'),
    readPem(options.sslcert, 'sslcert'),
    readPem(options.sslkey, 'sslkey'),
  ])
  // Like libpq: whoever names an authority wants it asked.
  const verify = options.sslmode === 'verify-ca' || options.sslmode === 'verify-full' || (options.sslmode === 'require' && ca !== undefined)
  const secure = tls.connect({
    socket: stream,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(net.isIP(address.host) === 0 ? { servername: address.host } : {}),
    rejectUnauthorized: verify,
    checkServerIdentity: options.sslmode === 'verify-full' ? (_name, peer) => tls.checkServerIdentity(address.host, peer) : () => undefined,
  })
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => secure.destroy(new Error('no answer to the TLS handshake')), options.connectTimeoutMs)
    const settle = (work: () => void): void => {
      clearTimeout(timer)
      secure.removeAllListeners('error')
      secure.removeAllListeners('close')
      work()
    }
    secure.once('secureConnect', () => settle(resolve))
    secure.once('error', (error) => settle(() => reject(tlsError(address, options, error))))
    secure.once('close', () => settle(() => reject(unreachable(address, new Error('connection closed during the TLS handshake')))))
  })
  attachPlain(secure, receiver)
  return secure
}

function tlsError(address: Address, options: PgOptions, error: Error & { code?: string }): TailraceError {
  return new TailraceError(
    'NOT_ALLOWED',
    `TLS with PostgreSQL at ${describeAddress(address)} failed under sslmode=${options.sslmode}: ${error.code ?? error.message}`,
    {
      cause: error,
      hint:
        options.sslmode === 'verify-full' || options.sslmode === 'verify-ca' || options.sslrootcert !== null
          ? 'give the certificate authority with sslrootcert=/path/ca.pem, or say sslmode=require without one to encrypt without knowing whom you talk to'
          : 'see the cause with --log-level debug',
    },
  )
}
