// Compiles src/ to dist/, from scratch, so that nothing of an older build is packed.

import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from './bootstrap.mjs'

const DIST = join(ROOT, 'dist')

/** Imports that the compiler left as they were: they would name a file that is not in the package. */
function sourceImports(path) {
  const text = readFileSync(path, 'utf8')
  return [...text.matchAll(/\b(?:from|import)\s*\(?\s*'(\.[^']*\.ts)'/g)].map((match) => `${path}: ${match[1]}`)
}

rmSync(DIST, { recursive: true, force: true })
try {
  execFileSync(process.execPath, [join(ROOT, 'node_modules', '.bin', 'tsc'), '-p', 'tsconfig.build.json'], { cwd: ROOT, stdio: 'inherit' })
  const emitted = readdirSync(DIST, { recursive: true }).filter((name) => name.endsWith('.js') || name.endsWith('.d.ts'))
  const wrong = emitted.flatMap((name) => sourceImports(join(DIST, name)))
  if (wrong.length > 0) throw new Error(`The build still imports TypeScript files:\n${wrong.join('\n')}`)
} catch (error) {
  rmSync(DIST, { recursive: true, force: true })
  if (error.status === undefined) console.error(error.message)
  process.exitCode = 1
}
