/** A place in PostgreSQL's log as a number, from its text or from a position that ends with it. */
export function lsnOf(position: string | null): bigint {
  const [high = '0', low = '0'] = (position?.split(':').at(-1) ?? '0/0').split('/')
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`)
}
