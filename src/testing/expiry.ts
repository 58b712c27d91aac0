import assert from 'node:assert/strict'
import type { ErrorCode } from '../errors.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import {
  append,
  eventually,
  MINUTE,
  message,
  payloads,
  range,
  readAll,
  rejectsWith,
  session,
  startNode,
} from './support.ts'

/** Resolves once what lived for `ttl` when this was called has expired by the store's own clock. */
async function expired(store: Store, ttl: number): Promise<void> {
  await append(store, 'hourglass', 'a', message('sand'), { ttl })
  await eventually('the hourglass runs out', async () => (await readAll(store, 'hourglass')).length === 0)
}

export function expiry({ test, all, ms }: Suite): void {
  test('ttl: an expired session is absent for every method, and nothing revives it', async (store) => {
    const generation = await store.sessions.create(session('s', 'node', ms(300)))
    await append(store, 's', 'a', message(1), { generation, ttl: ms(300) })
    await expired(store, ms(400))
    const isGone = async (code: ErrorCode | ErrorCode[] = 'SESSION_GONE') => {
      assert.equal(await store.sessions.get('s'), undefined)
      assert.equal(await store.sessions.claim('s', { owner: 'node', generation }), undefined)
      assert.equal(await store.sessions.release('s', generation), false)
      assert.equal(await store.sessions.terminate('s'), false)
      assert.deepEqual((await store.sessions.list()).sessions, [])
      await rejectsWith(code, append(store, 's', 'a', message(2), { generation }))
      await store.sessions.touch([{ id: 's', ttl: MINUTE }])
    }
    await isGone()
    await append(store, 's', 'b', message('an append that names no generation'))
    await isGone(['SESSION_GONE', 'FENCED'])
  })

  test('ttl: touch and append extend a session', async (store) => {
    const create = (id: string) => store.sessions.create(session(id, 'node', ms(500)))
    const generation = await create('appended')
    for (const id of ['touched', 'left']) await create(id)
    await store.sessions.touch([{ id: 'touched', ttl: MINUTE }])
    await append(store, 'appended', 'a', message(1), { generation })
    await expired(store, ms(600))
    assert.ok(await store.sessions.get('touched'))
    assert.ok(await store.sessions.get('appended'))
    assert.equal(await store.sessions.get('left'), undefined)
  })

  test('ttl: an append or touch with a shorter time never shortens', async (store) => {
    const generation = await store.sessions.create(session('s', 'node'))
    await append(store, 's', 'a', message('long'), { generation })
    await append(store, 's', 'a', message('short'), { generation, ttl: ms(100) })
    await store.sessions.touch([{ id: 's', ttl: ms(100) }])
    await expired(store, ms(200))
    assert.ok(await store.sessions.get('s'))
    assert.ok((await payloads(store, 's')).includes(message('long')))
  })

  test('ttl: an append that does not touch does not count as use', async (store) => {
    const generation = await store.sessions.create(session('s', 'node', ms(500)))
    await append(store, 's', 'a', message(1), { generation, touch: false })
    await expired(store, ms(600))
    assert.equal(await store.sessions.get('s'), undefined)
  })

  test('ttl: a log without a session lives as long as its last append says', async (store) => {
    await append(store, 'short', 'a', message(1), { ttl: ms(300) })
    await append(store, 'long', 'a', message(1))
    await expired(store, ms(400))
    assert.equal((await store.log.read({ sessionId: 'short', after: 0, limit: 10 })).epoch, undefined)
    assert.deepEqual(await payloads(store, 'long'), [message(1)])
  })

  test('ttl: expired events leave a floor behind, the rest is delivered', async (store) => {
    await append(store, 's', 'a', message('old'), { ttl: ms(300) })
    const gone = await append(store, 's', 'b', message('old'), { ttl: ms(300) })
    const kept = await append(store, 's', 'a', message('new'))
    await expired(store, ms(400))
    // A backend may drop a block of events only once all of it has expired: the sweep makes it do so where it can.
    await sweepAll(store)
    const page = await store.log.read({ sessionId: 's', streamId: 'a', after: 0, limit: 10 })
    assert.equal(page.events.at(-1)?.position, kept)
    assert.equal(page.last, kept)
    if (page.events.length === 1) assert.ok(page.floor >= gone && page.floor < kept, `floor ${page.floor}`)
    else assert.equal(page.floor, 0, 'what is still there is not below the floor')
  })

  test('ttl: positions go on after every event of a living log has expired', async (store) => {
    const generation = await store.sessions.create(session('s', 'node'))
    const old = await append(store, 's', 'a', message('old'), { generation, ttl: ms(200) })
    const { epoch } = await store.log.read({ sessionId: 's', after: 0, limit: 1 })
    await expired(store, ms(300))
    await sweepAll(store)
    const page = await store.log.read({ sessionId: 's', after: 0, limit: 10 })
    assert.deepEqual([page.epoch, page.last], [epoch, old])
    assert.ok((await append(store, 's', 'a', message('new'), { generation })) > old)
  })

  test('limit: the oldest events go first, and the floor moves with them', async (store) => {
    for (const block of range(30)) {
      const events = range(10).map((i) => ({
        streamId: i % 2 ? 'a' : 'b',
        kind: 'message' as const,
        payload: message(block * 10 + i),
      }))
      await store.log.append({ sessionId: 's', events, ttl: MINUTE, limit: 100 })
    }
    const page = await store.log.read({ sessionId: 's', after: 0, limit: 1_000 })
    const count = page.events.length
    assert.ok(count >= 90 && count <= 120, `${count} of 300 events are left`)
    assert.deepEqual(
      page.events.map(({ payload }) => payload),
      range(count).map((i) => message(300 - count + i)),
    )
    assert.ok(page.floor > 0 && page.floor < page.events[0]!.position)
    assert.equal(page.last, page.events.at(-1)!.position)
  })

  test('sweep: what lives stays', async (store) => {
    await startNode(store, 'node')
    const generation = await store.sessions.create(session('s', 'node'))
    await append(store, 's', 'a', message(1), { generation })
    await append(store, 'log', 'a', message(2))
    await store.sessions.create(session('ended', 'node'))
    await store.sessions.terminate('ended')
    await sweepAll(store)
    assert.ok(await store.sessions.get('s'))
    assert.ok(await store.nodes.get('node'))
    assert.deepEqual(await payloads(store, 's'), [message(1)])
    assert.deepEqual(await payloads(store, 'log'), [message(2)])
    await rejectsWith('SESSION_GONE', store.sessions.create(session('ended', 'node')))
  })

  all('sweep: bounded steps, a dry run deletes nothing, and the counts are right', async (stores) => {
    const store = stores[0]!
    for (const i of range(12)) {
      const generation = await store.sessions.create(session(`s${i}`, 'node', ms(300)))
      const events = range(5).map((k) => ({ streamId: 'a', kind: 'message' as const, payload: message(k) }))
      await store.log.append({ sessionId: `s${i}`, events, generation, ttl: ms(300) })
    }
    await append(store, 'alive', 'a', message(1))
    await eventually('all sessions expired', async () => (await store.sessions.list()).sessions.length === 0)
    const dry = await store.sweep({ dryRun: true })
    assert.deepEqual([dry.events, dry.sessions], [60, 12])
    assert.deepEqual(await store.sweep({ dryRun: true }), dry, 'a dry run changes nothing')
    const total = { events: 0, sessions: 0 }
    for (let more = true, steps = 0; more; steps++) {
      assert.ok(steps < 100, 'the sweep comes to an end')
      const results = await Promise.all(stores.map((each) => each.sweep({ limit: 10 })))
      for (const result of results) {
        assert.ok(result.events <= 10 && result.sessions <= 10, 'a step keeps to its limit')
        total.events += result.events
        total.sessions += result.sessions
      }
      more = results.some((result) => result.more)
    }
    assert.deepEqual(total, { events: 60, sessions: 12 })
    const after = await store.sweep({ dryRun: true })
    assert.deepEqual([after.events, after.sessions, after.more], [0, 0, false])
    const { events, sessions } = await store.stats()
    assert.deepEqual([events, sessions], [1, 0])
    assert.deepEqual(await payloads(store, 'alive'), [message(1)])
  })

  all('sweep: several logs, each larger than a step, all go', async (stores) => {
    const store = stores[0]!
    const ids = range(4).map((i) => `large-${i}`)
    for (const [i, sessionId] of ids.entries()) {
      const events = range(450).map((k) => ({ streamId: 'a', kind: 'message' as const, payload: message(k) }))
      const fence =
        i % 2 ? { generation: await store.sessions.create(session(sessionId, 'node', ms(300))) } : {}
      await store.log.append({ sessionId, events, ttl: ms(300), ...fence })
    }
    await append(store, 'alive', 'a', message(1))
    for (const id of ids) {
      const page = () => store.log.read({ sessionId: id, after: 0, limit: 1 })
      await eventually(`${id} has expired`, async () => (await page()).epoch === undefined)
    }
    for (let more = true, steps = 0; more; steps++) {
      assert.ok(steps < 100, 'the sweep comes to an end')
      const results = await Promise.all(stores.map((each) => each.sweep({ limit: 100 })))
      for (const { events } of results) assert.ok(events <= 100, `${events} events in a step of 100`)
      more = results.some((result) => result.more)
    }
    // A backend that expires by itself may take a moment longer.
    await eventually('the rest is gone', async () => (await store.stats()).events === 1)
    assert.equal((await store.stats()).sessions, 0)
    const after = await store.sweep({ dryRun: true })
    assert.deepEqual([after.events, after.sessions, after.more], [0, 0, false])
    assert.deepEqual(await payloads(store, 'alive'), [message(1)])
  })

  test('sweep: dead nodes go', async (store) => {
    await startNode(store, 'dead', ms(300))
    await startNode(store, 'alive')
    await eventually('the lease is over', async () => !(await store.nodes.get('dead')))
    await sweepAll(store)
    assert.equal((await store.stats()).nodes, 1)
    assert.ok(await store.nodes.get('alive'))
    assert.equal((await store.sweep({ dryRun: true })).nodes, 0)
  })
}

async function sweepAll(store: Store): Promise<void> {
  while ((await store.sweep({ limit: 100 })).more);
}
