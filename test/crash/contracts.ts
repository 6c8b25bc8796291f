import type { Sink } from '../../src/sdk/sink.ts'
import type { Source } from '../../src/sdk/source.ts'
import type { ControlRequest, StateStore } from '../../src/state/store.ts'
import { durable, note, within } from './crash-points.ts'

/** The name of a call: the method, and of what it was asked the part that makes it another step. */
export function asked(method: string, parameters: readonly unknown[]): string {
  const [first] = parameters as [unknown]
  const part = (key: string): unknown => (typeof first === 'object' && first !== null ? (first as Record<string, unknown>)[key] : undefined)
  switch (method) {
    case 'state.memory.set':
      return `${method} ${String(first)}${parameters[1] === null ? ' away' : ''}`
    case 'state.saveTable':
      return `${method} ${String(part('state'))}`
    case 'store.request':
      return `${method} ${(parameters[1] as ControlRequest).kind}`
    case 'sink.write': {
      const barrier = part('barrier') as { readonly kind: string } | null
      return barrier === null ? method : `${method} ${barrier.kind}`
    }
    // The SQLite sink's own words for what its thread does.
    case 'sink.finishLoad':
      return 'sink.load.finish'
    default:
      return method
  }
}

/** Names of what can be called on an object, its own and inherited. */
export function methodsOf(object: object): string[] {
  const names = new Set<string>()
  for (let at: object | null = object; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at) as object | null)
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at)))
      if (name !== 'constructor' && typeof value === 'function') names.add(name)
  return [...names]
}

type Call = (...parameters: unknown[]) => unknown

/** The object as it is, but for the names of what happens within its methods. `inner`: what is wrapped as well. */
function named<T extends object>(prefix: string, object: T, inner: Readonly<Record<string, string>> = {}): T {
  for (const method of methodsOf(object)) note('method', `${prefix}.${method}`)
  return new Proxy(object, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target)
      if (typeof value !== 'function') {
        const name = inner[String(key)]
        return name === undefined || typeof value !== 'object' || value === null ? value : named(name, value)
      }
      const method = `${prefix}.${typeof key === 'symbol' ? 'dispose' : key}`
      return (...parameters: unknown[]) => {
        const result = within(asked(method, parameters), () => callOf(method, () => Reflect.apply(value as Call, target, parameters)))
        const name = inner[`${String(key)}()`]
        return name === undefined ? result : (result as Promise<object>).then((made) => named(name, made, { memory: `${name}.memory` }))
      }
    },
  })
}

/** What is durable without a statement: the source may forget from then on. */
function callOf(method: string, call: () => unknown): unknown {
  return method === 'source.confirm' ? durable(null, 'source', call) : call()
}

export function namedStore(store: StateStore): StateStore {
  return named('store', store, { 'open()': 'state' })
}

export function namedSource(source: Source): Source {
  return named('source', source)
}

export function namedSink(sink: Sink): Sink {
  return named('sink', sink, { checkpoints: 'sink', 'load()': 'sink.load' })
}
