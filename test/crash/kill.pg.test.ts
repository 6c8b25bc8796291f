import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tempFolder } from '../../src/testing/temp-folder.ts'
import { loggedUri } from '../kit/copy-log.ts'
import { Random } from '../kit/random.ts'
import { TRANSACTIONAL_SINKS, unavailable } from '../kit/sinks.ts'
import { createHardTables, slots, startSource } from '../kit/source-database.ts'
import { startWriteLoad } from '../kit/write-load.ts'
import { CrashRun } from './crash-run.ts'

/** `npm run test:crash` sets 1,000,000; less is enough to be killed ten times on the way. */
const ROWS = Number(process.env['TAILRACE_CRASH_ROWS'] || 100_000)
const SEED = Number(process.env['TAILRACE_TEST_SEED'] || 7)
const SNAPSHOT_KILLS = 10
const STREAM_KILLS = 10
/** Of each part. */
const TIMEOUT = Math.max(120_000, ROWS / 2)
const PARTS = 5

for (const sink of TRANSACTIONAL_SINKS) {
  test(
    `kill -9, PostgreSQL → ${sink.kind}, ${ROWS} rows, seed ${SEED}`,
    { timeout: PARTS * TIMEOUT, skip: await unavailable(sink.kind) },
    async (t) => {
      await using folder = await tempFolder('tr-crash-')
      await using opened = await sink.open(folder.path)
      await using source = await startSource()
      await createHardTables(source, { rows: ROWS })
      const random = new Random(SEED)
      const run = new CrashRun({
        source,
        sourceUri: await loggedUri(source),
        target: opened.target,
        folder,
        random,
        chunkBytes: Math.max(131_072, ROWS * 2),
      })
      await using load = await startWriteLoad(source, { seed: SEED, rows: ROWS, transactionsPerSecond: 40 })

      await t.test(`${SNAPSHOT_KILLS} kills in the snapshot: no chunk that was done is read again`, { timeout: TIMEOUT }, async () => {
        for (let kill = 0; kill < SNAPSHOT_KILLS; kill++) await run.killInSnapshot(kill / SNAPSHOT_KILLS + 0.02 * (kill > 0 ? 1 : 0))
        assert.ok(run.doneRanges > SNAPSHOT_KILLS, `only ${run.doneRanges} chunks were done at the kills`)
      })

      await t.test(`${STREAM_KILLS} kills in the stream under write load`, { timeout: TIMEOUT }, async () => {
        for (let kill = 0; kill < STREAM_KILLS; kill++) await run.killInStream(1 + (kill % 2))
        await run.noteDone()
      })

      await t.test('kills soon after the start', { timeout: TIMEOUT }, async () => {
        for (const at of ['slot', 100, 350, 600] as const) await run.killAtStart(at)
      })

      await t.test('kills while draining', { timeout: TIMEOUT }, async () => {
        let killed = 0
        // A drain takes a moment only: on a busy machine it is often over before the kill.
        for (let attempt = 0; attempt < 40 && killed < 3; attempt++) if (await run.killWhileDraining()) killed++
        assert.equal(killed, 3, 'too many drains were over before the kill')
      })

      await t.test('caught up, both sides are equal and one slot is kept', { timeout: TIMEOUT }, async () => {
        await load.stop()
        await run.catchUp(TIMEOUT / 1000)
        await run.noteDone()
        const counts = await run.assertEqual()
        assert.ok((counts['orders'] ?? 0) > 0)
        assert.equal((await slots(source)).length, 1)
        t.diagnostic(
          `${load.transactions} transactions, ${load.changes} changes; ${run.doneRanges} ranges done at kills, ${run.copies} read; ${JSON.stringify(counts)}`,
        )
      })
    },
  )
}
