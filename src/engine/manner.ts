import { TailraceError } from '../sdk/errors.ts'
import type { PipelineState } from '../state/store.ts'
import type { PipelineOptions } from './options.ts'

/** How a pipeline writes its rows, which its tables do not tell: remembered for a run that is to go on just so. */
interface Manner extends Pick<PipelineOptions, 'deletes' | 'onRowError' | 'schemaChanges'> {
  readonly transforms: boolean
}

const KEY = 'engine.manner'

/** The options of this run: as given, or those of the run before. Remembers them. */
export async function inManner(options: PipelineOptions, state: PipelineState): Promise<PipelineOptions> {
  if (options.asBefore === true) return asBefore(options, state)
  const { deletes, onRowError, schemaChanges, transform } = options
  const manner: Manner = { deletes, onRowError, schemaChanges, transforms: transform !== null }
  const text = JSON.stringify(manner)
  if ((await state.memory.get(KEY)) !== text) await state.memory.set(KEY, text)
  return options
}

async function asBefore(options: PipelineOptions, state: PipelineState): Promise<PipelineOptions> {
  const text = await state.memory.get(KEY)
  const { transforms = false, ...manner } = text === null ? {} : (JSON.parse(text) as Manner)
  if (text !== null && transforms === (options.transform !== null)) return { ...options, ...manner }
  throw new TailraceError(
    'USAGE',
    `${state.name} ${text === null ? 'was last run by an older release' : 'changes its rows by a transform'}, so it is not known how they are written`,
    {
      hint: 'a start with its own options does what is asked now: tailrace sync <source> <sink>',
      path: 'transform',
    },
  )
}
