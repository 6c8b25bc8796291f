/** Cases and traps without a test of their own name: why, or with what they come. */
export const CASE_NOTES: Readonly<Record<string, string>> = {
  'CASE 20': 'memory: `bench/`; one transaction in several parts, and a subtransaction rolled back: CASE 19 and the sink suite',
  'CASE 35': 'with the issue on bad sinks; an answer that is lost and a sink that is away: TRAP 41, CASE 6',
  'CASE 36': 'with the daemon: one sink a pipeline until then',
  'CASE 37': 'with the daemon, which has the health to turn red',
  'CASE 38': 'with the daemon; a newer and a damaged state store: `src/state/sqlite.test.ts`',
  'CASE 39': 'with the protocol hosts; damaged frames of the change stream stop the run (`PROTOCOL`)',
  'TRAP 16': 'no watermarks are used; what they would lose is TRAP 12',
  'TRAP 27': 'slot functions: issue 4',
  'TRAP 28': 'slot functions: issue 4',
  'TRAP 29': 'slot functions: issue 4',
  'TRAP 30': 'slot functions: issue 4',
  'TRAP 31': 'slot functions: issue 4',
  'TRAP 32': 'slot functions: issue 4',
}

export const CASE_COUNT = 40
/** Traps 61–66 are about contracts, not about what a program does. */
export const TRAP_COUNT = 60

/** Cases of which a part comes later, besides the tests that are there. */
export const CASE_PARTS: Readonly<Record<string, string>> = {
  'CASE 5': 'a million rows: `npm run test:crash`',
  'CASE 12': 'a failing verification: issue 3',
  'TRAP 5': '`verify` waits for it, too: issue 3',
}
