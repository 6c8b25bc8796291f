#!/usr/bin/env node
// The command. Written so that an old Node can still parse it and say what is needed.
import { existsSync } from 'fs'
import module from 'module'
import { fileURLToPath } from 'url'

var NEEDED = [22, 18]
var found = process.versions.node.split('.').map(Number)

if (found[0] < NEEDED[0] || (found[0] === NEEDED[0] && found[1] < NEEDED[1])) {
  console.error(
    'tailrace needs Node.js ' +
      NEEDED.join('.') +
      ' or newer and this is ' +
      process.versions.node +
      '; without installing it: npx -p node@24 -p tailrace tailrace …',
  )
  process.exit(3)
}

// node:sqlite works but is still called experimental; a warning in every run would only teach people to ignore warnings.
var emitWarning = process.emitWarning
process.emitWarning = function (warning, options) {
  var type = typeof options === 'object' && options !== null ? options.type : options
  if (type !== 'ExperimentalWarning') emitWarning.apply(process, arguments)
}

// Compiled code is kept between runs, in the system's temporary folder: a command starts in a third of the time.
if (module.enableCompileCache) module.enableCompileCache()

var compiled = new URL('../dist/cli/main.js', import.meta.url)
var source = new URL('../src/cli/main.ts', import.meta.url)

// A checkout has the sources and may have an old build: there the sources count, where this Node can run them as they
// are (`using` came with 24). The package has only the build.
var entry = found[0] >= 24 && existsSync(fileURLToPath(source)) ? source : compiled

if (!existsSync(fileURLToPath(entry))) {
  console.error('tailrace is not built: run "npm run build", or use Node.js 24 or newer to run it from its sources')
  process.exit(3)
}

import(entry.href)
  .then(function (command) {
    return command.main(process.argv.slice(2))
  })
  .then(function (code) {
    process.exitCode = code
  })
