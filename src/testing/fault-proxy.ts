import { once } from 'node:events'
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'

export interface Address {
  readonly host: string
  readonly port: number
}

/** What happens to bytes on their way from the server to the client; the other direction is never touched but by `halfOpen`. */
export interface Faults {
  /** Each piece is late by so much, in order. */
  latencyMillis: number
  /** Nothing goes through, in either direction, and nobody is told: a cable pulled. Bytes are kept for when it is false again. */
  stalled: boolean
}

/** A TCP proxy that misbehaves on demand: for tests of what a connection loss does. */
export interface FaultProxy extends AsyncDisposable {
  readonly host: '127.0.0.1'
  readonly port: number
  readonly faults: Faults
  /** Connections that are open now. */
  readonly connections: number
  /** Bytes that went to clients so far, all connections together. */
  readonly delivered: number
  /**
   * Lets so many more bytes through to the clients of the connections open now, then resets the connection that carries
   * the last of them: as a rule in the middle of a message. Resolves when it has happened.
   */
  resetAfter(bytes: number): Promise<void>
  /** Resets every connection now. */
  resetAll(): void
  /**
   * Forgets the connections without a word to either side: the client's stay open and silent for ever, as after the death
   * of a router. New ones work.
   */
  halfOpen(): void
}

interface Pair {
  readonly client: Socket
  readonly server: Socket
  dead: boolean
}

class Proxy implements FaultProxy {
  readonly host = '127.0.0.1'
  readonly faults: Faults = { latencyMillis: 0, stalled: false }
  delivered = 0
  readonly #pairs = new Set<Pair>()
  readonly #server = createServer((client) => this.#accept(client))
  readonly #upstream: Address
  #budget: { left: number; done: () => void } | null = null

  constructor(upstream: Address) {
    this.#upstream = upstream
  }

  async listen(): Promise<this> {
    this.#server.listen(0, this.host)
    await once(this.#server, 'listening')
    return this
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get connections(): number {
    return [...this.#pairs].filter((pair) => !pair.dead).length
  }

  resetAfter(bytes: number): Promise<void> {
    return new Promise((resolve) => {
      this.#budget = { left: bytes, done: resolve }
    })
  }

  resetAll(): void {
    for (const pair of this.#pairs) this.#reset(pair)
  }

  halfOpen(): void {
    for (const pair of this.#pairs) {
      pair.dead = true
      pair.server.resetAndDestroy()
      pair.client.resume()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.faults.stalled = false
    this.resetAll()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #accept(client: Socket): void {
    const server = connect(this.#upstream.port, this.#upstream.host)
    const pair: Pair = { client, server, dead: false }
    this.#pairs.add(pair)
    for (const socket of [client, server]) socket.setNoDelay(true).on('error', () => undefined)
    void this.#carry(pair, client, server, false)
    void this.#carry(pair, server, client, true)
    client.once('close', () => {
      this.#pairs.delete(pair)
      server.destroy()
    })
    server.once('close', () => {
      if (!pair.dead) client.destroy()
    })
  }

  async #carry(pair: Pair, from: Socket, to: Socket, toClient: boolean): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        if (this.faults.stalled) await this.#untilFlowing()
        if (toClient && this.faults.latencyMillis > 0) await new Promise((resolve) => setTimeout(resolve, this.faults.latencyMillis))
        if (pair.dead) continue
        if (!(await this.#deliver(pair, to, chunk, toClient))) return
      }
      if (!pair.dead) to.end()
    } catch {
      // One of both sides is gone; `close` does the rest.
    }
  }

  /** False: the connection was reset. */
  async #deliver(pair: Pair, to: Socket, chunk: Buffer, toClient: boolean): Promise<boolean> {
    const budget = toClient ? this.#budget : null
    const part = budget === null || chunk.length < budget.left ? chunk : chunk.subarray(0, budget.left)
    if (toClient) this.delivered += part.length
    if (budget !== null) budget.left -= part.length
    const isOver = budget?.left === 0
    // The client gets what was let through before it learns of the reset.
    if (isOver) await new Promise<void>((resolve) => to.write(part, () => resolve()))
    else if (!to.write(part)) await once(to, 'drain')
    if (!isOver) return true
    this.#budget = null
    this.#reset(pair)
    budget?.done()
    return false
  }

  #reset(pair: Pair): void {
    this.#pairs.delete(pair)
    pair.client.resetAndDestroy()
    pair.server.resetAndDestroy()
  }

  /** Looks again every few milliseconds: the test sets a plain field. */
  async #untilFlowing(): Promise<void> {
    while (this.faults.stalled) await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

export function startFaultProxy(upstream: Address): Promise<FaultProxy> {
  return new Proxy(upstream).listen()
}
