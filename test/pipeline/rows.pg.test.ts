import assert from 'node:assert/strict'
import { cases, Oracle, pipelineCase, quote, useBench, type SinkName } from './kit.ts'

const bench = useBench({ settings: { wal_sender_timeout: '20s' } })

const BIG = "(SELECT string_agg(md5(i::text || random()::text), '') FROM generate_series(1, 200) i)"
const FEW: readonly SinkName[] = ['sqlite']

cases('rows of the stream', () => {
  pipelineCase(
    bench,
    'CASE 27: a large value that an update leaves alone keeps its value, also with others in one batch',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, n int, big text, other text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL; INSERT INTO t SELECT i, i, ${BIG}, ${BIG} FROM generate_series(1, 8) i`,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run(`UPDATE t SET n = 0 WHERE id = 1; UPDATE t SET big = NULL WHERE id = 1; UPDATE t SET n = 9 WHERE id = 1`)
      await world.source.run(
        `UPDATE t SET n = 7 WHERE id = 2; BEGIN; UPDATE t SET big = ${BIG} WHERE id = 3; UPDATE t SET n = 5 WHERE id = 3; UPDATE t SET other = NULL WHERE id = 3; UPDATE t SET n = 6 WHERE id = 3; COMMIT`,
      )
      await world.source.run(
        `BEGIN; INSERT INTO t SELECT 20, 1, ${BIG}, ${BIG}; UPDATE t SET n = 2 WHERE id = 20; UPDATE t SET id = 21 WHERE id = 20; UPDATE t SET n = 3 WHERE id = 21; COMMIT`,
      )
      await world.source.run(
        `BEGIN; UPDATE t SET id = 40 WHERE id = 4; UPDATE t SET id = 4 WHERE id = 5; UPDATE t SET n = 44 WHERE id = 4; COMMIT; BEGIN; DELETE FROM t WHERE id = 6; INSERT INTO t SELECT 6, 66, ${BIG}, NULL; UPDATE t SET n = 67 WHERE id = 6; COMMIT`,
      )
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 35: a deferrable key: two rows at one key in the middle of a transaction',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY IMMEDIATE, v text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 9) i`,
      // The memory sink finds rows by their key alone: the second row at a key takes the first one's place.
      sinks: ['sqlite', 'duckdb', 'postgres'],
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run('UPDATE t SET id = id + 1')
      await world.source.run('BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE t SET id = 11 - id WHERE id <= 10; COMMIT')
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 22: keys updated, swapped, chained; delete and insert of one key in one transaction',
    {
      setup: `CREATE TABLE u (id int PRIMARY KEY, v text, w text); ALTER TABLE u ALTER w SET STORAGE EXTERNAL; INSERT INTO u SELECT i, 'v' || i, ${BIG} FROM generate_series(1, 9) i`,
    },
    async (world) => {
      const running = await world.follow()
      const { source } = world
      await source.run(
        'BEGIN; UPDATE u SET id = 100 WHERE id = 1; UPDATE u SET id = 1 WHERE id = 2; UPDATE u SET id = 2 WHERE id = 100; COMMIT',
      )
      await source.run(
        "BEGIN; UPDATE u SET id = 31 WHERE id = 3; UPDATE u SET id = 3 WHERE id = 4; UPDATE u SET v = 'at 3' WHERE id = 3; INSERT INTO u VALUES (4, 'born', 'w'); COMMIT",
      )
      await source.run(
        "BEGIN; DELETE FROM u WHERE id = 5; INSERT INTO u VALUES (5, 'again', 'w'); DELETE FROM u WHERE id = 5; INSERT INTO u VALUES (5, 'third', 'w'); COMMIT; BEGIN; INSERT INTO u VALUES (50, 'x', 'y'); DELETE FROM u WHERE id = 50; COMMIT",
      )
      await running.caughtUp()
      await world.same(['u'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'TRAP 33: two rows exchange the values of a second unique column',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE, n int); INSERT INTO t SELECT i, 'e' || i, i FROM generate_series(1, 4) i`,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run(
        "BEGIN; UPDATE t SET email = 'x' WHERE id = 1; UPDATE t SET email = 'e1' WHERE id = 2; UPDATE t SET email = 'e2' WHERE id = 1; COMMIT; BEGIN; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (30, 'e3', 30); UPDATE t SET email = 'e44' WHERE id = 4; INSERT INTO t VALUES (44, 'e4', 4); COMMIT",
      )
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 21: TRUNCATE then INSERT in one transaction; of several tables, CASCADE',
    {
      setup: `CREATE TABLE p (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p, v text); CREATE TABLE alone (id int PRIMARY KEY); INSERT INTO p SELECT i, 'p' || i FROM generate_series(1, 3) i; INSERT INTO c SELECT i, i, 'c' || i FROM generate_series(1, 3) i; INSERT INTO alone VALUES (1), (2)`,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run('BEGIN; INSERT INTO alone VALUES (3); TRUNCATE alone; INSERT INTO alone VALUES (1), (9); COMMIT')
      await world.source.run(
        "INSERT INTO c VALUES (7, 1, 'before'); BEGIN; TRUNCATE p CASCADE; INSERT INTO p VALUES (1, 'new'), (2, 'new'); INSERT INTO c VALUES (1, 1, 'new'); COMMIT",
      )
      await running.caughtUp()
      await world.same(['p', 'c', 'alone'])
      await world.source.run(
        "BEGIN; TRUNCATE c, p, alone RESTART IDENTITY; INSERT INTO p VALUES (5, 'five'); COMMIT; UPDATE p SET v = 'after' WHERE id = 5",
      )
      await running.caughtUp()
      await world.same(['p', 'c', 'alone'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 19: transactions that begin in one order and commit in another; a subtransaction rolled back',
    { setup: 'CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, NULL FROM generate_series(1, 3) i' },
    async (world) => {
      const running = await world.follow()
      await using first = await world.source.session()
      await using second = await world.source.session()
      await first.run("BEGIN; UPDATE t SET v = 'first' WHERE id = 1")
      await second.run("BEGIN; UPDATE t SET v = 'second' WHERE id = 2; INSERT INTO t VALUES (10, 'second')")
      await first.run(
        "SAVEPOINT s; UPDATE t SET v = 'undone' WHERE id = 3; INSERT INTO t VALUES (11, 'undone'); ROLLBACK TO s; INSERT INTO t VALUES (12, 'first')",
      )
      await second.run('COMMIT; DELETE FROM t WHERE id = 10')
      await first.run("UPDATE t SET v = 'first again' WHERE id = 2; COMMIT")
      await running.caughtUp()
      await world.same(['t'])
      const report = await running.stop()
      assert.equal(report.ok, true)
      assert.deepEqual(report.tables[0]?.stream, { inserts: 2, updates: 3, deletes: 1, truncates: 0 })
    },
  )

  pipelineCase(
    bench,
    'CASE 24: eight writers at once on four hot keys, updates, deletes, inserts and swaps: the last one committed is what is there (PeerDB #3654)',
    {
      setup: `CREATE TABLE t (id int PRIMARY KEY, n int, v text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL; INSERT INTO t SELECT i, 0, NULL, ${BIG} FROM generate_series(1, 4) i`,
    },
    async (world) => {
      const running = await world.follow()
      let committed = 0
      await Promise.all(
        Array.from({ length: 8 }, async (_, writer) => {
          await using session = await world.source.session()
          for (let i = 0; i < 40; i++) {
            const [key, other] = [1 + ((i + writer) % 4), 1 + ((i + writer + 1) % 4)]
            const name = `${writer}/${i}`
            // Keys are locked in one order, but a swap moves them under those who wait: a deadlock is rolled back like any lost race.
            const lock = `SELECT FROM t WHERE id IN (${key}, ${other}) ORDER BY id FOR UPDATE`
            const sql =
              i % 10 === 3
                ? `BEGIN; ${lock}; DELETE FROM t WHERE id = ${key}; COMMIT`
                : i % 10 === 7
                  ? `BEGIN; ${lock}; UPDATE t SET id = -${writer + 1} WHERE id = ${key}; UPDATE t SET id = ${key} WHERE id = ${other}; UPDATE t SET id = ${other}, v = '${name}' WHERE id = -${writer + 1}; COMMIT`
                  : `INSERT INTO t (id, n, v) VALUES (${key}, 1, '${name}') ON CONFLICT (id) DO UPDATE SET n = t.n + 1, v = '${name}'`
            await session.run(sql).then(
              () => committed++,
              () => session.run('ROLLBACK'),
            )
          }
        }),
      )
      assert.ok(committed > 200, `only ${committed} of 320 were committed`)
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 23: deletes that cascade along foreign keys, of a parent that is updated and of one that goes',
    {
      setup: `CREATE TABLE p (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, v text); CREATE TABLE n (id int PRIMARY KEY, p int REFERENCES p ON DELETE SET NULL ON UPDATE CASCADE); INSERT INTO p SELECT i, 'p' || i FROM generate_series(1, 5) i; INSERT INTO c SELECT i, 1 + i % 5, 'c' FROM generate_series(1, 15) i; INSERT INTO n SELECT i, 1 + i % 5 FROM generate_series(1, 10) i`,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run(
        "UPDATE p SET v = 'updated' WHERE id <= 2; DELETE FROM p WHERE id = 3; UPDATE p SET id = 40 WHERE id = 4; BEGIN; DELETE FROM c WHERE p = 5; DELETE FROM n WHERE p = 5; DELETE FROM p WHERE id = 5; INSERT INTO p VALUES (5, 'again'); INSERT INTO c VALUES (100, 5, 'again'); COMMIT",
      )
      await running.caughtUp()
      await world.same(['p', 'c', 'n'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 25: deferred constraints, and triggers of the source that are not fired again',
    {
      setup: `CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a DEFERRABLE INITIALLY DEFERRED); ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
              CREATE TABLE u (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO u SELECT i, i FROM generate_series(1, 5) i;
              CREATE TABLE log (id serial PRIMARY KEY, what text);
              CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES (TG_OP || ' ' || NEW.id); RETURN NEW; END $$;
              CREATE TRIGGER note AFTER INSERT OR UPDATE ON u FOR EACH ROW EXECUTE FUNCTION note()`,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run(
        'BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); COMMIT; BEGIN; UPDATE u SET place = 6 - place; INSERT INTO u VALUES (9, 9); COMMIT',
      )
      await running.caughtUp()
      await world.same(['a', 'b', 'u', 'log'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 25: the target has deferred constraints and a trigger of its own: constraints hold, the trigger fires neither for the copy nor for the stream',
    {
      setup: `CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int); INSERT INTO a VALUES (5, 5); INSERT INTO b VALUES (5, 5);
              CREATE TABLE u (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO u SELECT i, i FROM generate_series(1, 5) i`,
      sinks: ['postgres'],
    },
    async (world) => {
      await using target = await Oracle.connect(world.target.uri)
      await target.run(
        `CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a DEFERRABLE INITIALLY DEFERRED); ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
         CREATE TABLE u (id int PRIMARY KEY, place int UNIQUE DEFERRABLE INITIALLY DEFERRED); CREATE TABLE fired (what text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO fired VALUES (TG_OP); RETURN NULL; END $$;
         CREATE TRIGGER each_row AFTER INSERT OR UPDATE OR DELETE ON u FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER each_statement AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON u EXECUTE FUNCTION note()`,
      )
      const running = await world.follow()
      await world.source.run(
        'BEGIN; INSERT INTO b VALUES (1, 1); INSERT INTO a VALUES (1, 1); COMMIT; BEGIN; UPDATE u SET place = 6 - place; INSERT INTO u VALUES (9, 9); COMMIT; BEGIN; DELETE FROM a WHERE id = 5; DELETE FROM b WHERE id = 5; COMMIT; TRUNCATE u; INSERT INTO u VALUES (1, 2), (2, 1)',
      )
      await running.caughtUp()
      await world.same(['a', 'b', 'u'])
      assert.deepEqual(await target.run('SELECT what FROM fired'), [])
      assert.equal((await running.stop()).ok, true)
      await assert.rejects(target.run('INSERT INTO a VALUES (77, 77)'), { code: '23503' }, 'the constraints are there for others')
    },
  )

  pipelineCase(
    bench,
    'CASE 16: text, uuid and composite keys, none at all, a key that is not the first column',
    {
      setup: `CREATE TABLE by_text (name text COLLATE "en-x-icu" PRIMARY KEY, n int); INSERT INTO by_text SELECT x, 1 FROM unnest(ARRAY['a', 'B', 'c', 'Z', 'ä', 'z', '', ' ', 'é', 'É', '😀', 'a''b', 'a\\b']) x;
              CREATE TABLE by_uuid (id uuid PRIMARY KEY, n int); INSERT INTO by_uuid SELECT gen_random_uuid(), i FROM generate_series(1, 20) i;
              CREATE TABLE by_two (b text, x int, a int, PRIMARY KEY (a, b)); INSERT INTO by_two SELECT 'b' || i % 3, i, i / 3 FROM generate_series(0, 20) i;
              CREATE TABLE no_key (n int, v text, f float8); ALTER TABLE no_key REPLICA IDENTITY FULL; INSERT INTO no_key VALUES (1, 'x', 1.5), (1, 'x', 1.5), (1, 'x', 1.5), (2, NULL, 'NaN'), (NULL, NULL, NULL), (NULL, NULL, NULL);
              CREATE TABLE by_index (v text, code int NOT NULL, other text); CREATE UNIQUE INDEX by_index_code ON by_index (code); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code; INSERT INTO by_index SELECT 'v', i, 'o' FROM generate_series(1, 5) i`,
    },
    async (world) => {
      const running = await world.follow()
      const { source } = world
      await source.run(
        "UPDATE by_text SET n = 2 WHERE name IN ('B', 'ä', '😀'); UPDATE by_text SET name = 'É!' WHERE name = 'É'; DELETE FROM by_text WHERE name = ''; INSERT INTO by_text VALUES ('b', 3)",
      )
      await source.run('UPDATE by_uuid SET n = n + 100 WHERE n % 2 = 0; DELETE FROM by_uuid WHERE n < 6')
      await source.run(
        "UPDATE by_two SET a = a + 10 WHERE b = 'b1'; UPDATE by_two SET x = -1 WHERE b = 'b2'; DELETE FROM by_two WHERE a = 0; UPDATE by_two SET b = b || '!' WHERE a > 14",
      )
      await source.run(
        "DELETE FROM no_key WHERE ctid = (SELECT min(ctid) FROM no_key WHERE n = 1); UPDATE no_key SET v = 'y' WHERE ctid = (SELECT min(ctid) FROM no_key WHERE n = 1); UPDATE no_key SET v = 'null' WHERE ctid = (SELECT min(ctid) FROM no_key WHERE n IS NULL); UPDATE no_key SET f = 2 WHERE n = 2; INSERT INTO no_key VALUES (1, 'x', 1.5)",
      )
      await source.run(
        "UPDATE by_index SET other = 'changed' WHERE code = 2; UPDATE by_index SET code = 33 WHERE code = 3; DELETE FROM by_index WHERE code = 4",
      )
      await running.caughtUp()
      await world.same(['by_text', 'by_uuid', 'by_two', 'no_key', 'by_index'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  const long = `${'x'.repeat(50)}_äöü_long`
  const odd = ['Mixed Case', 'select', 'ünïcödé', 'with"quote', "it's", 'dot.ted', '$dollar', 'tab\tbed', long]
  pipelineCase(
    bench,
    'CASE 30: mixed-case, reserved, unicode and long names; schemas other than public',
    {
      setup: `CREATE SCHEMA "Other Schema"; CREATE SCHEMA sales;
              ${odd.map((name) => `CREATE TABLE ${quote(name)} ("Id" int PRIMARY KEY, ${odd.map((column) => `${quote(column)} text`).join(', ')}); INSERT INTO ${quote(name)} ("Id", "select") VALUES (1, 'one'), (2, 'two');`).join('\n')}
              CREATE TABLE sales.orders (id int PRIMARY KEY, v text); INSERT INTO sales.orders VALUES (1, 'sales'); CREATE TABLE orders (id int PRIMARY KEY, v text); INSERT INTO orders VALUES (1, 'public');
              CREATE TABLE "Other Schema"."Orders X" (id int PRIMARY KEY, v text); INSERT INTO "Other Schema"."Orders X" VALUES (1, 'other')`,
    },
    async (world) => {
      const running = await world.follow()
      const { source } = world
      for (const name of odd)
        await source.run(
          `UPDATE ${quote(name)} SET ${odd.map((column) => `${quote(column)} = 'changed'`).join(', ')} WHERE "Id" = 2; INSERT INTO ${quote(name)} ("Id") VALUES (3); DELETE FROM ${quote(name)} WHERE "Id" = 1`,
        )
      await source.run(
        `UPDATE sales.orders SET v = 'x'; INSERT INTO orders VALUES (2, 'y'); INSERT INTO "Other Schema"."Orders X" VALUES (2, 'z')`,
      )
      await running.caughtUp()
      // Names with a dot would be taken for a schema by the kit.
      await world.same([...odd.filter((name) => !name.includes('.')), 'orders', 'sales.orders', 'Other Schema.Orders X'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 18: a quiet table, and a publication whose filter takes nothing, do not pin the slot',
    {
      setup: 'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE busy (id serial PRIMARY KEY, v text)',
      settings: { tables: ['t'] },
      sinks: FEW,
    },
    async (world) => {
      const running = await world.follow()
      const { source } = world
      const first = await source.confirmed()
      for (let i = 0; i < 5; i++) await source.run("INSERT INTO busy (v) SELECT repeat('x', 500) FROM generate_series(1, 200)")
      const head = await source.head()
      await running.reaches(async () => ((await source.confirmed()) ?? 0n) >= head, 'the slot moves past what is none of ours')
      assert.ok(first !== null && head > first)
      await source.run('INSERT INTO t VALUES (2)')
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )

  pipelineCase(
    bench,
    'CASE 29: generated and identity columns',
    {
      setup: `CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, n int GENERATED BY DEFAULT AS IDENTITY, s serial); INSERT INTO t (a) SELECT i FROM generate_series(1, 5) i`,
    },
    async (world) => {
      const running = await world.follow()
      await world.source.run(
        'INSERT INTO t (a) VALUES (60), (70); UPDATE t SET a = 0 WHERE id = 2; UPDATE t SET id = DEFAULT WHERE id = 3; DELETE FROM t WHERE id = 4',
      )
      await running.caughtUp()
      await world.same(['t'])
      assert.equal((await running.stop()).ok, true)
    },
  )
})
