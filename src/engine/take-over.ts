import type { Position } from '../model/position.ts'
import { asTailraceError, TailraceError } from '../sdk/errors.ts'
import type { PipelineOptions } from './options.ts'
import type { Run } from './run.ts'

/**
 * What the target holds of the pipeline must fit what the state store knows and what the source still has. Looked at before
 * anything is taken, made or copied: a start that is refused changes nothing, neither the epoch nor a saved position.
 */
export async function lookAtCheckpoint(run: Run, signal: AbortSignal): Promise<void> {
  const known = run.checkpointer.position
  const { checkpoints } = run.sink
  if (checkpoints === undefined) return assertResumable(run, known, signal)
  const stored = (await checkpoints.look(signal))?.position ?? null
  if (stored !== null && known === null) return refuseUnknown(run)
  if (stored === null && known !== null && run.live.some((table) => table.state === 'streaming' || table.state === 'converging'))
    throw new TailraceError(
      'HISTORY_LOST',
      'the target no longer holds the checkpoint of this pipeline: it was restored, emptied or made anew',
      {
        hint: `tailrace reset ${run.identity.name} starts over; tailrace resnapshot ${run.identity.name} --diff reads again only what differs`,
      },
    )
  return assertResumable(run, stored ?? known, signal)
}

/**
 * Another runner of this name, with a state store of its own, would be fenced off, and what it follows is not known here. Who
 * lost the state says so by giving up what the target holds.
 */
function refuseUnknown({ options, identity }: Run): void {
  if (givesUpTarget(options)) return
  throw new TailraceError(
    'TARGET_NOT_EMPTY',
    `the target holds the checkpoint of a pipeline ${identity.name} that is not in this state store, or was reset in it without the target`,
    {
      hint: `--state names the store that it runs with; --name gives this one another name; where that state is lost, --if-exists truncate starts over and ends a runner that still lives`,
      path: 'state',
    },
  )
}

function givesUpTarget({ ifExists }: Pick<PipelineOptions, 'ifExists'>): boolean {
  return ifExists === 'truncate' || ifExists === 'replace'
}

/** Rejects with HISTORY_LOST where the stream cannot go on. What may pass is left to the stream, which tries again. */
async function assertResumable(run: Run, position: Position | null, signal: AbortSignal): Promise<void> {
  if (position === null || run.options.mode.kind === 'copy') return
  try {
    await run.source.assertResumable?.(position, signal)
  } catch (error) {
    const ours = asTailraceError(error)
    if (ours.retry === 'retry') return
    // An earlier runner that still lives may have gone on, and told the source to forget what was before that.
    const now = (await run.sink.checkpoints?.look(signal))?.position ?? position
    if (now === position) throw ours
    return assertResumable(run, now, signal)
  }
}

/** TRAPS 58: the epoch is taken once per start, and the sink's position wins over the state store's. */
export async function takeOver(run: Run, signal: AbortSignal): Promise<void> {
  const { checkpoints } = run.sink
  if (checkpoints === undefined) return
  // A runner that stood still since it got its lease may have been taken for dead: the one in its place must not be fenced off.
  await run.state.heartbeat()
  const { position } = await checkpoints.claim(signal)
  // Nor must what that one stored be taken for a rest: whoever holds the lease now and claims later fences us off.
  await run.state.heartbeat()
  const known = run.checkpointer.position
  if (position !== null && known === null) await checkpoints.store(null, signal)
  else if (position !== null) run.checkpointer.rewind(position)
  // The run that made the origin died between storing it here and there.
  else if (known !== null) await checkpoints.store(known, signal)
}
