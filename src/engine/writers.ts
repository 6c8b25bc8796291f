import type { Problem } from '../sdk/errors.ts'
import { quoteForShell } from '../sdk/shell.ts'
import type { Sink, SinkTable, Writer } from '../sdk/sink.ts'
import type { PipelineOptions } from './options.ts'
import type { Run } from './run.ts'
import { targetLabel } from './tables.ts'

/** A target as it is before the start. */
export interface Sighted {
  readonly table: SinkTable
  /** What stands there; null: an earlier run of this pipeline made it. */
  readonly found: Awaited<ReturnType<Sink['inspect']>> | null
  readonly writers: readonly Writer[]
}

export async function writersOf(sink: Sink, table: SinkTable, signal: AbortSignal): Promise<readonly Writer[]> {
  return (await sink.checkpoints?.writers(table, signal)) ?? []
}

/** The targets are not this pipeline's any more. */
export async function letGo({ sink }: Pick<Run, 'sink'>, tables: readonly SinkTable[], signal: AbortSignal): Promise<void> {
  if (tables.length > 0) await sink.checkpoints?.letGo(tables, signal)
}

export function othersOf(writers: readonly Writer[], pipeline: string): readonly Writer[] {
  return writers.filter((writer) => writer.pipeline !== pipeline)
}

/**
 * Targets of other pipelines, which are not to be shared (`--if-exists append`): rows of both with one key would take each
 * other's place, and the next reading of one would empty out those of the other.
 */
export function targetsTaken(ifExists: PipelineOptions['ifExists'], pipeline: string, sighted: readonly Sighted[]): Problem[] {
  if (ifExists === 'append') return []
  return sighted.flatMap(({ table, found, writers }) => {
    const others = othersOf(writers, pipeline)
    const follower = others.find(({ follows }) => follows)
    const mine = others.length < writers.length
    // Who copied once and is done has no more to say when what stands there is to go, or is gone.
    const isFree = found === null ? mine : follower === undefined && (found === 'absent' || ifExists !== 'stop')
    const [other] = follower === undefined ? others : [follower]
    return other === undefined || isFree ? [] : [takenProblem(table, other, found)]
  })
}

function takenProblem(table: SinkTable, { pipeline, follows }: Writer, found: Sighted['found']): Problem {
  const goes = follows || found === null ? '' : ', --if-exists truncate or replace takes it over'
  return {
    severity: 'error',
    code: 'TARGET_NOT_EMPTY',
    message: `the target table ${targetLabel(table.target)} is written by another pipeline, ${pipeline}${follows ? ', which follows its source' : ''}`,
    hint: `--map ${quoteForShell(`${table.id}=…`)} names another table, --if-exists append shares it${goes}; tailrace remove ${quoteForShell(pipeline)} ends that pipeline`,
    path: table.id,
  }
}
