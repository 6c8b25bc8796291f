/**
 * Writes test-data/state/v<N>/state.db: a state store as the current release writes it, kept for ever so that every later
 * release proves that it can migrate it. Run it once, in the release that makes a new schema version, before that version
 * is published: node scripts/make-state-fixture.ts
 */
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Position, View } from '../src/model/position.ts'
import { tableId, type TableSchema } from '../src/model/schema.ts'
import { STATE_SCHEMA } from '../src/state/sqlite-file.ts'
import { openSqliteStore } from '../src/state/sqlite.ts'

const folder = join(import.meta.dirname, '..', 'test-data', 'state', `v${STATE_SCHEMA.version}`)
const file = join(folder, 'state.db')
mkdirSync(folder, { recursive: true })
rmSync(file, { force: true })

const id = tableId('public', 'orders')
const schema: TableSchema = {
  id,
  namespace: 'public',
  name: 'orders',
  columns: [
    {
      name: 'id',
      type: { kind: 'int64' },
      nullable: false,
      sourceType: 'bigint',
      sourceTypeId: 20,
      ordinal: 1,
      generated: 'no',
      identity: 'no',
    },
  ],
  key: [0],
  identity: 'key',
  indexes: [],
  foreignKeys: [],
  sequences: [],
  estimate: { rows: 2, bytes: 100 },
  relation: 16384,
  dialect: 'postgres',
}
const all = { kind: 'all' } as const

await using store = await openSqliteStore(file, { clock: () => 1_700_000_000_000, processes: { host: 'fixture', started: () => null } })
await using pipeline = await store.open(
  { name: 'fixture', source: 'postgres://a/db', sink: 'sqlite:///b', sourceLabel: 'postgres://u@a/db', sinkLabel: 'sqlite:///b' },
  { host: 'fixture', pid: 1, started: '1' },
)
await pipeline.savePosition('0/16B3748' as Position)
await pipeline.saveReport('{"ok":true}')
await pipeline.saveTable({
  id,
  state: 'streaming',
  schema,
  target: { namespace: null, name: 'orders' },
  rule: 'chunk',
  counters: '{"read":2}',
  terms: { where: 'total > 0', columns: null, excluded: ['note'], key: null, asked: 'in', strangers: 'none' },
})
const view = await pipeline.saveView({ view: '10:12:11' as View, viewEnd: '0/16B3700' as Position })
await pipeline.saveChunks(id, [{ chunk: { id: 0, range: all, rows: 2, bytes: 100 }, view, done: true, rows: 2, bytes: 100 }])
await pipeline.memory.set('slot', 'tailrace_fixture')
await pipeline.saveDeadLetters([
  {
    table: id,
    place: '0/16B3748/1',
    op: 'insert',
    stage: 'sink',
    code: 'ROW_REJECTED',
    reason: 'too long',
    record: '{"before":null,"after":{"id":"1"}}',
    at: 1,
  },
])
await store.request('fixture', { kind: 'resnapshot', tables: [id] })
