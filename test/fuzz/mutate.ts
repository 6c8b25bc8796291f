import { Random } from '../kit/random.ts'

/** How long a fuzz test goes on: little in `npm test`, as long as one likes by `npm run fuzz`. */
export const FUZZ_SECONDS = Number(process.env['TAILRACE_FUZZ_SECONDS'] ?? 2)
export const FUZZ_SEED = Number(process.env['TAILRACE_SEED'] ?? 1)

/** Calls `once` with a generator of its own, again and again until the time is over; a failure names the seed that makes it again. */
export async function fuzz(once: (random: Random) => Promise<void> | void, seconds = FUZZ_SECONDS): Promise<number> {
  const until = performance.now() + seconds * 1000
  let rounds = 0
  do {
    const seed = FUZZ_SEED + rounds++
    try {
      await once(new Random(seed))
    } catch (error) {
      throw new Error(`TAILRACE_SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
    }
  } while (performance.now() < until)
  return rounds
}

export function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.between(0, items.length - 1)]!
}

const ABSURD_LENGTHS: readonly number[] = [0, -1, 1, 3, 4, 5, 0x7fff_ffff, -0x8000_0000, 0x4000_0000, 0x0001_0000, 0xffff, 1_000_000]

/** The same bytes with up to a few things wrong with them. */
export function mutated(random: Random, bytes: Buffer, most = 3): Buffer {
  let changed: Buffer = Buffer.from(bytes)
  for (let times = random.between(1, most); times > 0; times--) changed = mutatedOnce(random, changed)
  return changed
}

function mutatedOnce(random: Random, bytes: Buffer): Buffer {
  if (bytes.length === 0) return randomBytes(random, random.between(1, 20))
  const at = random.between(0, bytes.length - 1)
  const to = Math.min(bytes.length, at + random.between(1, 40))
  switch (random.between(0, 7)) {
    case 0:
      bytes[at]! ^= 1 << random.between(0, 7)
      return bytes
    case 1:
      bytes[at] = pick(random, [0, 1, 0x7f, 0x80, 0xff, random.between(0, 255)])
      return bytes
    case 2:
      if (at + 4 <= bytes.length) bytes.writeInt32BE(pick(random, ABSURD_LENGTHS), at)
      return bytes
    case 3:
      if (at + 2 <= bytes.length) bytes.writeInt16BE(pick(random, [0, -1, 1, 0x7fff, -0x8000]), at)
      return bytes
    case 4:
      return bytes.subarray(0, at)
    case 5:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(to)])
    case 6:
      return Buffer.concat([bytes.subarray(0, to), bytes.subarray(at)])
    default:
      return Buffer.concat([bytes.subarray(0, at), randomBytes(random, random.between(1, 30)), bytes.subarray(at)])
  }
}

export function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.between(0, 255)))
}

/** A text put together of pieces that mean something, and of some that do not. */
export function randomText(random: Random, pieces: readonly string[], most: number): string {
  const letters = [
    'a',
    'Z',
    '0',
    ' ',
    '\0',
    '\n',
    '\u{1F30A}',
    '\ud800',
    '%',
    '\\',
    '"',
    "'",
    '{',
    '}',
    '$',
    '@',
    ':',
    '/',
    '?',
    '&',
    '=',
    ',',
    '-',
    '.',
  ]
  return Array.from({ length: random.between(0, most) }, () => pick(random, random.next() < 0.6 ? pieces : letters)).join('')
}

/** Bytes in pieces as a network may deliver them. */
export function inPieces(random: Random, bytes: Buffer): Buffer[] {
  const found: Buffer[] = []
  const most = pick(random, [1, 3, 7, 64, 1000, 100_000])
  for (let at = 0; at < bytes.length;) {
    // A message in single bytes is enough; megabytes of them only take time.
    const size = found.length > 200 ? bytes.length : random.between(1, most)
    found.push(bytes.subarray(at, at + size))
    at += size
  }
  return found
}
