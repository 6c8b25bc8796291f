import assert from 'node:assert/strict'
import { at, batchOf, insert, remove, schemaOf, update } from './sink-batches.ts'
import { isError, onlyTransactional, type SinkCase } from './sink-bench.ts'

const things = schemaOf({
  name: 'things',
  columns: [
    { name: 'id', type: { kind: 'int64' } },
    { name: 'v', type: { kind: 'string' } },
  ],
  key: ['id'],
})
const thing = (id: string, v: string | null): Record<string, string | null> => ({ id, v })
const all = { id: 0, range: { kind: 'all' }, rows: -1, bytes: -1 } as const

export const checkpointCases: readonly SinkCase[] = [
  {
    title: 'a new target has no position; the epoch rises with each claim and positions stay',
    unfit: onlyTransactional,
    async run(bench) {
      const first = await bench.start(things)
      assert.equal(first?.position, null)
      await bench.expectPosition(at(0))
      await bench.commit(insert(things, ['1', 'a']))
      const second = await bench.restart(await bench.target.reopen(), things)
      assert.equal(second?.position, at(1))
      assert.ok((second?.epoch ?? 0) > (first?.epoch ?? 0))
    },
  },
  {
    title: 'the position moves with the rows and with idle time, and is forgotten on request',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      await bench.commitAll([insert(things, ['1', 'a'])], [insert(things, ['2', 'b'])])
      await bench.expectPosition(at(2))
      await bench.idle(7)
      await bench.expectPosition(at(7))
      await bench.expect(things, [thing('1', 'a'), thing('2', 'b')])
      await bench.checkpoints.store(null, bench.signal)
      await bench.expectPosition(null)
    },
  },
  {
    title: 'nothing of a transaction is seen before its position comes, in the last part or after it',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      await bench.commit(insert(things, ['1', 'a']), insert(things, ['2', 'b']))
      for (const closing of ['last part', 'idle'] as const) {
        const [number, before] = [bench.next(), await bench.target.rows(bench.table(things))]
        await bench.part(number, insert(things, [`${number}1`, 'x']), update(things, ['1', `changed ${number}`]))
        await bench.part(number, insert(things, [`${number}2`, 'y']), update(things, [`${number}1`, undefined]))
        await bench.expect(things, before, `rows of a part are seen (${closing})`)
        if (closing === 'idle') await bench.idle(number)
        else await bench.write(batchOf([{ number, changes: [remove(things, [`${number}2`, null])] }]))
        await bench.expectPosition(at(number))
      }
      await bench.expect(things, [thing('1', 'changed 3'), thing('2', 'b'), thing('21', 'x'), thing('31', 'x'), thing('32', 'y')])
    },
  },
  {
    title: 'after a part was given up nothing of it is left, and the transaction can come again',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      await bench.commit(insert(things, ['1', 'a']))
      const changes = [insert(things, ['2', 'b']), update(things, ['1', 'changed'])]
      for (const _attempt of [1, 2]) {
        await bench.write(batchOf([{ number: 2, changes: [...changes, insert(things, ['3', 'left out later'])] }], true))
        await bench.expectPosition(at(1))
        await bench.expect(things, [thing('1', 'a')])
      }
      await bench.write(batchOf([{ number: 2, changes }]))
      await bench.expect(things, [thing('1', 'changed'), thing('2', 'b')])
      await bench.expectPosition(at(2))
    },
  },
  {
    title: 'a sink that is closed in the middle of a transaction leaves nothing of it',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      await bench.commit(insert(things, ['1', 'a']))
      await bench.part(2, insert(things, ['2', 'b']))
      await bench.sink[Symbol.asyncDispose]()
      const again = await bench.target.reopen()
      const checkpoint = await bench.restart(again, things)
      assert.equal(checkpoint?.position, at(1))
      await bench.expect(things, [thing('1', 'a')])
      await again.write(batchOf([{ number: 2, changes: [insert(things, ['2', 'b'])] }]), bench.signal)
      await bench.expect(things, [thing('1', 'a'), thing('2', 'b')])
    },
  },
  {
    title: 'a claim fences the earlier runner: none of its writes counts any more (Invariant 8)',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      await bench.commit(insert(things, ['1', 'a']))
      const newer = await bench.target.reopen()
      const checkpoint = await bench.restart(newer, things)
      await assert.rejects(bench.write(batchOf([{ number: 2, changes: [insert(things, ['66', 'late'])] }])), isError('FENCED'))
      await assert.rejects(bench.checkpoints.recover(bench.signal), isError('FENCED'))
      await assert.rejects(bench.checkpoints.store(at(66), bench.signal), isError('FENCED'))
      await assert.rejects(bench.idle(67), isError('FENCED'))
      await bench.expect(things, [thing('1', 'a')])
      await newer.write(batchOf([{ number: 2, changes: [insert(things, ['2', 'b'])] }]), bench.signal)
      assert.deepEqual(await newer.checkpoints?.recover(bench.signal), { epoch: checkpoint?.epoch, position: at(2) })
      await bench.expect(things, [thing('1', 'a'), thing('2', 'b')])
    },
  },
  {
    title: 'a fenced runner loads no chunk and clears no table',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      await bench.commit(insert(things, ['1', 'a']))
      await bench.restart(await bench.target.reopen(), things)
      const load = async (): Promise<void> => {
        await using loader = await bench.sink.load({ table: bench.table(things), chunk: all, format: 'rows', replace: true }, bench.signal)
        await loader.finish()
      }
      await assert.rejects(load, isError('FENCED'))
      await assert.rejects(bench.sink.clear(bench.table(things), bench.signal), isError('FENCED'))
      await assert.rejects(bench.checkpoints.letGo([bench.table(things)], bench.signal), isError('FENCED'))
      await bench.expect(things, [thing('1', 'a')])
    },
  },
  {
    title: 'a batch that comes twice leaves the same rows',
    unfit: ({ commit }) => (commit === 'idempotent' ? null : `commit is ${commit}: the engine goes on from the sink's own position`),
    async run(bench) {
      await bench.start(things)
      const changes = [
        insert(things, ['1', 'a']),
        insert(things, ['2', 'b']),
        update(things, ['1', 'c']),
        remove(things, ['2', null]),
        insert(things, ['3', 'd']),
      ]
      for (const _attempt of [1, 2]) await bench.write(batchOf([{ number: 1, changes }]))
      await bench.expect(things, [thing('1', 'c'), thing('3', 'd')])
    },
  },
  {
    title: 'a look at the checkpoint takes no epoch and makes nothing',
    unfit: onlyTransactional,
    async run(bench) {
      assert.equal(await bench.checkpoints.look(bench.signal), null)
      assert.deepEqual(await bench.checkpoints.writers(bench.table(things), bench.signal), [])
      const claimed = await bench.start(things)
      const later = await bench.target.reopen()
      assert.deepEqual(await later.checkpoints?.look(bench.signal), { epoch: claimed?.epoch, position: at(0) })
      await bench.commit(insert(things, ['1', 'a']))
      assert.deepEqual(await later.checkpoints?.look(bench.signal), { epoch: claimed?.epoch, position: at(1) })
    },
  },
  {
    title: 'the target remembers whose a table is, until it is taken over, let go or removed',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      const table = bench.table(things)
      const other = await bench.target.reopen('other')
      /** As another sink tells it. */
      const writers = async (): Promise<string[]> => {
        const found = (await other.checkpoints?.writers(table, bench.signal)) ?? []
        return found.map(({ pipeline, follows }) => `${pipeline === 'other' ? 'other' : 'we'}${follows ? ' follow' : ''}`).sort()
      }
      assert.deepEqual(await writers(), ['we follow'])
      await other.checkpoints?.claim(bench.signal)
      await other.applySchema(table, null, bench.signal)
      assert.deepEqual(await writers(), ['other', 'we follow'])
      await other.applySchema(table, null, bench.signal, { takeOver: true })
      assert.deepEqual(await writers(), ['other'])
      await bench.sink.applySchema(table, table, bench.signal)
      await bench.commit(insert(things, ['1', 'a']))
      await other.checkpoints?.letGo([table], bench.signal)
      assert.deepEqual(await writers(), ['we follow'])
      await other.applySchema(table, table, bench.signal)
      await bench.sink.remove?.(bench.signal)
      assert.deepEqual(await writers(), ['other'])
      await bench.expect(things, [thing('1', 'a')])
    },
  },
  {
    title: 'remove takes the bookkeeping away and leaves the rows',
    unfit: onlyTransactional,
    async run(bench) {
      await bench.start(things)
      await bench.commit(insert(things, ['1', 'a']))
      assert.ok(((await bench.sink.remove?.(bench.signal)) ?? []).length > 0)
      await bench.expect(things, [thing('1', 'a')])
      const again = await bench.restart(await bench.target.reopen(), things)
      assert.equal(again?.position, null)
    },
  },
]
