import { delay } from '../async/abort.ts'

export interface OutputStream {
  /** Never throws: a reader that has gone away is not our failure. */
  write(text: string): void
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

type Stream = NodeJS.WriteStream | (NodeJS.WritableStream & { isTTY?: boolean; columns?: number; rows?: number })

function streamOf(stream: Stream): OutputStream {
  let closed = false
  // EPIPE (`tailrace status | head -1`) and EIO (terminal gone): from then on nobody reads; the work goes on.
  stream.on('error', () => {
    closed = true
  })
  return {
    write: (text) => {
      if (!closed) stream.write(text)
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
