import pg from 'pg'

/** Values as the server writes them: `pg` is an oracle here, not a converter. */
const RAW = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig

const TEXT_FORMS = `SET datestyle = 'ISO, MDY'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C'`

/** Column → the value's text in PostgreSQL's own form, or null. */
export type Cells = Readonly<Record<string, string | null>>

/** A second opinion: another client library on a session of its own. */
export class Oracle implements AsyncDisposable {
  readonly #client: pg.Client

  private constructor(client: pg.Client) {
    this.#client = client
  }

  static async connect(uri: string): Promise<Oracle> {
    const client = new pg.Client({ connectionString: uri, types: RAW })
    // A server that goes away under a test is told by the next query.
    client.on('error', () => {})
    await client.connect()
    await client.query(TEXT_FORMS)
    return new Oracle(client)
  }

  /** One or several statements; rows of the last one. */
  async run(sql: string): Promise<Cells[]> {
    const result = (await this.#client.query(sql)) as pg.QueryResult<Cells> | pg.QueryResult<Cells>[]
    return (Array.isArray(result) ? result.at(-1)?.rows : result.rows) ?? []
  }

  /** First column of the first row. */
  async value(sql: string): Promise<string | null> {
    const [row] = await this.run(sql)
    return row === undefined ? null : (Object.values(row)[0] ?? null)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client.end()
  }
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
