import { createHash } from 'node:crypto'

/** Signature algorithm of a certificate, as DER → the hash of `tls-server-end-point` (RFC 5929 §4.1): MD5 and SHA-1 count as SHA-256. */
const HASHES: Readonly<Record<string, string>> = {
  '2a864886f70d010104': 'sha256', // md5WithRSAEncryption
  '2a864886f70d010105': 'sha256', // sha1WithRSAEncryption
  '2a864886f70d01010e': 'sha224',
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  '2a8648ce3d0401': 'sha256', // ecdsa-with-SHA1
  '2a8648ce3d040301': 'sha224',
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
}

/**
 * What binds a log-in to the TLS session that it goes through: the hash of the server's certificate. Who stands between with a
 * certificate of his own cannot pass the log-in on. Null where the certificate's signature names no hash (RSA-PSS, EdDSA).
 */
export function serverEndPoint(certificate: Buffer): Buffer | null {
  const [outer] = elements(certificate)
  // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OBJECT IDENTIFIER, … }, signature }
  const [, algorithm] = outer === undefined ? [] : elements(outer)
  const [oid] = algorithm === undefined ? [] : elements(algorithm)
  const hash = HASHES[oid?.toString('hex') ?? '']
  return hash === undefined ? null : createHash(hash).update(certificate).digest()
}

/** The contents of the DER elements that follow one another. */
function elements(der: Buffer): Buffer[] {
  const found: Buffer[] = []
  for (let at = 0; at + 2 <= der.length;) {
    const short = der[at + 1]!
    const size = short < 0x80 ? 0 : short & 0x7f
    if (size > 4 || at + 2 + size > der.length) return []
    const length = size === 0 ? short : der.readUIntBE(at + 2, size)
    const start = at + 2 + size
    if (start + length > der.length) return []
    found.push(der.subarray(start, start + length))
    at = start + length
  }
  return found
}
