import assert from 'node:assert/strict'
import type { LogPage } from '../store/port.ts'
import type { Suite } from './suite.ts'
import {
  append,
  claimed,
  MINUTE,
  message,
  payloads,
  range,
  readAll,
  rejectsWith,
  session,
  startNode,
  state,
} from './support.ts'

/** Clocks of this test and of the store may differ by so much. */
const SKEW = 5 * MINUTE

export function generations({ test, pair, snapshot, copies }: Suite): void {
  test('generations: each claim’s is greater, and none is foretold', async (store) => {
    const ids = range(8).map((i) => `s${i}`)
    const first = await Promise.all(ids.map((id) => store.sessions.create(session(id, 'gone'))))
    assert.ok(new Set(first).size > 1, 'first generations differ')
    const steps = await Promise.all(
      ids.map(async (id, i) => {
        const { generation } = await claimed(store, id, 'next', first[i]!)
        assert.equal((await store.sessions.get(id))?.generation, generation)
        return generation - first[i]!
      }),
    )
    assert.ok(new Set(steps).size > 1, 'and so do the steps')
  })

  test('generations: two claims of one state get different ones', async (store) => {
    // Only a store that can be copied can be brought into the same state twice.
    if (!copies) return
    assert.ok(store.transfer)
    const record = { principal: null, state, delivered: 0, createdAt: 0, lastUsedAt: 0, ttl: MINUTE }
    const generation = await store.sessions.create(session('original', 'gone'))
    const ids = range(6).map((i) => `s${i}`)
    for (const sessionId of ids) {
      const page: LogPage = {
        sessionId,
        epoch: 'abcd0123',
        generation,
        expiresAt: Date.now() + MINUTE,
        floor: 0,
        last: 0,
        more: false,
        corrupt: 0,
        scanned: 0,
        events: [],
        open: [],
        session: record,
      }
      assert.equal(await store.transfer.put(page), true)
    }
    const claims = await Promise.all(ids.map((id) => claimed(store, id, 'next', generation)))
    assert.ok(new Set(claims.map((each) => each.generation)).size > 1)
  })

  test('positions: a claim goes on beyond the store’s time in microseconds', async (store) => {
    const first = await store.sessions.create(session('s', 'gone'))
    const old = await append(store, 's', 'a', message(1), { generation: first })
    const { generation, last: before } = await claimed(store, 's', 'next', first)
    const next = await append(store, 's', 'a', message(2), { generation })
    assert.ok(next > old && next > (Date.now() - SKEW) * 1000, `${next} may have been lost`)
    assert.ok(before >= old && before < next, `${before} is the last one when it is claimed`)
    const following = await append(store, 's', 'a', message(3), { generation })
    assert.ok(following > next)
    // One that lies ahead of the clock is not gone back behind.
    const ahead = (Date.now() + 60 * MINUTE) * 1000
    assert.ok((await append(store, 's', 'a', message(4), { generation, beyond: ahead })) > ahead)
    const last = await claimed(store, 's', 'last', generation)
    const { positions } = await store.log.append({
      sessionId: 's',
      events: [{ streamId: 'a', kind: 'message', payload: message(5) }],
      generation: last.generation,
      ttl: MINUTE,
    })
    assert.ok(positions[0]! > ahead)
    assert.deepEqual(
      await payloads(store, 's'),
      range(5).map((i) => message(i + 1)),
    )
  })

  test('positions: those of an append lie beyond the one that the writer was told', async (store) => {
    const generation = await store.sessions.create(session('s', 'node'))
    const before = await append(store, 's', 'a', message(0), { generation })
    const events = range(3).map((i) => ({ streamId: 'a', kind: 'message' as const, payload: message(i + 1) }))
    const beyond = before + 1_000_000
    const { positions } = await store.log.append({ sessionId: 's', events, generation, ttl: MINUTE, beyond })
    assert.ok(positions[0]! > beyond)
    assert.deepEqual(
      positions,
      [...positions].sort((a, b) => a - b),
    )
    const lower = await append(store, 's', 'a', message(4), { generation, beyond: 1 })
    assert.ok(lower > positions.at(-1)!)
    assert.deepEqual(
      await payloads(store, 's'),
      range(5).map((i) => message(i)),
    )
    const loose = await append(store, 'log', 'a', message(1), { beyond: 5_000 })
    assert.ok(loose > 5_000, 'in a log without a record too')
    // Many at once, each beyond the other's.
    const calls = range(20).map((i) =>
      append(store, 's', 'a', message(i), { generation, beyond: lower + i * 10 }),
    )
    const found = await Promise.all(calls)
    for (const [i, position] of found.entries()) assert.ok(position > lower + i * 10)
    assert.equal(new Set(found).size, 20)
  })

  test('positions: a jump is no reason to trim', async (store) => {
    const first = await store.sessions.create(session('s', 'gone'))
    for (const i of range(5)) await append(store, 's', 'a', message(i), { generation: first, limit: 10 })
    const { generation } = await claimed(store, 's', 'next', first)
    for (const i of range(4)) await append(store, 's', 'a', message(5 + i), { generation, limit: 10 })
    assert.deepEqual(
      await payloads(store, 's'),
      range(9).map((i) => message(i)),
    )
    for (const i of range(41)) await append(store, 's', 'a', message(9 + i), { generation, limit: 10 })
    const left = await payloads(store, 's')
    assert.ok(left.length >= 9 && left.length <= 12, `${left.length} are left of 50, with a limit of 10`)
    assert.deepEqual(
      left,
      range(50)
        .slice(-left.length)
        .map((i) => message(i)),
    )
  })

  pair('generations: two stores that claim at once never hold one together', async (one, two) => {
    await startNode(one, 'one')
    await startNode(two, 'two')
    for (const round of range(5)) {
      const id = `s${round}`
      const generation = await one.sessions.create(session(id, 'gone'))
      const claims = await Promise.all([
        one.sessions.claim(id, { owner: 'one', generation }),
        two.sessions.claim(id, { owner: 'two', generation }),
      ])
      assert.equal(claims.filter((claim) => claim !== undefined).length, 1)
    }
  })

  if (!snapshot) return
  pair(
    'lost writes: a generation that was lost is not given out again, and its owner is fenced',
    async (one, two) => {
      const first = await one.sessions.create(session('s', 'a'))
      await append(one, 's', 'a', message('kept'), { generation: first })
      const restore = await snapshot()
      const lost = await claimed(one, 's', 'b', first)
      const event = { streamId: 'call', kind: 'open', payload: 'lost' } as const
      await one.log.append({ sessionId: 's', events: [event], generation: lost.generation, ttl: MINUTE })
      const shown = await append(one, 's', 'a', message('lost'), { generation: lost.generation })
      await restore()
      assert.equal((await two.sessions.get('s'))?.generation, first)
      const next = await claimed(two, 's', 'c', first)
      assert.notEqual(next.generation, lost.generation)
      assert.deepEqual(next.open, [])
      await rejectsWith('FENCED', append(one, 's', 'a', message('of b'), { generation: lost.generation }))
      assert.deepEqual(
        await one.sessions.touch([{ id: 's', generation: lost.generation }]),
        ['s'],
        'and learns it when it asks',
      )
      const position = await append(two, 's', 'a', message('new'), { generation: next.generation })
      assert.ok(position > shown, 'no position twice')
      assert.deepEqual(await payloads(two, 's'), [message('kept'), message('new')])
    },
  )

  pair('lost writes: an owner that goes on gives no position out twice', async (one) => {
    const generation = await one.sessions.create(session('s', 'a'))
    await append(one, 's', 'a', message('kept'), { generation })
    const restore = await snapshot()
    const shown: number[] = []
    for (const i of range(5)) shown.push(await append(one, 's', 'a', message(i), { generation }))
    await restore()
    const beyond = shown.at(-1)!
    const next = await append(one, 's', 'a', message('new'), { generation, beyond })
    assert.ok(next > beyond)
    assert.deepEqual(
      (await readAll(one, 's')).map(({ payload }) => payload),
      [message('kept'), message('new')],
    )
  })
}
