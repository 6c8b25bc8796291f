import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'

const ROOT = resolve(import.meta.dirname, '..', '..')
const MAX_LINES = 600

/** Which layers a layer may import besides itself; DESIGN section 7. A layer is the first folder under src. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  model: [],
  async: [],
  sdk: ['model', 'async'],
  state: ['model', 'sdk'],
  connectors: ['model', 'sdk', 'async'],
  engine: ['model', 'sdk', 'state', 'async'],
  verify: ['model', 'sdk', 'state', 'async'],
  testing: ['model', 'sdk', 'state', 'engine', 'async'],
  library: ['model', 'sdk', 'state', 'engine', 'verify', 'async', 'connectors'],
  cli: ['model', 'sdk', 'state', 'engine', 'verify', 'async', 'connectors', 'library', 'api'],
}

/** Names that say nothing of what is in the file. */
const EMPTY_NAMES = /^(utils?|common|helpers?|misc|types)(\.|$)/

interface Import {
  readonly from: string
  readonly to: string
  /** `type`: erased when it runs; `lazy`: `import()`. */
  readonly kind: 'static' | 'type' | 'lazy'
}

function typescriptFiles(...folders: readonly string[]): readonly string[] {
  const all = folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name)),
  )
  return all.filter((name) => name.endsWith('.ts') && !name.includes('node_modules')).sort()
}

const STATEMENT = /^\s*(import|export)\s+(type\s+)?(?:[^'"`;]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/gm

/** The relative imports of a file, as paths from the project's root. */
function importsOf(file: string): readonly Import[] {
  const text = readFileSync(join(ROOT, file), 'utf8')
  return [...text.matchAll(STATEMENT)]
    .map((match) => ({ specifier: match[3] ?? match[4] ?? '', kind: kindOf(match) }))
    .filter(({ specifier }) => specifier.startsWith('.'))
    .map(({ specifier, kind }) => ({ from: file, to: relative(ROOT, resolve(ROOT, dirname(file), specifier)), kind }))
}

function kindOf(match: RegExpExecArray): Import['kind'] {
  if (match[4] !== undefined) return 'lazy'
  return match[2] === undefined ? 'static' : 'type'
}

const SOURCES = typescriptFiles('src')
const IMPORTS = SOURCES.flatMap(importsOf)
/** Tests, and what stands beside them for their sake: none of it is in the package. */
const isTest = (file: string): boolean => /\.test\.ts$|\/test-data\/|\/test-[^/]*\.ts$|^src\/(?!testing).*\/testing\//.test(file)
const layerOf = (file: string): string => file.split('/')[1] ?? ''
const isInRoot = (file: string): boolean => file.split('/').length === 2

/** `src/connectors/<system>/…` → system; the registry itself has none. */
function systemOf(file: string): string | null {
  const parts = file.split('/')
  return parts[1] === 'connectors' && parts.length > 3 ? (parts[2] ?? null) : null
}

function isAllowed({ from, to }: Import): boolean {
  // The entry points of the package gather what it exports, and a test may use whatever makes its case.
  if (isInRoot(from) || isTest(from)) return true
  if (isInRoot(to) || isTest(to) || !to.startsWith('src/')) return false
  const [here, there] = [layerOf(from), layerOf(to)]
  if (here !== there) return (MAY_IMPORT[here] ?? []).includes(there)
  const [mine, other] = [systemOf(from), systemOf(to)]
  return here !== 'connectors' || mine === null || mine === other
}

test('there is something to check', () => {
  assert.ok(IMPORTS.length > 20, `only ${IMPORTS.length} imports found`)
})

test('every layer is known', () => {
  const unknown = SOURCES.filter((file) => !isInRoot(file) && MAY_IMPORT[layerOf(file)] === undefined)
  assert.deepEqual(unknown, [])
})

test('imports point one way', () => {
  const wrong = IMPORTS.filter((each) => !isAllowed(each)).map(({ from, to }) => `${from} imports ${to}`)
  assert.deepEqual(wrong, [])
})

test('only the registry knows all connectors', () => {
  const outside = IMPORTS.filter(({ from, kind }) => layerOf(from) !== 'connectors' && !isTest(from) && !isInRoot(from) && kind !== 'type')
  const wrong = outside.filter(({ to }) => systemOf(to) !== null)
  assert.deepEqual(
    wrong.map(({ from, to }) => `${from} imports ${to}`),
    [],
  )
})

test('every imported file exists, with its ending', () => {
  const known = new Set(SOURCES)
  const wrong = IMPORTS.filter(({ to }) => to.startsWith('src/') && !known.has(to)).map(({ from, to }) => `${from} imports ${to}`)
  assert.deepEqual(wrong, [])
})

/** The first cycle that is reached from `file`, as the files of its way round. */
function findCycle(
  file: string,
  edges: ReadonlyMap<string, readonly string[]>,
  done: Set<string>,
  path: readonly string[],
): readonly string[] | null {
  const start = path.indexOf(file)
  if (start >= 0) return [...path.slice(start), file]
  if (done.has(file)) return null
  done.add(file)
  for (const next of edges.get(file) ?? []) {
    const cycle = findCycle(next, edges, done, [...path, file])
    if (cycle !== null) return cycle
  }
  return null
}

test('no file imports itself by a detour', () => {
  // What is erased or loaded later cannot be found half made.
  const loaded = IMPORTS.filter(({ kind }) => kind === 'static')
  const edges = new Map(SOURCES.map((file) => [file, loaded.filter(({ from }) => from === file).map(({ to }) => to)]))
  const done = new Set<string>()
  const cycles = SOURCES.map((file) => findCycle(file, edges, done, [])).filter((cycle) => cycle !== null)
  assert.deepEqual(
    cycles.map((cycle) => cycle.join(' → ')),
    [],
  )
})

test('the comparison of the demo shares nothing with the product', () => {
  const imports = typescriptFiles('demo').flatMap(importsOf)
  const wrong = imports
    .filter(({ to }) => to.startsWith('src/') && !to.startsWith('src/testing/'))
    .map(({ from, to }) => `${from} imports ${to}`)
  assert.deepEqual(wrong, [])
})

test('no file is too long', () => {
  const lines = (file: string): number => readFileSync(join(ROOT, file), 'utf8').split('\n').length - 1
  const long = typescriptFiles('src', 'test', 'demo').filter((file) => lines(file) > MAX_LINES)
  assert.deepEqual(
    long.map((file) => `${file}: ${lines(file)} lines`),
    [],
  )
})

test('file names say what is in them', () => {
  const empty = typescriptFiles('src', 'test', 'demo').filter((file) => EMPTY_NAMES.test(file.split('/').at(-1) ?? ''))
  assert.deepEqual(empty, [])
})
