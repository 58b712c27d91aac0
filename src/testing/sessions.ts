import assert from 'node:assert/strict'
import type { ErrorCode } from '../errors.ts'
import type { Suite } from './suite.ts'
import {
  append,
  claimed,
  eventually,
  MINUTE,
  message,
  range,
  readAll,
  rejectsWith,
  session,
  startNode,
  state,
} from './support.ts'

export function sessions({ test, all, pair }: Suite): void {
  test('sessions: a record comes back as it was created, with an empty log', async (store) => {
    await startNode(store, 'node')
    const generation = await store.sessions.create(
      session('s', 'node', MINUTE, 'https://issuer|client|žofie'),
    )
    assert.ok(Number.isSafeInteger(generation) && generation > 0)
    const record = await store.sessions.get('s')
    assert.ok(record)
    const { createdAt, lastUsedAt, expiresAt, ...rest } = record
    assert.deepEqual(rest, {
      id: 's',
      principal: 'https://issuer|client|žofie',
      state,
      owner: 'node',
      ownerAlive: true,
      generation,
      delivered: 0,
    })
    assert.ok(Math.abs(createdAt - Date.now()) < 5 * MINUTE, 'createdAt is in ms since 1970')
    assert.ok(lastUsedAt >= createdAt && expiresAt > createdAt && expiresAt <= createdAt + 2 * MINUTE)
    const page = await store.log.read({ sessionId: 's', after: 0, limit: 10 })
    assert.deepEqual(page.events, [])
    assert.equal(typeof page.epoch, 'string')
    assert.equal(await store.sessions.get('nobody'), undefined)
  })

  all('sessions: an id is taken once', async (stores) => {
    const calls = range(10).map((i) => stores[i % stores.length]!.sessions.create(session('s', `node-${i}`)))
    const results = await Promise.allSettled(calls)
    assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1)
    for (const [i, result] of results.entries()) {
      if (result.status === 'rejected') await rejectsWith('INVALID_ARGUMENT', calls[i]!)
      else assert.equal((await stores[0]!.sessions.get('s'))?.owner, `node-${i}`)
    }
  })

  test('sessions: claim takes what has no owner, a dead one, or oneself, and nothing else', async (store) => {
    await startNode(store, 'alive')
    const first = await store.sessions.create(session('s', 'alive'))
    const claim = (owner: string, generation: number) => store.sessions.claim('s', { owner, generation })
    assert.equal(await claim('other', first), undefined, 'the owner lives')
    assert.equal(await claim('alive', first + 1), undefined, 'another generation')
    const second = (await claim('alive', first))!.generation
    assert.ok(second > first, 'the owner itself')
    await store.nodes.unregister('alive')
    assert.equal((await store.sessions.get('s'))?.ownerAlive, false)
    const record = (await claim('other', second))!
    const third = record.generation
    assert.ok(third > second, 'a dead owner')
    assert.equal(record.owner, 'other')
    assert.equal(await store.sessions.release('s', second), false)
    assert.equal(await store.sessions.release('s', third), true)
    const released = await store.sessions.get('s')
    assert.deepEqual([released?.owner, released?.generation, released?.ownerAlive], [null, third, false])
    assert.ok((await claim('alive', third))!.generation > third, 'no owner')
    assert.equal(await store.sessions.claim('nobody', { owner: 'alive', generation: first }), undefined)
  })

  test('sessions: an owner that comes back under another id keeps its generation, unless it has been followed', async (store) => {
    await startNode(store, 'before')
    await startNode(store, 'other')
    const generation = await store.sessions.create(session('s', 'before'))
    const keep = (owner: string) => store.sessions.claim('s', { owner, generation, keep: true })
    assert.equal(await keep('after'), undefined, 'while the owner lives it is not to be had')
    await store.nodes.unregister('before')
    await startNode(store, 'after')
    const record = await keep('after')
    assert.deepEqual([record?.owner, record?.generation, record?.ownerAlive], ['after', generation, true])
    await append(store, 's', 'a', message('goes on'), { generation })
    assert.equal(await store.sessions.claim('s', { owner: 'other', generation }), undefined)
    await store.nodes.unregister('after')
    await claimed(store, 's', 'other', generation)
    assert.equal(await keep('late'), undefined, 'somebody has followed')
  })

  all('sessions: of 20 racing claims exactly one wins', async (stores) => {
    for (const round of range(5)) {
      const id = `s${round}`
      const generation = await stores[0]!.sessions.create(session(id, 'gone'))
      const claims = range(20).map((i) =>
        stores[i % stores.length]!.sessions.claim(id, { owner: `node-${i}`, generation }),
      )
      const winners = (await Promise.all(claims)).filter((record) => record !== undefined)
      assert.equal(winners.length, 1)
      const record = await stores[0]!.sessions.get(id)
      assert.deepEqual([record?.owner, record?.generation], [winners[0]?.owner, winners[0]?.generation])
    }
  })

  test('sessions: update replaces the state, for its generation only', async (store) => {
    const generation = await store.sessions.create(session('s', 'node'))
    const next = { ...state, initialized: true, logLevel: 'debug', subscriptions: ['file:///ž', 'b'] }
    assert.equal(await store.sessions.update('s', generation + 1, next), false)
    assert.deepEqual((await store.sessions.get('s'))?.state, state)
    assert.equal(await store.sessions.update('s', generation, next), true)
    assert.deepEqual((await store.sessions.get('s'))?.state, next)
    assert.equal(await store.sessions.update('nobody', generation, next), false)
  })

  test('sessions: update gives a session its principal, and otherwise leaves it', async (store) => {
    const generation = await store.sessions.create(session('s', 'node'))
    const principal = 'žofie\n"quoted" \\ 🐎'
    assert.equal(await store.sessions.update('s', generation + 1, state, principal), false)
    assert.equal((await store.sessions.get('s'))?.principal, null)
    const bound = { ...state, principalSource: 'jwt' as const }
    assert.equal(await store.sessions.update('s', generation, bound, principal), true)
    assert.equal(await store.sessions.update('s', generation, { ...bound, logLevel: 'debug' }), true)
    const record = await store.sessions.get('s')
    assert.deepEqual([record?.principal, record?.state], [principal, { ...bound, logLevel: 'debug' }])
    assert.deepEqual((await store.sessions.list({ principal })).sessions, [record])
  })

  all(
    'sessions: a principal has so many, at all stores together, and those that are over do not count',
    async (stores) => {
      const [store] = stores
      const create = (id: string, principal: string | null, rest: { limit?: number; ttl?: number } = {}) =>
        stores[id.length % stores.length]!.sessions.create({
          ...session(id, 'node', rest.ttl ?? MINUTE, principal),
          ...(rest.limit !== undefined && { limit: rest.limit }),
        })
      // Longer than an index of some backend takes, and like the others at its beginning.
      const long = `https://issuer.example/${'ž'.repeat(5000)}`
      for (const principal of ['alice', long]) {
        const id = (n: number) => `${principal.length}-${'x'.repeat(n)}`
        await create(id(1), principal)
        await create(id(2), principal, { limit: 3 })
        await create(id(3), principal, { limit: 3 })
        await rejectsWith('SESSION_LIMIT', create(id(4), principal, { limit: 3 }))
        assert.equal(await store!.sessions.get(id(4)), undefined, 'a refused one leaves nothing')
        await rejectsWith('INVALID_ARGUMENT', create(id(3), principal, { limit: 3 }))
        await create(id(5), `${principal}!`, { limit: 1 })
        await create(id(4), principal, { limit: 4 })
        await rejectsWith('SESSION_LIMIT', create(id(6), principal, { limit: 4 }))
        assert.equal(await store!.sessions.terminate(id(2)), true)
        await create(id(6), principal, { limit: 4 })
        await rejectsWith('SESSION_LIMIT', create(id(7), principal, { limit: 4 }))
        await rejectsWith('SESSION_GONE', create(id(2), principal, { limit: 5 }))
      }
      const generations = []
      for (const n of range(4)) generations.push(await create(`nobody${'x'.repeat(n)}`, null, { limit: 1 }))
      // One that finds its principal later counts from then on.
      await store!.sessions.update('nobodyx', generations[1]!, state, 'late')
      await rejectsWith('SESSION_LIMIT', create('late', 'late', { limit: 1 }))
      assert.equal(await store!.sessions.terminate('nobodyx'), true)
      await create('late', 'late', { limit: 1 })
    },
  )

  all(
    'sessions: those that have expired leave the count, and those that were used stay in it',
    async (stores) => {
      const [store] = stores
      const create = (id: string, ttl: number, limit: number) =>
        stores[id.length % stores.length]!.sessions.create({ ...session(id, 'node', ttl, 'short'), limit })
      await create('a', 400, 2)
      await create('bb', 400, 2)
      await rejectsWith('SESSION_LIMIT', create('ccc', MINUTE, 2))
      await store!.sessions.touch([{ id: 'a', ttl: MINUTE }])
      await eventually('one of them to expire', async () => !(await store!.sessions.get('bb')))
      await create('ccc', MINUTE, 2)
      await rejectsWith('SESSION_LIMIT', create('dddd', MINUTE, 2))
    },
  )

  test('sessions: `delivered` rises and never falls', async (store) => {
    await store.sessions.create(session('s', 'node'))
    const delivered = async () => (await store.sessions.get('s'))?.delivered
    await store.sessions.touch([{ id: 's', ttl: MINUTE, delivered: 7 }])
    assert.equal(await delivered(), 7)
    await store.sessions.touch([
      { id: 'nobody', ttl: MINUTE, delivered: 1 },
      { id: 's', ttl: MINUTE, delivered: 5 },
      { id: 's', ttl: MINUTE },
    ])
    assert.equal(await delivered(), 7)
    assert.equal(await store.sessions.get('nobody'), undefined)
    await store.sessions.touch([])
  })

  test('touch: it says which are gone or another’s, and without a ttl it only looks', async (store) => {
    const held = await store.sessions.create(session('held', 'gone'))
    const first = await store.sessions.create(session('claimed', 'gone'))
    const ended = await store.sessions.create(session('ended', 'gone'))
    const { generation } = await claimed(store, 'claimed', 'next', first)
    await store.sessions.terminate('ended')
    const before = await store.sessions.get('held')
    const touches = [
      { id: 'held', generation: held, delivered: 4 },
      { id: 'claimed', generation: first },
      { id: 'ended', generation: ended },
      { id: 'never', generation: 1 },
      { id: 'ended' },
      { id: 'never', ttl: MINUTE },
    ]
    const lost = await store.sessions.touch(touches)
    assert.deepEqual([...lost].sort(), ['claimed', 'ended', 'never'])
    assert.deepEqual(await store.sessions.get('held'), { ...before, delivered: 4 }, 'looking is no use')
    assert.deepEqual(await store.sessions.touch([{ id: 'claimed', generation }, { id: 'held' }]), [])
    await new Promise((resolve) => setTimeout(resolve, 20))
    assert.deepEqual(await store.sessions.touch([{ id: 'held', generation: held, ttl: 10 * MINUTE }]), [])
    const after = await store.sessions.get('held')
    assert.ok(after!.expiresAt > before!.expiresAt + MINUTE && after!.lastUsedAt > before!.lastUsedAt)
    // All that a busy node holds, in one operation.
    const ids = range(500).map((i) => `many-${i}`)
    const made = await Promise.all(ids.map((id) => store.sessions.create(session(id, 'gone'))))
    const asked = ids.map((id, i) => ({ id, generation: made[i]! + (i % 50 === 0 ? 1 : 0) }))
    assert.deepEqual(
      [...(await store.sessions.touch(asked))].sort(),
      ids.filter((_, i) => i % 50 === 0).sort(),
    )
  })

  test('terminate: the session is gone for every method, and nothing revives it', async (store) => {
    await startNode(store, 'node')
    const generation = await store.sessions.create(session('s', 'node'))
    await append(store, 's', 'a', message(1), { generation })
    assert.equal(await store.sessions.terminate('s'), true)
    const isGone = async (code: ErrorCode | ErrorCode[] = 'SESSION_GONE') => {
      assert.equal(await store.sessions.get('s'), undefined)
      assert.equal(await store.sessions.claim('s', { owner: 'node', generation }), undefined)
      assert.equal(await store.sessions.update('s', generation, state), false)
      assert.equal(await store.sessions.release('s', generation), false)
      assert.equal(await store.sessions.terminate('s'), false)
      assert.deepEqual((await store.sessions.list()).sessions, [])
      await rejectsWith(code, append(store, 's', 'a', message(2), { generation }))
      await rejectsWith('SESSION_GONE', store.sessions.create(session('s', 'node')))
      await store.sessions.touch([{ id: 's', ttl: MINUTE, delivered: 3 }])
    }
    await isGone()
    assert.deepEqual(await readAll(store, 's'), [], 'its events are gone')
    await append(store, 's', 'a', message('an append that names no generation')).catch(() => {})
    await isGone(['SESSION_GONE', 'FENCED'])
  })

  test('terminate: of a session that lived for one call no events are left to be swept', async (store) => {
    const generation = await store.sessions.create(session('s', 'node', MINUTE, 'somebody'))
    const call = ['open', 'message', 'final'] as const
    const events = call.map((kind) => ({ streamId: 'a', kind, payload: 'x' }))
    await store.log.append({ sessionId: 's', events, generation, ttl: MINUTE })
    assert.equal((await store.stats()).events, 3)
    assert.equal(await store.sessions.terminate('s'), true)
    const { sessions, events: left } = await store.stats()
    assert.deepEqual({ sessions, left }, { sessions: 0, left: 0 })
  })

  test('terminate: appends on their way are stored before it or refused', async (store) => {
    const generation = await store.sessions.create(session('s', 'node'))
    const before = range(20).map((i) => append(store, 's', 'a', message(i), { generation }))
    const settled = Promise.allSettled(before)
    assert.equal(await store.sessions.terminate('s'), true)
    await rejectsWith('SESSION_GONE', append(store, 's', 'a', message('late'), { generation }))
    for (const [i, { status }] of (await settled).entries()) {
      if (status === 'rejected') await rejectsWith('SESSION_GONE', before[i]!)
    }
    assert.deepEqual(await readAll(store, 's'), [])
    assert.equal(await store.sessions.terminate('nobody'), false)
  })

  test('list: in id order, in pages, of one principal where asked', async (store) => {
    const ids = ['A', 'B', 'Z', '_', 'a', 'a-1', 'a1', 'b', 's-10', 's-9']
    for (const [i, id] of [...ids].reverse().entries()) {
      await store.sessions.create(session(id, 'node', MINUTE, i % 2 ? 'odd' : null))
    }
    const list = async (query: { limit?: number; principal?: string }) => {
      const found: string[] = []
      for (let cursor: string | undefined; ; ) {
        const page = await store.sessions.list(cursor === undefined ? query : { ...query, cursor })
        assert.ok(page.sessions.length <= (query.limit ?? 100))
        found.push(...page.sessions.map(({ id }) => id))
        if (page.next === undefined) return found
        cursor = page.next
      }
    }
    for (const limit of [1, 3, 10, 100]) assert.deepEqual(await list({ limit }), ids)
    assert.deepEqual(await list({}), ids)
    assert.deepEqual(
      await list({ limit: 2, principal: 'odd' }),
      ids.filter((_, i) => i % 2 === 0),
    )
    assert.deepEqual(await list({ principal: "' OR 1=1 --" }), [])
  })

  pair('sessions: what one store changes the other sees at once', async (one, two) => {
    await startNode(one, 'node')
    const first = await one.sessions.create(session('s', 'node'))
    assert.equal((await two.sessions.get('s'))?.ownerAlive, true)
    await two.sessions.update('s', first, { ...state, logLevel: 'debug' })
    assert.equal((await one.sessions.get('s'))?.state.logLevel, 'debug')
    await one.nodes.unregister('node')
    const { generation } = await claimed(two, 's', 'next', first)
    await rejectsWith('FENCED', append(one, 's', 'a', message(1), { generation: first }))
    await two.sessions.terminate('s')
    assert.equal(await one.sessions.get('s'), undefined)
    await rejectsWith('SESSION_GONE', append(one, 's', 'a', message(1), { generation }))
  })
}
