// Compiles src/ to dist/, from scratch, so that nothing of an older build is packed.

import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './bootstrap.mjs'

const DIST = join(ROOT, 'dist')

const RELATIVE_TS = /(\b(?:from|import)\s*\(?\s*['"]\.[^'"]*)\.ts(?=['"])/g

/** The compiler rewrites imports in programs and leaves those in declarations as they are. */
function rewriteDeclaration(path) {
  writeFileSync(path, readFileSync(path, 'utf8').replaceAll(RELATIVE_TS, '$1.js'))
}

/** What still names a TypeScript file, which is not in the package: an import, or a worker's URL. */
function sourceNames(path) {
  const text = readFileSync(path, 'utf8')
  const found = [...text.matchAll(RELATIVE_TS), ...text.matchAll(/new URL\(\s*(['"`][^'"`]*\.ts)['"`]/g)]
  return found.map((match) => `${path}: ${match[1]}`)
}

rmSync(DIST, { recursive: true, force: true })
try {
  execFileSync(process.execPath, [join(ROOT, 'node_modules', '.bin', 'tsc'), '-p', 'tsconfig.build.json'], { cwd: ROOT, stdio: 'inherit' })
  const emitted = readdirSync(DIST, { recursive: true }).map((name) => join(DIST, name))
  for (const path of emitted) if (path.endsWith('.d.ts')) rewriteDeclaration(path)
  const wrong = emitted.filter((path) => path.endsWith('.js')).flatMap(sourceNames)
  if (wrong.length > 0) throw new Error(`The build still names TypeScript files:\n${wrong.join('\n')}`)
} catch (error) {
  rmSync(DIST, { recursive: true, force: true })
  if (error.status === undefined) console.error(error.message)
  process.exitCode = 1
}
