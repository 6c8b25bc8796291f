import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { SinkBench, type SinkCase, type SinkSuiteOptions } from './sink-bench.ts'
import { checkpointCases } from './sink-checkpoint-cases.ts'
import { loadCases } from './sink-load-cases.ts'
import { randomCases } from './sink-random-cases.ts'
import { schemaCases } from './sink-schema-cases.ts'
import { streamCases } from './sink-stream-cases.ts'
import { valueCases } from './sink-value-cases.ts'

export type { SinkSuiteOptions, SinkUnderTest, TargetRow } from './sink-bench.ts'

/** What every sink must do. Each case works on an empty target. */
export function sinkSuite(name: string, options: SinkSuiteOptions): void {
  const cases = [...streamCases, ...checkpointCases, ...schemaCases, ...loadCases, ...valueCases, ...randomCases]
  describe(`${name} as a sink`, () => {
    for (const each of cases) {
      const reason = options.skip?.[each.title] ?? each.unfit?.(options.capabilities) ?? null
      test(each.title, { skip: reason ?? false }, () => runCase(each, options))
    }
    test('the list of skipped cases names cases that exist, each with a reason', () => {
      for (const [title, reason] of Object.entries(options.skip ?? {})) {
        assert.ok(
          cases.some((each) => each.title === title),
          `there is no case "${title}"`,
        )
        assert.ok(reason.length > 10, `"${title}" is skipped without a reason`)
      }
    })
  })
}

async function runCase(each: SinkCase, options: SinkSuiteOptions): Promise<void> {
  const target = await options.open({ deletes: each.deletes ?? 'hard' })
  try {
    await each.run(new SinkBench(target, options))
  } finally {
    await target.close()
  }
}
