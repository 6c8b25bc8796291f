import type { Slice, StreamBatch } from '../model/batch.ts'
import type { TableId } from '../model/schema.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Run } from './run.ts'

export interface TransformedFrame {
  readonly slices: readonly Slice[]
  readonly filtered: number
  readonly deadLettered: number
}

export async function transformFrame(_run: Run, _table: TableId, _slice: Slice): Promise<TransformedFrame> {
  throw new TailraceError('BUG', 'not wired')
}

export async function transformSlices(_run: Run, _slices: readonly Slice[], _batch: StreamBatch): Promise<Slice[]> {
  throw new TailraceError('BUG', 'not wired')
}
