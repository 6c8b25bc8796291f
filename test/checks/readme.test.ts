import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { tempFolder } from '../../src/testing/temp-folder.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const TSC = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc')

/** Each example as a program of its own, with the package's name for our sources. */
test('the programs in README.md are well typed', async () => {
  const blocks = [...(await readFile(join(ROOT, 'README.md'), 'utf8')).matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, code = '']) => code)
  assert.ok(blocks.length >= 2, 'README.md has examples')
  await using folder = await tempFolder('tr-readme-')
  for (const [index, code] of blocks.entries()) await writeFile(folder.join(`example-${index}.ts`), code)
  const config = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: { paths: { tailrace: [join(ROOT, 'src', 'index.ts')] }, typeRoots: [join(ROOT, 'node_modules', '@types')] },
    include: ['*.ts'],
  }
  await writeFile(folder.join('package.json'), JSON.stringify({ type: 'module' }))
  await writeFile(folder.join('tsconfig.json'), JSON.stringify(config))
  await promisify(execFile)(process.execPath, [TSC, '-p', folder.path]).catch((error: { stdout: string }) => assert.fail(error.stdout))
})
