import type { Position } from '../model/position.ts'
import type { TableSchema } from '../model/schema.ts'
import type { Run } from './run.ts'
import type { PipelineTable } from './tables.ts'

const KEY = 'engine.shapes'

/** Shapes of tables that the commit of a position brings. */
interface Remembered {
  readonly position: Position
  readonly shapes: readonly TableSchema[]
}

/**
 * Before the sink commits schema changes: what they come to, under the position of that commit. A crash between the sink's
 * commit and the saving of the tables would else show the sink the old shape at the next start, and it would add back columns
 * that were renamed.
 */
export async function rememberShapes(run: Run, position: Position): Promise<void> {
  if (run.shapes.size === 0) return
  await run.state.memory.set(KEY, JSON.stringify({ position, shapes: [...run.shapes.values()] } satisfies Remembered))
}

/** The shape that a table has if the sink committed it before a crash; null: none, or the saved one is newer. */
export async function rememberedShape(run: Run, { id, state }: PipelineTable): Promise<TableSchema | null> {
  const text = state === 'streaming' ? await run.state.memory.get(KEY) : null
  return text === null ? null : ((JSON.parse(text) as Remembered).shapes.find((schema) => schema.id === id) ?? null)
}

/** After the sink has said what it holds: shapes that it committed count, those that it did not are forgotten. */
export async function adoptShapes(run: Run): Promise<void> {
  const text = await run.state.memory.get(KEY)
  const held = run.checkpointer.position
  if (text === null || held === null) return
  const { position, shapes } = JSON.parse(text) as Remembered
  const order = run.source.comparePositions?.(held, position)
  if (order === 0 || order === 1) {
    for (const schema of shapes) {
      const table = run.tables.get(schema.id)
      // A table that was read again since has a newer shape than any that is remembered.
      if (table === undefined || table.state !== 'streaming') continue
      table.source = { ...table.source, schema }
      await run.saveTable(table)
    }
  }
  await run.state.memory.set(KEY, null)
}

/** The tables are saved with their new shapes. */
export async function forgetShapes(run: Run): Promise<void> {
  await run.state.memory.set(KEY, null)
}
