import { usage } from './config/problems.ts'
import type { Piece } from './config/references.ts'
import type { ConnectorUri } from './connector.ts'

/** A URI and the same in words that may be shown: references as they were typed. */
export interface ParsedUri {
  /** The host is left as it stands, percent-encoding and all: only its connector knows how to cut it up. */
  readonly uri: ConnectorUri
  /** As `uri`, but with references unresolved: what the label is made of. */
  readonly shown: ConnectorUri
  /** Password as it stands in the text, before decoding; null when there is none. */
  readonly rawPassword: string | null
}

// References stand in the text as private-use characters while it is taken apart, so that a value with @ or / in it
// cannot move the borders.
const FIRST_MARK = 0xe000
const MARK = /[\ue000-\uf8ff]/
const EACH_MARK = new RegExp(MARK, 'g')
const RUN = /[\ue000-\uf8ff]|[^\ue000-\uf8ff]+/g

/** A URI without references. */
export function parseConnectorUri(text: string): ConnectorUri {
  return parseUriPieces([{ text, reference: null }]).uri
}

/**
 * Takes a URI apart without judging what its connector would say of it. A reference that begins the text brings the
 * scheme with it and is read as if it were typed; any other is one opaque value of the part that it stands in.
 * Throws USAGE without repeating the text: what cannot be read cannot be redacted either.
 */
export function parseUriPieces(pieces: readonly Piece[]): ParsedUri {
  const values: Piece[] = []
  const text = pieces
    .map((piece, index) => {
      // A typed character of that range must not pass for a mark.
      if (piece.reference === null || index === 0) return piece.text.replace(EACH_MARK, encodeURIComponent)
      values.push(piece)
      return String.fromCharCode(FIRST_MARK + values.length - 1)
    })
    .join('')
    .trim()
  const raw = splitUri(text)
  return {
    uri: decodeUri(raw, new Filler(values, (piece) => piece.text)),
    shown: decodeUri(raw, new Filler(values, (piece) => piece.reference ?? '')),
    rawPassword: raw.password === null || MARK.test(raw.password) ? null : raw.password,
  }
}

/** Decodes the typed runs of a part and puts values in the place of marks. */
class Filler {
  readonly #values: readonly Piece[]
  readonly #pick: (piece: Piece) => string

  constructor(values: readonly Piece[], pick: (piece: Piece) => string) {
    this.#values = values
    this.#pick = pick
  }

  part(text: string, what: string): string {
    return text.replace(RUN, (run) => (MARK.test(run) ? this.#value(run) : decode(run, what)))
  }

  /** The host stays encoded, so a value is encoded as far as it must be. */
  host(text: string): string {
    return text.replace(RUN, (run) => {
      if (MARK.test(run)) return encode(this.#value(run), /[%/@?]/g)
      decode(run, 'host')
      return run
    })
  }

  #value(mark: string): string {
    return this.#pick(this.#values[mark.charCodeAt(0) - FIRST_MARK]!)
  }
}

interface RawUri {
  readonly scheme: string
  readonly user: string | null
  readonly password: string | null
  readonly host: string
  readonly path: string
  readonly parameters: readonly (readonly [string, string])[]
}

function splitUri(text: string): RawUri {
  if (text === '') throw usage('a URI is empty', 'write it as scheme://user@host/name or scheme:path')
  const device = /^(\/dev\/[^?\s]*)(?:\?(.*))?$/s.exec(text)
  if (device !== null) return { scheme: device[1]!, ...NO_AUTHORITY, path: '', parameters: splitParameters(device[2]) }
  const match = /^([a-z][a-z0-9+.-]*):(.*)$/is.exec(text)
  if (match === null) throw notAUri(text)
  const scheme = match[1]!.toLowerCase()
  const rest = match[2]!
  const [, before = '', query] = /^([^?]*)(?:\?(.*))?$/s.exec(rest) ?? []
  if (!rest.startsWith('//')) return { scheme, ...NO_AUTHORITY, path: before, parameters: splitParameters(query) }
  const [, authority = '', path = ''] = /^\/\/([^/]*)(.*)$/s.exec(before) ?? []
  if (!authority.includes('@')) refuseLooseSign(authority, path, query)
  return { scheme, ...splitAuthority(authority), path, parameters: splitParameters(query) }
}

const NO_AUTHORITY = { user: null, password: null, host: '' } as const

function notAUri(text: string): Error {
  const plain = /^[\w./-]{1,100}$/.test(text)
  const form = 'write it as scheme://user@host/name or scheme:path, for example duckdb:./file.db; `tailrace connectors` lists the schemes'
  return usage(plain ? `\`${text}\` is not a URI: it has no scheme` : 'a URI has no scheme', form)
}

/** A `/` or `?` in a password ends the authority early; read on, the password would pass for a host or a path. */
function refuseLooseSign(authority: string, path: string, query: string | undefined): void {
  if (authority === '' || authority === '.' || authority === '..') return
  const portIsText = /:[^:\],]*[^\d:\],\ue000-\uf8ff]/.test(authority.replace(/\[[^\]]*\]/g, ''))
  const later = path.includes('@') || (portIsText && (query ?? '').includes('@'))
  if (!later && !portIsText) return
  throw usage(
    later ? 'an `@` of a URI stands after the first `/` or `?`' : 'the port of a URI is not a number',
    'percent-encode what is special in a password, / as %2F, ? as %3F, @ as %40, % as %25; or use ${env:NAME}',
  )
}

function splitAuthority(authority: string): Pick<RawUri, 'user' | 'password' | 'host'> {
  const at = authority.lastIndexOf('@')
  const host = authority.slice(at + 1)
  if (at < 0) return { user: null, password: null, host }
  const login = authority.slice(0, at)
  const colon = login.indexOf(':')
  return colon < 0 ? { user: login, password: null, host } : { user: login.slice(0, colon), password: login.slice(colon + 1), host }
}

function splitParameters(query: string | undefined): readonly (readonly [string, string])[] {
  if (query === undefined || query === '') return []
  return query.split('&').map((pair) => {
    const equals = pair.indexOf('=')
    return equals < 0 ? [pair, 'true'] : [pair.slice(0, equals), pair.slice(equals + 1)]
  })
}

function decodeUri(raw: RawUri, filler: Filler): ConnectorUri {
  const parameters = new Map<string, string>()
  for (const [name, value] of raw.parameters) {
    if (!/^[a-z_][\w.-]*$/i.test(name))
      throw usage('a parameter of a URI has no proper name', 'write ?name=value&name=value; & in a value is %26')
    if (parameters.has(name)) throw usage(`the parameter \`${name}\` stands twice in a URI`, 'leave one of them out')
    parameters.set(name, filler.part(value, `parameter \`${name}\``))
  }
  const user = raw.user === null ? null : filler.part(raw.user, 'user')
  const password = raw.password === null ? null : filler.part(raw.password, 'password')
  const host = filler.host(raw.host)
  const path = filler.part(raw.path, 'path')
  const uri = { scheme: raw.scheme, user: user === '' ? null : user, password: password === '' ? null : password, host, path, parameters }
  return { ...uri, text: formatUri(uri, () => true) }
}

function decode(part: string, what: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw usage(`the ${what} of a URI is not well percent-encoded`, 'write a % that stands for itself as %25')
  }
}

/**
 * The URI as it may be shown: no password, no secret parameter; the user stays. `isShown` says which parameters are no
 * secret; one that nobody declares might be anything and is left out by the caller.
 */
export function redactedUri(uri: ConnectorUri, isShown: (parameter: string) => boolean): string {
  return formatUri({ ...uri, password: null }, isShown)
}

function formatUri(uri: Omit<ConnectorUri, 'text'>, isShown: (parameter: string) => boolean): string {
  const query = [...uri.parameters]
    .filter(([name]) => isShown(name))
    .map(([name, value]) => `${name}=${encode(value, /[%&@\s]/g)}`)
    .join('&')
  const tail = query === '' ? '' : `?${query}`
  if (uri.scheme.startsWith('/')) return `${uri.scheme}${tail}`
  const path = encode(uri.path, /[%?@]/g)
  if (uri.host === '' && uri.user === null && !path.startsWith('/')) return `${uri.scheme}:${path}${tail}`
  const password = uri.password === null ? '' : `:${encode(uri.password, /[^A-Za-z0-9._~!-]/gu)}`
  const login = uri.user === null ? (password === '' ? '' : `${password}@`) : `${encode(uri.user, /[%:/@?\s]/g)}${password}@`
  return `${uri.scheme}://${login}${uri.host}${path}${tail}`
}

/** Encodes only what would be read otherwise: labels are for people. References stay as they were typed. */
function encode(text: string, special: RegExp): string {
  return text
    .split(/(\$\{(?:env|file):[^}]+\})/)
    .map((run, index) => (index % 2 === 1 ? run : run.replace(special, (sign) => encodeURIComponent(sign.toWellFormed()))))
    .join('')
}

/**
 * The file that a URI names: `duckdb:///a.db` is absolute; `duckdb:a.db` and `duckdb://./a.db` are relative to the
 * working folder. `duckdb://a.db` looks like a host and is refused with the two ways to write it.
 */
export function filePathOf(uri: ConnectorUri): string {
  if (uri.host === '' || uri.host === '.' || uri.host === '..') return `${uri.host}${uri.path}`
  if (uri.host === 'localhost' && uri.path !== '') return uri.path
  throw usage(
    `a ${uri.scheme} URI names no host`,
    `write ${uri.scheme}:${uri.host}${uri.path} for a relative path, ${uri.scheme}:///${uri.host}${uri.path} for an absolute one`,
  )
}
