import { TailraceError } from '../../../sdk/errors.ts'
import { md5Password, ScramClient, type ChannelBinding } from './auth.ts'
import { readInt32 } from './backend.ts'
import { serverEndPoint } from './channel-binding.ts'
import { MessageWriter } from './message-writer.ts'
import type { PgOptions } from './options.ts'

const PROTOCOL_3 = 196608

/** Start-up packet and authentication. */
export class Login {
  readonly #send: (bytes: Buffer) => void
  readonly #options: PgOptions
  readonly #endPoint: Buffer | null
  #scram: ScramClient | null = null
  /** The server has said that it is over, and was allowed to. */
  isDone = false

  /** `certificate`: the server's, of the TLS session; null without TLS. */
  constructor(options: PgOptions, certificate: Buffer | null, send: (bytes: Buffer) => void) {
    this.#send = send
    this.#endPoint = certificate === null || options.channelBinding === 'disable' ? null : serverEndPoint(certificate)
    this.#options = options
  }

  startup(): Buffer {
    const { user, database, applicationName, replication } = this.#options
    const writer = new MessageWriter(512).begin(0).int32(PROTOCOL_3)
    writer.text('user').text(user).text('database').text(database)
    writer.text('application_name').text(applicationName).text('client_encoding').text('UTF8')
    if (replication === true) writer.text('replication').text('database')
    return writer.int8(0).finish().take()
  }

  async challenge(buffer: Buffer, start: number, end: number): Promise<void> {
    const method = readInt32(buffer, start, end)
    if (method === 3 || method === 5) this.#requireNoBinding()
    const data = Buffer.from(buffer.subarray(start + 4, end))
    switch (method) {
      case 0:
        if (this.#scram === null) this.#requireNoBinding()
        // Who skips the proof may be anybody, and is bound to nothing.
        else if (!this.#scram.isVerified)
          throw new TailraceError('PROTOCOL', 'the PostgreSQL server broke a SCRAM exchange off before its end')
        this.isDone = true
        return
      case 3:
        return this.#password(this.#secret())
      case 5:
        return this.#password(md5Password(this.#options.user, this.#secret(), data))
      case 10:
        return this.#sasl(data)
      case 11:
        return this.#respond(await this.#scramClient().final(data.toString('utf8')))
      case 12:
        return this.#scramClient().verify(data.toString('utf8'))
      default:
        throw new TailraceError('NOT_ALLOWED', `PostgreSQL asks for the authentication method number ${method}, which is not supported`, {
          hint: 'use scram-sha-256, md5, a client certificate or trust in pg_hba.conf',
        })
    }
  }

  /** Whatever else would log in could be passed on by somebody between. */
  #requireNoBinding(): void {
    if (this.#options.channelBinding !== 'require') return
    throw new TailraceError('NOT_ALLOWED', 'channelBinding=require: PostgreSQL offers no log-in that is bound to a TLS session', {
      hint: 'it takes TLS, scram-sha-256 in pg_hba.conf and a certificate that is signed with RSA or ECDSA; or say channelBinding=prefer',
    })
  }

  #secret(): string {
    const { password, user } = this.#options
    if (password !== null) return password
    throw new TailraceError('NOT_ALLOWED', `PostgreSQL asks for the password of ${user} and none is given`, {
      hint: 'put it in the URI as ${env:NAME}, in PGPASSWORD, or in ~/.pgpass',
    })
  }

  #scramClient(): ScramClient {
    if (this.#scram === null) throw new TailraceError('PROTOCOL', 'the PostgreSQL server continued a SCRAM exchange that was not begun')
    return this.#scram
  }

  #sasl(data: Buffer): void {
    const mechanisms = data.toString('latin1').split('\0')
    const bound = this.#endPoint !== null && mechanisms.includes('SCRAM-SHA-256-PLUS')
    const mechanism = bound ? 'SCRAM-SHA-256-PLUS' : 'SCRAM-SHA-256'
    if (!mechanisms.includes(mechanism)) {
      throw new TailraceError('NOT_ALLOWED', `PostgreSQL offers only ${mechanisms.filter(Boolean).join(', ')}; scram-sha-256 is needed`)
    }
    if (!bound) this.#requireNoBinding()
    const binding: ChannelBinding = this.#endPoint === null ? 'none' : bound ? this.#endPoint : 'unoffered'
    this.#scram = new ScramClient(this.#secret(), binding)
    const first = Buffer.from(this.#scram.first())
    this.#send(new MessageWriter(256).begin(0x70).text(mechanism).int32(first.length).raw(first).finish().take())
  }

  #password(text: string): void {
    this.#send(new MessageWriter(256).begin(0x70).text(text).finish().take())
  }

  #respond(text: string): void {
    this.#send(new MessageWriter(512).begin(0x70).raw(Buffer.from(text)).finish().take())
  }
}
