import { createHash } from 'node:crypto'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const LENGTH = 10

/**
 * The name of a pipeline that was given none: 10 base32 characters of the SHA-256 of both places. Users, passwords and
 * options are not in it (connectors leave them out of `identity`), so a changed password goes on with the same state.
 */
export function pipelineName(sourceIdentity: string, sinkIdentity: string): string {
  const digest = createHash('sha256').update(JSON.stringify([sourceIdentity, sinkIdentity])).digest()
  let name = ''
  for (let bit = 0; name.length < LENGTH; bit += 5) {
    const window = (digest[bit >> 3]! << 8) | digest[(bit >> 3) + 1]!
    name += ALPHABET[(window >> (11 - (bit & 7))) & 31]!
  }
  return name
}
