import type { TableSchema } from '../../model/schema.ts'
import { schemaOf, type ColumnSpec } from '../../testing/sink-batches.ts'
import { SinkBench } from '../../testing/sink-bench.ts'
import { tempFolder, type TempFolder } from '../../testing/temp-folder.ts'
import { duckdbSinkCapabilities } from './capabilities.ts'
import { openTestTarget, type TestTarget, type TestTargetOptions } from './test-target.ts'

export const id: ColumnSpec = { name: 'id', type: { kind: 'int64' }, ordinal: 1 }
export const name: ColumnSpec = { name: 'name', type: { kind: 'string' }, ordinal: 2 }
export const people = schemaOf({ name: 'people', columns: [id, name, { name: 'born', type: { kind: 'date' }, ordinal: 3 }], key: ['id'] })

export interface Bench extends AsyncDisposable {
  readonly folder: TempFolder
  readonly target: TestTarget
  readonly bench: SinkBench
}

/** A sink on a file of its own that has been started with these tables. */
export async function started(schemas: readonly TableSchema[], options: TestTargetOptions = {}): Promise<Bench> {
  const folder = await tempFolder()
  const target = await openTestTarget(folder, options)
  const bench = new SinkBench(target, { open: () => Promise.reject(new Error('one target only')), capabilities: duckdbSinkCapabilities })
  await bench.start(...schemas)
  return {
    folder,
    target,
    bench,
    [Symbol.asyncDispose]: async () => {
      await target.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}
