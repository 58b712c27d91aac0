import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import { createClient } from 'redis'
import { afterAll, afterEach, beforeAll, describe, test } from 'vitest'
import { isPersistError } from '../../src/errors.ts'
import { nodeChannel } from '../../src/store/port.ts'
import { RedisEventStore, type RedisEventStoreOptions } from '../../src/store/redis/redis-store.ts'
import { type RedisService, startRedis } from '../support/services/redis.ts'

let server: RedisService
let admin: Redis
const stores: RedisEventStore[] = []

beforeAll(async () => {
  server = await startRedis({ persistence: 'always' })
  admin = new Redis(server.url, { retryStrategy: () => 50, maxRetriesPerRequest: null })
  admin.on('error', () => {})
})
afterEach(async () => {
  await Promise.all(stores.splice(0).map((store) => store.close()))
})
afterAll(async () => {
  admin.disconnect()
  await server.stop()
})

type Options = Omit<RedisEventStoreOptions, 'client' | 'url'> & { url?: string }

/** How the store under test reaches its server: by a URL, or by a client of the other driver. */
const VIA = {
  'a URL': (url: string, rest: Options) => new RedisEventStore({ ...rest, url }),
  'a client of node-redis': (url: string, rest: Options) =>
    new RedisEventStore({ ...rest, url: undefined, client: createClient({ url }) }),
}
let via: (typeof VIA)['a URL']

function open({ url = server.url, ...rest }: Options = {}): RedisEventStore {
  const store = via(url, { keyPrefix: `faults:${randomUUID()}:`, ...rest })
  stores.push(store)
  return store
}

const append = (store: RedisEventStore, payload: string, sessionId = 's') =>
  store.log.append({ sessionId, events: [{ streamId: 'a', kind: 'message', payload }], ttl: 600_000 })

async function stored(store: RedisEventStore, sessionId = 's'): Promise<string[]> {
  const found: string[] = []
  for (let after = 0; ; ) {
    const page = await store.log.read({ sessionId, after, limit: 1_000 })
    found.push(...page.events.map(({ payload }) => payload))
    if (!page.more) return found
    after = page.events.at(-1)!.position
  }
}

/** 64 writers, until `until` resolves; each goes on after a failure. */
async function write(store: RedisEventStore, until: Promise<unknown>) {
  const acknowledged: string[] = []
  const failures: unknown[] = []
  let slowest = 0
  let stop = false
  void until.then(() => {
    stop = true
  })
  await Promise.all(
    Array.from({ length: 64 }, async (_, w) => {
      for (let i = 0; !stop; i++) {
        const payload = `${w}:${i}`
        const started = performance.now()
        try {
          await append(store, payload)
          acknowledged.push(payload)
        } catch (error) {
          failures.push(error)
          // A caller that is refused at once does not come back in the same turn.
          await new Promise((resolve) => setTimeout(resolve, 20))
        }
        slowest = Math.max(slowest, performance.now() - started)
      }
    }),
  )
  return { acknowledged, failures, slowest }
}

/** The ids of all connections that listen. */
async function subscribers(): Promise<string[]> {
  const list = (await admin.call('client', 'list', 'type', 'pubsub')) as string
  return [...list.matchAll(/^id=(\d+)/gm)].map((match) => match[1]!)
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

describe.each(Object.entries(VIA))('over %s', (_, how) => {
  beforeAll(() => {
    via = how
  })

  test('SCRIPT FLUSH in the middle of writing is not noticed', async () => {
    const store = open()
    await append(store, 'first')
    const flushing = (async () => {
      for (let i = 0; i < 20; i++) {
        await admin.script('FLUSH')
        await pause(20)
      }
    })()
    const { acknowledged, failures } = await write(store, flushing)
    assert.deepEqual(failures, [])
    assert.deepEqual((await stored(store)).sort(), ['first', ...acknowledged].sort())
  })

  test('CLIENT KILL in the middle of writing: all is stored once, and nobody is told', async () => {
    const store = open()
    await append(store, 'first')
    const killing = (async () => {
      for (let i = 0; i < 10; i++) {
        await pause(60)
        await admin.call('client', 'kill', 'type', 'normal', 'skipme', 'yes')
      }
    })()
    const { acknowledged, failures } = await write(store, killing)
    assert.deepEqual(failures, [])
    assert.deepEqual((await stored(store)).sort(), ['first', ...acknowledged].sort())
  })

  test('down for 3 s under 64 writers: bounded failures, recovery by itself, nothing lost or doubled', async () => {
    const store = open({ timeout: 1_000 })
    await append(store, 'first')
    const outage = (async () => {
      await pause(300)
      await server.kill()
      await pause(3_000)
      await server.restart()
      await append(store, 'after').catch(() => {})
      for (;;) {
        if (await store.ping().catch(() => undefined)) break
        await pause(20)
      }
      await pause(500)
    })()
    const { acknowledged, failures, slowest } = await write(store, outage)
    assert.ok(failures.length > 0, 'three seconds are longer than the timeout')
    for (const error of failures) assert.ok(isPersistError(error, 'STORE_UNAVAILABLE'), `${error}`)
    assert.ok(slowest < 2_500, `an append took ${slowest} ms`)
    const found = await stored(store)
    assert.equal(new Set(found).size, found.length, 'nothing twice')
    const missing = new Set(acknowledged)
    for (const payload of found) missing.delete(payload)
    assert.deepEqual([...missing], [], 'what was acknowledged is there')
    await append(store, 'and on it goes')
  })

  test('while Redis is away, waiting is bounded in number and time, and the sentence says why', async () => {
    const store = open({ url: 'redis://user:hunter2@127.0.0.1:1', maxWaiting: 10, timeout: 300 })
    const calls = Array.from({ length: 40 }, () => store.sessions.get('s'))
    const outcomes = await Promise.allSettled(calls)
    const codes = outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)
    assert.equal(codes.filter((code) => code === 'OVERLOADED').length, 30)
    assert.equal(codes.filter((code) => code === 'STORE_UNAVAILABLE').length, 10)
    const started = performance.now()
    const error = await append(store, 'x').catch((reason) => reason)
    assert.ok(performance.now() - started < 250, 'once it has been away for long, nobody waits')
    assert.match(error.message, /ECONNREFUSED 127\.0\.0\.1:1/)
    const health = await store.health()
    assert.equal(health.ok, false)
    for (const text of [error.message, error.stack, health.error]) assert.doesNotMatch(text, /hunter2/)
  })

  test('a server that takes connections and never answers fails in time, and recovers', async () => {
    const store = open({ timeout: 500 })
    await append(store, 'before')
    process.kill(server.pid, 'SIGSTOP')
    try {
      const started = performance.now()
      const error = await append(store, 'during').catch((reason) => reason)
      assert.ok(isPersistError(error, 'STORE_UNAVAILABLE'), `${error}`)
      assert.ok(performance.now() - started < 1_500)
    } finally {
      process.kill(server.pid, 'SIGCONT')
    }
    await store.ping()
    await append(store, 'after')
    assert.ok((await stored(store)).includes('after'))
  })

  test('after a reconnection every listener is told to look at everything, and hears again', async () => {
    const store = open()
    const other = open({ keyPrefix: 'x:' })
    const listener = open({ keyPrefix: 'x:' })
    const heard: (string | undefined)[] = []
    let woken: () => void = () => {}
    const next = () =>
      new Promise<void>((resolve) => {
        woken = resolve
      })
    await listener.bus.subscribe('c', (text) => {
      heard.push(text)
      woken()
    })
    await store.ready()
    const lost = next()
    await admin.call('client', 'kill', 'type', 'pubsub')
    await lost
    assert.deepEqual(heard, [undefined])
    const again = next()
    assert.equal(await other.bus.publish('c', 'hello'), 1)
    await again
    assert.deepEqual(heard, [undefined, 'hello'])
  })

  test('a node whose connection only blinked is not taken for dead', async () => {
    const [here, there] = [open({ keyPrefix: 'blink:' }), open({ keyPrefix: 'blink:' })]
    await here.bus.subscribe(nodeChannel('here'), () => {})
    const known = await subscribers()
    await there.bus.subscribe(nodeChannel('there'), () => {})
    await there.nodes.register({ id: 'there', publicKey: 'k', profile: '{}' }, 60_000)
    const [connection] = (await subscribers()).filter((id) => !known.includes(id))
    // Silence is believed only by those whose own connection has stood for a second and a half.
    await pause(1_700)
    await admin.call('client', 'kill', 'id', connection!)
    const answers = await Promise.all([here.bus.send('there', Buffer.from('x')), here.nodes.get('there')])
    assert.deepEqual(answers, [true, { id: 'there', publicKey: 'k', profile: '{}' }])
  })

  test('Redis was down for 3 s: whoever comes first afterwards takes nobody for dead who comes back', async () => {
    const nodes = Array.from({ length: 12 }, (_, i) => ({ id: `n${i}`, store: open({ keyPrefix: 'down:' }) }))
    for (const { id, store } of nodes) {
      await store.bus.receive(id, () => {})
      await store.nodes.register({ id, publicKey: 'k', profile: '{}' }, 60_000)
    }
    await server.kill()
    await pause(3_000)
    await server.restart()
    const judge = open({ keyPrefix: 'down:', timeout: 10_000 })
    await judge.bus.receive('judge', () => {})
    const until = performance.now() + 3_500
    let looks = 0
    while (performance.now() < until) {
      const found = await Promise.all(nodes.map(({ id }) => judge.nodes.get(id)))
      assert.ok(found.every(Boolean), `after ${looks} looks: ${found.map((each) => each?.id)}`)
      looks += 1
      await pause(10)
    }
    assert.ok(looks > 20)
    for (const { id, store } of nodes) assert.equal(await store.nodes.renew(id, 60_000), true)
    // And it would have found a dead one.
    await nodes[0]!.store.close()
    for (const deadline = performance.now() + 3_000; await judge.nodes.get('n0'); ) {
      assert.ok(performance.now() < deadline, 'a dead one is found')
      await pause(20)
    }
  }, 60_000)
})
