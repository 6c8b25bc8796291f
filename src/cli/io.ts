import { Console } from 'node:console'
import { Writable } from 'node:stream'
import { delay } from '../async/abort.ts'

export interface OutputStream {
  /** Never throws; after a failure the rest is dropped. */
  write(text: string): void
  /** Waits until everything has left. Null, or what went wrong; that the reader has gone away (`| head`) is not wrong. */
  flushed(): Promise<Error | null>
  readonly isTTY: boolean
  readonly columns: number
  readonly rows: number
}

/** Everything of the process that the command line touches: an argument, so that a test can own it. */
export interface Io {
  readonly stdout: OutputStream
  readonly stderr: OutputStream
  readonly variables: Readonly<Record<string, string | undefined>>
  /** Working folder. */
  readonly folder: string
  readonly clock: () => number
  readonly random: () => number
  delay(ms: number, signal: AbortSignal): Promise<void>
  /** Calls for every Ctrl-C, SIGTERM and SIGHUP until disposed. */
  onSignal(listener: (signal: string) => void): Disposable
  /** Calls at the end of the process, however it ends: to put a terminal back. */
  onExit(listener: () => void): Disposable
  /** Calls for what nobody caught: Node itself would print it with every secret that is in it. */
  onCrash(listener: (error: unknown) => void): Disposable
  /** What other people's modules print by `console` comes here, line by line, until disposed: stdout is for the result alone. */
  divertConsole(write: (text: string) => void): Disposable
  /** The work is over: the process is to end soon, whatever still keeps it alive. */
  finish(code: number): void
  /** Ends the process at once. */
  exit(code: number): void
  /** What `ps` shows of the process. */
  setTitle(title: string): void
}

/** Time for output to leave. A handle that a connector forgot keeps a finished command alive no longer than this. */
const LINGER_MS = 1000
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

export function processIo(): Io {
  return {
    stdout: streamOf(process.stdout),
    stderr: streamOf(process.stderr),
    variables: process.env,
    folder: process.cwd(),
    clock: Date.now,
    random: Math.random,
    delay,
    onSignal,
    onExit: (listener) => {
      process.on('exit', listener)
      return { [Symbol.dispose]: () => process.off('exit', listener) }
    },
    onCrash,
    divertConsole,
    finish: (code) => void setTimeout(() => process.exit(code), LINGER_MS).unref(),
    exit: (code) => process.exit(code),
    setTitle: (title) => {
      process.title = title
    },
  }
}

function onSignal(listener: (signal: string) => void): Disposable {
  for (const signal of SIGNALS) process.on(signal, listener)
  return {
    [Symbol.dispose]: () => {
      for (const signal of SIGNALS) process.off(signal, listener)
    },
  }
}

function onCrash(listener: (error: unknown) => void): Disposable {
  process.on('uncaughtException', listener)
  process.on('unhandledRejection', listener)
  return {
    [Symbol.dispose]: () => {
      process.off('uncaughtException', listener)
      process.off('unhandledRejection', listener)
    },
  }
}

function divertConsole(write: (text: string) => void): Disposable {
  const lines = new Writable({
    decodeStrings: false,
    write: (text: string, _encoding, done) => {
      write(text)
      done()
    },
  })
  const kept = { ...console }
  Object.assign(console, { ...new Console({ stdout: lines, stderr: lines, colorMode: false }) })
  return { [Symbol.dispose]: () => void Object.assign(console, kept) }
}

type Stream = NodeJS.WriteStream | (NodeJS.WritableStream & { isTTY?: boolean; columns?: number; rows?: number })

/** A pipe or terminal whose other end is gone (`tailrace status | head -1`): nobody reads any more; the work goes on. */
const READER_GONE: ReadonlySet<unknown> = new Set(['EPIPE', 'EIO', 'ECONNRESET'])

function streamOf(stream: Stream): OutputStream {
  let failure: NodeJS.ErrnoException | null = null
  const failed = (error: Error | null | undefined): void => {
    failure ??= error ?? null
  }
  stream.on('error', failed)
  return {
    write: (text) => {
      if (failure === null) stream.write(text, failed)
    },
    flushed: async () => {
      if (failure === null)
        await new Promise<void>((resolve) => {
          stream.write('', (error) => {
            failed(error)
            resolve()
          })
        })
      return READER_GONE.has(failure?.code) ? null : failure
    },
    get isTTY() {
      return stream.isTTY === true
    },
    get columns() {
      return stream.columns ?? 80
    },
    get rows() {
      return stream.rows ?? 24
    },
  }
}
