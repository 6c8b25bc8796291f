import { createHash } from 'node:crypto'
import { ProblemsError } from '../sdk/config/problems.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { PipelineIdentity } from '../state/store.ts'
import type { Endpoint, PipelineOptions } from './options.ts'

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
const LENGTH = 10
/** What connectors, which need not know it, write for the pipeline's name in what is to be typed. */
const PLACEHOLDER = '<pipeline>'

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

/** A problem with the name of the pipeline in its hint. */
export function withName<T extends { readonly hint?: string | undefined }>(problem: T, name: string): T {
  return problem.hint === undefined ? problem : { ...problem, hint: problem.hint.replaceAll(PLACEHOLDER, name) }
}

/** Does work of a pipeline. What it rejects with is told by no report: its hints are given the name here. */
export async function inNameOf<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    // The same error, for the sake of its stack, cause and class.
    if (error instanceof TailraceError) Object.assign(error, { hint: withName(error, name).hint })
    if (error instanceof ProblemsError) Object.assign(error, { problems: error.problems.map((each) => withName(each, name)) })
    throw error
  }
}

function identityOf(endpoint: Endpoint): string {
  return endpoint.connector.identity(endpoint.config)
}

function hash(text: string): string {
  const digest = createHash('sha256').update(text).digest()
  return Array.from({ length: LENGTH }, (_, i) => ALPHABET[digest[i]! % ALPHABET.length]).join('')
}
