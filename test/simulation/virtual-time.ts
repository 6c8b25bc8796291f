/** The real one, whatever is patched meanwhile. */
const realImmediate = globalThis.setImmediate

const START = Date.UTC(2026, 0, 1)

interface Timer {
  at: number
  order: number
  readonly act: () => void
  /** Milliseconds between two calls; null: once. */
  readonly every: number | null
  cancelled: boolean
}

/**
 * The clock and the timers of a simulation: while it is in place, `setTimeout` and its like of this process wait for `advance`.
 * Nothing here waits for real time, so that the same acts in the same order give the same history.
 */
export class VirtualTime implements Disposable {
  #now = START
  #order = 0
  readonly #queue: Timer[] = []
  readonly #restore: () => void

  constructor() {
    const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis
    this.#restore = () => void Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval })
    const cancel = (timer: unknown): void => {
      if (timer instanceof Handle) timer.timer.cancelled = true
    }
    Object.assign(globalThis, {
      setTimeout: (act: () => void, ms = 0) => this.#schedule(act, ms, null),
      setInterval: (act: () => void, ms = 0) => this.#schedule(act, ms, Math.max(1, ms)),
      clearTimeout: cancel,
      clearInterval: cancel,
    })
  }

  get now(): number {
    return this.#now
  }

  /** Milliseconds since the simulation began. */
  get elapsed(): number {
    return this.#now - START
  }

  /** Lets everything run that waits for nothing, then goes on to the next timer. False: there is none. */
  async advance(): Promise<boolean> {
    // Microtasks, and those that they make, are all done before an immediate.
    await new Promise<void>((resolve) => void realImmediate(resolve))
    let timer = this.#pop()
    while (timer?.cancelled === true) timer = this.#pop()
    if (timer === undefined) return false
    this.#now = Math.max(this.#now, timer.at)
    if (timer.every !== null) this.#push(Object.assign(timer, { at: this.#now + timer.every, order: ++this.#order }))
    timer.act()
    return true
  }

  [Symbol.dispose](): void {
    this.#restore()
  }

  #schedule(act: () => void, ms: number, every: number | null): Handle {
    const timer = { at: this.#now + ms, order: ++this.#order, act, every, cancelled: false }
    this.#push(timer)
    return new Handle(timer)
  }

  // A binary heap by time, then by the order in which timers were set.

  #push(timer: Timer): void {
    const queue = this.#queue
    let at = queue.length
    queue.push(timer)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (isBefore(queue[parent]!, timer)) break
      queue[at] = queue[parent]!
      at = parent
    }
    queue[at] = timer
  }

  #pop(): Timer | undefined {
    const queue = this.#queue
    const first = queue[0]
    const last = queue.pop()
    if (last === undefined || queue.length === 0) return first
    let at = 0
    for (;;) {
      let child = at * 2 + 1
      if (child >= queue.length) break
      if (child + 1 < queue.length && isBefore(queue[child + 1]!, queue[child]!)) child++
      if (isBefore(last, queue[child]!)) break
      queue[at] = queue[child]!
      at = child
    }
    queue[at] = last
    return first
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order)
}

class Handle {
  readonly timer: Timer

  constructor(timer: Timer) {
    this.timer = timer
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}
