// Runs inside each test file's process: writes one JSON line per finished test to its destination, for test.mjs, and
// ends the process when its tests are over but something that they left open keeps it alive.

import { inspect } from 'node:util'

/** So long may it take to close what a test used, and so long may a file pause between two tests. */
const IDLE_SECONDS = 6
/** Work on files ends by itself: a server's data folder takes its time to go on a busy machine. So long at most. */
const FILES_SECONDS = 90

/** Node's exit would wait for ever: its test runner only ends when the event loop is empty. */
class LeftoverWatch {
  #open = 0
  #timer = null
  #patience = FILES_SECONDS

  see({ type, data }) {
    // Nested tests end before the one that holds them; a cancelled one is told twice.
    if (data.nesting !== 0) return
    if (type === 'test:enqueue') this.#open++
    else if (type === 'test:complete') this.#open--
    else return
    clearTimeout(this.#timer)
    this.#patience = FILES_SECONDS
    if (this.#open <= 0) this.#later()
  }

  #later() {
    this.#timer = setTimeout(() => this.#end(), IDLE_SECONDS * 1000).unref()
  }

  #end() {
    const held = process.getActiveResourcesInfo().filter((name) => name !== 'TTYWrap')
    this.#patience -= IDLE_SECONDS
    if (this.#patience > 0 && held.some((name) => name.startsWith('FSReq'))) return this.#later()
    process.stderr.write(`\nThe tests are over but something keeps the process alive: ${held.join(', ') || 'unknown'}\n`)
    process.exit(70)
  }
}

function describe(error) {
  const cause = error?.cause ?? error
  if (typeof cause === 'string') return cause
  const text = cause?.code === 'ERR_ASSERTION' ? cause.stack : inspect(cause, { depth: 4 })
  const lines = text.split('\n').filter((line) => !/^\s+at .*\(?node:|lines matching cause stack/.test(line))
  return lines.join('\n')
}

function outcome({ type, data }) {
  if (data.skip !== undefined) {
    const told = typeof data.skip === 'string' && data.skip !== ''
    return told ? ['skipped', data.skip] : ['failed', 'The test was skipped without a reason.']
  }
  if (data.todo !== undefined) return ['failed', 'A test marked "todo" counts as failed.']
  return type === 'test:pass' ? ['passed'] : ['failed', describe(data.details?.error)]
}

/** Whether the event counts: suites only when they fail themselves; nobody because a child failed, that is told already. */
function counts({ type, data }) {
  if (type === 'test:fail') return data.details?.error?.failureType !== 'subtestsFailed'
  return type === 'test:pass' && data.details?.type !== 'suite'
}

export default async function* report(source) {
  const watch = new LeftoverWatch()
  const names = []
  for await (const event of source) {
    watch.see(event)
    const { data } = event
    if (event.type === 'test:start') names.splice(data.nesting, Infinity, data.name)
    if (!counts(event)) continue
    const [result, message] = outcome(event)
    const name = [...names.slice(0, data.nesting), data.name].join(' › ')
    yield `${JSON.stringify({ name, outcome: result, message, line: data.line, milliseconds: data.details?.duration_ms ?? 0 })}\n`
  }
}
