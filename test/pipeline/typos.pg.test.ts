import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { tempFolder, type TempFolder } from '../../src/testing/temp-folder.ts'
import { useBench } from './kit.ts'

const BIN = fileURLToPath(new URL('../../bin/tailrace.js', import.meta.url))

const bench = useBench(
  {},
  'CREATE TABLE orders (id int PRIMARY KEY, amount int); INSERT INTO orders VALUES (1, 2); CREATE TABLE customers (id int PRIMARY KEY)',
)

interface Ended {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

async function tailrace(folder: TempFolder, args: readonly string[], variables: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', BIN, ...args], {
    cwd: folder.path,
    env: { ...process.env, ...variables, NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const [out, err] = [child.stdout, child.stderr].map(async (stream) => {
    const parts: Buffer[] = []
    for await (const part of stream) parts.push(part as Buffer)
    return Buffer.concat(parts).toString()
  })
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve))
  return { code, out: (await out) ?? '', err: (await err) ?? '' }
}

describe('CASE 40: a typo ends with exit 2 and the nearest right name, before anything is touched', { concurrency: 2 }, () => {
  const typos: readonly {
    readonly what: string
    readonly args: (uri: string) => readonly string[]
    readonly near: RegExp
    readonly env?: Readonly<Record<string, string>>
  }[] = [
    { what: 'a table', args: (uri) => ['sync', uri, 'sqlite:copy.db', '--tables', 'ordres'], near: /orders/ },
    {
      what: 'a table with its schema',
      args: (uri) => ['sync', uri, 'sqlite:copy.db', '--follow', '--tables', 'public.custmers'],
      near: /public\.customers/,
    },
    { what: 'a scheme', args: (uri) => ['sync', uri.replace('postgres://', 'postgers://'), 'sqlite:copy.db'], near: /postgres/ },
    { what: 'the sink’s scheme', args: (uri) => ['sync', uri, 'sqlte:copy.db'], near: /sqlite/ },
    { what: 'a global option', args: (uri) => ['sync', uri, 'sqlite:copy.db', '--folow'], near: /--follow/ },
    { what: 'an option of the source', args: (uri) => ['sync', uri, 'sqlite:copy.db', '--source.publicaton', 'x'], near: /publication/ },
    { what: 'a parameter of the URI', args: (uri) => ['sync', `${uri}?sslmod=require`, 'sqlite:copy.db'], near: /sslmode/ },
    { what: 'the value of an option', args: (uri) => ['sync', uri, 'sqlite:copy.db', '--schema-changes', 'evolv'], near: /evolve/ },
    { what: 'the value of a parameter', args: (uri) => ['sync', `${uri}?sslmode=requir`, 'sqlite:copy.db'], near: /require/ },
    { what: 'a column', args: (uri) => ['sync', uri, 'sqlite:copy.db', '--tables', 'orders', '--exclude', 'orders.amont'], near: /amount/ },
    { what: 'a key column', args: (uri) => ['sync', uri, 'sqlite:copy.db', '--key', 'orders=amonut'], near: /amount/ },
    { what: 'a command', args: (uri) => ['snyc', uri, 'sqlite:copy.db'], near: /sync/ },
    { what: 'a variable', args: (uri) => ['sync', uri, 'sqlite:copy.db'], env: { TAILRACE_SOURCE_SSLMOD: 'require' }, near: /SSLMODE/ },
  ]
  for (const { what, args, near, env } of typos) {
    test(`CASE 40: ${what}`, async () => {
      await using folder = await tempFolder('tr-typo-')
      const { code, out, err } = await tailrace(folder, args(bench().shared.uri), env)
      assert.equal(code, 2, `${out}\n${err}`)
      assert.match(err + out, near)
      assert.ok(!existsSync(folder.join('copy.db')), 'no target was made')
      assert.deepEqual(await bench().shared.slots(), [])
      assert.equal(await bench().shared.value('SELECT count(*) FROM pg_publication'), '0')
      assert.deepEqual(
        readdirSync(folder.path).filter((name) => name !== '.tailrace'),
        [],
      )
    })
  }
})
