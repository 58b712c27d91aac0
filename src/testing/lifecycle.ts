import assert from 'node:assert/strict'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import { append, message, payloads, range, rejectsWith, session, startNode, state } from './support.ts'

/** Every method of the port that must refuse once the store is closed. */
const METHODS: Record<string, (store: Store) => Promise<unknown>> = {
  ready: (store) => store.ready(),
  ping: (store) => store.ping(),
  stats: (store) => store.stats(),
  sweep: (store) => store.sweep(),
  'log.append': (store) => append(store, 's', 'a', message(1)),
  'log.read': (store) => store.log.read({ sessionId: 's', after: 0, limit: 1 }),
  'log.delete': (store) => store.log.delete('s'),
  'sessions.create': (store) => store.sessions.create(session('s', 'node')),
  'sessions.get': (store) => store.sessions.get('s'),
  'sessions.claim': (store) => store.sessions.claim('s', { owner: 'node', generation: 1 }),
  'sessions.release': (store) => store.sessions.release('s', 1),
  'sessions.update': (store) => store.sessions.update('s', 1, state),
  'sessions.touch': (store) => store.sessions.touch([{ id: 's', ttl: 1000 }]),
  'sessions.terminate': (store) => store.sessions.terminate('s'),
  'sessions.list': (store) => store.sessions.list(),
  'nodes.register': (store) => store.nodes.register({ id: 'node', publicKey: 'key', profile: '{}' }, 1000),
  'nodes.renew': (store) => store.nodes.renew('node', 1000),
  'nodes.unregister': (store) => store.nodes.unregister('node'),
  'nodes.get': (store) => store.nodes.get('node'),
  'bus.send': (store) => store.bus.send('node', Buffer.from('x')),
  'bus.receive': (store) => store.bus.receive('node', () => {}),
  'bus.publish': (store) => store.bus.publish('channel', 'text'),
  'bus.subscribe': (store) => store.bus.subscribe('channel', () => {}),
  'tasks.create': (store) => store.tasks.create({ id: 't', sessionId: null, value: '', ttl: 1000 }),
  'tasks.get': (store) => store.tasks.get('t'),
  'tasks.replace': (store) => store.tasks.replace('t', { version: 1, value: '' }),
  'tasks.push': (store) => store.tasks.push('t', { text: '', limit: 1 }),
  'tasks.shift': (store) => store.tasks.shift('t', { limit: 1 }),
  'tasks.list': (store) => store.tasks.list({ sessionId: null, limit: 1 }),
  'taskStore().getTask': (store) => store.taskStore().getTask('t'),
  'taskMessageQueue().dequeue': (store) => store.taskMessageQueue().dequeue('t'),
  'forSession().storeEvent': (store) => store.forSession('s').storeEvent('a', { jsonrpc: '2.0' }),
}

export function lifecycle({ test, pair, hasSecond, reopen }: Suite): void {
  test('lifecycle: it says what it is', async (store) => {
    assert.match(store.backend, /^[a-z][a-z0-9-]*$/)
    assert.equal(typeof store.traits.durable, 'boolean')
    assert.equal(typeof store.traits.detectsDeadNodes, 'boolean')
    assert.ok(
      hasSecond || store.traits.reach === 'process',
      'a store that can be shared must be given `second`',
    )
    assert.ok(!('storeEvent' in store), 'an unscoped store must not pass for an event store of the SDK')
  })

  test('lifecycle: ready, ping, health and stats of an open store', async (store) => {
    await store.ready()
    await store.ready()
    const latency = await store.ping()
    assert.ok(latency >= 0 && latency < 60_000)
    const health = await store.health()
    assert.deepEqual([health.backend, health.ok, health.error], [store.backend, true, undefined])
    assert.ok(health.warnings.every((warning) => typeof warning === 'string' && warning.length > 0))
    await startNode(store, 'node')
    const generation = await store.sessions.create(session('s', 'node'))
    await append(store, 's', 'a', message(1), { generation })
    await append(store, 'log', 'a', message(1))
    const { sessions, events, nodes, bytes } = await store.stats()
    assert.deepEqual({ sessions, events, nodes }, { sessions: 1, events: 2, nodes: 1 })
    assert.ok(bytes === undefined || bytes > 0)
  })

  test('close: every method rejects with STORE_CLOSED, health says so, closing twice is nothing', async (store) => {
    await append(store, 's', 'a', message(1))
    await Promise.all([store.close(), store.close()])
    for (const [name, call] of Object.entries(METHODS)) {
      const outcome = (async () => call(store))()
      await rejectsWith('STORE_CLOSED', outcome).catch((error) => {
        throw new Error(`${name} of a closed store: ${error.message}`)
      })
    }
    const health = await store.health()
    assert.equal(health.ok, false)
    assert.ok(health.error)
    await store.close()
  })

  test('close: a store that was never used closes, and stays closed', async (store) => {
    await store.close()
    await rejectsWith('STORE_CLOSED', store.ready())
  })

  test('close: what was accepted before is settled', async (store) => {
    const calls = range(100).map((i) => append(store, 's', 'a', message(i)))
    await store.close()
    const settled = await Promise.race([
      Promise.all(calls),
      new Promise((resolve) => setTimeout(resolve, 5_000)),
    ])
    assert.equal((settled as number[] | undefined)?.length, 100, 'all 100 appends were stored')
  })

  test('close: subscriptions fall silent and can be closed afterwards', async (store) => {
    let heard = 0
    const subscription = await store.bus.subscribe('channel', () => {
      heard += 1
    })
    await store.close()
    const before = heard
    await subscription.close()
    assert.equal(heard, before)
  })

  pair('restart: what was acknowledged is there when a durable store opens again', async (one, two) => {
    assert.equal(one.traits.durable, true, 'a store with a second one on its data is durable')
    const generation = await one.sessions.create(session('s', 'node'))
    const calls = range(50).map((i) => append(one, 's', 'a', message(i), { generation }))
    const first = await one.forSession('log').storeEvent('_GET_stream', { jsonrpc: '2.0', method: 'first' })
    const next = await one.forSession('log').storeEvent('_GET_stream', { jsonrpc: '2.0', method: 'second' })
    const last = Math.max(...(await Promise.all(calls)))
    await one.close()
    await two.close()
    const again = await reopen()
    assert.deepEqual(
      await payloads(again, 's'),
      range(50).map((i) => message(i)),
    )
    const record = await again.sessions.get('s')
    assert.deepEqual([record?.generation, record?.state], [generation, state])
    assert.ok((await append(again, 's', 'a', message('after'), { generation })) > last, 'positions go on')
    const resumed: string[] = []
    await again.forSession('log').replayEventsAfter(first, { send: async (id) => void resumed.push(id) })
    assert.deepEqual(resumed, [next])
    const foreign: string[] = []
    await again.forSession('s').replayEventsAfter(first, { send: async (id) => void foreign.push(id) })
    assert.deepEqual(foreign, [])
  })
}
