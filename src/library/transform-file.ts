import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { nearest } from '../sdk/config/nearest.ts'
import { usage } from '../sdk/config/problems.ts'
import { TailraceError } from '../sdk/errors.ts'
import type { Transform } from '../sdk/transform.ts'

/** The `transform` of a user's module. It runs with all rights of this process, as the user asked for by naming it. */
export async function loadTransform(file: string, folder: string): Promise<Transform> {
  const path = resolve(folder, file)
  if (!existsSync(path)) throw usage(`the transform ${file} does not exist`, 'the path is taken from the working folder')
  const module = await importModule(path, file)
  const transform = module['transform']
  if (typeof transform === 'function') return transform as Transform
  throw usage(`the module ${file} exports no function \`transform\``, exportHint(module))
}

async function importModule(path: string, file: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    return (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>
  } catch (error) {
    const reason = error instanceof Error ? `${error.name}: ${error.message.split('\n')[0]}` : 'it threw something that is no error'
    throw new TailraceError('USAGE', `the transform ${file} cannot be loaded: ${reason}`, { hint: hintFor(error), cause: error })
  }
}

function hintFor(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : null
  if (code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX')
    return 'Node runs TypeScript whose types can be erased: no enum, namespace or parameter property'
  if (code === 'ERR_UNKNOWN_FILE_EXTENSION') return 'name it .ts, .mts, .js or .mjs'
  return 'run it alone with `node` to see where'
}

function exportHint(module: Readonly<Record<string, unknown>>): string {
  if (typeof module['default'] === 'function') return 'it exports a default function: write `export const transform = …`'
  const near = nearest('transform', Object.keys(module))
  return near === null ? 'write `export const transform = (change) => change`' : `it exports \`${near}\`: call it \`transform\``
}
