import type { Problem } from '../../../sdk/errors.ts'
import { quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import { ORIGIN_SUFFIX, originName } from './origin.ts'

/**
 * What a pipeline of this name left upstream when its state was lost: a slot that nobody reads holds back the log until the
 * disk is full (Invariant 9). It is named and never dropped: another state store may know it.
 */
export async function checkStrays(sql: PgConnection, pipeline: string, mine: readonly string[]): Promise<Problem[]> {
  const pattern = quoteText(`^${originName(pipeline, ORIGIN_SUFFIX)}$`)
  const rows = await sql.rows(
    `SELECT coalesce(s.slot_name, p.pubname), s.slot_name IS NOT NULL, p.pubname IS NOT NULL,
            CASE WHEN NOT pg_is_in_recovery() THEN pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)) END
       FROM (SELECT * FROM pg_replication_slots WHERE database = current_database() AND slot_name ~ ${pattern}) s
       FULL JOIN (SELECT * FROM pg_publication WHERE pubname ~ ${pattern}) p ON p.pubname = s.slot_name
      WHERE s.active IS NOT TRUE ORDER BY 1`,
  )
  return rows.flatMap(([found, slot, publication, retained]) => {
    const name = found ?? ''
    if (mine.includes(name)) return []
    const left = [
      ...(slot === 't'
        ? [`replication slot ${name}${retained === null || retained === undefined ? '' : ` (retains ${retained} of log)`}`]
        : []),
      ...(publication === 't' ? [`publication ${name}`] : []),
    ]
    const drop = [
      ...(slot === 't' ? [`SELECT pg_drop_replication_slot(${quoteText(name).trim()})`] : []),
      ...(publication === 't' ? [`DROP PUBLICATION ${quoteName(name)}`] : []),
    ]
    return {
      severity: 'warning' as const,
      code: 'CONFIG' as const,
      message: `${left.join(' and ')} ${left.length > 1 ? 'are' : 'is'} named as if made by this pipeline, and its state does not know of ${left.length > 1 ? 'them' : 'it'}`,
      hint: `when no other state store holds a pipeline of this name: ${drop.join('; ')};`,
    }
  })
}
