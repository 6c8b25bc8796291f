import assert from 'node:assert/strict'
import { after, describe, it } from 'node:test'
import { TailraceError, type Problem } from '../../../sdk/errors.ts'
import { startPostgres } from '../../../testing/postgres-server.ts'
import { sinkTable } from '../../../testing/sink-batches.ts'
import { pgTable } from './test-data/tables.ts'
import { TargetServer } from './test-data/target-server.ts'

const server = await TargetServer.start(startPostgres)
after(() => server[Symbol.asyncDispose]())
const signal = new AbortController().signal

const docs = pgTable({ name: 'docs', columns: ['id integer', 'name text'], key: ['id'] })
const table = sinkTable(docs)

function hints(problems: readonly Problem[], severity?: Problem['severity']): string[] {
  return problems
    .filter((problem) => severity === undefined || problem.severity === severity)
    .map((problem) => problem.hint ?? problem.message)
}

describe(`check of a PostgreSQL ${server.major} target`, () => {
  it('TRAP 36: names the right that a role lacks; with it nothing is left to say', async () => {
    await using target = await server.target({ user: 'plain' })
    await target.makeRole('plain')
    const before = hints(await (await target.sink()).check([table], signal))
    const grant =
      server.major >= 15
        ? 'GRANT SET ON PARAMETER session_replication_role TO plain;'
        : 'on PostgreSQL 14 only a superuser may: ALTER ROLE plain SUPERUSER;'
    assert.ok(before.includes(grant), before.join('\n'))
    await target.oracle.run(server.major >= 15 ? grant : 'ALTER ROLE plain SUPERUSER')
    assert.ok(!hints(await (await target.sink()).check([table], signal)).includes(grant))
  })

  it('says every missing privilege with the GRANT that gives it, and the GRANTs suffice', async () => {
    await using target = await server.target({ user: 'bare' })
    await target.oracle.run(
      `CREATE ROLE bare LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE TABLE docs (id integer PRIMARY KEY, name text)`,
    )
    const other = sinkTable(docs, 'elsewhere')
    const sink = await target.sink()
    const errors = hints(await sink.check([table, other], signal), 'error')
    assert.deepEqual(errors, [
      `GRANT CREATE ON DATABASE ${target.database} TO bare;`,
      'GRANT CREATE, USAGE ON SCHEMA "public" TO bare;',
      `GRANT CREATE ON DATABASE ${target.database} TO bare;`,
      'GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON "public"."docs" TO bare;',
    ])
    await target.oracle.run(errors.join('\n'))
    assert.deepEqual(hints(await sink.check([table, other], signal), 'error'), [])
    await sink.checkpoints.claim(signal)
    await sink.applySchema(table, null, signal)
  })

  it('the right to temporary tables is asked for with --deletes soft only, where rows are merged, and the GRANT suffices', async () => {
    await using target = await server.target({ user: 'lasting' })
    await target.makeRole('lasting')
    await target.oracle.run(`REVOKE TEMPORARY ON DATABASE ${target.database} FROM PUBLIC`)
    const grant = `GRANT TEMPORARY ON DATABASE ${target.database} TO lasting;`
    const soft = await target.sink({ deletes: 'soft' })
    const keyless = sinkTable({ ...docs, key: [] })
    assert.deepEqual(hints(await soft.check([table], signal), 'error'), [grant])
    assert.deepEqual(hints(await soft.check([keyless], signal), 'error'), [])
    assert.deepEqual(hints(await (await target.sink()).check([table], signal), 'error'), [])
    await soft.checkpoints.claim(signal)
    await soft.applySchema(table, null, signal)
    const request = {
      table,
      chunk: { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 },
      format: 'csv',
      replace: false,
      merge: true,
    } as const
    await assert.rejects(soft.load(request, signal), { code: 'NOT_ALLOWED', hint: grant })
    await target.oracle.run(grant)
    assert.deepEqual(hints(await soft.check([table], signal), 'error'), [])
    await using loader = await soft.load(request, signal)
    await loader.write({ format: 'csv', data: Buffer.from('1,one\n'), rows: 1, bytes: 6 })
    assert.equal((await loader.finish()).rows, 1)
  })

  it('what is to be typed is quoted for a shell where names need it', async () => {
    await using target = await server.target()
    const mixed = sinkTable(pgTable({ name: 'My Docs', columns: ['id integer', 'name text'], key: ['id'] }))
    await target.oracle.run(`CREATE TABLE "My Docs" (id integer PRIMARY KEY, name text GENERATED ALWAYS AS ('x') STORED)`)
    const sink = await target.sink()
    assert.deepEqual(hints(await sink.check([mixed], signal), 'error'), [`--exclude 'public."My Docs".name'`])
    await target.oracle.run('DROP TABLE "My Docs"')
    const gone = await sink.formats(mixed, signal).catch((error: unknown) => error)
    assert.ok(gone instanceof TailraceError)
    assert.match(gone.hint ?? '', /resnapshot <pipeline> --tables 'public\."My Docs"'$/)
  })

  it('TRAP 36, CASE 25: triggers that would fire', async () => {
    await using target = await server.target()
    await target.makeRole('owner')
    await using owner = await target.connect('owner')
    await owner.run(`CREATE TABLE docs (id integer PRIMARY KEY, name text); CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER normal BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION noop(); CREATE TRIGGER always BEFORE INSERT ON docs FOR EACH ROW EXECUTE FUNCTION noop();
      ALTER TABLE docs ENABLE ALWAYS TRIGGER always`)
    const withRole = await (await target.sink()).check([table], signal)
    assert.deepEqual(
      hints(withRole).filter((hint) => hint.includes('TRIGGER')),
      ['ALTER TABLE "public"."docs" DISABLE TRIGGER "always";'],
    )
    const plain = await (await target.sink({}, { user: 'owner' })).check([table], signal)
    assert.deepEqual(hints(plain, 'error'), [
      'ALTER TABLE "public"."docs" DISABLE TRIGGER "always";',
      'ALTER TABLE "public"."docs" DISABLE TRIGGER "normal";',
    ])
  })

  it('columns of an existing table that cannot take the rows', async () => {
    await using target = await server.target()
    await target.oracle.run(
      `CREATE TABLE docs (id integer PRIMARY KEY, name text GENERATED ALWAYS AS ('x') STORED, must integer NOT NULL, may integer NOT NULL DEFAULT 1)`,
    )
    const errors = hints(await (await target.sink()).check([table], signal), 'error')
    assert.deepEqual(errors, ['--exclude public.docs.name', 'ALTER TABLE "public"."docs" ALTER COLUMN "must" DROP NOT NULL;'])
    await target.oracle.run(`DROP TABLE docs; CREATE TABLE docs (id integer PRIMARY KEY, name character varying(3))`)
    assert.deepEqual(await (await target.sink()).misfits(table, signal), [
      { column: 'name', found: 'character varying(3)', wanted: 'text' },
    ])
    await target.oracle.run(`DROP TABLE docs; CREATE VIEW docs AS SELECT 1 AS id, 'x' AS name`)
    assert.deepEqual(
      (await (await target.sink()).check([table], signal))
        .filter((problem) => problem.severity === 'error')
        .map((problem) => problem.message),
      ['"public"."docs" is not a table'],
    )
  })

  it('TRAP 44: a server that commits asynchronously is told to wait', async () => {
    await using target = await server.target()
    await target.oracle.run(`ALTER DATABASE ${target.database} SET synchronous_commit = off`)
    const sink = await target.sink()
    await sink.checkpoints.claim(signal)
    await sink.applySchema(table, null, signal)
    await target.oracle
      .run(`CREATE TABLE seen (v text); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.seen VALUES (current_setting(''synchronous_commit'')); RETURN NULL; END';
      CREATE TRIGGER see AFTER UPDATE ON tailrace.checkpoints FOR EACH ROW EXECUTE FUNCTION see(); ALTER TABLE tailrace.checkpoints ENABLE ALWAYS TRIGGER see`)
    await sink.checkpoints.store('x' as never, signal)
    assert.equal(await target.oracle.value('SELECT v FROM seen'), 'on')
  })
})
