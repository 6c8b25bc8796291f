import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { tempFolder } from '../testing/temp-folder.ts'
import { TailraceError } from '../sdk/errors.ts'
import { fakeEngine, fakeReport, type FakeEngine } from './testing/fake-engine.ts'
import { run, TestIo } from './testing/test-io.ts'

const SECRET = 'hunter2-p@ss/"word"%'
const ENCODED = encodeURIComponent(SECRET)
const OTHER = 'another-s3cret'

/** An engine that spills everything that it was given, as a careless connector would. */
function leakyEngine(end: 'report' | 'throw'): FakeEngine {
  return fakeEngine({
    run: async ({ source, sink }, environment) => {
      const spilt = `${JSON.stringify(source.config)} ${JSON.stringify(sink.config)} ${String(source.config['password'])} ${String(sink.config['password'])}`
      environment.logger.warn(spilt, { config: spilt })
      environment.logger.child({ side: spilt }).error('x')
      const report = fakeReport({
        ok: false,
        state: 'failed',
        source: source.label,
        sink: sink.label,
        problems: [{ code: 'SINK_FAILED', message: spilt, hint: spilt, path: spilt }],
      })
      environment.onProgress?.(report)
      if (end === 'throw') throw new TailraceError('NOT_ALLOWED', spilt, { hint: spilt, cause: new Error(spilt) })
      return report
    },
    plan: (pipeline) => Promise.reject(new Error(JSON.stringify(pipeline.source.config))),
  })
}

test('no secret is in anything that anybody sees, whatever goes wrong', async () => {
  await using tmp = await tempFolder()
  await writeFile(tmp.join('secret'), `${SECRET}\n`)
  const variables = { PW: SECRET, URL: `toy://me:${ENCODED}@h/b`, PGPASSWORD: OTHER, TAILRACE_SINK_PASSWORD: OTHER }
  const spellings = [
    [`toy://me:${ENCODED}@h/b`, 'toy://g'],
    ['toy://me:${env:PW}@h/b', 'toy://g'],
    ['${env:URL}', 'toy://g'],
    [`toy://h?password=${ENCODED}`, 'toy://g'],
    ['toy://h', `--password=${SECRET}`, 'toy://g'],
    ['toy://h', '--password', '${env:PW}', 'toy://g'],
    ['toy://h', 'toy://g', '--source.password', `\${file:${tmp.join('secret')}}`],
    [`toy://h --password '${SECRET}'`, 'toy://g'],
    [`toy://h`, `toy://me:${ENCODED}@g`],
    // Mistakes beside a secret, and secrets in the wrong place.
    [`toy://me:${ENCODED}@h/b`, 'toy://g', '--folow'],
    [`toy://me:${ENCODED}@h/b?slto=${ENCODED}`, 'toy://g'],
    [`toy://h?pasword=${ENCODED}`, 'toy://g'],
    ['toy://h', `--pasword=${SECRET}`, 'toy://g'],
    ['toy://h', '--pasword', SECRET, 'toy://g'],
    ['toy://h', '--ssl-mode', SECRET, 'toy://g'],
    ['toy://h', '--slot', SECRET, '--password', SECRET, 'toy://g'],
    ['toy://h', '--buffer-size', SECRET, 'toy://g'],
    [`tyo://me:${ENCODED}@h/b`, 'toy://g'],
    [`toy://me:${SECRET}@h/b`, 'toy://g'],
    [`toy://me:${ENCODED}%@h/b`, 'toy://g'],
    [`me:${ENCODED}@h/b`, 'toy://g'],
    [`host=h password=${SECRET}`, 'toy://g'],
    ['toy://h', 'toy://g', SECRET],
    ['toy://h', 'toy://g', `--state=weird://${ENCODED}`],
    ['toy://h', 'toy://g', '--name', SECRET],
    ['toy://h', 'toy://g', '--if-exists', SECRET],
    ['toy://h', 'toy://g', '--until', SECRET],
  ]
  const manners = [[], ['--json'], ['--log-format', 'json'], ['--log-level', 'debug'], ['--progress', 'json'], ['--progress', 'plain']]
  const commands = ['sync', 'plan', 'reset', 'remove', SECRET]
  for (const command of commands) {
    for (const args of spellings) {
      for (const manner of command === 'sync' ? manners : manners.slice(0, 1)) {
        for (const end of ['report', 'throw'] as const) {
          const io = new TestIo(tmp.path, variables)
          io.stderr.isTTY = manner.length === 0
          await run(io, [command, ...args, ...manner], { engine: leakyEngine(end) })
          const line = [command, ...args, ...manner].join(' ')
          assert.doesNotMatch(io.everything, /hunter2|another-s3cret/, line)
          assert.notEqual(io.everything.trim(), '', line)
        }
      }
    }
  }
})

test('JSON on stdout stays JSON with secrets taken out', async () => {
  await using tmp = await tempFolder()
  const { out } = await run(new TestIo(tmp.path), ['sync', `toy://me:${ENCODED}@h/b`, 'toy://g', '--json'], {
    engine: leakyEngine('report'),
  })
  const report = JSON.parse(out) as { source: string; problems: { message: string }[] }
  assert.equal(report.source, 'toy://me@h/b')
  assert.match(report.problems[0]!.message, /\*\*\*/)
})

test('a password that is a word of the label anyway does not make the label unreadable', async () => {
  await using tmp = await tempFolder()
  const { out } = await run(new TestIo(tmp.path), ['sync', 'toy://toys:toys@h/toys', 'toy://g', '--json'])
  assert.equal((JSON.parse(out) as { source: string }).source, 'toy://toys@h/toys')
})

test('the label shows references as they were typed, and no parameter that nobody declares', async () => {
  await using tmp = await tempFolder()
  const io = new TestIo(tmp.path, { ME: 'someone', PW: SECRET, BOX: 'private-box' })
  const { out } = await run(io, ['sync', 'toy://${env:ME}:${env:PW}@h/${env:BOX}?slot=ok', 'toy://g', '--json'])
  assert.equal((JSON.parse(out) as { source: string }).source, 'toy://${env:ME}@h/${env:BOX}?slot=ok')
})
