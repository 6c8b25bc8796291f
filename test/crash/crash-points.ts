import { AsyncLocalStorage } from 'node:async_hooks'
import { appendFileSync } from 'node:fs'
import { getEnvironmentData, isMainThread, setEnvironmentData } from 'node:worker_threads'

/**
 * Crash points: each durable step of a run has a name, and a process that is told one dies there.
 *
 * Nobody has to write the names down. A durable step is what a driver makes durable: a COMMIT, or a statement that writes
 * outside a transaction (`drivers.ts`). It is called after the method of the contract that it happens in, with what that
 * method was asked (`contracts.ts`), and after its DDL: `sink.seal: CREATE INDEX`. So a new step is found by the first run
 * that passes it, a new method by being there, and the product has neither a hook nor a cost.
 */
export type Side = 'before' | 'after'

export interface Death {
  readonly point: string
  /** 1: the first time that the point is passed. */
  readonly time: number
  readonly side: Side
}

export interface Orders {
  /** Where points, methods and phases are noted, line by line. */
  readonly log: string
  readonly death: Death | null
}

/** Given to worker threads, which have no arguments of ours. */
const ORDERS = 'crash-point orders'
const asked = new AsyncLocalStorage<string>()
const times = new Map<string, number>()
let orders: Orders | null = isMainThread ? null : ((getEnvironmentData(ORDERS) as Orders | undefined) ?? null)

/** For this process and the threads that it starts from now on. */
export function obeyOrders(given: Orders): void {
  orders = given
  setEnvironmentData(ORDERS, given)
}

const said = new Set<string>()

export function note(kind: 'point' | 'method' | 'phase', what: string): void {
  if (orders === null || (kind === 'method' && said.has(what))) return
  said.add(what)
  appendFileSync(orders.log, `${kind} ${what}\n`)
}

/** Durable steps within `work` are of this method. */
export function within<T>(method: string, work: () => T): T {
  return asked.run(method, work)
}

/** The method of a contract that is under way. */
export function methodUnderWay(): string | null {
  return asked.getStore() ?? null
}

/** A durable step: `detail` tells it from others of its method; `place` is where no method was called. */
export function durable<T>(detail: string | null, place: string, act: () => T): T {
  const by = methodUnderWay() ?? place
  const point = detail === null ? by : `${by}: ${detail}`
  const time = (times.get(point) ?? 0) + 1
  times.set(point, time)
  note('point', point)
  dieAt(point, time, 'before')
  const result = act()
  if (!(result instanceof Promise)) {
    dieAt(point, time, 'after')
    return result
  }
  const settled = result.then((value: unknown) => {
    dieAt(point, time, 'after')
    return value
  })
  return settled as T
}

function dieAt(point: string, time: number, side: Side): void {
  const death = orders?.death
  if (death === null || death === undefined) return
  if (death.point !== point || death.time !== time || death.side !== side) return
  process.kill(process.pid, 'SIGKILL')
  // From a worker thread the signal may take a moment: nothing more may happen here.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}
