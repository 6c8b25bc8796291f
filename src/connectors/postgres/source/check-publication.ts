import { problem } from '../../../sdk/config/problems.ts'
import type { Problem } from '../../../sdk/errors.ts'
import { excludeOption } from '../../../sdk/selection.ts'
import { quoteForShell } from '../../../sdk/shell.ts'
import type { SourceTable } from '../../../sdk/source.ts'
import type { PostgresConfig } from '../config.ts'
import { qualifiedName, quoteName, quoteText } from '../identifiers.ts'
import type { PgConnection } from '../wire/connection.ts'
import type { CatalogTable } from './catalog.ts'
import { isPublished, publishedRelations, WHOLE } from './publication.ts'

/** The tables by oid. */
type Catalog = ReadonlyMap<number, CatalogTable>

/** Whether the tables can be published, or are. */
export async function checkPublication(
  connection: PgConnection,
  config: PostgresConfig,
  tables: readonly SourceTable[],
  catalog: Catalog,
): Promise<Problem[]> {
  return config.publication === undefined
    ? checkOwners([...catalog.values()], config)
    : checkTheirs(connection, config.publication, tables, catalog)
}

function checkOwners(catalog: readonly CatalogTable[], config: PostgresConfig): Problem[] {
  const foreign = catalog.filter((table) => !table.owned)
  if (foreign.length === 0) return []
  const names = foreign.map((table) => table.schema.id)
  const shown = names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '')
  return [
    problem(
      'NOT_ALLOWED',
      `only an owner may publish a table, and ${config.user ?? 'the user'} does not own ${shown}`,
      `as the owner: CREATE PUBLICATION tailrace FOR TABLE ${foreign
        .slice(0, 5)
        .map((table) => qualifiedName(table.schema))
        .join(', ')}${foreign.length > 5 ? ', …' : ''}; then --source.publication tailrace`,
    ),
  ]
}

/** Whether a person's publication sends every change of the tables. */
export async function checkTheirs(
  connection: PgConnection,
  publication: string,
  tables: readonly SourceTable[],
  catalog: Catalog,
): Promise<Problem[]> {
  const [row] = await connection.rows(
    `SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot FROM pg_publication WHERE pubname = ${quoteText(publication)}`,
  )
  if (row === undefined)
    return [
      problem(
        'CONFIG',
        `the publication ${publication} does not exist`,
        `CREATE PUBLICATION ${quoteName(publication)} FOR TABLE …`,
        'publication',
      ),
    ]
  const problems: Problem[] = []
  if (row[0] !== 't')
    problems.push(
      problem(
        'CONFIG',
        `the publication ${publication} leaves out some kinds of change`,
        `ALTER PUBLICATION ${quoteName(publication)} SET (${WHOLE})`,
        'publication',
      ),
    )
  const published = await publishedRelations(connection, publication)
  const missing = tables.filter(({ schema }) => !isPublished(published, schema.relation, catalog.get(schema.relation)?.leaves))
  if (missing.length > 0) {
    problems.push(
      problem(
        'CONFIG',
        `the publication ${publication} lacks ${missing.map((table) => table.id).join(', ')}`,
        `ALTER PUBLICATION ${quoteName(publication)} ADD TABLE ${missing.map((table) => qualifiedName(table.schema)).join(', ')}`,
        'publication',
      ),
    )
  }
  const partitioned = tables.filter((table) => catalog.get(table.schema.relation)?.partitioned === true)
  if (row[1] === 't' && partitioned.length > 0)
    problems.push({
      severity: 'warning',
      code: 'CONFIG',
      message: `the publication ${publication} sends rows of partitions by their root: TRUNCATE of a single partition of ${partitioned.map((table) => table.id).join(', ')} is not sent`,
      hint: `ALTER PUBLICATION ${quoteName(publication)} SET (publish_via_partition_root = false)`,
      path: 'publication',
    })
  if (connection.serverVersion >= 150_000) problems.push(...(await checkFilters(connection, publication, tables, catalog)))
  return problems
}

/** TRAPS 53, 54: a condition or column list in a person's publication takes away what the pipeline wants, in silence. */
async function checkFilters(
  connection: PgConnection,
  publication: string,
  tables: readonly SourceTable[],
  catalog: Catalog,
): Promise<Problem[]> {
  const rows = await connection.rows(
    `SELECT r.prrelid, pg_get_expr(r.prqual, r.prrelid), (SELECT string_agg(a.attname::text, E'\\x01') FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]))
       FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = ${quoteText(publication)} AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)`,
  )
  const found = new Map(
    rows.map(([oid, condition, list]) => [Number(oid), { condition: condition ?? null, columns: list?.split('\x01') ?? null }]),
  )
  return tables.flatMap((table) => {
    const entries = [table.schema.relation, ...(catalog.get(table.schema.relation)?.leaves ?? [])].flatMap((oid) => found.get(oid) ?? [])
    const mend = `ALTER PUBLICATION ${quoteName(publication)} DROP TABLE ${qualifiedName(table.schema)}; ALTER PUBLICATION ${quoteName(publication)} ADD TABLE ${qualifiedName(table.schema)}`
    const lost = table.schema.columns
      .map((column) => column.name)
      .filter((name) => entries.some(({ columns }) => columns !== null && !columns.includes(name)))
    return [
      ...checkCondition(publication, table, [...new Set(entries.flatMap((entry) => entry.condition ?? []))], mend),
      ...(lost.length > 0
        ? [
            problem(
              'CONFIG',
              `the publication ${publication} leaves out columns of ${table.id}: ${lost.join(', ')}`,
              `${mend}; or ${excludeOption(table.id, ...lost)}`,
              table.id,
            ),
          ]
        : []),
    ]
  })
}

/** The snapshot reads by `--where`, the stream by the publication's own condition: they must be one. */
function checkCondition(publication: string, table: SourceTable, conditions: readonly string[], mend: string): Problem[] {
  const [condition, ...others] = conditions
  if (condition === undefined || (others.length === 0 && table.where !== null && unwrapped(table.where) === unwrapped(condition))) return []
  const sends = `the publication ${publication} sends only the rows of ${table.id} with ${conditions.join(' or ')}`
  const message = table.where === null ? sends : `${sends}, and --where says ${table.where}`
  const same = others.length > 0 ? '' : `; or give its condition: --where ${quoteForShell(`${table.id}=${condition}`)}`
  return [problem('CONFIG', message, `${mend}${same}`, table.id)]
}

/** As the server writes conditions, but for the brackets around all of it; any other spelling is refused, and the hint has this one. */
function unwrapped(condition: string): string {
  const text = condition.trim()
  return text.startsWith('(') && text.endsWith(')') ? text.slice(1, -1).trim() : text
}
