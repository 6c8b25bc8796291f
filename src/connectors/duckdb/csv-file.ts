import { mkdirSync } from 'node:fs'
import { open, rm, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { quoteLiteral } from '../../sdk/sql/identifiers.ts'

/** DuckDB drops one byte order mark at the start of a file, be it the first value's own: it gets one to drop. */
const MARK = Buffer.from('\ufeff', 'utf8')

/** DuckDB's own buffer is 32 MB, a good part of our limit; for a small batch even this costs more than the batch. */
const MOST_BUFFER = 1 << 20
const SLACK = 4096

let made = 0

/** A CSV file in the scratch folder, written once, read by one statement, removed. */
export class CsvFile {
  readonly path: string
  readonly #handle: FileHandle
  #bytes = 0
  #longest = 0

  private constructor(path: string, handle: FileHandle) {
    this.path = path
    this.#handle = handle
  }

  static async create(scratch: string): Promise<CsvFile> {
    mkdirSync(scratch, { recursive: true })
    // A new name each time: DuckDB may remember what it read of a file by its name.
    const path = join(scratch, `duckdb-${process.pid}-${++made}.csv`)
    const file = new CsvFile(path, await open(path, 'wx', 0o600))
    await file.#handle.write(MARK)
    return file
  }

  get bytes(): number {
    return this.#bytes
  }

  /** A bound of the longest row. */
  get longest(): number {
    return this.#longest
  }

  /** Appends whole rows. `longest`: no row has more bytes. */
  async append(rows: Buffer, longest: number): Promise<void> {
    let at = 0
    while (at < rows.length) at += (await this.#handle.write(rows, at, rows.length - at)).bytesWritten
    this.#bytes += rows.length
    this.#longest = Math.max(this.#longest, longest)
  }

  close(): Promise<void> {
    return this.#handle.close()
  }

  async remove(): Promise<void> {
    await this.#handle.close().catch(() => {})
    await rm(this.path, { force: true })
  }

  /** The file as a table of `columns` VARCHAR columns c0, c1, … */
  table(columns: number): string {
    const line = this.#longest + SLACK
    const buffer = Math.max(line, Math.min(this.#bytes + SLACK, MOST_BUFFER))
    const names = Array.from({ length: columns }, (_, i) => `'c${i}': 'VARCHAR'`).join(', ')
    return `read_csv(${quoteLiteral(this.path)}, columns = {${names}}, ${OPTIONS}, max_line_size = ${line}, buffer_size = ${buffer})`
  }
}

/**
 * PostgreSQL's CSV, with nothing left to be guessed. `parallel = false`: cutting a file at a guessed line end fails where a
 * quoted value looks like rows (seen: "Value with unterminated quote"); we cut at true row ends, one file each.
 */
const OPTIONS = [
  'header = false',
  'auto_detect = false',
  "delim = ','",
  "quote = '\"'",
  "escape = '\"'",
  String.raw`new_line = '\n'`,
  "comment = ''",
  "nullstr = ''",
  // "" is the empty string, nothing is null.
  'allow_quoted_nulls = false',
  'strict_mode = true',
  'parallel = false',
  "compression = 'none'",
].join(', ')
