import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Account } from './postgres-binaries.ts'

const run = promisify(execFile)

export interface KeyPair {
  readonly cert: string
  readonly key: string
}

/** Paths of PEM files. */
export interface Certificates {
  readonly ca: string
  readonly server: KeyPair
  /** An authority that signed nothing here. */
  readonly strangerCa: string
  /** A client's certificate for that user name, for `cert` in pg_hba.conf. */
  client(user: string): Promise<KeyPair>
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

/** Makes an authority and a certificate for localhost and 127.0.0.1, by the `openssl` command. */
export async function makeCertificates(folder: string, account: Account | null): Promise<Certificates> {
  await mkdir(folder, { mode: 0o755 })
  const ca = await authority(folder, 'ca')
  const stranger = await authority(folder, 'stranger')
  const server = await issue(folder, 'server', 'localhost', 'subjectAltName=DNS:localhost,IP:127.0.0.1')
  if (account !== null) await chown(server.key, account.uid, account.gid)
  return {
    ca: ca.cert,
    server,
    strangerCa: stranger.cert,
    client: (user) => issue(folder, `client-${user}`, user, 'extendedKeyUsage=clientAuth'),
  }
}

async function openssl(...args: string[]): Promise<void> {
  await run('openssl', args).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      throw new Error('The "openssl" command is needed to make certificates; Debian: apt-get install openssl.')
    }
    throw error
  })
}

async function authority(folder: string, name: string): Promise<KeyPair> {
  const pair = { cert: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) }
  await openssl('req', '-x509', ...NEW_KEY, '-keyout', pair.key, '-out', pair.cert, '-days', '30', '-subj', `/CN=Tailrace test ${name}`)
  return pair
}

async function issue(folder: string, name: string, subject: string, extension: string): Promise<KeyPair> {
  const path = (suffix: string): string => join(folder, `${name}.${suffix}`)
  const pair = { cert: path('crt'), key: path('key') }
  await writeFile(path('ext'), `${extension}\n`)
  await openssl('req', ...NEW_KEY, '-keyout', pair.key, '-out', path('csr'), '-subj', `/CN=${subject}`)
  const signer = ['-CA', join(folder, 'ca.crt'), '-CAkey', join(folder, 'ca.key'), '-CAcreateserial']
  await openssl('x509', '-req', '-in', path('csr'), ...signer, '-days', '30', '-extfile', path('ext'), '-out', pair.cert)
  await chmod(pair.key, 0o600)
  return pair
}
