import assert from 'node:assert/strict'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TempFolder } from '../../src/testing/temp-folder.ts'
import { assertEqual, type Target } from '../kit/compare.ts'
import { copiedRanges, rangeText } from '../kit/copy-log.ts'
import type { Random } from '../kit/random.ts'
import { chunksDone, readState, runCli, type Cli } from '../kit/run-cli.ts'
import { HARD_TABLES, slots, type SourceDatabase } from '../kit/source-database.ts'

export interface CrashParts {
  readonly source: SourceDatabase
  /** The source as the role whose statements are logged. */
  readonly sourceUri: string
  readonly target: Target
  readonly folder: TempFolder
  readonly random: Random
  readonly chunkBytes: number
}

const RANGES = 'public.orders'

/** One pipeline that is killed again and again; each method is a way to die. */
export class CrashRun {
  readonly #parts: CrashParts
  readonly stateFile: string
  /** Ranges of `orders` that the ledger called done when a run was killed. */
  readonly #done = new Set<string>()
  #copies = 0
  #view = 0

  constructor(parts: CrashParts) {
    this.#parts = parts
    this.stateFile = join(parts.folder.path, 'state.db')
  }

  start(...more: readonly string[]): Cli {
    const { sourceUri, target, folder, chunkBytes } = this.#parts
    const flags = ['--tables', HARD_TABLES.join(','), '--name', 'crash', '--workers', '2', '--source.chunk-bytes', String(chunkBytes)]
    return runCli(['sync', sourceUri, target.uri, ...flags, ...more], { folder: folder.path })
  }

  /** Kills once that part of the chunks is done; 0: as soon as the first rows are read. */
  async killInSnapshot(part: number): Promise<void> {
    await using cli = this.start('--follow')
    const view = this.#view
    await cli.until(`${Math.round(part * 100)} % of the snapshot`, () => {
      const { all, done } = chunksDone(this.stateFile)
      return all > 0 && done >= Math.ceil(all * part) && this.#lastView() > view
    })
    // A chunk takes a few milliseconds: this spreads the kills over its reading, loading and saving.
    await sleep(this.#parts.random.between(0, 12))
    assert.ok(cli.running, `the run ended by itself: ${cli.stderr}`)
    await cli.kill()
    this.#view = this.#lastView()
    await this.noteDone()
  }

  #lastView(): number {
    return Math.max(0, ...(readState(this.stateFile)?.chunks ?? []).map((chunk) => chunk.view ?? 0))
  }

  /** No chunk that was done at an earlier death may have been read since; what is done now may not be from now on. */
  async noteDone(): Promise<void> {
    const { source } = this.#parts
    const ranges = await copiedRanges(source, 'orders', 'id')
    for (const range of ranges.slice(this.#copies)) {
      const text = rangeText(range)
      assert.ok(!this.#done.has(text), `the range ${text} was done and was read again`)
    }
    this.#copies = ranges.length
    const state = readState(this.stateFile)
    assert.equal(state?.tables.get(RANGES)?.rule, 'chunk')
    for (const chunk of state.chunks) if (chunk.table === RANGES && chunk.done) this.#done.add(rangeText(chunk))
  }

  get doneRanges(): number {
    return this.#done.size
  }

  get copies(): number {
    return this.#copies
  }

  /** Kills after the saved position has moved so many times and a moment more. */
  async killInStream(steps: number): Promise<void> {
    await using cli = this.start('--follow')
    for (let step = 0; step < steps; step++) await this.untilMoved(cli)
    await sleep(this.#parts.random.between(0, 60))
    assert.ok(cli.running, `the run ended by itself: ${cli.stderr}`)
    await cli.kill()
  }

  async untilMoved(cli: Cli): Promise<void> {
    const before = readState(this.stateFile)?.position
    await cli.until('a newer position', () => {
      const now = readState(this.stateFile)?.position ?? null
      return now !== null && now !== before
    })
  }

  /** Kills soon after the start: when the slot is read, or after a moment. */
  async killAtStart(at: 'slot' | number): Promise<void> {
    const { source } = this.#parts
    await using cli = this.start('--follow')
    if (at === 'slot') await cli.until('the slot being read', async () => (await slots(source)).some((slot) => slot.active))
    else await sleep(at)
    await cli.kill()
  }

  /** Interrupts, and kills while it drains; false when it was too quick to be killed. */
  async killWhileDraining(): Promise<boolean> {
    await using cli = this.start('--follow')
    await this.untilMoved(cli)
    cli.interrupt()
    await cli.until('the drain', () => cli.stderr.includes('draining')).catch(() => undefined)
    await cli.kill()
    const { signal, code } = await cli.ended()
    assert.ok(signal === 'SIGKILL' || code === 0, `exit ${code}`)
    return signal === 'SIGKILL'
  }

  async catchUp(seconds: number): Promise<void> {
    await using cli = this.start('--until', 'caught-up', '--json')
    const { code, stderr, stdout } = await cli.ended(seconds)
    assert.equal(code, 0, `${stderr}\n${stdout}`)
  }

  async assertEqual(): Promise<Readonly<Record<string, number>>> {
    return assertEqual(this.#parts.source, this.#parts.target, HARD_TABLES)
  }
}
