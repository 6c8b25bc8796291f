import { createHash } from 'node:crypto'
import type { Endpoint, PipelineOptions } from './options.ts'
import type { PipelineIdentity } from '../state/store.ts'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const LENGTH = 10

/** `--name`, else a hash of the two places without user, password and options: the same pair is the same pipeline. */
export function pipelineIdentity(options: Pick<PipelineOptions, 'name' | 'source' | 'sink'>): PipelineIdentity {
  const source = identityOf(options.source)
  const sink = identityOf(options.sink)
  return {
    name: options.name ?? hash(`${source}\n${sink}`),
    source,
    sink,
    sourceLabel: options.source.label,
    sinkLabel: options.sink.label,
  }
}

function identityOf(endpoint: Endpoint): string {
  return endpoint.connector.identity(endpoint.config)
}

function hash(text: string): string {
  const digest = createHash('sha256').update(text).digest()
  return Array.from({ length: LENGTH }, (_, i) => ALPHABET[digest[i]! % ALPHABET.length]).join('')
}
