import type { z } from 'zod'
import type { ComparisonSide } from './compare.ts'
import type { Problem } from './errors.ts'
import type { Logger } from './logger.ts'
import type { Sink, SinkCapabilities } from './sink.ts'
import type { Source, SourceCapabilities } from './source.ts'

/** Small durable memory of one connector in one pipeline, in the state store: intents such as a slot's name. */
export interface Memory {
  get(key: string): Promise<string | null>
  /** Durable when it resolves; null removes. */
  set(key: string, value: string | null): Promise<void>
}

/** What the engine lends to an open connector. */
export interface ConnectorContext {
  /** Name of the pipeline. */
  readonly pipeline: string
  readonly logger: Logger
  readonly memory: Memory
  /** Options of the pipeline that connectors must know. */
  readonly deletes: 'hard' | 'soft'
  /** A folder for scratch files; made on first use, emptied at the start. */
  readonly scratch: () => string
  readonly clock: () => number
  readonly random: () => number
  readonly signal: AbortSignal
}

/** A URI taken apart without judging it; passwords and parameters percent-decoded. */
export interface ConnectorUri {
  readonly text: string
  readonly scheme: string
  readonly user: string | null
  readonly password: string | null
  /** Everything between `//` (or the user part) and `/`: may be empty, a list, or [::1]:5432. */
  readonly host: string
  /** After the host, decoded, with its leading slash; '' when there is none. */
  readonly path: string
  readonly parameters: ReadonlyMap<string, string>
}

export type ConfigSchema = z.ZodObject

/**
 * A connector: spec and constructor side by side. `config` is the one schema of its options, from which validation,
 * `--help`, environment variables, docs and JSON Schema come. Option names are lower camel case there and kebab case on
 * the command line. A field's `.meta({ secret: true })` keeps its value out of everything that is shown.
 */
export interface Connector<S extends ConfigSchema = ConfigSchema> {
  /** URI schemes, the first is the canonical one and the manifest `type`; devices are spelled `/dev/null`. */
  readonly schemes: readonly string[]
  readonly title: string
  readonly summary: string
  readonly example: string
  readonly config: S
  /** Options that the URI itself says. Parameters are added by the caller. Throws USAGE for what it cannot read. */
  fromUri(uri: ConnectorUri): Readonly<Record<string, unknown>>
  /** What a schema cannot say. */
  validate?(config: z.infer<S>): readonly Problem[]
  /** The place without user, password and options: two pipelines between the same places are the same. */
  identity(config: z.infer<S>): string
  readonly source?: {
    readonly capabilities: SourceCapabilities
    open(config: z.infer<S>, context: ConnectorContext): Promise<Source>
  }
  readonly sink?: {
    readonly capabilities: SinkCapabilities
    open(config: z.infer<S>, context: ConnectorContext): Promise<Sink>
  }
  /** Digests of what is there, for `tailrace verify`. */
  readonly comparison?: {
    open(config: z.infer<S>, context: ConnectorContext): Promise<ComparisonSide>
  }
}

/** Declares a connector with its options' types inferred from the schema. Opens nothing. */
export function defineConnector<S extends ConfigSchema>(connector: Connector<S>): Connector<S> {
  return connector
}
