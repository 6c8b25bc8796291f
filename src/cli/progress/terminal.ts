import type { OutputStream } from '../io.ts'
import { displayWidth } from '../format.ts'

const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
// Without wrapping, a letter that is wider than we think spoils one line instead of all below.
const WRAP_OFF = '\x1b[?7l'
const WRAP_ON = '\x1b[?7h'

/** A few lines at the bottom of a terminal that are drawn over in place; other lines are printed above them. */
export class LiveLines implements Disposable {
  readonly #stream: OutputStream
  #drawn = 0
  #lines: readonly string[] = []
  #open = false

  constructor(stream: OutputStream) {
    this.#stream = stream
  }

  draw(lines: readonly string[]): void {
    const begin = this.#open ? '' : HIDE_CURSOR + WRAP_OFF
    this.#open = true
    this.#stream.write(`${begin}${this.#erase()}${lines.map((line) => `${line}\n`).join('')}`)
    this.#lines = lines
    this.#drawn = lines.length
  }

  /** Prints a line that stays, above the live ones. */
  above(line: string): void {
    if (!this.#open) return this.#stream.write(`${line}\n`)
    // The line may be longer than the terminal is wide: it is to wrap, the live ones are not.
    this.#stream.write(`${this.#erase()}${WRAP_ON}${line}\n${WRAP_OFF}${this.#lines.map((live) => `${live}\n`).join('')}`)
  }

  /** Removes the live lines and gives the terminal back as it was. Also called at the end of the process. */
  [Symbol.dispose](): void {
    if (!this.#open) return
    this.#stream.write(`${this.#erase()}${WRAP_ON}${SHOW_CURSOR}`)
    this.#open = false
    this.#lines = []
    this.#drawn = 0
  }

  #erase(): string {
    if (this.#drawn === 0) return ''
    // A terminal made narrower has folded the drawn lines into more.
    const columns = Math.max(1, this.#stream.columns)
    const folded = this.#lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(displayWidth(line) / columns)), 0)
    return `\x1b[${Math.min(folded, Math.max(this.#drawn, this.#stream.rows))}A\r\x1b[0J`
  }
}
