import { problem, usage } from '../sdk/config/problems.ts'
import { statusOf, type PipelineStatus } from '../library/status.ts'
import type { PipelineRecord, StateStore } from '../state/store.ts'
import { openPipeline, pipelineOperand, refuseMoreOperands, type CommandContext } from './context.ts'
import { formatSeconds } from './format.ts'
import { listenForInterrupts } from './signals.ts'

const POLL_MS = 200
const WAIT_SECONDS = 30
const MOST_WAIT_SECONDS = 24 * 3600
const UNREACHABLE = 3

export function pauseCommand(context: CommandContext): Promise<number> {
  return control(context, 'pause')
}

export function resumeCommand(context: CommandContext): Promise<number> {
  return control(context, 'resume')
}

/** Writes the wish and waits until the runner says that it obeys: works on a running plain `sync` too. */
async function control(context: CommandContext, kind: 'pause' | 'resume'): Promise<number> {
  refuseMoreOperands(context, 1)
  const name = pipelineOperand(context)
  const wait = (context.options.count('wait', 0, MOST_WAIT_SECONDS) ?? WAIT_SECONDS) * 1000
  const { store, record } = await openPipeline(context, name)
  await using _ = store
  await store.request(name, { kind })
  if (!record.alive) return await answer(context, store, noRunner(kind, name))
  const end = await waitForRunner(context, store, name, kind, wait)
  if (end === 'obeyed') return await answer(context, store, `${name} ${kind === 'pause' ? 'is paused' : 'goes on'}`)
  if (end === 'gone') return await answer(context, store, noRunner(kind, name))
  return await silentRunner(context, store, record, wait)
}

function noRunner(kind: 'pause' | 'resume', name: string): string {
  return kind === 'pause'
    ? `${name} has no runner now; the next one will wait, paused, until \`tailrace resume ${name}\``
    : `${name} has no runner now; start it with sync`
}

async function answer(context: CommandContext, store: StateStore, text: string): Promise<number> {
  context.output.result(await currentStatus(context, store), () => text)
  return 0
}

async function currentStatus(context: CommandContext, store: StateStore): Promise<PipelineStatus> {
  const name = pipelineOperand(context)
  const record = await store.find(name)
  if (record === null) throw usage(`the pipeline ${name} was removed meanwhile`)
  return statusOf(record, await store.tables(name))
}

async function waitForRunner(
  context: CommandContext,
  store: StateStore,
  name: string,
  kind: 'pause' | 'resume',
  wait: number,
): Promise<'obeyed' | 'gone' | 'silent'> {
  using interrupts = listenForInterrupts(context.io, () => {})
  const { clock } = context.io
  const deadline = clock() + wait
  for (;;) {
    const record = await store.find(name)
    if (record === null || !record.alive) return 'gone'
    const paused = statusOf(record, []).state === 'paused'
    if (paused === (kind === 'pause')) return 'obeyed'
    if (clock() >= deadline || interrupts.drain.aborted) return 'silent'
    await context.io.delay(Math.min(POLL_MS, deadline - clock()), interrupts.drain)
  }
}

async function silentRunner(context: CommandContext, store: StateStore, { name, holder }: PipelineRecord, wait: number): Promise<number> {
  const status = await currentStatus(context, store)
  const who = holder === null ? 'the runner' : `the runner, process ${holder.pid} on ${holder.host},`
  const found = problem(
    'UNREACHABLE',
    `${who} has not answered within ${formatSeconds(wait / 1000)}; the wish is kept and obeyed as soon as it looks`,
    `tailrace status ${name}`,
  )
  if (context.output.manner.json) context.output.json({ ...status, ok: false, problems: [...status.problems, found] })
  context.output.problems([found])
  return UNREACHABLE
}
