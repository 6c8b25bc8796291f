import assert from 'node:assert/strict'
import type { TableId } from '../../src/model/schema.ts'
import { until } from '../kit/until.ts'
import { cases, MAJOR, pipelineCase, useBench, type SinkName, type World } from './kit.ts'

const bench = useBench()

const FEW: readonly SinkName[] = ['sqlite']
const theirs = { sourceOptions: { publication: 'mine' } }
const BY_SCHEMA = MAJOR < 15 ? 'schemas in publications came with 15' : false

const rows = (table: string): string => `INSERT INTO ${table} SELECT i, 'a', i FROM generate_series(1, 9) i`
const PARTS = `CREATE TABLE p (id int, r text, n int, PRIMARY KEY (id, r)) PARTITION BY LIST (r); CREATE TABLE p_a PARTITION OF p FOR VALUES IN ('a'); CREATE TABLE p_b PARTITION OF p FOR VALUES IN ('b'); ${rows('p')}`
/** Without anything that could need a TOAST table, and with. */
const PLAIN = `CREATE TABLE t (id int PRIMARY KEY, r "char", n int); ${rows('t')}`
const TOASTED = `CREATE TABLE t (id int PRIMARY KEY, r text, n int); ${rows('t')}`
const lost = (table: string): readonly string[] => [
  `UPDATE ${table} SET n = 0 WHERE id < 4`,
  `DELETE FROM ${table} WHERE id = 5`,
  `INSERT INTO ${table} VALUES (20, 'a', 20)`,
]

interface Gap {
  readonly what: string
  readonly setup: string
  readonly table: string
  /** What the log lacks is written between them. */
  readonly sql: readonly string[]
  readonly skip?: string | false
}

/** Membership of which the publication itself tells nothing. */
const GAPS: readonly Gap[] = [
  {
    what: 'TRAP 52: a partition is detached, changed and attached again under a publication of its root',
    setup: `${PARTS}; CREATE PUBLICATION mine FOR TABLE p`,
    table: 'p',
    sql: ['ALTER TABLE p DETACH PARTITION p_a', ...lost('p_a'), "ALTER TABLE p ATTACH PARTITION p_a FOR VALUES IN ('a')"],
  },
  {
    what: 'TRAP 52: partitions of a partition are detached with it, changed and attached again',
    setup: `CREATE TABLE p (id int, r text, n int, PRIMARY KEY (id, r)) PARTITION BY LIST (r); CREATE TABLE p_m PARTITION OF p FOR VALUES IN ('a') PARTITION BY RANGE (id);
      CREATE TABLE p_1 PARTITION OF p_m FOR VALUES FROM (1) TO (100); ${rows('p')}; CREATE PUBLICATION mine FOR TABLE p`,
    table: 'p',
    sql: ['ALTER TABLE p DETACH PARTITION p_m', ...lost('p_m'), "ALTER TABLE p ATTACH PARTITION p_m FOR VALUES IN ('a')"],
  },
  {
    what: 'TRAP 52: a partition of another schema is detached, changed and attached again under a publication of the schema of its root',
    setup: `CREATE SCHEMA app; ${PARTS.replaceAll(/\bp\b/g, 'app.p')}; CREATE PUBLICATION mine FOR TABLES IN SCHEMA app`,
    table: 'app.p',
    sql: ['ALTER TABLE app.p DETACH PARTITION p_a', ...lost('p_a'), "ALTER TABLE app.p ATTACH PARTITION p_a FOR VALUES IN ('a')"],
    skip: BY_SCHEMA,
  },
  {
    what: 'TRAP 48: a table leaves the published schema and comes back',
    setup: `CREATE SCHEMA app; CREATE SCHEMA away; ${TOASTED}; ALTER TABLE t SET SCHEMA app; CREATE PUBLICATION mine FOR TABLES IN SCHEMA app`,
    table: 'app.t',
    sql: ['ALTER TABLE app.t SET SCHEMA away', ...lost('away.t'), 'ALTER TABLE away.t SET SCHEMA app'],
    skip: BY_SCHEMA,
  },
]

/** A publication of tables that it does not name, which may be UNLOGGED. */
const UNNAMED = [
  ['all tables', TOASTED, 't', 't', 'FOR ALL TABLES', false],
  ['all tables, without a TOAST table', PLAIN, 't', 't', 'FOR ALL TABLES', false],
  ['the root of a partition', PARTS, 'p', 'p_a', 'FOR TABLE p', false],
  ['a schema', TOASTED, 't', 't', 'FOR TABLES IN SCHEMA public', BY_SCHEMA],
] as const

async function run(world: World, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await world.source.run(statement)
}

/** Everything that comes after is followed as ever, and nothing is read again without need. */
async function goesOn(world: World, table: string): Promise<void> {
  const running = await world.follow()
  await world.source.run(
    `UPDATE ${table} SET n = 77 WHERE id = 1; DELETE FROM ${table} WHERE id = 2; INSERT INTO ${table} VALUES (30, 'a', 30)`,
  )
  await running.caughtUp()
  await world.same([table])
  assert.equal(running.probe.loads, 0)
  assert.equal((await running.stop()).ok, true)
}

cases('tables that a publication does not send for a while, which it does not tell itself', () => {
  for (const { what, setup, table, sql, skip } of GAPS) {
    pipelineCase(
      bench,
      `${what}: HISTORY_LOST until it is read again`,
      { setup, settings: { ...theirs, tables: [table] }, sinks: FEW, skip: skip ?? false },
      async (world) => {
        assert.equal((await world.pipeline.run('caught-up')).ok, true)
        await run(world, sql)
        for (let n = 0; n < 2; n++) {
          const { ok, problems } = await world.pipeline.run('caught-up')
          assert.equal(ok, false)
          const [problem] = problems.filter(({ code }) => code === 'HISTORY_LOST')
          assert.match(problem?.message ?? '', /for a while not all in the publication mine/)
        }
        const { pipeline } = await world.pipeline.run('caught-up')
        await world.pipeline.store.request(pipeline, {
          kind: 'resnapshot',
          tables: [(table.includes('.') ? table : `public.${table}`) as TableId],
        })
        assert.equal((await world.pipeline.run('caught-up')).ok, true)
        await world.same([table])
        await goesOn(world, table)
      },
    )
  }

  for (const [what, setup, table, relation, publication, skip] of UNNAMED) {
    pipelineCase(
      bench,
      `UNLOGGED for a while under a publication of ${what}: the table is read again, once`,
      { setup: `${setup}; CREATE PUBLICATION mine ${publication}`, settings: { ...theirs, tables: [table] }, sinks: FEW, skip },
      async (world) => {
        assert.equal((await world.pipeline.run('caught-up')).ok, true)
        await run(world, [`ALTER TABLE ${relation} SET UNLOGGED`, ...lost(relation), `ALTER TABLE ${relation} SET LOGGED`])
        assert.equal((await world.pipeline.run('caught-up')).ok, true)
        await world.same([table])
        await goesOn(world, table)
        const running = await world.follow({ schemaChanges: 'ignore' })
        await run(world, [
          `BEGIN; ALTER TABLE ${relation} SET UNLOGGED; UPDATE ${relation} SET n = -1; ALTER TABLE ${relation} SET LOGGED; COMMIT`,
        ])
        const { ok, problems } = await running.done
        assert.equal(ok, false)
        assert.match(problems.find(({ code }) => code === 'SCHEMA_CHANGED')?.message ?? '', /may have been UNLOGGED for a while/)
      },
    )

    pipelineCase(
      bench,
      `what changes no row under a publication of ${what} costs no reading`,
      { setup: `${setup}; CREATE PUBLICATION mine ${publication}`, settings: { ...theirs, tables: [table] }, sinks: FEW, skip },
      async (world) => {
        const harmless = [
          `VACUUM FULL ${relation}`,
          `CREATE INDEX more ON ${relation} (n)`,
          `CLUSTER ${relation} USING more`,
          `REINDEX TABLE ${relation}`,
          `GRANT SELECT ON ${table} TO public`,
          `ANALYZE ${table}`,
          `VACUUM FREEZE ${relation}`,
        ]
        // Rows count as old when no transaction runs that began before them, in whatever database.
        await until('the rows being the oldest', async () => {
          const old = `SELECT bool_and(xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint) FROM ${table}`
          return (await world.source.value(old)) === 't'
        })
        assert.equal((await world.pipeline.run('caught-up')).ok, true)
        await run(world, harmless)
        const running = await world.follow()
        // By then the pipeline has looked for what was done before its start.
        await world.source.run(`UPDATE ${table} SET n = 5 WHERE id = 9`)
        await running.caughtUp()
        await run(
          world,
          harmless.filter((statement) => !statement.startsWith('CREATE')),
        )
        await world.source.run(`TRUNCATE ${table}; ${rows(table)}`)
        await running.caughtUp()
        assert.equal(running.probe.loads, 0)
        assert.equal((await running.stop()).ok, true)
        await goesOn(world, table)
      },
    )
  }

  pipelineCase(
    bench,
    'TRAP 52: an empty partition that is attached costs no reading under a publication of its root',
    {
      setup: `${PARTS}; CREATE PUBLICATION mine FOR TABLE p; CREATE TABLE p_c (id int, r text, n int, PRIMARY KEY (id, r))`,
      settings: { ...theirs, tables: ['p'] },
      sinks: FEW,
      skip: MAJOR < 15 ? 'on 14 a new partition is read' : false,
    },
    async (world) => {
      const running = await world.follow()
      const { loads } = running.probe
      await world.source.run("ALTER TABLE p ATTACH PARTITION p_c FOR VALUES IN ('c')")
      await running.reaches(() => running.probe.barriers.some((barrier) => barrier.kind === 'schema'), 'the partition has joined')
      await world.source.run("INSERT INTO p VALUES (40, 'c', 1)")
      await running.caughtUp()
      assert.equal(running.probe.loads, loads)
      assert.equal((await running.stop()).ok, true)
      await goesOn(world, 'p')
    },
  )

  pipelineCase(
    bench,
    'TRAP 52: our own publication names every partition: one that is detached, changed and attached again loses nothing',
    { setup: PARTS, sinks: FEW },
    async (world) => {
      assert.equal((await world.pipeline.run('caught-up')).ok, true)
      await run(world, ['ALTER TABLE p DETACH PARTITION p_a', ...lost('p_a'), "ALTER TABLE p ATTACH PARTITION p_a FOR VALUES IN ('a')"])
      await assert.rejects(world.source.run('ALTER TABLE p_a SET UNLOGGED'), /part of a publication/)
      assert.equal((await world.pipeline.run('caught-up')).ok, true)
      await world.same(['p'])
      await goesOn(world, 'p')
    },
  )
})
