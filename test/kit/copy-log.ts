import type { SourceDatabase } from './source-database.ts'
import type { LedgerChunk } from './run-cli.ts'

const COPIER = 'copier'

/** A role whose every statement is in the server's log: gives the URI to copy with. */
export async function loggedUri(source: SourceDatabase): Promise<string> {
  await source.query(`CREATE ROLE ${COPIER} SUPERUSER LOGIN; ALTER ROLE ${COPIER} SET log_statement = 'all'`)
  return source.server.uri('postgres', { user: COPIER })
}

/** What a COPY read: `from` and `to` of a key range as texts, null at an open end. */
export interface CopiedRange {
  readonly from: string | null
  readonly to: string | null
}

/** Every range of the table that was asked for since the server started, in order. */
export async function copiedRanges(source: SourceDatabase, table: string, key: string): Promise<CopiedRange[]> {
  const log = await source.server.log(10_000_000)
  const start = new RegExp(`statement: COPY \\(SELECT .* FROM ONLY (?:"?public"?\\.)?"?${table}"?(.*)\\) TO STDOUT`)
  const bound = (sign: string, text: string): string | null => new RegExp(`"?${key}"? ${sign} '([^']*)'`).exec(text)?.[1] ?? null
  return log.split('\n').flatMap((line) => {
    const condition = start.exec(line)?.[1]
    return condition === undefined ? [] : [{ from: bound('>=', condition), to: bound('<', condition) }]
  })
}

export function rangeText({ from, to }: CopiedRange | LedgerChunk): string {
  return `[${from ?? '-∞'}, ${to ?? '∞'})`
}
