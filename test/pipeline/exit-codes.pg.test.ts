import assert from 'node:assert/strict'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { tempFolder, type TempFolder } from '../../src/testing/temp-folder.ts'
import { runCli } from '../kit/run-cli.ts'
import { useBench } from './kit.ts'

const bench = useBench(
  {},
  `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1); CREATE TABLE u (id int PRIMARY KEY, n int); CREATE ROLE nobody LOGIN`,
)

/** A place for one case: an empty folder, and an empty database where the sink is a server. */
interface Place extends AsyncDisposable {
  readonly folder: TempFolder
  readonly uri: string
  /** The same kind of target where there is none, because what should hold it is not there. */
  readonly missing: string
  /** A file of something else; null: the target is none. */
  readonly foreign: string | null
  /** One that may not be written; null: root writes wherever it likes. */
  readonly forbidden: string | null
}

interface SinkKind {
  readonly name: string
  open(): Promise<Place>
}

const inFile = (name: string): SinkKind => ({
  name,
  open: async () => {
    const folder = await tempFolder('tr-exit-')
    mkdirSync(folder.join('sealed'), 0o555)
    writeFileSync(folder.join('foreign'), 'no database\n'.repeat(1000))
    return {
      folder,
      uri: `${name}:${folder.join('copy')}`,
      missing: `${name}:${folder.join('nowhere', 'copy')}`,
      foreign: `${name}:${folder.join('foreign')}`,
      forbidden: sealed(folder, name),
      [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
    }
  },
})

/** Even root makes no file in /proc. */
function sealed(folder: TempFolder, name: string): string | null {
  if (process.getuid?.() !== 0) return `${name}:${folder.join('sealed', 'copy')}`
  return existsSync('/proc/self') ? `${name}:/proc/copy` : null
}

const SINKS: readonly SinkKind[] = [
  inFile('sqlite'),
  inFile('duckdb'),
  {
    name: 'postgres',
    open: async () => {
      const folder = await tempFolder('tr-exit-')
      const database = await bench().database()
      return {
        folder,
        uri: database.uri,
        missing: bench().server.uri('nowhere'),
        foreign: null,
        forbidden: bench().server.uri(database.name, { user: 'nobody' }),
        [Symbol.asyncDispose]: async () => {
          await database[Symbol.asyncDispose]()
          await folder[Symbol.asyncDispose]()
        },
      }
    },
  },
]

interface Mistake {
  readonly what: string
  readonly code: number
  readonly problem: string
  /** Rows stand in the target already, of another pipeline. */
  readonly filled?: boolean
  /** Null: this place cannot be had. */
  args(place: Place): readonly string[] | null
}

const MISTAKES: readonly Mistake[] = [
  { what: 'a target whose folder or database does not exist', code: 2, problem: 'USAGE', args: ({ missing }) => [missing] },
  {
    what: 'a target that may not be written',
    code: 3,
    problem: 'NOT_ALLOWED',
    args: ({ forbidden }) => (forbidden === null ? null : [forbidden]),
  },
  {
    what: 'a file that is no database',
    code: 2,
    problem: 'CONFIG',
    args: ({ foreign }) => (foreign === null ? null : [foreign]),
  },
  { what: 'an option that the sink does not have', code: 2, problem: 'USAGE', args: ({ uri }) => [uri, '--sink.nonsense', 'x'] },
  { what: 'a parameter that the sink does not have', code: 2, problem: 'USAGE', args: ({ uri }) => [`${uri}?nonsense=x`] },
  { what: 'a table that the source does not have', code: 2, problem: 'USAGE', args: ({ uri }) => [uri, '--tables', 'v'] },
  { what: 'a column that the source does not have', code: 2, problem: 'USAGE', args: ({ uri }) => [uri, '--exclude', 't.m'] },
  { what: 'a condition that the source refuses', code: 2, problem: 'USAGE', args: ({ uri }) => [uri, '--where', 't=m > 1'] },
  { what: 'a position that is none', code: 2, problem: 'USAGE', args: ({ uri }) => [uri, '--until', 'yesterday'] },
  { what: 'two tables into one', code: 2, problem: 'CONFIG', args: ({ uri }) => [uri, '--map', 't=u'] },
  { what: 'a target that holds rows', code: 1, problem: 'TARGET_NOT_EMPTY', filled: true, args: ({ uri }) => [uri, '--name', 'other'] },
]

describe('the same mistake ends with the same exit code, whatever the sink', { concurrency: 2 }, () => {
  for (const { what, code, problem, filled = false, args } of MISTAKES) {
    for (const sink of SINKS) {
      test(`CASE 40: ${what} [${sink.name}]`, async (t) => {
        await using place = await sink.open()
        const given = args(place)
        if (given === null) return t.skip('this target has no such place')
        if (filled) await fill(place)
        await using cli = runCli(['sync', bench().shared.uri, ...given, '--json'], { folder: place.folder.path })
        const ended = await cli.ended()
        const report = JSON.parse(ended.stdout) as { ok: boolean; problems: { severity: string; code: string; hint?: string }[] }
        const first = report.problems.find(({ severity }) => severity === 'error')
        assert.deepEqual([ended.code, report.ok, first?.code], [code, false, problem], ended.stderr)
        assert.ok(first?.hint !== undefined, `it says what to type: ${ended.stderr}`)
      })
    }
  }
})

async function fill(place: Place): Promise<void> {
  await using cli = runCli(['sync', bench().shared.uri, place.uri, '--json'], { folder: place.folder.path })
  const ended = await cli.ended()
  assert.equal(ended.code, 0, ended.stderr)
}
