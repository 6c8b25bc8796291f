import type { Transaction, View } from '../../../model/position.ts'

/**
 * What a REPEATABLE READ transaction sees: pg_current_snapshot(), the only exact fence (TRAPS 12, 13). Never an LSN: commit
 * order is not visibility order.
 */
interface PgView {
  readonly v: 1
  readonly xmin: string
  readonly xmax: string
  readonly running: readonly string[]
}

/** `pg_current_snapshot()::text` is `xmin:xmax:xip,xip`. */
export function viewOfSnapshot(text: string): View {
  const [xmin = '0', xmax = '0', running = ''] = text.split(':')
  const view: PgView = { v: 1, xmin, xmax, running: running === '' ? [] : running.split(',') }
  return JSON.stringify(view) as View
}

interface ParsedView {
  readonly xmin: bigint
  readonly xmax: bigint
  readonly running: ReadonlySet<bigint>
}

const parsed = new Map<View, ParsedView>()

function parseView(view: View): ParsedView {
  const known = parsed.get(view)
  if (known !== undefined) return known
  const { xmin, xmax, running } = JSON.parse(view) as PgView
  const fresh = { xmin: BigInt(xmin), xmax: BigInt(xmax), running: new Set(running.map(BigInt)) }
  parsed.set(view, fresh)
  return fresh
}

const WRAP = 1n << 32n

/** The log names transactions by 32 bits; the epoch is the one that brings it nearest to the view's xmin. */
function extendXid(xid: bigint, near: bigint): bigint {
  const base = near - (near % WRAP) + xid
  if (base - near > WRAP / 2n) return base - WRAP
  if (near - base > WRAP / 2n) return base + WRAP
  return base
}

/** Whether the view already shows what the (top-level) transaction did. */
export function covers(view: View, transaction: Transaction): boolean {
  const { xmin, xmax, running } = parseView(view)
  const xid = extendXid(BigInt(transaction.id), xmin)
  return xid < xmin || (xid < xmax && !running.has(xid))
}
