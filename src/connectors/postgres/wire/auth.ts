import { createHash, createHmac, pbkdf2 as pbkdf2Callback, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { TailraceError } from '../../../sdk/errors.ts'

const pbkdf2 = promisify(pbkdf2Callback)

const MOST_ITERATIONS = 10_000_000

function md5(...parts: (string | Buffer)[]): string {
  const hash = createHash('md5')
  for (const part of parts) hash.update(part)
  return hash.digest('hex')
}

/** AuthenticationMD5Password: `'md5' || md5(md5(password || user) || salt)`. */
export function md5Password(user: string, password: string, salt: Buffer): string {
  return `md5${md5(md5(password, user), salt)}`
}

function sha256(data: Buffer | string): Buffer {
  return createHash('sha256').update(data).digest()
}

function hmac(key: Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest()
}

function parseAttributes(text: string): Map<string, string> {
  return new Map(text.split(',').map((part) => [part.slice(0, 1), part.slice(2)]))
}

/**
 * Channel binding, the first words of SCRAM: `none`: we cannot; `unoffered`: we could, the server does not (it finds out when
 * somebody between took the offer away); else the data of `tls-server-end-point`.
 */
export type ChannelBinding = 'none' | 'unoffered' | Buffer

/**
 * SCRAM-SHA-256 (RFC 5802, RFC 7677) and SCRAM-SHA-256-PLUS; the server proves that it knows the password too.
 * Use: `first()` → send; `final(serverFirst)` → send; `verify(serverFinal)`.
 */
export class ScramClient {
  readonly #password: string
  readonly #nonce: string
  readonly #header: string
  readonly #binding: ChannelBinding
  #serverSignature: Buffer | null = null
  /** The server has proved that it knows the password. */
  isVerified = false

  constructor(password: string, binding: ChannelBinding, nonce: string = randomBytes(18).toString('base64')) {
    this.#binding = binding
    this.#header = binding === 'none' ? 'n,,' : binding === 'unoffered' ? 'y,,' : 'p=tls-server-end-point,,'
    this.#password = password.normalize('NFKC')
    this.#nonce = nonce
  }

  first(): string {
    return `${this.#header}${this.#firstBare()}`
  }

  async final(serverFirst: string): Promise<string> {
    const attributes = parseAttributes(serverFirst)
    const nonce = attributes.get('r') ?? ''
    const salt = attributes.get('s') ?? ''
    const iterations = Number(attributes.get('i'))
    const wellFormed = nonce.startsWith(this.#nonce) && nonce.length > this.#nonce.length && salt !== ''
    if (!wellFormed || !Number.isInteger(iterations) || iterations <= 0 || iterations > MOST_ITERATIONS) {
      throw new TailraceError('PROTOCOL', 'the PostgreSQL server sent a SCRAM challenge that is not well formed')
    }
    const salted = await pbkdf2(this.#password, Buffer.from(salt, 'base64'), iterations, 32, 'sha256')
    const clientKey = hmac(salted, 'Client Key')
    const data = typeof this.#binding === 'string' ? [] : [this.#binding]
    const withoutProof = `c=${Buffer.concat([Buffer.from(this.#header), ...data]).toString('base64')},r=${nonce}`
    const message = `${this.#firstBare()},${serverFirst},${withoutProof}`
    const signature = hmac(sha256(clientKey), message)
    const proof = Buffer.from(clientKey.map((byte, i) => byte ^ signature[i]!))
    this.#serverSignature = hmac(hmac(salted, 'Server Key'), message)
    return `${withoutProof},p=${proof.toString('base64')}`
  }

  verify(serverFinal: string): void {
    const given = Buffer.from(parseAttributes(serverFinal).get('v') ?? '', 'base64')
    const wanted = this.#serverSignature
    if (wanted === null || given.length !== wanted.length || !timingSafeEqual(given, wanted)) {
      throw new TailraceError(
        'NOT_ALLOWED',
        'the PostgreSQL server could not prove that it knows the password: it may not be the server it claims to be',
      )
    }
    this.isVerified = true
  }

  #firstBare(): string {
    return `n=,r=${this.#nonce}`
  }
}
