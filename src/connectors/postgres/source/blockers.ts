import type { Logger } from '../../../sdk/logger.ts'
import { quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'

const FIRST_MILLIS = 3000
const AGAIN_MILLIS = 30_000

/** The open transactions of the whole cluster that wrote something, the oldest first: it is waited for in any case. */
const OLDEST = `
  SELECT age(backend_xid), pid::text, NULL, usename::text, datname::text, application_name, state, extract(epoch FROM now() - xact_start)::int
    FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
  UNION ALL
  SELECT age(transaction), NULL, gid, owner::text, database::text, NULL, 'prepared', extract(epoch FROM now() - prepared)::int FROM pg_prepared_xacts
  ORDER BY 1 DESC LIMIT 3`

/** TRAPS 9: work that other people's open transactions hold up. After a few seconds, and now and then, it is said whose they are. */
export async function sayingWho<T>(
  what: string,
  work: Promise<T>,
  { session, logger }: { readonly session: () => Promise<PgConnection>; readonly logger: Logger },
): Promise<T> {
  let telling: Promise<void> = Promise.resolve()
  let timer: NodeJS.Timeout | undefined
  const tell = async (): Promise<void> => {
    // The work itself meets whatever is wrong with the server.
    const blockers = await openTransactions(session).catch(() => [])
    for (const { who, hint } of blockers) logger.warn(`${what} waits for ${who}; ${hint}`)
  }
  const later = (millis: number): void => {
    timer = setTimeout(() => {
      telling = tell()
      later(AGAIN_MILLIS)
    }, millis)
  }
  later(FIRST_MILLIS)
  try {
    return await work
  } finally {
    clearTimeout(timer)
    await telling
  }
}

async function openTransactions(session: () => Promise<PgConnection>): Promise<{ who: string; hint: string }[]> {
  await using sql = await session()
  const rows = await sql.rows(OLDEST)
  return rows.map(([, pid = null, gid, user, database, application, state, seconds]) => {
    const since = seconds === null || seconds === undefined ? '' : `, open for ${seconds} s`
    const whose = `user ${user ?? 'unknown'}, database ${database ?? 'none'}`
    if (pid === null) {
      const name = quoteText(gid ?? '').trim()
      return {
        who: `the prepared transaction ${name} (${whose}${since})`,
        hint: `in that database: COMMIT PREPARED ${name} or ROLLBACK PREPARED ${name}`,
      }
    }
    const name = application === null || application === undefined || application === '' ? '' : `, application ${application}`
    return {
      who: `the transaction of the server process ${pid} (${whose}${name}, ${state ?? 'state not visible to this role'}${since})`,
      hint: `let it end, or: SELECT pg_terminate_backend(${pid})`,
    }
  })
}
