import { CASE_COUNT, CASE_NOTES, CASE_PARTS, TRAP_COUNT } from './case-notes.ts'
import { caseTests, type CaseTest } from './case-titles.ts'

export const CASE_NAMES: readonly string[] = [
  ...Array.from({ length: CASE_COUNT }, (_, i) => `CASE ${i + 1}`),
  ...Array.from({ length: TRAP_COUNT }, (_, i) => `TRAP ${i + 1}`),
]

/** The title without the names that stand in front of it, for the row of one of them. */
function plain(title: string): string {
  return title.replace(/^((CASE|TRAP)S? [\d, –-]+[a-z]?(, )?)+: /, '').replace(/ \((CASE|TRAP)S? [^)]*\)$/, '')
}

function row(name: string, tests: readonly CaseTest[]): string[] {
  const files = [...new Set(tests.map((test) => test.file))]
  const found = files.map((file) => {
    const titles = [...new Set(tests.filter((test) => test.file === file).map((test) => plain(test.title)))]
    return `\`${file}\`: ${titles.join('; ')}`
  })
  const note = CASE_NOTES[name] ?? CASE_PARTS[name]
  return [name, [...found, ...(note === undefined ? [] : [`*${note}*`])].join('<br>')]
}

/** One row per case and trap: which tests are its. */
export function caseRows(): readonly (readonly string[])[] {
  const tests = caseTests()
  return CASE_NAMES.map((name) =>
    row(
      name,
      tests.filter((test) => test.name === name),
    ),
  )
}
