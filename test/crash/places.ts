import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { TempFolder } from '../../src/testing/temp-folder.ts'
import { duckdbTarget, postgresTarget, sqliteTarget, type Target } from '../kit/compare.ts'
import { createHardTables, databaseOn, type SourceDatabase } from '../kit/source-database.ts'

/** Where one process dies and another goes on: a source, a target and a folder of its own. */
export interface Place extends AsyncDisposable {
  readonly source: SourceDatabase
  readonly target: Target
  readonly folder: string
}

const TEMPLATE = 'template_of_crashes'
export const ROWS = 800
/** Rows that no target ever gets: a transform throws at each. */
export const POISON = 3

/** The tables that every place begins with; copied for each, which is quicker than to fill them. */
export async function makeTemplate(server: SourceDatabase): Promise<void> {
  await server.query(`CREATE DATABASE ${TEMPLATE}`)
  await using template = databaseOn(server.server, TEMPLATE)
  await createHardTables(template, { rows: ROWS })
  await template.query(`
    CREATE TABLE poison (id integer PRIMARY KEY); INSERT INTO poison SELECT generate_series(1, ${POISON});
    CREATE TABLE spare (id integer PRIMARY KEY); INSERT INTO spare SELECT generate_series(1, 5);
    CREATE TABLE extra (id integer PRIMARY KEY, n integer REFERENCES spare); INSERT INTO extra SELECT i, i % 5 + 1 FROM generate_series(1, 20) i;
    CREATE INDEX ON extra (n);
    CREATE TABLE later (id integer PRIMARY KEY)`)
}

let count = 0

export async function makePlace(server: SourceDatabase, kind: Target['kind'], temp: TempFolder): Promise<Place> {
  const name = `crash_${++count}`
  const folder = temp.join(name)
  mkdirSync(folder)
  await server.query(`CREATE DATABASE ${name} TEMPLATE ${TEMPLATE}`)
  if (kind === 'postgres') await server.query(`CREATE DATABASE ${name}_target`)
  const source = databaseOn(server.server, name)
  return {
    source,
    folder,
    target: targetIn(server, kind, folder, name),
    [Symbol.asyncDispose]: async () => {
      await source[Symbol.asyncDispose]()
      await server.query(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '${name}' AND NOT active`)
      await server.query(`DROP DATABASE ${name} WITH (FORCE)`)
      await server.query(`DROP DATABASE IF EXISTS ${name}_target WITH (FORCE)`)
    },
  }
}

function targetIn(server: SourceDatabase, kind: Target['kind'], folder: string, name: string): Target {
  switch (kind) {
    case 'postgres':
      return postgresTarget(server.server.uri(`${name}_target`))
    case 'sqlite':
      return sqliteTarget(join(folder, 'target.sqlite'))
    case 'duckdb':
      return duckdbTarget(join(folder, 'target.duckdb'))
    default:
      return kind satisfies never
  }
}
