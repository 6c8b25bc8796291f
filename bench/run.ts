import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startPostgres } from '../src/testing/postgres-server.ts'
import { must, saveResult, type Row } from './kit.ts'
import { benchRelay, makeTable } from './snapshot.ts'
import { benchBacklog } from './stream.ts'
import { benchVerify } from './verify.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '10000,1000000' },
    changes: { type: 'string', default: '200000' },
    'verify-rows': { type: 'string', default: '3000000' },
    rounds: { type: 'string', default: '5' },
    pg: { type: 'string', default: '18' },
    only: { type: 'string', default: 'snapshot,stream,verify' },
  },
})
const rounds = Number(values.rounds)
const parts = new Set(values.only.split(','))
const rows: Row[] = []

await must(process.execPath, [fileURLToPath(new URL('../scripts/build.mjs', import.meta.url))])
await using server = await startPostgres({
  major: Number(values.pg),
  settings: { fsync: 'on', shared_buffers: '1GB', max_wal_size: '8GB', synchronous_commit: 'on' },
})
const client = new (await import('pg')).default.Client({ connectionString: server.uri() })
await client.connect()
await client.query('CREATE DATABASE target')
await client.end()

if (parts.has('snapshot')) {
  for (const count of values.rows.split(',').map(Number)) {
    await makeTable(server, count)
    for (const workers of [1, 2]) rows.push(await benchRelay(server, count, rounds, workers))
  }
}
if (parts.has('stream'))
  for (const size of [1, 10, 100_000])
    rows.push(await benchBacklog(server, size === 1 ? Number(values.changes) / 2 : Number(values.changes), size, rounds))

if (parts.has('verify')) {
  const count = Number(values['verify-rows'])
  await makeTable(server, count)
  rows.push(...(await benchVerify(server, count, rounds)))
}

const command = `npm run bench -- --rows ${values.rows} --changes ${values.changes} --verify-rows ${values['verify-rows']} --rounds ${values.rounds} --pg ${values.pg} --only ${values.only}`
const notes = [
  'Times are those of whole commands, start of Node included. Snapshot: both sides are compared row by row (count and sum of row hashes) in every round.',
  `PostgreSQL ${values.pg}, fsync on, source and target in one server on the same machine, which shares its cores with the client.`,
]
console.log(await saveResult('postgres', command, rows, notes))
