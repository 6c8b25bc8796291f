import { parentPort, workerData } from 'node:worker_threads'
import type { Reply, Request, WorkerSetup } from './protocol.ts'
import { toPlain } from './sqlite-errors.ts'
import { Target } from './target.ts'

/**
 * The thread that owns the file. SQLite is synchronous: one call ran 3.9 s during which the main thread's timers fired 4
 * times of 390 (TRAP 22), so that keepalives to the source would have been late. Calls are run in the order posted.
 */
const port = parentPort
if (port !== null) {
  const target = new Target(workerData as WorkerSetup)
  port.on('message', (request: Request) => {
    port.postMessage(answer(target, request))
    if (request.name === 'close') port.close()
  })
}

function answer(target: Target, request: Request): Reply {
  try {
    // The sender's `call` gives each name its own parameters; here they only pass through.
    const method = target[request.name] as (...parameters: readonly unknown[]) => unknown
    return { id: request.id, result: method.apply(target, [...request.parameters]) }
  } catch (error) {
    return { id: request.id, error: toPlain(error) }
  }
}
