import { EventEmitter } from 'node:events'
import { main, type Parts } from '../main.ts'
import type { Io, OutputStream } from '../io.ts'
import { fakeEngine } from './fake-engine.ts'
import { toyRegistry } from './toy-connectors.ts'

export class TestStream implements OutputStream {
  text = ''
  isTTY = false
  columns = 80
  rows = 24

  write(text: string): void {
    this.text += text
  }

  async flushed(): Promise<Error | null> {
    return null
  }
}

/** A process that a test owns. Time stands still but for `delay`, which passes at once. */
export class TestIo implements Io {
  readonly stdout = new TestStream()
  readonly stderr = new TestStream()
  readonly variables: Record<string, string | undefined>
  readonly folder: string
  readonly signals = new EventEmitter()
  readonly titles: string[] = []
  readonly exits: number[] = []
  readonly exitListeners = new Set<() => void>()
  now = Date.UTC(2026, 0, 1)
  onDelay: (() => void | Promise<void>) | null = null

  constructor(folder: string, variables: Record<string, string | undefined> = {}) {
    this.folder = folder
    this.variables = variables
  }

  readonly clock = (): number => this.now
  readonly random = (): number => 0.5

  async delay(ms: number): Promise<void> {
    this.now += ms
    await this.onDelay?.()
  }

  onSignal(listener: (signal: string) => void): Disposable {
    this.signals.on('signal', listener)
    return { [Symbol.dispose]: () => this.signals.off('signal', listener) }
  }

  onExit(listener: () => void): Disposable {
    this.exitListeners.add(listener)
    return { [Symbol.dispose]: () => this.exitListeners.delete(listener) }
  }

  onCrash(): Disposable {
    return { [Symbol.dispose]: () => {} }
  }

  divertConsole(): Disposable {
    return { [Symbol.dispose]: () => {} }
  }

  finish(): void {}

  exit(code: number): void {
    this.exits.push(code)
  }

  setTitle(title: string): void {
    this.titles.push(title)
  }

  /** Everything that anybody could see of the run. */
  get everything(): string {
    return [this.stdout.text, this.stderr.text, ...this.titles].join('\n')
  }
}

export interface Run {
  readonly code: number
  readonly out: string
  readonly err: string
  readonly io: TestIo
}

/** Runs a command line against the toy connectors and a fake engine. */
export async function run(io: TestIo, args: readonly string[], parts: Parts = {}): Promise<Run> {
  io.stdout.text = ''
  io.stderr.text = ''
  const code = await main(args, io, { registry: toyRegistry, engine: fakeEngine(), ...parts })
  return { code, out: io.stdout.text, err: io.stderr.text, io }
}
