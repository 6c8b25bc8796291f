/** Structured, redacting, and the only way for a connector to print. */
export interface Logger {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  child(fields: LogFields): Logger
}

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 }

/** Where a line goes; already redacted, without a line end. */
export type LogWriter = (line: string) => void

export interface LoggerOptions {
  readonly level: LogLevel
  readonly format: 'text' | 'json'
  readonly write: LogWriter
  readonly clock: () => number
  /** Texts that must never appear: passwords, tokens. Longer than 3 characters to be of use. */
  readonly secrets: ReadonlySet<string>
}

const PASSWORD_IN_URI = /([a-z][a-z0-9+.-]*:\/\/[^/\s:@]*):[^@\s/]+@/gi
const PASSWORD_IN_DSN = /\b((?:password|passwd|pwd|secret|token)\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&]+)/gi

/** Takes secrets out of a text: the known ones wherever they stand, and what looks like one. */
export function redact(text: string, secrets: ReadonlySet<string>): string {
  let clean = text
  for (const secret of secrets) if (secret.length > 3) clean = clean.replaceAll(secret, '***')
  return clean.replace(PASSWORD_IN_URI, '$1:***@').replace(PASSWORD_IN_DSN, '$1***')
}

export function createLogger(options: LoggerOptions, fields: LogFields = {}): Logger {
  const log = (level: Exclude<LogLevel, 'silent'>, message: string, extra: LogFields = {}): void => {
    if (RANK[level] < RANK[options.level]) return
    const all = { ...fields, ...extra }
    const line = options.format === 'json' ? jsonLine(options.clock(), level, message, all) : textLine(level, message, all)
    options.write(redact(line, options.secrets))
  }
  return {
    debug: (message, extra) => log('debug', message, extra),
    info: (message, extra) => log('info', message, extra),
    warn: (message, extra) => log('warn', message, extra),
    error: (message, extra) => log('error', message, extra),
    child: (extra) => createLogger(options, { ...fields, ...extra }),
  }
}

function jsonLine(now: number, level: string, message: string, fields: LogFields): string {
  return JSON.stringify({ time: new Date(now).toISOString(), level, message, ...fields })
}

function textLine(level: string, message: string, fields: LogFields): string {
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${String(value)}`)
    .join('')
  return `${level === 'info' ? '' : `${level}: `}${message}${rest}`
}

export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
}
