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
  /** Texts that must never appear: passwords, tokens. A live set: what is learnt later counts from then on. */
  readonly secrets: ReadonlySet<string>
}

// Greedy up to the last @ of the word: a password that was not encoded may hold / and @ itself. A user may be
// ${env:NAME}, which is no secret.
const PASSWORD_IN_URI = /([a-z][a-z0-9+.-]*:\/\/(?:\$\{[^}]*\}|(?!\$\{)[^/\s:@])*):[^\s"'`]+@/gi
const PASSWORD_IN_DSN = /((?:password|passwd|pwd|secret|token)\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&]+)/gi
/** Shorter ones would tear every line to pieces; the patterns above still take them out where they are spelt as such. */
const SHORTEST_SECRET = 4

/** Takes secrets out of a text: the known ones wherever they stand, in plain, URI or JSON spelling, and what looks like one. */
export function redact(text: string, secrets: ReadonlySet<string>): string {
  return redactKnown(text, secrets).replace(PASSWORD_IN_URI, '$1:***@').replace(PASSWORD_IN_DSN, '$1***')
}

function redactKnown(text: string, secrets: ReadonlySet<string>): string {
  let clean = text
  for (const spelling of spellings(secrets)) if (clean.includes(spelling)) clean = clean.replaceAll(spelling, '***')
  return clean
}

/** Longest first, so that a secret that begins another leaves nothing of it. */
function spellings(secrets: ReadonlySet<string>): readonly string[] {
  const all = new Set<string>()
  for (const secret of secrets) {
    if (secret.length < SHORTEST_SECRET) continue
    all.add(secret)
    // toWellFormed: encodeURIComponent throws at half a surrogate pair.
    all.add(encodeURIComponent(secret.toWellFormed()))
    // Twice: a field may hold JSON, and is written as JSON itself.
    const escaped = JSON.stringify(secret).slice(1, -1)
    all.add(escaped).add(JSON.stringify(escaped).slice(1, -1))
  }
  return [...all].sort((a, b) => b.length - a.length)
}

/** The same for plain data on its way into JSON: only texts change, so that the result stays what it was. */
export function redactData(value: unknown, secrets: ReadonlySet<string>): unknown {
  if (typeof value === 'string') return redact(value, secrets)
  if (Array.isArray(value)) return value.map((item) => redactData(item, secrets))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, redactData(item, secrets)]))
}

export function createLogger(options: LoggerOptions, fields: LogFields = {}): Logger {
  const log = (level: Exclude<LogLevel, 'silent'>, message: string, extra: LogFields = {}): void => {
    if (RANK[level] < RANK[options.level]) return
    const all = { ...fields, ...extra }
    options.write(options.format === 'json' ? jsonLine(options, level, message, all) : textLine(options, level, message, all))
  }
  return {
    debug: (message, extra) => log('debug', message, extra),
    info: (message, extra) => log('info', message, extra),
    warn: (message, extra) => log('warn', message, extra),
    error: (message, extra) => log('error', message, extra),
    child: (extra) => createLogger(options, { ...fields, ...extra }),
  }
}

function jsonLine(options: LoggerOptions, level: string, message: string, fields: LogFields): string {
  const line = { time: new Date(options.clock()).toISOString(), level, message, ...fields }
  return JSON.stringify(redactData(line, options.secrets))
}

function textLine(options: LoggerOptions, level: string, message: string, fields: LogFields): string {
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${showField(value)}`)
    .join('')
  // Redacted before line ends are escaped: a secret may hold one.
  const text = redact(`${level === 'info' ? '' : `${level}: `}${message}${rest}`, options.secrets)
  // eslint-disable-next-line no-control-regex -- exactly these could forge a line or move the cursor
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (sign) => (sign === '\t' ? ' ' : sign === '\n' ? '\\n' : ''))
}

function showField(value: LogFields[string]): string {
  const text = String(value)
  return /[\s"=]/.test(text) ? JSON.stringify(text) : text
}

export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
}
