import { OldImage, Op, type Slice } from '../model/batch.ts'
import { keyNames, type TableId, type TableSchema } from '../model/schema.ts'
import { oldTextAt, pickRows, textAt } from '../model/slice-builder.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { DeadLetter, StateStore } from '../state/store.ts'
import { keyText } from './fence.ts'
import type { Run } from './run.ts'
import { deadLetterOf } from './transform.ts'

type Letter = Omit<DeadLetter, 'id'>

const PAGE = 1000

/** The letters of earlier runs count too. */
export async function loadQuarantine(run: Run): Promise<void> {
  const { store } = run.environment
  const { name } = run.identity
  for await (const letter of lettersOf(store, name)) {
    const schema = run.tables.get(letter.table)?.source.schema
    if (schema !== undefined) for (const key of keysOfLetter(schema, letter)) run.quarantine.add(letter.table, key)
  }
}

/** All dead letters of a pipeline, by their ids. */
export async function* lettersOf(store: Pick<StateStore, 'deadLetters'>, name: string): AsyncGenerator<DeadLetter, void, undefined> {
  for (let after = 0; ;) {
    const letters = await store.deadLetters(name, { limit: PAGE, after })
    yield* letters
    const last = letters.at(-1)
    if (last === undefined || letters.length < PAGE) return
    after = last.id
  }
}

/** As `keyText`: before and after the change. */
export function keysOfLetter(schema: TableSchema, letter: DeadLetter): string[] {
  const { before, after } = JSON.parse(letter.record) as Record<'before' | 'after', Record<string, string | null> | null>
  const names = keyNames(schema)
  return [before, after].flatMap((image) =>
    image === null || names.length === 0 || !names.every((name) => name in image) ? [] : [keyText(names.map((name) => image[name]))],
  )
}

/** Keys by which a row is known before and after the change. */
export function keysOfRow(slice: Slice, row: number): string[] {
  const { key } = slice.schema
  if (key.length === 0) return []
  const keys: string[] = []
  if (slice.oldKinds !== null && slice.oldKinds[row] !== OldImage.none)
    keys.push(keyText(key.map((column) => oldTextAt(slice, row, column))))
  if (slice.ops[row] !== Op.delete) keys.push(keyText(key.map((column) => textAt(slice, row, column) ?? oldTextAt(slice, row, column))))
  return keys
}

/** A row as it was, with the reason; its keys are in quarantine from now on. */
export function deadLetter(
  run: Run,
  at: { readonly slice: Slice; readonly row: number },
  sequence: string,
  stage: DeadLetter['stage'],
  error: TailraceError,
): Letter {
  for (const key of keysOfRow(at.slice, at.row)) run.quarantine.add(at.slice.schema.id, key)
  return deadLetterOf({ ...at, sequence, stage, error, at: run.environment.clock() })
}

/** Durable before the position that covers the rows; a repetition stores nothing twice. */
export async function saveLetters(run: Run, letters: readonly Letter[]): Promise<void> {
  if (letters.length > 0) await run.state.saveDeadLetters(letters)
}

/** TRAPS 45: why a change that would be taken is a dead letter all the same. */
export function followerError(table: TableId): TailraceError {
  return new TailraceError('ROW_REJECTED', `an earlier change of the same row of ${table} is a dead letter`)
}

/** Takes out of a batch what belongs to quarantined rows and makes it dead letters. */
export async function quarantineBatch(run: Run, slices: readonly Slice[]): Promise<Slice[]> {
  const letters: Letter[] = []
  const out = slices.map((slice) => {
    const kept: number[] = []
    for (let row = 0; row < slice.rows; row++) {
      if (!keysOfRow(slice, row).some((key) => run.quarantine.has(slice.schema.id, key))) {
        kept.push(row)
        continue
      }
      letters.push(deadLetter(run, { slice, row }, run.sequenceAt(slice.order[row]!), 'sink', followerError(slice.schema.id)))
      run.tally.await(slice.schema.id, { deadLettered: 1 })
    }
    return kept.length === slice.rows ? slice : pickRows(slice, kept)
  })
  await saveLetters(run, letters)
  return out
}
